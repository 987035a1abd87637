"""The machine of test_filesystem.py through the kernel: a mount against the host's own filesystem.

Times are left to the contract suite: two kernels' clocks move on in steps of their own.
"""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from tests.contracts.host import Host
from tests.integration.mount_daemon import Served, needs_mount
from tests.properties.test_filesystem import XATTRS, FilesystemMachine, Tree, fresh, ids, paths, perms, shape, tree
from tests.properties.test_filesystem import Path as Where

pytestmark = [needs_mount, pytest.mark.mounts]
SOAK = "GAVEL_SOAK" in os.environ
KINDS = [0, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFDIR]  # opening a fifo waits for somebody


class MountMachine(FilesystemMachine):
    """The same system calls in two directories."""

    def __init__(self, mounted: Path, own: Path) -> None:
        super().__init__()
        self.mounted, self.own = mounted, own

    @initialize(missing=st.just(False))
    def begin(self, missing: bool) -> None:
        self.start(Host(self.mounted), Host(self.own))

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
