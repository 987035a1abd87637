"""What a recovery may have to do at most, by the bounds that make a checkpoint due, and how long it takes.

Each workload writes until one of limits.REPLAY_BYTES_MAX, REPLAY_RECORDS_MAX and DIRTY_NODES_MAX is passed, on an
engine whose checkpoints never get any further than that; so what is replayed is as much as can ever be, but for what
is committed while a checkpoint is written. Then the volume is opened anew, from a cold cache.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.measure import Row
from benchmarks.places import drop_caches, scratch
from gavel.client.volumes import format_volume, open_engine
from gavel.filesystem import data, directory, namespace, orphans, xattr
from gavel.filesystem.caller import Caller
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import DIRTY_NODES_MAX, KIB, REPLAY_BYTES_MAX, REPLAY_RECORDS_MAX
from gavel.runtime.engine import Engine
from gavel.runtime.open_volume import open_device
from gavel.transaction.transaction import Transaction

WHO = Caller(0, 0, 0o022)
SIZE = 16 * 1024**3
Operation = Callable[[Transaction], object]


class Still:
    """A shell in which nothing happens by itself."""

    def sync(self, done: Callable[[None], None]) -> None:
        """Everything is on the device in the end; here nobody waits for it."""
        done(None)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Never."""

    def fetch(self, ranges: Sequence[tuple[int, int]], done: Callable[[], None]) -> None:
        """Never."""

    def close(self) -> None:
        """Nothing to end."""


def crash(path: Path, work: Iterator[Operation], a_commit: int, share: float) -> tuple[int, int, int]:
    """Do `work`, so many operations a commit, until a checkpoint is due (or at a `share` of that).

    Returns what is to be replayed: bytes of log, records, and bytes of nodes that they change.
    """
    device = open_device(str(path))
    try:
        engine = Engine(device, shell=Still())  # type: ignore[arg-type]
        for count, operation in enumerate(work, 1):
            engine.write(operation)
            if count % a_commit == 0:
                engine.flush()
                logged, records = engine.volume.replay_size
                if (
                    logged > share * REPLAY_BYTES_MAX
                    or records > share * REPLAY_RECORDS_MAX
                    or engine.history.dirty_bytes > share * DIRTY_NODES_MAX
                ):
                    break
        engine.volume.flush()
        device.sync()
        logged, records = engine.volume.replay_size
        dirty = engine.history.dirty_bytes
        engine.abandon()
    finally:
        device.close()
    return logged, records, dirty


def recovery(path: Path) -> tuple[float, float]:
    """Seconds to open the volume, and of the processor."""
    drop_caches()
    begin, busy = time.perf_counter(), time.process_time()
    engine, device = open_engine(path, read_only=True)
    found = time.perf_counter() - begin, time.process_time() - busy
    engine.abandon()
    device.close()
    return found


# -- workloads: what is there before, and what goes on until the cut -----------------------------------------------


def tree(path: Path, files: int, size: int) -> list[int]:
    """A volume of so many files in directories of a thousand; their objects."""
    format_volume(path, size=SIZE)
    engine, device = open_engine(path)
    objects: list[int] = []

    def thousand(tx: Transaction, first: int) -> None:
        parent, _ = namespace.mkdir(tx, ROOT_OBJECT, b"d%d" % first, 0o755, WHO)
        for n in range(first, min(first + 1000, files)):
            obj, _ = namespace.create(tx, parent, b"f%d" % n, 0o644, WHO)
            data.write(tx, obj, 0, b"%08d" % n * (size // 8))
            objects.append(obj)

    try:
        for first in range(0, files, 1000):
            with engine.turn:
                engine.write(thousand, first)
        engine.close_now()
    finally:
        device.close()
    return objects


def scattered(objects: list[int]) -> Iterator[Operation]:
    """Changes of one file in every leaf."""
    some = objects[:]
    random.Random(1).shuffle(some)
    for obj in some * 10:
        yield lambda tx, obj=obj: data.write(tx, obj, 0, b"changed!" * 20)  # type: ignore[misc]


def created(_: list[int]) -> Iterator[Operation]:
    """New small files, all in one directory."""
    n = 0
    while True:
        n += 1
        yield lambda tx, n=n: data.write(  # type: ignore[misc]
            tx, namespace.create(tx, ROOT_OBJECT, b"new-%d" % n, 0o644, WHO)[0], 0, b"content"
        )


def appended(objects: list[int]) -> Iterator[Operation]:
    """The smallest of commits, as many as can be."""
    n = 0
    while True:
        n += 8
        yield lambda tx, n=n: data.write(tx, objects[0], n, b"a line.\n")  # type: ignore[misc]


def bulky(objects: list[int]) -> Iterator[Operation]:
    """File data, page by page."""
    noise = random.Random(2)
    n = 0
    while True:
        n += 4096
        page = noise.randbytes(4096)
        yield lambda tx, n=n, page=page: data.write(tx, objects[0], n, page)  # type: ignore[misc]


def described(objects: list[int]) -> Iterator[Operation]:
    """Records as large as they come: extended attributes of 60 KiB."""
    noise = random.Random(3)
    for obj in objects:
        value = noise.randbytes(60 * KIB)
        yield lambda tx, obj=obj, value=value: xattr.set(tx, obj, b"user.x", value, 0)  # type: ignore[misc]


def removed(objects: list[int]) -> Iterator[Operation]:
    """Removals of files all over the tree, reaped."""
    numbers = list(range(len(objects)))
    random.Random(4).shuffle(numbers)
    for n in numbers:
        yield lambda tx, n=n: _remove(tx, n, objects[n])  # type: ignore[misc]


def _remove(tx: Transaction, n: int, obj: int) -> None:
    parent = _parent(tx, n)
    namespace.unlink(tx, parent, b"f%d" % n)
    orphans.reap(tx, obj)


def _parent(tx: Transaction, n: int) -> int:
    found = directory.lookup(tx, ROOT_OBJECT, b"d%d" % (n // 1000 * 1000))
    assert found is not None
    return found[0]


WORKLOADS: list[tuple[str, Callable[[list[int]], Iterator[Operation]], int]] = [
    ("a record here and there", scattered, 50),
    ("small commits", appended, 1),
    ("files made", created, 100),
    ("files removed all over", removed, 50),
    ("pages of data", bulky, 1),
    ("large attributes", described, 1),
]


def run(large: bool) -> list[Row]:
    """Rows; large: up to the bounds, over 400,000 files."""
    files, share = (400_000, 1.0) if large else (500, 0.002)
    rows: list[Row] = []
    for name, workload, a_commit in WORKLOADS:
        with scratch() as base:
            path = base / "disk.gavel"
            objects = tree(path, files, 160)
            logged, records, dirty = crash(path, workload(objects), a_commit, share)
            wall, busy = recovery(path)
            what = f"recovery, {name}: {logged >> 20} MiB, {records:,} records, {dirty >> 20} MiB of nodes"
            rows.append(Row(what, "s", wall, "CPU", busy, wall / busy, "<= 2"))
    return rows
