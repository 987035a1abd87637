"""Extended attributes."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.contracts.adapter import CREATE, REPLACE, Adapter, fails, need
from tests.contracts.suite_attributes import changed_times


class Xattrs:
    @pytest.mark.parametrize("kind", ["file", "directory"])
    def test_set_get_list_remove(self, fs: Adapter, kind: str) -> None:
        if kind == "file":
            fs.mknod("a", 0o644)
        else:
            fs.mkdir("a")
        assert fs.listxattr("a") == []
        fs.setxattr("a", "user.one", b"1")
        fs.setxattr("a", "user.two", b"")
        fs.setxattr("a", "user.one", b"\0binary\xff")
        assert sorted(fs.listxattr("a")) == ["user.one", "user.two"]
        assert fs.getxattr("a", "user.one") == b"\0binary\xff"
        assert fs.getxattr("a", "user.two") == b""
        fs.removexattr("a", "user.one")
        assert fs.listxattr("a") == ["user.two"]
        with fails(errno.ENODATA):
            fs.getxattr("a", "user.one")
        with fails(errno.ENODATA):
            fs.removexattr("a", "user.one")

    def test_flags(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        with fails(errno.ENODATA):
            fs.setxattr("a", "user.x", b"1", REPLACE)
        fs.setxattr("a", "user.x", b"1", CREATE)
        with fails(errno.EEXIST):
            fs.setxattr("a", "user.x", b"2", CREATE)
        fs.setxattr("a", "user.x", b"3", REPLACE)
        assert fs.getxattr("a", "user.x") == b"3"
        with fails(errno.EINVAL):
            fs.setxattr("a", "user.x", b"4", 1 << 7)

    def test_names(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        longest = "user." + "n" * 250
        fs.setxattr("a", longest, b"1")
        fs.setxattr("a", "user." + os.fsdecode(b"\xff"), b"2")
        assert len(fs.listxattr("a")) == 2
        for code, name in (
            (errno.ERANGE, longest + "n"),
            (errno.ERANGE, ""),
            (errno.EOPNOTSUPP, "nospace"),
            (errno.EOPNOTSUPP, "system.other"),
            (errno.EOPNOTSUPP, "users.x"),
        ):
            with fails(code):
                fs.setxattr("a", name, b"1")
            with fails(code):
                fs.getxattr("a", name)
            with fails(code):
                fs.removexattr("a", name)
        for call in (lambda: fs.setxattr("a", "user.", b"1"), lambda: fs.getxattr("a", "user.")):
            with fails(errno.EINVAL):
                call()

    def test_values_have_a_bound(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        with fails(errno.E2BIG):
            fs.setxattr("a", "user.x", bytes(65537))
        fs.setxattr("a", "user.x", bytes(2000))
        assert len(fs.getxattr("a", "user.x")) == 2000

    def test_values_of_64_kib(self, fs: Adapter) -> None:
        need(fs, "functions")  # ext4 has no room for them in one block
        fs.mknod("a", 0o644)
        fs.setxattr("a", "user.x", b"v" * 65536)
        assert fs.getxattr("a", "user.x") == b"v" * 65536

    def test_user_attributes_are_for_files_and_directories(self, fs: Adapter) -> None:
        fs.symlink("x", "s")
        fs.mknod("p", stat.S_IFIFO | 0o600)
        for path in ("s", "p"):
            with fails(errno.EPERM):
                fs.setxattr(path, "user.x", b"1")
            with fails(errno.ENODATA):
                fs.getxattr(path, "user.x")
            with fails(errno.EPERM):
                fs.removexattr(path, "user.x")
            assert fs.listxattr(path) == []

    def test_trusted_attributes_are_for_anything(self, fs: Adapter) -> None:
        need(fs, "trusted")
        fs.symlink("x", "s")
        fs.mknod("p", stat.S_IFIFO | 0o600)
        for path in ("s", "p"):
            fs.setxattr(path, "trusted.x", b"1")
            assert fs.getxattr(path, "trusted.x") == b"1"
            assert fs.listxattr(path) == ["trusted.x"]

    def test_they_stay_with_the_file_not_the_name(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        fs.setxattr("a", "user.x", b"1")
        fs.link("a", "b")
        fs.rename("a", "c")
        assert fs.getxattr("b", "user.x") == b"1"
        fs.unlink("b")
        fs.mknod("b", 0o644)
        assert fs.listxattr("b") == []
        assert fs.getxattr("c", "user.x") == b"1"

    def test_times(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        assert changed_times(fs, "a", lambda: fs.setxattr("a", "user.x", b"1")) == "c"
        assert changed_times(fs, "a", lambda: fs.setxattr("a", "user.x", b"2")) == "c"
        assert changed_times(fs, "a", lambda: fs.removexattr("a", "user.x")) == "c"
