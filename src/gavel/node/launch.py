"""The process behind a mount: starting it, telling when it is ready, and ending it in order.

In the background it is a process of its own (`python -m gavel.node`), in a session of its own, whose log lies in the
runtime directory as long as it lives, and a week longer if it ended badly. It reports over a pipe: one JSON line,
{"ready": ...} or {"error": ...}; so `gavel mount` returns when the mount answers, and says itself what went wrong if
it does not. SIGTERM and SIGINT unmount cleanly.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, NamedTuple

from gavel.errors import BadRequest
from gavel.keys import tid as tids
from gavel.mount import mounted
from gavel.node import keys, places, protocol
from gavel.node.access import socket_of
from gavel.node.protocol import Json

if TYPE_CHECKING:
    from gavel.media.cipher import Key
    from gavel.runtime.engine import Engine

log = logging.getLogger("gavel.node")

GC_THRESHOLDS = (5_000, 20, 200)  # Python's own are 700, 10, 10; with 20,000 a search took up to 8 ms
SWITCH_SECONDS = 0.0005  # Python's own are 0.005: so long whoever waits for a sync would wait for the loop as well


class Options(NamedTuple):
    """What to mount where: an absolute path of a volume, or the URL of a cluster, on an absolute path."""

    volume: str
    directory: str
    read_only: bool = False
    as_of: str | None = None
    allow_other: bool = False
    key: Key | None = None


def mount_in_background(options: Options) -> Json:
    """Start a process that mounts; returns once the mount answers: keys volume, directory, pid, log, as_of.

    Raises what kept it from mounting, as protocol.Refused.
    """
    check_free(options.directory)
    reading, writing = os.pipe()
    handed = [writing]
    command = [sys.executable, "-P", "-m", "gavel.node", options.volume, options.directory]
    command += ["--read-only"] * options.read_only + ["--allow-other"] * options.allow_other
    if options.as_of is not None:
        command.append(f"--as-of={options.as_of}")
    if options.key is not None:
        handed.append(_pipe_holding(protocol.encode(keys.pack(options.key))))
        command.append(f"--key-fd={handed[-1]}")
    try:
        child = subprocess.Popen(
            [*command, f"--ready-fd={writing}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=handed,
            start_new_session=True,
            cwd="/",
        )
    finally:
        for descriptor in handed:
            os.close(descriptor)
    with open(reading, "rb") as pipe:
        try:
            line = pipe.readline()
        except KeyboardInterrupt:
            child.terminate()
            raise
    assert child.stderr is not None
    with child.stderr as errors:
        if not line:
            code, said = child.wait(), errors.read().decode(errors="replace").strip()
            last = said.splitlines()[-1] if said else "it said nothing"
            raise BadRequest(f"the process that should mount {options.volume} ended with code {code}: {last}")
    message = protocol.decode(line)
    if "error" in message:
        child.wait()
        raise protocol.refusal(message["error"])
    child.returncode = 0  # it lives on by itself: nobody waits for it here
    ready: Json = message["ready"]
    return ready


def _pipe_holding(line: bytes) -> int:
    """The reading end of a pipe that holds a line, and nothing after it."""
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:
        pipe.write(line)
    return reading


def check_free(directory: str) -> None:
    """Refuse to mount over a mount of ours, which would hide it; a dead one is no hindrance."""
    there = mounted.at(directory)
    if there is None or there.type != mounted.FILESYSTEM_TYPE or socket_of(directory) is None:
        return
    raise BadRequest(f"{there.source} is mounted on {directory} already; unmount it first, or choose another directory")


def mount_here(options: Options) -> None:
    """Mount and serve in this process until unmounted; logs to stderr. Raises what kept it from mounting."""
    check_free(options.directory)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _run(options, lambda ready: log.info("mounted %s on %s", ready["volume"], ready["directory"]))


def serve(options: Options, ready_fd: int) -> int:
    """The life of a background process; the exit code."""

    def tell(message: Json) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(ready_fd, protocol.encode(message))
        os.close(ready_fd)

    told = False

    def ready(message: Json) -> None:
        nonlocal told
        told = True
        tell({"ready": message})

    log_file = places.place(os.getpid()).log
    try:
        _log_to(log_file)
        _run(options, ready)
    except Exception as problem:  # reported to whoever started us, or to the log
        if told:
            log.exception("the mount ended badly")
        else:
            tell({"error": protocol.error_of(problem)})
            log_file.unlink(missing_ok=True)
        return 1
    log_file.unlink(missing_ok=True)  # all went well: nobody will ask
    return 0


def _log_to(path: os.PathLike[str]) -> None:
    """Log to a file, which also takes what anything prints on stderr."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(handle, 2)
    os.close(handle)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _run(options: Options, ready: Callable[[Json], None]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options, ready))


def _collect_rarely() -> None:
    """Spare requests most of the search for cycles, which they leave behind as good as never.

    What is there by now stays for ever; what comes are mostly nodes of trees, long lists that a search goes through.
    """
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _serve(options: Options, ready: Callable[[Json], None]) -> None:
    """Open the volume, mount it, and see to it that everything is durable and let go of in the end."""
    from gavel.client.volumes import open_engine
    from gavel.node.cluster_mount import is_url, serve_cluster

    if is_url(options.volume):
        await serve_cluster(options, ready, _stop_on_signals)
        return
    loop = asyncio.get_running_loop()
    gc.disable()  # until _collect_rarely(): a recovery makes nothing but what stays
    read_only = options.read_only or options.as_of is not None
    engine, device = open_engine(options.volume, read_only=read_only, loop=loop, key=options.key)
    try:
        try:
            await _serve_engine(engine, options, ready)
        finally:
            await engine.close()
            log.info("everything is durable")
    finally:
        device.close()


async def _serve_engine(engine: Engine, options: Options, ready: Callable[[Json], None]) -> None:
    from gavel.client import jobs
    from gavel.client.fs import Fs
    from gavel.client.volumes import caller
    from gavel.mount.mount import Mount
    from gavel.mount.mount import Options as MountOptions
    from gavel.node.admin import AdminServer
    from gavel.node.service import Service
    from gavel.runtime.moments import tid_named

    where = places.place(os.getpid())
    at = None if options.as_of is None else jobs.tid_of(engine, options.as_of)
    service = Service(Fs(engine, caller(), reaping=False), options.volume, options.directory)
    mount = Mount(
        engine,
        options.directory,
        MountOptions(
            source=options.volume,
            read_only=engine.volume.read_only,
            at=at,
            moment=lambda text: tid_named(engine, text),
            socket=str(where.socket),
            volume=options.volume,
            allow_other=options.allow_other or os.geteuid() == 0,
        ),
    )
    admin = AdminServer(service, where.socket, mount.caught_up, mount.told)
    engine.on_outside.append(mount.changed_outside)
    try:
        await admin.start()
        mount.make_room = engine.make_room
        await mount.start()
        engine.jobs.busy = lambda: mount.busy
        engine.jobs.pending = lambda: mount.pending
        engine.cleanup.start()
        _stop_on_signals(mount.stop)
        places.announce(where, options.volume, options.directory)
        _collect_rarely()
        sys.setswitchinterval(SWITCH_SECONDS)
        ready(
            {
                "volume": options.volume,
                "directory": options.directory,
                "pid": where.pid,
                "log": str(where.log),
                "read_only": engine.volume.read_only,
                "as_of": None if at is None else tids.text(at),
            }
        )
        await mount.closed
    finally:
        await mount.stop()
        await admin.close()
        places.withdraw(where)


def _stop_on_signals(stop: Callable[[], Coroutine[object, object, None]]) -> None:
    """Unmount cleanly on SIGTERM and SIGINT; a second one finds that under way."""
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop_once() -> None:
        if not stopping:
            log.info("asked to end: unmounting")
            stopping.append(loop.create_task(stop()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_once)


def parse(arguments: list[str]) -> tuple[Options, int]:
    """The command line of a background process: options and the descriptor to report on."""
    import argparse

    parser = argparse.ArgumentParser(prog="gavel.node", description="The process behind a mount; see `gavel mount`.")
    parser.add_argument("volume")
    parser.add_argument("directory")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--as-of")
    parser.add_argument("--allow-other", action="store_true")
    parser.add_argument("--key-fd", type=int)
    parser.add_argument("--ready-fd", type=int, required=True)
    found = parser.parse_args(arguments)
    key = None
    if found.key_fd is not None:
        with open(found.key_fd, "rb") as pipe:
            key = keys.unpack(protocol.decode(pipe.readline()))
    options = Options(found.volume, found.directory, found.read_only, found.as_of, found.allow_other, key)
    return options, found.ready_fd
