"""Rename, in all its forms."""

from __future__ import annotations

import errno
import stat

import pytest

from tests.contracts.adapter import EXCHANGE, NOREPLACE, Adapter, exists, fails

KINDS = ["file", "symlink", "fifo", "empty", "full"]
FLAGS = [0, NOREPLACE, EXCHANGE]


class Renames:
    @pytest.mark.parametrize("kind", KINDS)
    def test_to_a_free_name(self, fs: Adapter, kind: str) -> None:
        fs.mkdir("d")
        make(fs, kind, "a")
        before = fs.stat("a")
        fs.rename("a", "b")
        assert not exists(fs, "a")
        fs.rename("b", "d/c")
        assert not exists(fs, "b")
        after = fs.stat("d/c")
        assert after.object == before.object
        assert after.nlink == before.nlink
        assert after.mtime == before.mtime
        fs.rename("d/c", "a", NOREPLACE)
        assert fs.listdir("d") == []
        check_made(fs, kind, "a")

    @pytest.mark.parametrize("other", KINDS)
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("apart", [False, True])
    def test_onto_something(self, fs: Adapter, kind: str, other: str, apart: bool) -> None:
        target = "d/b" if apart else "b"
        fs.mkdir("d")
        make(fs, kind, "a")
        make(fs, other, target)
        moved = fs.stat("a").object
        code = refusal(kind, other)
        if code:
            before = (fs.stat("a"), fs.stat(target), fs.stat(""), fs.stat("d"))
            with fails(*code):
                fs.rename("a", target)
            assert (fs.stat("a"), fs.stat(target), fs.stat(""), fs.stat("d")) == before
        else:
            fs.rename("a", target)
            assert fs.stat(target).object == moved
            assert not exists(fs, "a")
            check_made(fs, kind, target)
        self.check_links(fs)

    @pytest.mark.parametrize("other", KINDS)
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("apart", [False, True])
    def test_exchange(self, fs: Adapter, kind: str, other: str, apart: bool) -> None:
        target = "d/b" if apart else "b"
        fs.mkdir("d")
        make(fs, kind, "a")
        make(fs, other, target)
        first, second = fs.stat("a").object, fs.stat(target).object
        fs.rename("a", target, EXCHANGE)
        assert (fs.stat("a").object, fs.stat(target).object) == (second, first)
        check_made(fs, other, "a")
        check_made(fs, kind, target)
        self.check_links(fs)
        fs.rename(target, "a", EXCHANGE)
        assert (fs.stat("a").object, fs.stat(target).object) == (first, second)
        self.check_links(fs)

    def check_links(self, fs: Adapter) -> None:
        """Each directory of the little tree has a link for each directory in it."""
        for path in ("", "d"):
            below = [fs.stat(f"{path}/{name}" if path else name).mode for name in fs.listdir(path)]
            assert fs.stat(path).nlink == 2 + sum(stat.S_ISDIR(mode) for mode in below)

    @pytest.mark.parametrize("kind", KINDS)
    def test_noreplace_refuses_what_is_there(self, fs: Adapter, kind: str) -> None:
        make(fs, "file", "a")
        make(fs, kind, "b")
        with fails(errno.EEXIST):
            fs.rename("a", "b", NOREPLACE)
        with fails(errno.EEXIST):
            fs.rename("a", "a", NOREPLACE)
        check_made(fs, "file", "a")
        check_made(fs, kind, "b")

    def test_exchange_needs_both(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        with fails(errno.ENOENT):
            fs.rename("a", "b", EXCHANGE)
        with fails(errno.ENOENT):
            fs.rename("b", "a", EXCHANGE)

    def test_flags_that_make_no_sense(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        with fails(errno.EINVAL):
            fs.rename("a", "b", NOREPLACE | EXCHANGE)
        with fails(errno.EINVAL):
            fs.rename("a", "b", 1 << 10)
        with fails(errno.EINVAL):
            fs.rename("none", "nothing", 1 << 10)

    @pytest.mark.parametrize("flags", FLAGS)
    def test_nothing_to_rename(self, fs: Adapter, flags: int) -> None:
        fs.mknod("a", 0o644)
        fs.mkdir("d")
        with fails(errno.ENOENT):
            fs.rename("none", "a", flags)
        with fails(errno.ENOENT):
            fs.rename("none", "b", flags)
        with fails(errno.ENOENT):
            fs.rename("d/none", "d", flags)
        with fails(errno.ENOENT, errno.ENAMETOOLONG):  # behind a kernel the former, it looks for the old name first
            fs.rename("none", "n" * 256, flags)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("flags", [0, EXCHANGE])
    def test_onto_itself_is_nothing(self, fs: Adapter, kind: str, flags: int) -> None:
        make(fs, kind, "a")
        before = fs.stat("a"), fs.stat("")
        fs.tick()
        fs.rename("a", "a", flags)
        assert (fs.stat("a"), fs.stat("")) == before

    @pytest.mark.parametrize("flags", [0, EXCHANGE])
    def test_between_two_names_of_one_file_is_nothing(self, fs: Adapter, flags: int) -> None:
        fs.mkdir("d")
        fs.write("a", b"x")
        fs.link("a", "b")
        fs.link("a", "d/c")
        before = fs.stat("a"), fs.stat(""), fs.stat("d")
        fs.tick()
        fs.rename("a", "b", flags)
        fs.rename("a", "d/c", flags)
        assert (fs.stat("b"), fs.stat(""), fs.stat("d")) == before
        assert exists(fs, "a")
        with fails(errno.EEXIST):
            fs.rename("a", "b", NOREPLACE)

    @pytest.mark.parametrize("flags", [0, NOREPLACE])
    def test_a_directory_does_not_go_into_itself(self, fs: Adapter, flags: int) -> None:
        fs.mkdir("a")
        fs.mkdir("a/b")
        fs.mkdir("a/b/c")
        for target in ("a/x", "a/b/x", "a/b/c/x"):
            with fails(errno.EINVAL):
                fs.rename("a", target, flags)
        if not flags:
            for target in ("a/b", "a/b/c"):
                with fails(errno.EINVAL):
                    fs.rename("a", target)
        assert fs.listdir("a/b") == ["c"]

    def test_a_directory_is_not_exchanged_with_its_content(self, fs: Adapter) -> None:
        fs.mkdir("a")
        fs.mkdir("a/b")
        fs.write("a/b/c", b"")
        for inside in ("a/b", "a/b/c"):
            with fails(errno.EINVAL):
                fs.rename("a", inside, EXCHANGE)
            with fails(errno.EINVAL):
                fs.rename(inside, "a", EXCHANGE)
        assert fs.listdir("a") == ["b"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_content_does_not_replace_the_directory_around_it(self, fs: Adapter, kind: str) -> None:
        fs.mkdir("a")
        fs.mkdir("a/b")
        make(fs, kind, "a/b/c")
        for target in ("a", "a/b"):
            with fails(errno.ENOTEMPTY):  # even for what could never replace a directory
                fs.rename("a/b/c", target)
        check_made(fs, kind, "a/b/c")

    def test_a_tree_moves_whole(self, fs: Adapter) -> None:
        fs.mkdir("a")
        fs.mkdir("a/b")
        fs.write("a/b/c", b"deep")
        fs.mkdir("z")
        fs.rename("a", "z/a")
        assert fs.read("z/a/b/c") == b"deep"
        fs.rename("z/a/b", "b")
        assert fs.read("b/c") == b"deep"
        assert fs.listdir("z/a") == []
        fs.mkdir("b/..d")
        assert sorted(fs.listdir("b")) == ["..d", "c"]

    def test_the_moved_may_hold_what_once_held_it(self, fs: Adapter) -> None:
        fs.mkdir("a")
        fs.mkdir("a/b")
        fs.rename("a/b", "b")
        fs.rename("a", "b/a")
        assert fs.listdir("b") == ["a"]
        with fails(errno.EINVAL):
            fs.rename("b", "b/a/b")

    def test_replacing_one_of_two_names(self, fs: Adapter) -> None:
        fs.write("old", b"old")
        fs.link("old", "keep")
        fs.write("new", b"new")
        fs.rename("new", "old")
        assert fs.read("old") == b"new"
        assert fs.read("keep") == b"old"
        assert (fs.stat("old").nlink, fs.stat("keep").nlink) == (1, 1)

    def test_times_of_a_move(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.mkdir("e")
        fs.mkdir("other")
        fs.write("d/a", b"x")
        before = {path: fs.stat(path) for path in ("", "d", "e", "other", "d/a")}
        fs.tick()
        fs.rename("d/a", "e/b")
        for path in ("d", "e"):
            after = fs.stat(path)
            assert after.mtime > before[path].mtime
            assert after.ctime == after.mtime
        moved = fs.stat("e/b")
        assert moved.mtime == before["d/a"].mtime
        assert moved.ctime > before["d/a"].ctime
        assert fs.stat("other") == before["other"]
        assert fs.stat("") == before[""]

    @pytest.mark.parametrize("flags", [0, EXCHANGE])
    def test_times_of_what_is_replaced_or_exchanged(self, fs: Adapter, flags: int) -> None:
        fs.mkdir("d")
        fs.write("a", b"x")
        fs.write("d/b", b"y")
        fs.link("d/b", "keep")
        before = {path: fs.stat(path) for path in ("", "d", "a", "keep")}
        fs.tick()
        fs.rename("a", "d/b", flags)
        for path, now in (("a", "d/b"), ("keep", "keep")):
            assert fs.stat(now).ctime > before[path].ctime
            assert fs.stat(now).mtime == before[path].mtime
        for path in ("", "d"):
            assert fs.stat(path).mtime > before[path].mtime
            assert fs.stat(path).ctime > before[path].ctime


def make(fs: Adapter, kind: str, path: str) -> None:
    """Something of a kind, with content by which it is known again."""
    if kind == "file":
        fs.write(path, b"content of a file")
    elif kind == "symlink":
        fs.symlink("a target", path)
    elif kind == "fifo":
        fs.mknod(path, stat.S_IFIFO | 0o600)
    else:
        fs.mkdir(path)
        if kind == "full":
            fs.mkdir(f"{path}/inner")


def check_made(fs: Adapter, kind: str, path: str) -> None:
    """What `make` made is still what it was."""
    if kind == "file":
        assert fs.read(path) == b"content of a file"
    elif kind == "symlink":
        assert fs.readlink(path) == "a target"
    elif kind == "fifo":
        assert stat.S_ISFIFO(fs.stat(path).mode)
    else:
        assert fs.listdir(path) == (["inner"] if kind == "full" else [])


def refusal(kind: str, other: str) -> tuple[int, ...]:
    """The errnos with which a rename of one kind onto another may fail; () where it works."""
    is_dir, was_dir = kind in ("empty", "full"), other in ("empty", "full")
    if is_dir and not was_dir:
        return (errno.ENOTDIR,)
    if was_dir and not is_dir:
        return (errno.EISDIR,)
    return (errno.ENOTEMPTY, errno.EEXIST) if other == "full" else ()
