"""Three masters on this machine, real processes, TLS, real fsync: what clients wait and get, and what faults cost.

A transaction is a small file written anew (100 bytes, in its record), by a filesystem operation on an engine of its
own that has read it before; making a file asks first what is there. Many clients are several processes with several
engines each; each client has a directory of its own. Where etcd is installed it is measured beside (etcd.py).

The longest gap is between two acknowledged writes of one client that writes one file after the other, while another
master, or the one it talks to, is killed, stopped or cut off (packets dropped; needs root). CPU seconds of the masters
stand beside what took wall time: on a machine with other work they say more.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import uvloop

from benchmarks import catching_up, etcd
from benchmarks.measure import Row, timed
from benchmarks.places import scratch
from gavel.client import operations
from gavel.client.volumes import caller
from gavel.keys import records
from gavel.limits import EXTENT_MAX
from gavel.node.connecting import connect, engine_of
from gavel.node.lab import Lab
from gavel.node.reach import reach
from gavel.runtime.remote import RemoteEngine
from gavel.transaction.transaction import Transaction

MASTERS = 3
CONTENDERS = 16
COUNTER = b"counter"
SETTLE_SECONDS = 120  # at most, until all masters are up again
TICKS = os.sysconf("SC_CLK_TCK")

Work = Callable[[int], Callable[[Transaction], Any]]


def run(large: bool) -> list[Row]:
    """The rows of this suite."""
    with scratch() as base, running(base / "lab") as lab:
        rows = _idle(lab, 30 if large else 2)
        alone, p50 = _one(lab, 2000 if large else 50)
        rows += alone
        rows += _disjoint(lab, *((4, 16, 10) if large else (1, 4, 1)))
        rows += _contended(lab, CONTENDERS if large else 4, 10 if large else 1, p50)
        rows += _bulk(lab, 512 if large else 8)
        rows += _faults(lab, large)
    if etcd.installed():
        rows += etcd.run(large)
    else:
        print("etcd: not on the PATH, so nothing is measured beside", file=sys.stderr)
    if large:  # a small one is over before anybody has looked
        with scratch() as base:
            volume = catching_up.filled(base / "filled.gavel", 100, 1000)
            with running(base / "lab", volume) as lab:
                rows += catching_up.rows(lab, 10)
    return rows


@contextmanager
def running(path: Path, volume: Path | None = None) -> Iterator[Lab]:
    """A lab, which is down at the end whatever happens; its identity is that of this process's clients."""
    before = os.environ.get("GAVEL_IDENTITY")
    try:
        lab = Lab.make(path, MASTERS, volume)
        os.environ["GAVEL_IDENTITY"] = str(lab.identity)
        _settle(lab)
        yield lab
    finally:
        if (path / "lab.json").exists():
            Lab(path).down()
        if before is None:
            os.environ.pop("GAVEL_IDENTITY", None)
        else:
            os.environ["GAVEL_IDENTITY"] = before


def figure(work: str, unit: str, value: float, target: str = "") -> Row:
    """A row that is compared with nothing but its target."""
    return Row(work, unit, value, "", 0, 0, target)


# Clients.


async def _client(url: str) -> RemoteEngine:
    """A client by itself: with a name of its own, so that masters see another one."""
    return engine_of(await asyncio.to_thread(reach, url))


def _put(path: bytes) -> Callable[[Transaction], Any]:
    return lambda tx: operations.write_whole(tx, path, bytes(100), caller())


def _increment(tx: Transaction) -> None:
    operations.write_whole(tx, COUNTER, b"%d" % (_count(tx) + 1), caller())


def _one_more(_: int) -> Callable[[Transaction], Any]:
    return _increment


def _count(tx: Transaction) -> int:
    return int(operations.read_whole(tx, records.ROOT_OBJECT, COUNTER))


async def _write_for(engine: RemoteEngine, seconds: float, work: Work) -> int:
    """How many transactions, one after the other, it has done in this time."""
    end, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        await engine.run(work(number))
        number += 1
    return number


_barrier: Any = None  # of a client process: where all of them wait for one another


def _take_barrier(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _process(url: str, number: int, engines: int, seconds: float, contended: bool) -> int:
    """A client process: transactions of so many engines at the same time."""

    def task(k: int) -> Work:
        if contended:
            return _one_more
        return lambda n: _put(b"of/%d-%d/%d" % (number, k, n % 50))

    async def work() -> int:
        clients = [await _client(url) for _ in range(engines)]
        try:
            for k, client in enumerate(clients):
                own = b"of/%d-%d" % (number, k)
                await client.run(lambda tx, own=own: operations.make_directory(tx, own, 0o755, caller()))
                await client.run(_put(own + b"/0"))
            await asyncio.to_thread(_barrier.wait)
            writing = [_write_for(client, seconds, task(k)) for k, client in enumerate(clients)]
            done = await asyncio.gather(*writing)
            await asyncio.to_thread(_barrier.wait)
            return sum(done)
        finally:
            for client in clients:
                await client.close()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work())
    except BaseException:
        _barrier.abort()  # nobody waits for this process
        raise


def _many(lab: Lab, processes: int, engines: int, seconds: float, contended: bool) -> tuple[int, float, float]:
    """Transactions of all processes, the seconds they took, and the masters' CPU seconds."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(processes + 1)
    with ProcessPoolExecutor(processes, spawn, _take_barrier, (barrier,)) as pool:
        jobs = [
            pool.submit(_process, lab.url, number + 100 * contended, engines, seconds, contended)
            for number in range(processes)
        ]
        try:
            barrier.wait()
            before, begin = _cpu(lab), time.perf_counter()
            barrier.wait()
        except BrokenBarrierError:
            pass  # the result below says why
        else:
            wall, spent = time.perf_counter() - begin, _cpu(lab) - before
        return sum(job.result() for job in jobs), wall, spent


# One client, many clients, all at one thing.


def _one(lab: Lab, count: int) -> tuple[list[Row], float]:
    async def timed_all(engine: RemoteEngine, names: list[bytes]) -> list[float]:
        times = []
        for name in names:
            begin = time.perf_counter()
            await engine.run(_put(name))
            times.append(time.perf_counter() - begin)
        return sorted(times)

    async def work() -> tuple[list[float], float, list[float]]:
        engine = await _client(lab.url)
        making = await timed_all(engine, [b"one-%d" % number for number in range(max(20, count // 10))])
        before = _cpu(lab)
        times = await timed_all(engine, [b"one-%d" % (number % 20) for number in range(count)])
        spent = _cpu(lab) - before
        await engine.close()
        return times, spent, making

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        times, spent, making = runner.run(work())
    p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
    rows = [
        figure("one transaction at a time: p50", "ms", p50 * 1000, "<= 1.5"),
        figure("one transaction at a time: p99", "ms", p99 * 1000, "<= 5"),
        figure("one file made at a time: p50", "ms", statistics.median(making) * 1000),
        figure("one at a time: CPU of each master", "ms a transaction", spent / MASTERS / count * 1000),
    ]
    return rows, p50


def _disjoint(lab: Lab, processes: int, engines: int, seconds: float) -> list[Row]:
    with connect(lab.url) as cluster:
        cluster.mkdir("/of")
    done, wall, spent = _many(lab, processes, engines, seconds, contended=False)
    return [
        figure(f"disjoint, {processes} processes x {engines} clients", "1/s", done / wall, ">= 2000"),
        figure("disjoint: CPU of each master", "ms a transaction", spent / MASTERS / max(done, 1) * 1000),
    ]


def _contended(lab: Lab, clients: int, seconds: float, p50: float) -> list[Row]:
    with connect(lab.url) as cluster:
        cluster.write_bytes("/counter", b"0")
        done, wall, _ = _many(lab, 1, clients, seconds, contended=True)
        counted = int(cluster.read_bytes("/counter"))
    if counted != done:
        raise AssertionError(f"{done} increments were acknowledged, {counted} are there")
    return [
        figure(f"one counter, {clients} clients: increments", "1/s", done / wall, "each once"),
        figure("one counter: in the time that one takes alone", "winners", done / wall * p50, ">= 1"),
    ]


# Faults.


def _faults(lab: Lab, large: bool) -> list[Row]:
    faults = [("SIGKILL", lab.kill, lab.start), ("SIGSTOP", lab.stop, lab.cont)]
    if lab.nodes[1]["namespace"]:
        faults.append(("cut", lab.cut, lab.heal))
    rows = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for own in (False, True):
            for name, lose, back in faults if large else faults[:1]:
                gone, again = runner.run(_gaps(lab, own, lose, back, 4 if large else 0.5))
                whose = "the client's own master" if own else "another master"
                rows.append(figure(f"longest gap: {name} of {whose}", "ms", gone * 1000, "<= 600" if own else "<= 300"))
                rows.append(figure("  ... and while it comes back", "ms", again * 1000))
    return rows


async def _gaps(
    lab: Lab, own: bool, lose: Callable[[int], None], back: Callable[[int], None], seconds: float
) -> tuple[float, float]:
    """The longest gaps, in seconds, while a master is away and while it comes back; in the end all are up."""
    engine = await _client(lab.url)
    longest, last, number, over = 0.0, time.perf_counter(), 0, False

    async def write() -> None:
        nonlocal last, longest, number
        while not over:
            await engine.run(_put(b"gap-%d" % (number % 100)))
            now, number = time.perf_counter(), number + 1
            longest, last = max(longest, now - last), now

    async def during(trouble: Callable[[int], None], until: Callable[[], Awaitable[None]]) -> float:
        nonlocal longest
        longest = 0.0
        await asyncio.to_thread(trouble, victim)
        await until()
        return max(longest, time.perf_counter() - last)

    for _ in range(20):
        await engine.run(_put(b"gap-0"))
    chosen = engine.in_use + 1  # nodes of a lab are numbered from one, in the order of the URL
    victim = chosen if own else chosen % MASTERS + 1
    writing = asyncio.get_running_loop().create_task(write())
    try:
        await asyncio.sleep(seconds / 2)
        gone = await during(lose, lambda: asyncio.sleep(seconds))
        again = await during(back, lambda: asyncio.to_thread(_settle, lab))
    finally:
        over = True
        await writing
        await engine.close()
    return gone, again


def _settle(lab: Lab) -> None:
    """Wait until all masters are masters and up."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        members = lab.ask("status", {})["members"]
        if len(members) == MASTERS and all(one["up"] and one["role"] == "master" for one in members):
            return
        time.sleep(0.05)
    raise RuntimeError("the masters of the lab are not all up again")


# Data, and nothing.


def _bulk(lab: Lab, mib: int) -> list[Row]:
    noise, megabytes = os.urandom(1 << 20), mib * 1.048576

    def pieces() -> Iterator[bytes]:
        """A MiB each, no two alike in any extent, so that nobody finds content that is there already."""
        for number in range(mib):
            salt = os.urandom(16) + number.to_bytes(4)
            parts = [salt + noise[at + len(salt) : at + EXTENT_MAX] for at in range(0, len(noise), EXTENT_MAX)]
            yield b"".join(parts)

    def api() -> None:
        with connect(lab.url) as cluster:
            with cluster.open("/bulk", "wb") as file:
                for piece in pieces():
                    file.write(piece)
            cluster.sync()

    def mount() -> None:
        with open(lab.mnt / "bulk-mount", "wb", buffering=0) as file:
            for piece in pieces():
                file.write(piece)
            os.fsync(file.fileno())

    rows = []
    for name, work in (("API", api), ("mount", mount)) if lab.mounted else (("API", api),):
        before = _cpu(lab)
        wall = timed(work)
        each = (_cpu(lab) - before) / MASTERS / megabytes
        rows.append(figure(f"write {mib} MiB, fsync at the end, {name}", "MB/s", megabytes / wall, ">= 200"))
        rows.append(figure(f"  ... CPU of each master, {name}", "ms a MB", each * 1000))
    return rows


def _idle(lab: Lab, seconds: float) -> list[Row]:
    time.sleep(seconds / 3)  # what came up is over
    before, begin = _cpu(lab), time.perf_counter()
    time.sleep(seconds)
    spent = (_cpu(lab) - before) / MASTERS / (time.perf_counter() - begin) * 100
    return [figure("idle: CPU of each master", "% of a core", spent, "<= 1")]


def _cpu(lab: Lab) -> float:
    """CPU seconds of all masters so far."""
    total = 0
    for one in lab.nodes.values():
        fields = Path(f"/proc/{one['pid']}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS
