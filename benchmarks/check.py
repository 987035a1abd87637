"""How fast `gavel check --deep` goes through metadata: trees and history, then the filesystem's records.

MB/s count the bytes of nodes, of both trees, each once; `cold`: nothing of the volume is in the host's cache. Per CPU
second they tell what is bound by this program, also while others use the machine. The records are those of the present,
whose nodes are read and taken apart once more: MB/s count these.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.measure import Row, row
from benchmarks.places import scratch
from gavel.client.volumes import format_volume, open_engine
from gavel.filesystem import data, namespace
from gavel.filesystem.caller import Caller
from gavel.filesystem.check import check
from gavel.keys.records import ROOT_OBJECT
from gavel.runtime.engine import Engine
from gavel.transaction.transaction import Transaction

WHO = Caller(0, 0, 0o022)
SIZE = 8 * 1024**3


def fill(path: Path, files: int) -> None:
    """A volume of many small files, a tenth of them written again, so that there is a past, too."""
    format_volume(path, size=SIZE)
    engine, device = open_engine(path)
    try:
        for at in range(0, files, 1000):
            with engine.turn:
                engine.write(_directory, at, min(1000, files - at))
            if at % 50_000 == 0:
                engine.sync_now()
        engine.close_now()
    finally:
        device.close()


def _directory(tx: Transaction, first: int, count: int) -> None:
    parent, _ = namespace.mkdir(tx, ROOT_OBJECT, b"d%d" % first, 0o755, WHO)
    for n in range(first, first + count):
        obj, _ = namespace.create(tx, parent, b"file-%d.txt" % n, 0o644, WHO)
        data.write(tx, obj, 0, b"%016d" % n * 20)


def change(path: Path, files: int) -> None:
    engine, device = open_engine(path)
    try:
        with engine.turn:
            for obj in range(100, files, 10):
                try:
                    engine.write(data.write, obj, 0, b"changed!" * 40)
                except OSError:
                    continue
        engine.close_now()
    finally:
        device.close()


def forget(path: Path) -> None:
    """Have the host forget what it holds of a file."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(large: bool) -> list[Row]:
    """Rows; large: 300,000 files."""
    files = 300_000 if large else 2_000
    with scratch() as base:
        path = base / "disk.gavel"
        fill(path, files)
        change(path, files)
        rows = []
        for name, cold in (("cold", True), ("warm", False)):
            if cold:
                forget(path)
            size, wall, busy = measured(path, lambda engine: _sound(engine.history.check(deep=True)))
            what = f"check --deep, {files:,} files, {size:.0f} MB of nodes: trees, {name}"
            rows.append(row(what, "MB/s", [size / wall], "", [1.0], ">= 200"))
            rows.append(row(what, "MB/CPU s", [size / busy], "", [1.0], ">= 200"))
        size, wall, busy = measured(path, lambda engine: _sound(check(engine.cache.frozen(engine.history.last_tid, 0))))
        what = f"check --deep, {files:,} files: records"
        rows.append(row(what, "MB/s", [size / wall], "", [1.0]))
        rows.append(row(what, "MB/CPU s", [size / busy], "", [1.0]))
        return rows


def measured(path: Path, work: Callable[[Engine], None]) -> tuple[float, float, float]:
    """MB of nodes in a volume, and the seconds and CPU seconds that work on it takes, opened anew."""
    engine, device = open_engine(path, read_only=True)
    try:
        space = engine.space()
        begin, busy = time.perf_counter(), time.process_time()
        work(engine)
        return (space.live - space.data) / 1e6, time.perf_counter() - begin, time.process_time() - busy
    finally:
        engine.abandon()
        device.close()


def _sound(found: Iterable[object]) -> None:
    problems = [one for one in found if one]
    assert not problems, problems
