"""Undo on a live mount: what the kernel has cached of the tree must not outlive it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mount_daemon import eventually, needs_mount

pytestmark = [needs_mount, pytest.mark.mounts]


def gavel(*args: object) -> str:
    command = [sys.executable, "-m", "gavel", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout.strip()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    volume, directory = tmp_path / "volume", tmp_path / "mnt"
    directory.mkdir()
    gavel("mkfs", volume, "--size", "256M")
    gavel("mount", volume, directory)
    try:
        yield directory
        gavel("umount", directory)
        assert "all is well" in gavel("check", volume, "--deep")
    finally:
        subprocess.run(["umount", "-l", str(directory)], stderr=subprocess.DEVNULL, check=False)


def seen(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        st = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (st.st_ino, st.st_mode, st.st_nlink, st.st_size, st.st_mtime_ns, content)
    return found


def test_a_tree_that_is_in_use(mounted: Path) -> None:
    tree = mounted / "tree"
    (tree / "src").mkdir(parents=True)
    (tree / "src/a").write_bytes(b"one")
    (tree / "b").write_bytes(b"b" * 10_000)
    os.link(tree / "b", tree / "src/b2")
    os.symlink("src/a", tree / "link")
    before = seen(tree)
    then = gavel("tid", mounted)
    inside = os.open(tree / "src", os.O_RDONLY)  # keeps the directory in the kernel, removed or not
    file = os.open(tree / "src/a", os.O_RDWR)
    try:
        (tree / "src/a").write_bytes(b"two")
        (tree / "b").rename(tree / "c")
        shutil.rmtree(tree / "src")
        assert not (tree / "src").exists()
        for _ in range(3):
            gavel("undo", tree, "--to", then)
            eventually(lambda: seen(tree) == before)
            assert os.pread(file, 10, 0) == b"one"  # it is the same file again
            (tree / "src/new").write_bytes(b"new")
            (tree / "src/new").unlink()
            shutil.rmtree(tree / "src")
            (tree / "b").unlink()
        gavel("undo", tree, "--to", then)
        eventually(lambda: seen(tree) == before)
        os.pwrite(file, b"three", 0)
        assert (tree / "src/a").read_bytes() == b"three"
    finally:
        os.close(inside)
        os.close(file)


def test_a_deleted_tree_by_its_path(mounted: Path) -> None:
    tree = mounted / "tree"
    for number in range(50):
        (tree / f"d{number % 5}").mkdir(parents=True, exist_ok=True)
        (tree / f"d{number % 5}/{number}").write_bytes(b"x" * number)
    before = seen(tree)
    gavel("tid", mounted)
    shutil.rmtree(tree)
    assert "restore" in gavel("undo", tree, "--dry-run")
    assert not tree.exists()
    gavel("undo", tree)
    eventually(lambda: seen(tree) == before)
    gavel("undo", tree)
    eventually(lambda: not tree.exists())
