"""Names: making, linking and removing them, and what stands in the way."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.contracts.adapter import Adapter, exists, fails, need

LONG = "n" * 255
TOO_LONG = "n" * 256
NOT_UTF8 = os.fsdecode(b"\xff\xfe caf\xe9 \x01\n")


class Names:
    def test_a_new_file_is_there_once_and_empty(self, fs: Adapter) -> None:
        fs.mknod("a", 0o640)
        found = fs.stat("a")
        assert stat.S_IFMT(found.mode) == stat.S_IFREG
        assert found.mode & 0o7777 == 0o640
        assert (found.nlink, found.size, found.rdev) == (1, 0, 0)
        assert fs.listdir("") == ["a"]
        assert fs.read("a") == b""

    def test_objects_are_told_apart_by_their_number(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.mknod("a", 0o644)
        fs.mknod("b", 0o644)
        numbers = {fs.stat(path).object for path in ("", "d", "a", "b")}
        assert len(numbers) == 4

    def test_a_new_directory_has_two_links_and_counts_in_its_parent(self, fs: Adapter) -> None:
        fs.mkdir("d", 0o750)
        found = fs.stat("d")
        assert stat.S_ISDIR(found.mode)
        assert found.mode & 0o7777 == 0o750
        assert found.nlink == 2
        before = fs.stat("").nlink
        fs.mkdir("e")
        assert fs.stat("").nlink == before + 1
        fs.mkdir("d/f")
        assert fs.stat("d").nlink == 3
        assert fs.stat("").nlink == before + 1
        fs.rmdir("d/f")
        assert fs.stat("d").nlink == 2
        fs.mknod("d/file", 0o600)
        assert fs.stat("d").nlink == 2

    def test_the_size_of_a_directory_is_how_many_entries_it_has(self, fs: Adapter) -> None:
        need(fs, "sizes")
        fs.mkdir("d")
        assert fs.stat("d").size == 0
        fs.mknod("d/a", 0o600)
        fs.mkdir("d/b")
        fs.link("d/a", "d/c")
        assert fs.stat("d").size == 3
        fs.rename("d/a", "a")
        fs.unlink("d/c")
        assert fs.stat("d").size == 1

    @pytest.mark.parametrize("there", ["file", "directory", "symlink", "dangling"])
    def test_nothing_is_made_over_a_name_that_is_taken(self, fs: Adapter, there: str) -> None:
        fs.mknod("other", 0o644)
        _make(fs, there, "x")
        before = fs.stat("x")
        with fails(errno.EEXIST):
            fs.mknod("x", 0o644)
        with fails(errno.EEXIST):
            fs.mkdir("x")
        with fails(errno.EEXIST):
            fs.symlink("target", "x")
        with fails(errno.EEXIST):
            fs.link("other", "x")
        assert fs.stat("x") == before

    def test_where_the_way_to_a_name_breaks_off(self, fs: Adapter) -> None:
        fs.write("file", b"")
        for path, code in (("none/x", errno.ENOENT), ("file/x", errno.ENOTDIR), ("file/x/y", errno.ENOTDIR)):
            with fails(code):
                fs.mknod(path, 0o644)
            with fails(code):
                fs.mkdir(path)
            with fails(code):
                fs.symlink("t", path)
            with fails(code):
                fs.link("file", path)
            with fails(code):
                fs.stat(path)
            with fails(code):
                fs.unlink(path)
            with fails(code):
                fs.rmdir(path)
            with fails(code):
                fs.rename(path, "y")
            with fails(code):
                fs.rename("file", path)
        assert fs.listdir("") == ["file"]

    def test_what_is_not_there(self, fs: Adapter) -> None:
        for call in (fs.stat, fs.unlink, fs.rmdir, fs.readlink, fs.read, fs.listdir, fs.listxattr):
            with fails(errno.ENOENT):
                call("none")
        with fails(errno.ENOENT):
            fs.link("none", "new")
        with fails(errno.ENOENT):
            fs.chmod("none", 0o644)
        with fails(errno.ENOENT):
            fs.truncate("none", 0)
        with fails(errno.ENOENT):
            fs.utime("none", 0, 0)

    def test_names_up_to_255_bytes(self, fs: Adapter) -> None:
        fs.mkdir(LONG)
        fs.mknod(f"{LONG}/{LONG}", 0o644)
        assert fs.listdir(LONG) == [LONG]
        fs.rename(f"{LONG}/{LONG}", LONG[:-1])
        fs.rmdir(LONG)
        fs.unlink(LONG[:-1])
        fs.mknod("a", 0o644)
        with fails(errno.ENAMETOOLONG):
            fs.mknod(TOO_LONG, 0o644)
        with fails(errno.ENAMETOOLONG):
            fs.mkdir(TOO_LONG)
        with fails(errno.ENAMETOOLONG):
            fs.symlink("a", TOO_LONG)
        with fails(errno.ENAMETOOLONG):
            fs.link("a", TOO_LONG)
        with fails(errno.ENAMETOOLONG):
            fs.rename("a", TOO_LONG)
        with fails(errno.ENAMETOOLONG):
            fs.rename(TOO_LONG, "b")
        with fails(errno.ENAMETOOLONG):
            fs.stat(TOO_LONG)
        with fails(errno.ENAMETOOLONG):
            fs.unlink(TOO_LONG)
        with fails(errno.ENAMETOOLONG):
            fs.rmdir(TOO_LONG)
        with fails(errno.ENOTDIR):
            fs.stat(f"a/{TOO_LONG}")

    def test_the_length_of_a_name_counts_in_bytes(self, fs: Adapter) -> None:
        fs.mknod("é" * 127, 0o644)
        with fails(errno.ENAMETOOLONG):
            fs.mknod("é" * 128, 0o644)

    def test_names_are_bytes(self, fs: Adapter) -> None:
        fs.write(NOT_UTF8, b"x")
        assert fs.listdir("") == [NOT_UTF8]
        assert fs.read(NOT_UTF8) == b"x"
        fs.mkdir("d")
        fs.rename(NOT_UTF8, f"d/{NOT_UTF8}")
        assert fs.listdir("d") == [NOT_UTF8]
        fs.unlink(f"d/{NOT_UTF8}")
        assert fs.listdir("d") == []

    def test_names_differ_by_case_and_form(self, fs: Adapter) -> None:
        names = ["a", "A", "\u00e9", "e\u0301", " ", "a ", "-", "...", "..a", "*"]
        for name in names:
            fs.write(name, name.encode())
        assert sorted(fs.listdir("")) == sorted(names)
        assert all(fs.read(name) == name.encode() for name in names)

    def test_special_files(self, fs: Adapter) -> None:
        fs.mknod("fifo", stat.S_IFIFO | 0o600)
        fs.mknod("socket", stat.S_IFSOCK | 0o600)
        assert stat.S_ISFIFO(fs.stat("fifo").mode)
        assert stat.S_ISSOCK(fs.stat("socket").mode)
        fs.link("fifo", "same")
        assert fs.stat("same").nlink == 2
        fs.unlink("fifo")
        fs.unlink("same")
        with fails(errno.EPERM):
            fs.mknod("d", stat.S_IFDIR | 0o755)
        with fails(errno.EINVAL):
            fs.mknod("l", stat.S_IFLNK | 0o777)
        with fails(errno.ENOTDIR):
            fs.rmdir("socket")

    def test_devices_keep_their_number(self, fs: Adapter) -> None:
        need(fs, "owners")
        for name, kind, number in (("c", stat.S_IFCHR, (1, 3)), ("b", stat.S_IFBLK, (259, 70000))):
            fs.mknod(name, kind | 0o600, os.makedev(*number))
            found = fs.stat(name)
            assert stat.S_IFMT(found.mode) == kind
            assert found.rdev == os.makedev(*number)

    # Hard links.

    def test_a_link_is_another_name_of_the_same_thing(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.write("a", b"one")
        fs.link("a", "d/b")
        assert fs.stat("a") == fs.stat("d/b")
        assert fs.stat("a").nlink == 2
        fs.write("d/b", b"two")
        assert fs.read("a") == b"two"
        fs.unlink("a")
        assert fs.stat("d/b").nlink == 1
        assert fs.read("d/b") == b"two"
        assert not exists(fs, "a")

    def test_a_link_to_a_symbolic_link_is_one_itself(self, fs: Adapter) -> None:
        fs.symlink("nowhere", "a")
        fs.link("a", "b")
        assert fs.readlink("b") == "nowhere"
        assert fs.stat("a").nlink == 2

    def test_directories_have_one_name(self, fs: Adapter) -> None:
        fs.mkdir("d")
        with fails(errno.EPERM):
            fs.link("d", "e")
        fs.mkdir("f")
        with fails(errno.EEXIST):
            fs.link("d", "f")

    def test_many_links(self, fs: Adapter) -> None:
        fs.write("a", b"x")
        for number in range(100):
            fs.link("a", f"a{number}")
        assert fs.stat("a").nlink == 101
        for number in range(100):
            fs.unlink(f"a{number}")
        assert fs.stat("a").nlink == 1

    # Removing.

    def test_unlink_is_not_for_directories_and_rmdir_for_nothing_else(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.mknod("a", 0o644)
        fs.symlink("d", "s")
        with fails(errno.EISDIR):
            fs.unlink("d")
        with fails(errno.ENOTDIR):
            fs.rmdir("a")
        with fails(errno.ENOTDIR):
            fs.rmdir("s")
        fs.unlink("s")
        assert fs.stat("d").nlink == 2

    def test_only_an_empty_directory_goes(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.mkdir("d/e")
        with fails(errno.ENOTEMPTY, errno.EEXIST):
            fs.rmdir("d")
        fs.rmdir("d/e")
        fs.symlink("none", "d/e")
        with fails(errno.ENOTEMPTY, errno.EEXIST):
            fs.rmdir("d")
        fs.unlink("d/e")
        fs.rmdir("d")
        assert not exists(fs, "d")

    def test_a_name_can_be_given_again(self, fs: Adapter) -> None:
        fs.write("a", b"old")
        fs.unlink("a")
        fs.mkdir("a")
        fs.rmdir("a")
        fs.write("a", b"new")
        assert fs.read("a") == b"new"
        assert fs.stat("a").nlink == 1

    # Symbolic links.

    def test_a_symbolic_link_holds_any_text(self, fs: Adapter) -> None:
        for name, target in (("a", "x"), ("b", "/no/where"), ("c", "t" * 4095), ("d", NOT_UTF8), ("e", "../..//.")):
            fs.symlink(target, name)
            assert fs.readlink(name) == target
            found = fs.stat(name)
            assert stat.S_ISLNK(found.mode)
            assert found.size == len(os.fsencode(target))
            assert found.mode & 0o777 == 0o777
        with fails(errno.ENAMETOOLONG):
            fs.symlink("t" * 4096, "f")
        with fails(errno.ENOENT):
            fs.symlink("", "f")

    def test_symbolic_links_are_followed(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.mkdir("d/e")
        fs.write("d/a", b"x")
        fs.symlink("d", "s")
        fs.symlink("../s/a", "d/t")
        assert fs.read("s/a") == b"x"
        assert fs.read("s/t") == b"x"
        assert fs.stat("s/t", follow=True).object == fs.stat("d/a").object
        assert stat.S_ISLNK(fs.stat("s/t").mode)
        fs.mkdir("s/f")
        assert sorted(fs.listdir("d")) == ["a", "e", "f", "t"]
        assert sorted(fs.listdir("s")) == ["a", "e", "f", "t"]
        with fails(errno.EINVAL):
            fs.readlink("d/a")
        with fails(errno.EINVAL):
            fs.readlink("d")

    def test_symbolic_links_that_lead_nowhere(self, fs: Adapter) -> None:
        fs.symlink("none", "dangling")
        fs.write("file", b"")
        fs.symlink("file", "to-file")
        with fails(errno.ENOENT):
            fs.read("dangling")
        with fails(errno.ENOENT):
            fs.stat("dangling/x")
        with fails(errno.ENOTDIR):
            fs.stat("to-file/x")
        with fails(errno.ENOTDIR):
            fs.listdir("to-file")
        fs.write("dangling", b"made")
        assert fs.read("none") == b"made"

    def test_symbolic_links_in_a_circle(self, fs: Adapter) -> None:
        fs.symlink("b", "a")
        fs.symlink("a", "b")
        fs.symlink("self/x", "self")
        for path in ("a", "b", "self", "a/x"):
            with fails(errno.ELOOP):
                fs.stat(path, follow=True)
        with fails(errno.ELOOP):
            fs.read("a")
        assert fs.readlink("a") == "b"
        fs.unlink("a")

    def test_chains_of_symbolic_links(self, fs: Adapter) -> None:
        fs.write("0", b"end")
        for number in range(41):
            fs.symlink(str(number), str(number + 1))
        assert fs.read("40") == b"end"
        with fails(errno.ELOOP):
            fs.read("41")


def _make(fs: Adapter, kind: str, path: str) -> None:
    if kind == "directory":
        fs.mkdir(path)
    elif kind == "file":
        fs.write(path, b"content")
    else:
        fs.symlink("other" if kind == "symlink" else "nowhere", path)
