"""What upkeep costs those who work meanwhile, and what it gives back.

Latency: a process serves commits on an event loop, as a mount's does, and this one asks for them, one after the other;
in turns of some hundred with the jobs paused and with them going on, so that both meet the same volume and machine.
Once on a real file, by the clock. Once on memory, by the processor time that the serving process spends between request
and answer, which leaves the disk and all other programs out: it is what upkeep puts before an answer. A commit is one
page of a file, written into the log and the trees; with fsync it is durable when it is answered.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import select
import socket
import statistics
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle
from typing import Any

from benchmarks.measure import Row
from benchmarks.places import scratch
from gavel.client.fs import Fs
from gavel.client.volumes import format_volume, open_engine
from gavel.filesystem import data, namespace, superblock
from gavel.filesystem.caller import Caller
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import BIG_BLOCK
from gavel.media.device import Buffer, Device
from gavel.media.volume import Volume
from gavel.node.launch import GC_THRESHOLDS, SWITCH_SECONDS
from gavel.runtime.engine import Engine
from gavel.runtime.file_device import FileDevice
from gavel.runtime.jobs import Job
from gavel.upkeep.prune import prune
from gavel.upkeep.reblock import reblock
from gavel.upkeep.scrub import scrub

WHO = Caller(0, 0, 0o022)
PAGE = 4096
REST = 0.002  # seconds between an answer and the next request
COMMIT, FSYNC, PAUSE, RESUME = b"c", b"f", b"p", b"r"
_REPLY = struct.Struct("<cq")  # what was asked, and the server's processor time (ns) when it was answered


class Memory:
    """A device in memory."""

    def __init__(self, size: int) -> None:
        self._bytes = mmap.mmap(-1, size)

    def read(self, offset: int, length: int) -> bytes:
        """See media.device."""
        return self._bytes[offset : offset + length]

    def at_hand(self, offset: int, length: int) -> bool:
        """See media.device.Cached."""
        return True

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """See media.device."""
        joined = b"".join(parts)
        self._bytes[offset : offset + len(joined)] = joined

    def sync(self) -> None:
        """Nothing is more durable than it is."""

    def size(self) -> int:
        """See media.device."""
        return len(self._bytes)

    def resize(self, size: int) -> None:
        """It has the size it has."""


# -- the process that serves -----------------------------------------------------------------------------------


class Server:
    """Commits as they are asked for over a socket, and all jobs beside them, one after the other and again."""

    def __init__(self, engine: Engine, line: socket.socket, files: int) -> None:
        self.engine, self.line = engine, line
        self.random = random.Random(1)
        self.poll = select.poll()
        self.poll.register(line, select.POLLIN)
        self.objects = [self._make(n) for n in range(files)]
        self.kinds = cycle([self._prune, self._reblock, self._scrub])
        self.job: Job[Any] | None = None
        self.on = False
        self.last = 0.0
        self.done: dict[str, int] = {}

    def _make(self, n: int) -> int:
        obj, _ = self.engine.write(namespace.create, ROOT_OBJECT, b"file-%d" % n, 0o100644, WHO)
        for _ in range(4):
            self.engine.write(data.write, obj, 0, self.random.randbytes(PAGE))
            if n % 50 == 0:
                self.engine.flush()
        return obj

    def answer(self) -> None:
        """One request."""
        asked = self.line.recv(1)
        match asked:
            case b"c":
                self._change()
                self.engine.flush()
                self._reply(asked)
            case b"f":
                self._change()
                self.engine.request_sync(lambda _: self._reply(asked))
            case b"p":
                self.on = False
                if self.job is not None:
                    self.engine.jobs.pause(self.job)
                self.engine.request_checkpoint(lambda _: self._reply(asked))
            case b"r":
                self.on = True
                if self.job is None:
                    self._next()
                else:
                    self.engine.jobs.resume(self.job)
                self._reply(asked)
            case _:
                asyncio.get_running_loop().stop()
        self.last = time.monotonic()

    def _reply(self, asked: bytes) -> None:
        self.line.send(_REPLY.pack(asked, time.process_time_ns()))

    def _change(self) -> None:
        self.engine.write(data.write, self.random.choice(self.objects), 0, self.random.randbytes(PAGE))

    def busy(self) -> bool:
        """As a mount is: a request was answered a moment ago."""
        return time.monotonic() - self.last < 0.05

    def pending(self) -> bool:
        """As a mount knows it: a request waits to be read."""
        return bool(self.poll.poll(0))

    def _next(self) -> None:
        if self.on:
            name, steps = next(self.kinds)()
            self.job = self.engine.jobs.start(name, steps)
            self.job.on_end.append(self._ended)

    def _ended(self, job: Job[Any]) -> None:
        if job.error is not None:
            raise job.error
        self.done[job.name] = self.done.get(job.name, 0) + 1
        self.job = None
        self._next()

    def _prune(self) -> tuple[str, Any]:
        return "prune", prune(self.engine.history, None, True)

    def _reblock(self) -> tuple[str, Any]:
        return "reblock", reblock(self.engine.history, self.engine.volume)

    def _scrub(self) -> tuple[str, Any]:
        return "scrub", scrub(self.engine.history, self.engine.volume, self.engine.look)


def serve(device: Device, line: socket.socket, files: int) -> None:
    """Serve until told to stop."""
    import gc

    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    engine = Engine(device, loop=loop)

    async def begin() -> Server:
        if not engine.history.counts().live_records:
            engine.write(superblock.make_root, WHO)
        server = Server(engine, line, files)
        await engine.sync()
        return server

    server = loop.run_until_complete(begin())
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as a mount's process does, and the next
    sys.setswitchinterval(SWITCH_SECONDS)
    engine.jobs.busy, engine.jobs.pending = server.busy, server.pending
    loop.add_reader(line.fileno(), server.answer)
    line.send(b"!")
    loop.run_forever()
    loop.remove_reader(line.fileno())
    if os.environ.get("GAVEL_DEBUG"):
        print(server.done)
    engine.abandon()


@contextmanager
def served(device: Device, files: int) -> Iterator[tuple[socket.socket, int]]:
    """A line to a process that serves, and the clock of its processor time; it ends with the context."""
    here, there = socket.socketpair()
    child = os.fork()
    if not child:
        status = 1
        try:
            here.close()
            serve(device, there, files)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    there.close()
    assert here.recv(1) == b"!"
    try:
        yield here, (~child << 3) | 2  # see clock_getcpuclockid(3)
    finally:
        with suppress(OSError):
            here.send(b"q")
        here.close()
        assert os.waitpid(child, 0)[1] == 0, "the process that serves has failed"


# -- who asks ----------------------------------------------------------------------------------------------------


def ask(line: socket.socket, what: bytes, clock: int) -> tuple[float, float]:
    """Milliseconds until the answer: by the wall, and of the server's processor, whose `clock` this is."""
    begin, busy = time.perf_counter_ns(), time.clock_gettime_ns(clock)
    line.send(what)
    reply = line.recv(_REPLY.size)
    end = time.perf_counter_ns()
    if len(reply) < _REPLY.size:
        raise RuntimeError("the process that serves is gone")
    return (end - begin) / 1e6, (_REPLY.unpack(reply)[1] - busy) / 1e6


def latencies(
    device: Device, what: bytes, cpu: bool, files: int, turns: int, count: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of commits without and with jobs, in turns; `cpu`: of the server's processor time."""
    found: dict[bytes, list[float]] = {PAUSE: [], RESUME: []}
    with served(device, files) as (line, clock):
        for _ in range(turns):
            for mode in (PAUSE, RESUME):
                ask(line, mode, clock)
                for _ in range(count):
                    time.sleep(REST)
                    found[mode].append(ask(line, what, clock)[cpu])
    return found[PAUSE], found[RESUME]


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def latency_rows(name: str, what: str, unit: str, alone: list[float], beside: list[float]) -> list[Row]:
    rows = []
    for label, pick in (
        ("p50", statistics.median),
        ("p99", lambda values: percentile(values, 0.99)),
        ("max", max),
    ):
        with_jobs, without = pick(beside), pick(alone)
        target = "<= 2" if label == "p99" else ""
        rows.append(Row(f"{what}, {name}: {label}", unit, with_jobs, "no jobs", without, with_jobs / without, target))
    return rows


def on_file(size: int, use: Callable[[Device], tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    with scratch() as base:
        path = base / "disk.gavel"
        format_volume(path, size=size)
        device = FileDevice(str(path))
        try:
            return use(device)
        finally:
            device.close()


def in_memory(size: int, use: Callable[[Device], tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    device = Memory(size)
    Volume.format(device, identity=bytes(16), salt=1, label="bench", created_tid=1)
    return use(device)


# -- what comes back ---------------------------------------------------------------------------------------------


@contextmanager
def fresh() -> Iterator[tuple[Fs, Engine]]:
    """An empty filesystem in a file."""
    with scratch() as base:
        path = base / "disk.gavel"
        format_volume(path, size=512 * BIG_BLOCK)
        engine, device = open_engine(path)
        with Fs(engine, WHO, on_close=device.close) as fs:
            yield fs, engine


def overwritten(times: int, kept: int = 10) -> tuple[float, float]:
    """MB of big-blocks in use, and of these alive, when a page was written so often and the last versions stay."""
    noise = random.Random(2)
    with fresh() as (fs, engine):
        for n in range(times):
            fs.write_bytes("page", noise.randbytes(PAGE))
            with engine.turn:
                engine.flush()  # a version of its own: what is not flushed is overwritten in memory
            if n >= times - kept:
                fs.snapshot_create(f"version-{n}")
        fs.prune(everything=True)
        fs.reblock()
        assert len(fs.history("page")) >= kept
        space = engine.space()
        return (space.log + space.tree + space.map) / 1e6, space.live / 1e6


def space_rows(times: int) -> list[Row]:
    (used, live), (used_ten, live_ten) = overwritten(times), overwritten(10)
    what = f"a page written {times:,} times, 10 versions kept"
    return [
        Row(f"{what}: space", "MB", used, "10 writes", used_ten, used / used_ten, "<= 1.2"),
        Row(f"{what}: alive", "MB", live, "10 writes", live_ten, live / live_ten, "<= 1.2"),
    ]


def halved(files: int, size: int) -> Row:
    """What reblock returns when half of the files are removed and pruned."""
    noise = random.Random(3)
    with fresh() as (fs, _):
        empty = fs.info().free
        for n in range(files):
            if n % 1000 == 0:
                fs.mkdir(f"d{n // 1000}")
            fs.write_bytes(f"d{n // 1000}/f{n}", noise.randbytes(size))
        fs.sync()
        full = fs.info().free
        for n in range(0, files, 2):
            fs.unlink(f"d{n // 1000}/f{n}")
        fs.prune(everything=True)
        fs.reblock()
        back, half = (fs.info().free - full) / 1e6, (empty - full) / 2e6
    what = f"rm of every other of {files:,} files of {size:,} B: back"
    return Row(what, "MB", back, "half", half, back / half, ">= 0.95")


def run(large: bool) -> list[Row]:
    """Rows; large: 20,000 files, 10 turns of 500 commits each way; 100,000 overwrites; 150 MB of files."""
    files, turns, count = (20_000, 10, 500) if large else (300, 1, 30)
    size = 256 * BIG_BLOCK
    rows: list[Row] = []
    for place, name, unit in ((on_file, "file", "ms"), (in_memory, "memory", "CPU ms")):
        for what, words in ((COMMIT, "commit"), (FSYNC, "commit with fsync")):
            found = place(size, partial(latencies, what=what, cpu=unit != "ms", files=files, turns=turns, count=count))
            rows += latency_rows(name, words, unit, *found)
    rows += space_rows(100_000 if large else 100)
    rows += [halved(1_500 if large else 200, 100_000), halved(20_000 if large else 200, 6_000)]
    return rows
