"""Small files through the mount: create, stat, open-read-close, rename, unlink, find; against the floor."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Row, row, timed
from benchmarks.places import drop_caches, floor, gavel, sync

DATA = os.urandom(4096)
PER_DIRECTORY = 500


def names(base: Path, count: int) -> list[str]:
    return [f"{base}/d{n // PER_DIRECTORY:04}/f{n:06}" for n in range(count)]


def directories(base: Path, count: int) -> None:
    for n in range((count + PER_DIRECTORY - 1) // PER_DIRECTORY):
        (base / f"d{n:04}").mkdir()


def create(base: Path, count: int) -> None:
    for name in names(base, count):
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, DATA)
        os.close(fd)
    sync(base)


def stat_all(base: Path, count: int) -> None:
    for name in names(base, count):
        os.stat(name)


def read_all(base: Path, count: int) -> None:
    for name in names(base, count):
        fd = os.open(name, os.O_RDONLY)
        assert len(os.read(fd, 8192)) == 4096
        os.close(fd)


def rename_all(base: Path, count: int) -> None:
    for name in names(base, count):
        os.rename(name, name + "x")
    for name in names(base, count):
        os.rename(name + "x", name)


def find_all(base: Path, count: int) -> None:
    listed = subprocess.run(["find", str(base), "-type", "f"], capture_output=True, check=True).stdout
    assert listed.count(b"\n") == count


def unlink_all(base: Path, count: int) -> None:
    for name in names(base, count):
        os.unlink(name)
    sync(base)


STEPS: list[tuple[str, Callable[[Path, int], None], int, bool, str]] = [
    ("create 4 KiB files, sync", create, 1, False, ">= 0.6"),
    ("stat, cold", stat_all, 1, True, ">= 0.7"),
    ("open-read-close, cold", read_all, 1, True, ">= 0.7"),
    ("open-read-close, kernel cache", read_all, 1, False, ""),
    ("find, cold", find_all, 1, True, ">= 0.7"),
    ("rename", rename_all, 2, False, ">= 0.7"),
    ("unlink, sync", unlink_all, 1, False, ">= 0.7"),
]


def rates(base: Path, count: int) -> dict[str, float]:
    """Operations a second of each step, in order, on an empty directory."""
    directories(base, count)
    got = {}
    for name, work, per_file, cold, _ in STEPS:
        if cold:
            drop_caches()
        got[name] = count * per_file / timed(lambda work=work: work(base, count))  # type: ignore[misc]
    return got


def find_rate(base: Path, count: int) -> float:
    """Files a second that find lists with cold caches, in a tree of empty files."""
    directories(base, count)
    for name in names(base, count):
        os.mknod(name)
    drop_caches()
    return count / timed(lambda: find_all(base, count))


def find_row(count: int) -> Row:
    """One pair over a larger tree than the steps have."""
    with floor() as base:
        theirs = find_rate(base, count)
    with gavel() as base:
        ours = find_rate(base, count)
    return row(f"find, cold ({count:,} empty files)", "per s", [ours], "floor", [theirs], ">= 0.7")


def run(large: bool) -> list[Row]:
    """Rows of all steps; large: 20,000 files and 3 pairs, and a find over 100,000."""
    count, pairs = (20_000, 3) if large else (300, 1)
    ours, theirs = [], []
    for _ in range(pairs):
        with floor() as base:
            theirs.append(rates(base, count))
        with gavel() as base:
            ours.append(rates(base, count))
    rows = [
        row(f"{name} ({count:,})", "per s", [o[name] for o in ours], "floor", [t[name] for t in theirs], target)
        for name, _, _, _, target in STEPS
    ]
    return [*rows, find_row(100_000 if large else 500)]
