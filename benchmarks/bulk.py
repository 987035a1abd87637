"""Bulk data through the mount against the host's filesystem, and untar of a real tree against the floor."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

from benchmarks.measure import Row, real_tree, row, timed
from benchmarks.places import drop_caches, floor, gavel, host, scratch, sync

MIB = 1 << 20
LARGEST = 1 * MIB  # what is larger is left out of the tree, so that count and size come out as in a source tree


def write_file(path: Path, mebibytes: int) -> None:
    block = os.urandom(MIB)
    with open(path, "wb", buffering=0) as out:
        for _ in range(mebibytes):
            out.write(block)
        os.fsync(out.fileno())


def read_file(path: Path, mebibytes: int) -> None:
    buffer = bytearray(MIB)
    total = 0
    with open(path, "rb", buffering=0) as source:
        while got := source.readinto(buffer):
            total += got
    assert total == mebibytes * MIB


def rates(base: Path, mebibytes: int) -> tuple[float, float, float]:
    """MiB a second: written and synced, read cold, read again from the kernel's cache."""
    path = base / "bulk"
    wrote = timed(lambda: write_file(path, mebibytes))
    drop_caches()
    cold = timed(lambda: read_file(path, mebibytes))
    warm = timed(lambda: read_file(path, mebibytes))
    os.unlink(path)
    return mebibytes / wrote, mebibytes / cold, mebibytes / warm


def make_tar(path: Path, files: int, size: int) -> tuple[int, int]:
    """A tar of a real tree with up to so many files and bytes; returns what it holds."""
    count = total = 0
    with tarfile.open(path, "w") as out:
        for top in real_tree():
            for found in sorted(top.rglob("*")):
                if count >= files or total >= size:
                    return count, total
                if found.is_symlink() or not found.is_file() or found.stat().st_size > LARGEST:
                    continue
                data = found.read_bytes()
                member = tarfile.TarInfo(f"tree/{top.name}/{found.relative_to(top)}")
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
                count, total = count + 1, total + len(data)
    return count, total


def untar(tar: Path, base: Path) -> None:
    subprocess.run(["tar", "-xf", str(tar), "-C", str(base)], check=True)
    sync(base)


def run(large: bool) -> list[Row]:
    """Rows; large: 1 GiB, 8,000 files in 120 MB, 3 pairs."""
    mebibytes, pairs = (1024, 3) if large else (8, 1)
    files, size = (8000, 120_000_000) if large else (100, 2_000_000)
    ours, theirs, tar_ours, tar_floor, tar_host = [], [], [], [], []
    with scratch() as base:
        tar = base / "tree.tar"
        count, total = make_tar(tar, files, size)
        for _ in range(pairs):
            with host() as place:
                theirs.append(rates(place, mebibytes))
                tar_host.append(timed(lambda place=place: untar(tar, place)))  # type: ignore[misc]
            with gavel() as place:
                ours.append(rates(place, mebibytes))
            with floor() as place:
                tar_floor.append(timed(lambda place=place: untar(tar, place)))  # type: ignore[misc]
            with gavel() as place:
                tar_ours.append(timed(lambda place=place: untar(tar, place)))  # type: ignore[misc]
    what = f"untar {count:,} files, {total / 1e6:.0f} MB, sync"
    return [
        row(f"write {mebibytes} MiB + fsync", "MiB/s", [o[0] for o in ours], "host", [t[0] for t in theirs], ">= 0.6"),
        row(f"read {mebibytes} MiB cold", "MiB/s", [o[1] for o in ours], "host", [t[1] for t in theirs], ">= 0.6"),
        row(f"read {mebibytes} MiB cached", "MiB/s", [o[2] for o in ours], "host", [t[2] for t in theirs], "~ 1"),
        row(what, "s", tar_ours, "floor", tar_floor, "<= 2"),
        row(what, "s", tar_ours, "host", tar_host),
    ]
