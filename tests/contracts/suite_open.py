"""Open files: flags of open, files that outlive their names, files that never had one."""

from __future__ import annotations

import errno
import os
import stat

from tests.contracts.adapter import Adapter, exists, fails, need


class OpenFiles:
    def test_open_makes_and_refuses(self, fs: Adapter) -> None:
        need(fs, "handles")
        with fails(errno.ENOENT):
            fs.open("a", os.O_RDWR)
        handle = fs.open("a", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        assert fs.stat("a") == fs.fstat(handle)
        assert fs.stat("a").mode & 0o777 == 0o640
        fs.close(handle)
        with fails(errno.EEXIST):
            fs.open("a", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        handle = fs.open("a", os.O_RDWR | os.O_CREAT, 0o777)
        assert fs.stat("a").mode & 0o777 == 0o640
        fs.close(handle)

    def test_open_and_types(self, fs: Adapter) -> None:
        need(fs, "handles")
        fs.mkdir("d")
        fs.write("a", b"x")
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT | os.O_RDONLY):
            with fails(errno.EISDIR):
                fs.open("d", flags)
        with fails(errno.ENOTDIR):
            fs.open("a", os.O_RDONLY | os.O_DIRECTORY)
        with fails(errno.ENOTDIR):
            fs.open("a/b", os.O_RDWR | os.O_CREAT)
        with fails(errno.ENAMETOOLONG):
            fs.open("n" * 256, os.O_RDWR | os.O_CREAT)

    def test_open_and_symbolic_links(self, fs: Adapter) -> None:
        need(fs, "handles")
        fs.symlink("a", "s")
        with fails(errno.EEXIST):
            fs.open("s", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        with fails(errno.ELOOP):
            fs.open("s", os.O_RDONLY | os.O_NOFOLLOW)
        with fails(errno.ENOENT):
            fs.open("s", os.O_RDONLY)
        fs.close(fs.open("s", os.O_RDWR | os.O_CREAT))
        assert stat.S_ISREG(fs.stat("a").mode)
        assert stat.S_ISLNK(fs.stat("s").mode)

    def test_opening_with_truncation(self, fs: Adapter) -> None:
        need(fs, "handles")
        fs.write("a", b"content")
        before = fs.stat("a")
        fs.tick()
        fs.close(fs.open("a", os.O_WRONLY | os.O_TRUNC))
        after = fs.stat("a")
        assert after.size == 0
        assert after.mtime > before.mtime
        assert after.ctime > before.ctime

    def test_reading_and_writing_at_offsets(self, fs: Adapter) -> None:
        need(fs, "handles")
        handle = fs.open("a", os.O_RDWR | os.O_CREAT)
        assert fs.pwrite(handle, b"world", 6) == 5
        assert fs.pwrite(handle, b"hello", 0) == 5
        assert fs.pread(handle, 100, 0) == b"hello\0world"
        assert fs.pread(handle, 3, 7) == b"orl"
        assert fs.pread(handle, 3, 11) == b""
        assert fs.pwrite(handle, b"x" * 300_000, 1_000_000) == 300_000
        assert fs.fstat(handle).size == 1_300_000
        assert fs.pread(handle, 10, 999_995) == b"\0" * 5 + b"x" * 5
        fs.close(handle)

    # Without a name.

    def test_a_file_outlives_its_last_name_while_it_is_open(self, fs: Adapter) -> None:
        need(fs, "handles")
        handle = fs.open("a", os.O_RDWR | os.O_CREAT)
        fs.pwrite(handle, b"content", 0)
        before = fs.fstat(handle)
        fs.tick()
        fs.unlink("a")
        found = fs.fstat(handle)
        assert found.nlink == 0
        assert found.ctime > before.ctime
        assert found.mtime == before.mtime
        fs.pwrite(handle, b"more", 7)
        assert fs.pread(handle, 100, 0) == b"contentmore"
        fs.write("a", b"another")
        assert fs.pread(handle, 100, 0) == b"contentmore"
        with fails(errno.ENOENT):
            fs.flink(handle, "back")
        fs.close(handle)
        assert fs.read("a") == b"another"

    def test_a_replaced_file_outlives_its_name_as_well(self, fs: Adapter) -> None:
        need(fs, "handles")
        fs.write("a", b"old")
        fs.write("b", b"new")
        handle = fs.open("a", os.O_RDONLY)
        fs.rename("b", "a")
        assert fs.fstat(handle).nlink == 0
        assert fs.pread(handle, 10, 0) == b"old"
        fs.close(handle)
        assert fs.read("a") == b"new"

    def test_a_removed_directory_that_is_open(self, fs: Adapter) -> None:
        need(fs, "handles")
        fs.mkdir("d")
        handle = fs.open("d", os.O_RDONLY)
        fs.rmdir("d")
        assert fs.fstat(handle).nlink == 0
        fs.close(handle)
        fs.mkdir("d")
        fs.mkdir("e")
        handle = fs.open("e", os.O_RDONLY)
        fs.rename("d", "e")
        assert fs.fstat(handle).nlink == 0
        fs.close(handle)

    def test_a_file_without_a_name(self, fs: Adapter) -> None:
        need(fs, "handles")
        fs.mkdir("d")
        before = fs.stat("d")
        fs.tick()
        handle = fs.tmpfile("d", 0o640)
        found = fs.fstat(handle)
        assert (found.nlink, found.size, found.mode) == (0, 0, stat.S_IFREG | 0o640)
        assert fs.stat("d") == before
        fs.pwrite(handle, b"content", 0)
        fs.flink(handle, "d/a")
        assert fs.fstat(handle).nlink == 1
        assert fs.stat("d/a").object == found.object
        fs.close(handle)
        assert fs.read("d/a") == b"content"
        assert fs.listdir("d") == ["a"]

    def test_a_file_without_a_name_that_gets_one_and_loses_it(self, fs: Adapter) -> None:
        need(fs, "handles")
        fs.write("taken", b"")
        handle = fs.tmpfile("")
        with fails(errno.EEXIST):
            fs.flink(handle, "taken")
        with fails(errno.ENOENT):
            fs.flink(handle, "none/x")
        fs.flink(handle, "a")
        fs.flink(handle, "b")
        assert fs.fstat(handle).nlink == 2
        fs.unlink("a")
        fs.unlink("b")
        with fails(errno.ENOENT):
            fs.flink(handle, "c")
        fs.close(handle)
        assert not exists(fs, "c")

    def test_files_without_a_name_that_never_get_one(self, fs: Adapter) -> None:
        need(fs, "handles")
        handles = [fs.tmpfile("") for _ in range(3)]
        assert len({fs.fstat(handle).object for handle in handles}) == 3
        for handle in handles:
            fs.pwrite(handle, b"x" * 1000, 0)
            fs.close(handle)
        assert fs.listdir("") == []
        with fails(errno.ENOENT):
            fs.tmpfile("none")
        fs.write("a", b"")
        with fails(errno.ENOTDIR):
            fs.tmpfile("a")
