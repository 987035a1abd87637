"""Where a workload runs: on the floor, on GavelFS, on the host's own filesystem. Each gives an empty directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.floor import Floor

GAVEL = [sys.executable, "-m", "gavel"]


def run_gavel(*arguments: str) -> str:
    """Run a gavel command; returns what it printed, raises CalledProcessError with its message."""
    done = subprocess.run([*GAVEL, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gavel {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory on the host's filesystem that goes away."""
    path = Path(tempfile.mkdtemp(prefix="gavel-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def floor() -> Iterator[Path]:
    """An empty floor."""
    with scratch() as base:
        (base / "mnt").mkdir()
        with Floor(base / "mnt"):
            yield base / "mnt"


@contextmanager
def gavel(size: str = "16G") -> Iterator[Path]:
    """An empty GavelFS mount."""
    with scratch() as base:
        volume, mount = base / "disk.gavel", base / "mnt"
        mount.mkdir()
        run_gavel("mkfs", str(volume), "--size", size)
        run_gavel("mount", str(volume), str(mount))
        try:
            yield mount
        finally:
            run_gavel("umount", str(mount))


@contextmanager
def host() -> Iterator[Path]:
    """An empty directory of the host's filesystem."""
    with scratch() as base:
        yield base


PLACES = {"floor": floor, "gavel": gavel, "host": host}


def sync(directory: Path) -> None:
    """Make everything below durable: the kernel's dirty pages first, then what the filesystem holds back."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc_syncfs(fd)
        os.fsync(fd)
    finally:
        os.close(fd)


def libc_syncfs(fd: int) -> None:
    """syncfs(2), which the os module lacks."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")


def drop_caches() -> None:
    """Make the kernel forget clean pages, names and inodes (root only)."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
