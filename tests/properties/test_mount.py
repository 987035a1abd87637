"""Random system calls on a mounted volume and on the host's own filesystem: same results, same errnos, same tree.

GAVEL_SOAK makes it long.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.contracts.host import Host
from tests.integration.mount_daemon import Served, needs_mount

pytestmark = [needs_mount, pytest.mark.mounts]

SOAK = bool(os.environ.get("GAVEL_SOAK"))
numbers = itertools.count()

names = st.sampled_from(["a", "b", "c", "\udcff", "n" * 255, "n" * 256])
paths = st.one_of(names, st.builds("{}/{}".format, st.sampled_from(["a", "b", "c"]), names))
offsets = st.one_of(st.integers(0, 20_000), st.sampled_from([4095, 4096, 131_072, 140_000]))
content = st.one_of(st.binary(max_size=10), st.builds(lambda b, n: b * n, st.binary(min_size=1, max_size=3), offsets))
perms = st.integers(0, 0o7777)


class Both(RuleBasedStateMachine):
    """Every call goes to both; what they say must agree."""

    served: ClassVar[Served]
    base: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        name = f"run{next(numbers)}"
        self.tops = [self.served.directory / name, self.base / name]
        for top in self.tops:
            top.mkdir(mode=0o755)
        self.sides = [Host(top) for top in self.tops]
        self.files: list[tuple[int, int]] = []

    def teardown(self) -> None:
        for pair in getattr(self, "files", []):
            for fd in pair:
                os.close(fd)
        for top in getattr(self, "tops", []):
            shutil.rmtree(top, ignore_errors=True)

    def both(self, call: Callable[[Host], Any]) -> list[Any] | None:
        """The results of a call on both sides, which must be equal; None where both failed alike."""
        results, errors = [], []
        for side in self.sides:
            try:
                results.append(call(side))
                errors.append(0)
            except OSError as error:
                errors.append(error.errno)
        assert errors[0] == errors[1], [os.strerror(error or 0) for error in errors]
        return None if errors[0] else results

    def same(self, call: Callable[[Host], Any]) -> None:
        results = self.both(call)
        assert results is None or results[0] == results[1]

    @rule(path=paths, perm=perms)
    def mkdir(self, path: str, perm: int) -> None:
        self.same(lambda fs: fs.mkdir(path, perm & 0o1777))

    @rule(path=paths, data=content)
    def write(self, path: str, data: bytes) -> None:
        self.same(lambda fs: fs.write(path, data))

    @rule(path=paths)
    def read(self, path: str) -> None:
        self.same(lambda fs: fs.read(path))

    @rule(path=paths, new=paths, flags=st.sampled_from([0, 0, 0, 1, 2]))
    def rename(self, path: str, new: str, flags: int) -> None:
        self.same(lambda fs: fs.rename(path, new, flags))

    @rule(path=paths, new=paths)
    def link(self, path: str, new: str) -> None:
        self.same(lambda fs: fs.link(path, new))

    @rule(path=paths, to=paths)
    def symlink(self, path: str, to: str) -> None:
        self.same(lambda fs: fs.symlink(to, path))

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.same(lambda fs: fs.unlink(path))

    @rule(path=paths)
    def rmdir(self, path: str) -> None:
        self.same(lambda fs: fs.rmdir(path))

    @rule(path=paths, size=offsets)
    def truncate(self, path: str, size: int) -> None:
        self.same(lambda fs: fs.truncate(path, size))

    @rule(path=paths, perm=perms)
    def chmod(self, path: str, perm: int) -> None:
        self.same(lambda fs: fs.chmod(path, perm))

    @rule(path=paths, when=st.integers(0, 2**32 * 10**9))
    def utime(self, path: str, when: int) -> None:
        self.same(lambda fs: fs.utime(path, when, when))

    @rule(path=paths, flags=st.sampled_from([os.O_CREAT | os.O_RDWR, os.O_RDWR, os.O_RDWR | os.O_APPEND]))
    def open(self, path: str, flags: int) -> None:
        opened = self.both(lambda fs: fs.open(path, flags | os.O_NONBLOCK, 0o644))
        if opened is not None:
            self.files.append((opened[0], opened[1]))
            if len(self.files) > 4:
                for fd in self.files.pop(0):
                    os.close(fd)

    def on_file(self, which: int, call: Callable[[int], Any]) -> None:
        if self.files:
            pair = self.files[which % len(self.files)]
            handles = iter(pair)
            self.same(lambda fs: call(next(handles)))

    @rule(which=st.integers(0, 3), data=content, offset=offsets)
    def pwrite(self, which: int, data: bytes, offset: int) -> None:
        self.on_file(which, lambda fd: os.pwrite(fd, data, offset))

    @rule(which=st.integers(0, 3), size=offsets, offset=offsets)
    def pread(self, which: int, size: int, offset: int) -> None:
        self.on_file(which, lambda fd: os.pread(fd, size, offset))

    @rule(which=st.integers(0, 3), size=offsets)
    def ftruncate(self, which: int, size: int) -> None:
        self.on_file(which, lambda fd: os.ftruncate(fd, size))

    @rule(which=st.integers(0, 3), other=st.integers(0, 3), source=offsets, sink=offsets, size=offsets)
    def copy_file_range(self, which: int, other: int, source: int, sink: int, size: int) -> None:
        if self.files:
            pairs = self.files[which % len(self.files)], self.files[other % len(self.files)]
            if os.fstat(pairs[0][0]).st_ino != os.fstat(pairs[1][0]).st_ino and which != other:
                sides = iter(zip(*pairs, strict=True))
                self.same(lambda fs: os.copy_file_range(*next(sides), size, source, sink))

    @rule(which=st.integers(0, 3))
    def fsync(self, which: int) -> None:
        self.on_file(which, os.fsync)

    @invariant()
    def same_tree(self) -> None:
        if hasattr(self, "tops"):
            ours, theirs = (list(shape(top)) for top in self.tops)
            assert ours == theirs


def shape(top: Path) -> Iterator[tuple[Any, ...]]:
    """Every path with what both sides must agree on; directories have sizes of their own."""
    for directory, folders, files in os.walk(os.fsencode(top)):
        folders.sort()
        for name in [b"", *sorted(folders), *sorted(files)]:
            path = os.path.join(directory, name) if name else directory
            at = os.lstat(path)
            size = 0 if stat.S_ISDIR(at.st_mode) else at.st_size
            target = os.readlink(path) if stat.S_ISLNK(at.st_mode) else b""
            yield os.path.relpath(path, os.fsencode(top)), at.st_mode, at.st_nlink, at.st_uid, size, target


def test_a_mount_answers_as_the_host_does(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as base:
        (tmp_path / "mnt").mkdir()
        with Served(tmp_path / "mnt", tmp_path / "volume") as served:
            Both.served, Both.base = served, Path(base)
            run_state_machine_as_test(
                Both,
                settings=settings(
                    max_examples=2000 if SOAK else 25,
                    stateful_step_count=60,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
