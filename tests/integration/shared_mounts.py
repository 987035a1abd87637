"""Mounts of a cluster's filesystem, each with a client of its own, in front of one master that answers exactly.

As a program: `shared_mounts.py SECONDS DIR ...` mounts a fresh filesystem on every directory, says "up", and ends,
unmounting all, when it is sent SIGTERM. What has no name is kept for so many seconds. Masters and clients talk over
real sockets; only the quorum is not there.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from gavel.filesystem import orphans, superblock
from gavel.filesystem.caller import Caller
from gavel.limits import PATIENCE_SECONDS
from gavel.mount.shared import SharedMount
from gavel.runtime.remote import RemoteEngine
from gavel.wire.connection import Party
from gavel.wire.messages import Role


class Shared:
    """Another process that mounts on these directories."""

    def __init__(self, directories: Sequence[Path], keep_orphans: float = 86_400) -> None:
        self.directories = list(directories)
        command = [sys.executable, "-m", "tests.integration.shared_mounts", str(keep_orphans), *map(str, directories)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b'"up"\n':
            self.__exit__()
            raise AssertionError("the mounts did not come up")

    def orphans(self) -> list[int]:
        """The objects that wait without a name."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        found: list[int] = json.loads(self.process.stdout.readline())
        return found

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            for directory in self.directories:
                subprocess.run(["umount", "-l", str(directory)], stderr=subprocess.DEVNULL, check=False)
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()


async def serve(keep_orphans: str, *directories: str) -> None:
    from tests.unit.cache.master import Master
    from tests.unit.runtime.cluster import CLUSTER
    from tests.unit.runtime.test_remote import Front

    async with AsyncExitStack() as stack:
        front = Front(1, Master(1000, time.time_ns))
        stack.push_async_callback(front.node.close)
        address = await front.node.listen()
        for number, directory in enumerate(directories):
            me = Party(CLUSTER, 0, b"client-number-%02d" % number, Role.CLIENT)
            engine = RemoteEngine([address], [1], me, None, patience_seconds=PATIENCE_SECONDS)
            stack.push_async_callback(engine.close)
            if not number:
                await engine.run(lambda tx: superblock.make_root(tx, Caller(0, 0)))
            mount = SharedMount(engine, directory, keep_orphans=float(keep_orphans), reap_every=0.1)
            await mount.start()
            stack.push_async_callback(mount.stop, 0.2)
        asyncio.get_running_loop().add_reader(0, _answer_line, engine)
        print(json.dumps("up"), flush=True)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()


def _answer_line(engine: RemoteEngine) -> None:
    """Whoever asks is told which objects wait without a name."""
    if not sys.stdin.readline():
        asyncio.get_running_loop().remove_reader(0)
        return
    engine.start(orphans.listed, lambda end: print(json.dumps(end.result), flush=True))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(*sys.argv[1:]))
