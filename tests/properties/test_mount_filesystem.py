"""The machine of test_filesystem.py through the kernel: a mount against the host's own filesystem.

Times are left to the contract suite: two kernels' clocks move on in steps of their own.
"""

from __future__ import annotations

import itertools
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from tests.contracts import host
from tests.contracts.host import Host
from tests.integration.mount_daemon import Served, needs_mount
from tests.properties.test_filesystem import (
    XATTRS,
    FilesystemMachine,
    Tree,
    fresh,
    ids,
    outcome,
    paths,
    perms,
    shape,
    tree,
)
from tests.properties.test_filesystem import Path as Where

pytestmark = [needs_mount, pytest.mark.mounts]
SOAK = "GAVEL_SOAK" in os.environ
KINDS = [0, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFDIR]  # opening a fifo waits for somebody
offsets = st.sampled_from([0, 1, 255, 256, 4095, 4096, 131_071, 131_072, 200_000, 1 << 20]) | st.integers(0, 300_000)
sizes = st.sampled_from([1, 2, 256, 257, 4096, 131_072, 131_073, 300_000]) | st.integers(1, 5000)


class MountMachine(FilesystemMachine):
    """The same system calls in two directories."""

    def __init__(self, mounted: Path, own: Path) -> None:
        super().__init__()
        self.mounted, self.own = mounted, own

    @initialize(target=FilesystemMachine.opened, missing=st.just(False))
    def begin(self, missing: bool) -> Any:
        return self.start(Host(self.mounted), Host(self.own))

    @rule(path=fresh, kind=st.sampled_from(KINDS), mode=perms)
    def mknod(self, path: Where, kind: int, mode: int) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.mknod(at, kind | mode, os.makedev(1, 3)))

    @rule(aim=st.sampled_from(["a", "b", "c", "a/b", "b/../a", "none", "x" * 4096, ""]), path=fresh)
    def symlink(self, aim: str, path: Where) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.symlink(aim, at))  # none that leads out of the directory

    @rule(path=paths, uid=ids, gid=ids)
    def chown(self, path: Where, uid: int, gid: int) -> None:
        at = self.at(path)
        if (uid, gid) != (-1, -1):  # FUSE is not asked then, so set-id bits stay
            self.both(lambda fs: fs.chown(at, uid, gid))

    @rule(path=paths, name=st.sampled_from([name for name in XATTRS if name != "user."]))
    def removexattr(self, path: Where, name: str) -> None:
        at = self.at(path)  # the mount looks whether there are any before it looks whether the name is possible
        self.both(lambda fs: fs.getxattr(at, name))
        self.both(lambda fs: fs.removexattr(at, name))

    # The content of open files, through every call there is for it.

    def on_both(self, handles: tuple[int, int], call: Callable[[int], Any]) -> None:
        """Do it with both handles; the same must come of it."""
        if stat.S_ISREG(os.fstat(handles[0]).st_mode):
            real, model = outcome(lambda: call(handles[0])), outcome(lambda: call(handles[1]))
            assert real == model

    @rule(handles=FilesystemMachine.opened, offset=offsets, size=sizes, fill=st.binary(min_size=1, max_size=3))
    def pwrite(self, handles: tuple[int, int], offset: int, size: int, fill: bytes) -> None:
        self.on_both(handles, lambda handle: os.pwrite(handle, (fill * size)[:size], offset))

    @rule(handles=FilesystemMachine.opened, offset=offsets, size=sizes)
    def pread(self, handles: tuple[int, int], offset: int, size: int) -> None:
        self.on_both(handles, lambda handle: os.pread(handle, size, offset))

    @rule(handles=FilesystemMachine.opened, size=offsets)
    def ftruncate(self, handles: tuple[int, int], size: int) -> None:
        self.on_both(handles, lambda handle: os.ftruncate(handle, size))

    @rule(handles=FilesystemMachine.opened, mode=st.sampled_from([0, 1, 3, 16, 17]), offset=offsets, size=sizes)
    def fallocate(self, handles: tuple[int, int], mode: int, offset: int, size: int) -> None:
        self.on_both(handles, lambda handle: host.fallocate(handle, mode, offset, size))

    @rule(source=FilesystemMachine.opened, sink=FilesystemMachine.opened, size=sizes, here=offsets, there=offsets)
    def copy(self, source: tuple[int, int], sink: tuple[int, int], size: int, here: int, there: int) -> None:
        def call(handle: int) -> int:
            to = sink[0] if handle == source[0] else sink[1]
            return os.copy_file_range(handle, to, size, here, there)

        if stat.S_ISREG(os.fstat(sink[0]).st_mode):
            self.on_both(source, call)

    @rule(handles=FilesystemMachine.opened, offset=offsets, size=sizes, fill=st.binary(min_size=1, max_size=3))
    def map(self, handles: tuple[int, int], offset: int, size: int, fill: bytes) -> None:
        """Write through a mapping, as far as the file reaches."""

        def call(handle: int) -> int:
            end = min(os.fstat(handle).st_size, offset + size)
            if offset >= end:
                return 0
            with mmap.mmap(handle, end) as mapped:
                mapped[offset:end] = (fill * size)[: end - offset]
            return end

        self.on_both(handles, call)

    @rule(handles=FilesystemMachine.opened, forget=st.booleans())
    def fsync(self, handles: tuple[int, int], forget: bool) -> None:
        """Write back; and let the kernel forget the pages, so that the next read asks."""
        self.on_both(handles, os.fsync)
        if forget:
            self.on_both(handles, lambda handle: os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED))

    @invariant()
    def agree(self) -> None:
        real, model = tree(self.real), tree(self.model)
        assert shape(_comparable(real)) == shape(_comparable(model))
        self.trees = real, model


def _comparable(found: Tree) -> Tree:
    """Without what filesystems may differ in: the size of a directory."""
    return {path: at._replace(size=0) if stat.S_ISDIR(at.mode) else at for path, at in found.items()}


def test_the_mount_does_what_the_host_does(tmp_path: Path) -> None:
    numbers = itertools.count()
    (tmp_path / "mnt").mkdir()
    umask = os.umask(0o022)
    try:
        with Served(tmp_path / "mnt", tmp_path / "volume") as served:

            def machine() -> MountMachine:
                name = f"top{next(numbers)}"
                tops = served.directory / name, tmp_path / name
                for top in tops:
                    top.mkdir()
                return MountMachine(*tops)

            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=500 if SOAK else 15,
                    stateful_step_count=60 if SOAK else 40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
    finally:
        os.umask(umask)
