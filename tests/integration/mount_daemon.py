"""A mount served by a process of its own, for tests: `Served` starts it and talks with it over its pipes.

As a program: `mount_daemon.py DIR VOLUME [ro|TID]` makes the volume if there is none, mounts it, says "up", and then
answers one JSON command a line, like ["tid"] or ["unlink", 1, "name"]; `_commands` has all there are.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VOLUME_SIZE = 1 << 30

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs root and /dev/fuse"
)


class Served:
    """A volume mounted on a directory by another process."""

    def __init__(self, directory: Path, volume: Path, mode: str = "") -> None:
        self.directory, self.volume = directory, volume
        command = [sys.executable, __file__, str(directory), str(volume), mode]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert self._line() == "up"
        except BaseException:
            self.kill()
            raise

    def _line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the daemon has ended"
        return json.loads(line)

    def ask(self, *command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        return self._line()

    def stop(self) -> int:
        """Ask it to unmount; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a crash would, and take away what is left of the mount."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        subprocess.run(["umount", "-l", str(self.directory)], stderr=subprocess.DEVNULL, check=False)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def eventually(condition: Any, seconds: float = 20.0) -> None:
    """Wait until something holds that happens in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


async def serve(directory: str, path: str, mode: str) -> None:
    from gavel.mount import mount as mounting
    from gavel.mount.mount import Mount, Options
    from gavel.runtime.moments import tid_named

    loop = asyncio.get_running_loop()
    engine = _engine(path, loop)
    seen: collections.Counter[tuple[int, int]] = collections.Counter()
    parts = _count(mounting, seen)
    options = Options(
        source=path,
        read_only=mode == "ro",
        at=int(mode) if mode.isdigit() else None,
        moment=lambda text: tid_named(engine, text),
        socket="/s",
        volume=path,
    )
    mount = Mount(engine, directory, options)
    await mount.start()
    engine.on_outside.append(mount.changed_outside)
    loop.add_reader(0, _answer_line, loop, _commands(engine, seen, parts))
    print(json.dumps("up"), flush=True)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    waiting = loop.create_task(ended.wait())
    await asyncio.wait([waiting, mount.closed], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await mount.stop(patience=0.2)
    await engine.close()
    engine.device.close()


def _engine(path: str, loop: asyncio.AbstractEventLoop) -> Any:
    """The volume at a path, which is made if there is none."""
    from gavel.filesystem import superblock
    from gavel.filesystem.caller import Caller
    from gavel.media.volume import Volume
    from gavel.runtime.engine import Engine
    from gavel.runtime.file_device import FileDevice

    if Path(path).exists():
        return Engine(FileDevice(path), loop=loop)
    device = FileDevice(path, create_size=VOLUME_SIZE)
    now = time.time_ns() // 1000 << 8
    Volume.format(device, identity=os.urandom(16), salt=1, label="test", created_tid=now)
    engine = Engine(device, loop=loop)
    engine.write(superblock.make_root, Caller(0, 0))
    return engine


Commands = dict[str, Callable[..., Any]]


def _commands(engine: Any, seen: collections.Counter[tuple[int, int]], parts: list[Any]) -> Commands:
    """What can be asked for, by name."""
    from gavel.filesystem import attributes, data, namespace, orphans
    from gavel.filesystem.caller import Caller
    from gavel.mount import views

    root, outside = Caller(0, 0), engine.write_outside
    return {
        "orphans": lambda: len(engine.read(orphans.listed)),
        "dirty": lambda: engine.cache.dirty,
        "tid": engine.flush,
        "seen": lambda: [[*key, count] for key, count in seen.items()],
        "reset": seen.clear,
        "views": lambda: len(parts[0]._nodes.views),
        "views_max": lambda bound: setattr(views, "VIEW_NODES", bound),
        "write": lambda obj, offset, text: _nothing(outside(data.write, obj, offset, text)),
        "truncate": lambda obj, size: _nothing(outside(data.truncate, obj, size)),
        "chmod": lambda obj, mode: _nothing(outside(attributes.setattr, obj, attributes.Changes(mode=mode))),
        "create": lambda parent, name, mode: _nothing(outside(namespace.create, parent, name, mode, root)),
        "mkdir": lambda parent, name, mode: _nothing(outside(namespace.mkdir, parent, name, mode, root)),
        "unlink": lambda parent, name: _nothing(outside(namespace.unlink, parent, name)),
        "rename": lambda *names: _nothing(outside(namespace.rename, *names)),
    }


def _nothing(result: object) -> None:
    """The answer of a command that is about what it does."""


def _answer_line(loop: asyncio.AbstractEventLoop, commands: Commands) -> None:
    """Read a command and print its answer."""
    line = sys.stdin.readline()
    if not line:
        loop.remove_reader(0)
        return
    name, *rest = json.loads(line)
    arguments = [part.encode() if isinstance(part, str) else part for part in rest]
    print(json.dumps(commands[name](*arguments)), flush=True)


def _count(mounting: Any, seen: collections.Counter[tuple[int, int]]) -> list[Any]:
    """Have every handler's answers counted by opcode and errno (0: fine, -1: an exception); lists its parts once up."""
    table = mounting.handlers
    parts: list[Any] = []

    def counting(opcode: int, handler: Any) -> Any:
        def handle(header: Any, body: memoryview) -> Any:
            try:
                reply = handler(header, body)
            except BaseException:
                seen[opcode, -1] += 1
                raise
            seen[opcode, reply if isinstance(reply, int) else 0] += 1
            return reply

        return handle

    def handlers(*args: Any) -> list[Any]:
        parts.extend(args)
        return [counting(*pair) for pair in enumerate(table(*args))]

    mounting.handlers = handlers
    return parts


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
