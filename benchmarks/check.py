"""How fast `gavel check --deep` goes through metadata: trees and history, then the filesystem's records.

MB/s count the bytes of nodes, each once, however often a node is looked at, from a disk whose cache is cold; per CPU
second they tell what is bound by this program. The target is for what reads the nodes, not for the census of records.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.measure import Row, row, timed
from benchmarks.places import drop_caches, scratch
from gavel.client.volumes import format_volume, open_engine
from gavel.filesystem import data, namespace
from gavel.filesystem.caller import Caller
from gavel.filesystem.check import check
from gavel.keys.records import ROOT_OBJECT
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


def run(large: bool) -> list[Row]:
    """Rows; large: 300,000 files."""
    files = 300_000 if large else 2_000
    with scratch() as base:
        path = base / "disk.gavel"
        fill(path, files)
        change(path, files)
        drop_caches()
        engine, device = open_engine(path, read_only=True)
        try:
            space = engine.space()
            size = (space.live - space.data) / 1e6
            begin = time.process_time()
            trees = timed(lambda: _sound([one for one in engine.history.check(deep=True) if one]))
            busy = time.process_time() - begin
            at = engine.history.last_tid
            tx = engine.cache.frozen(at, 0)
            census = timed(lambda: _sound([one for one in check(tx) if one]))
        finally:
            engine.abandon()
            device.close()
    what = f"check --deep, {files:,} files, {size:.0f} MB of nodes"
    return [
        row(f"{what}: trees", "MB/s", [size / trees], "", [1.0], ">= 200"),
        row(f"{what}: trees", "MB/CPU s", [size / busy], "", [1.0], ">= 200"),
        row(f"{what}: records", "MB/s", [size / census], "", [1.0]),
    ]


def _sound(problems: list[object]) -> None:
    assert not problems, problems
