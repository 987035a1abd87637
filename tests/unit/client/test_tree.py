"""Reading and writing by os and pathlib names."""

import errno
import os
import stat
from pathlib import PurePosixPath

import pytest

from gavel.client.fs import Fs


def test_paths_may_be_str_bytes_or_pathlike_absolute_or_not(fs: Fs) -> None:
    fs.mkdir("a")
    fs.write_bytes("/a/b", b"x")
    for path in ("/a/b", "a/b", b"/a/b", b"a/b", PurePosixPath("/a/b"), "//a//./b/", "a/../a/b"):
        assert fs.read_bytes(path) == b"x"


def test_names_that_are_not_utf8_survive(fs: Fs) -> None:
    fs.write_bytes(b"\xff\xfe", b"x")
    (name,) = fs.listdir()
    assert os.fsencode(name) == b"\xff\xfe"
    assert fs.read_bytes(name) == b"x"


def test_a_nul_in_a_path_is_a_value_error(fs: Fs) -> None:
    with pytest.raises(ValueError, match="null"):
        fs.read_bytes("a\0b")


def test_errors_name_the_path_as_it_was_given(fs: Fs) -> None:
    with pytest.raises(FileNotFoundError) as info:
        fs.read_bytes("/no/such")
    assert (info.value.errno, info.value.filename) == (errno.ENOENT, "/no/such")
    fs.mkdir("d")
    with pytest.raises(IsADirectoryError):
        fs.read_bytes("d")
    with pytest.raises(FileExistsError):
        fs.mkdir("d")
    with pytest.raises(FileExistsError):
        fs.mkdir("/")
    with pytest.raises(OSError) as info:
        fs.rename("none", PurePosixPath("other"))
    assert (info.value.filename, info.value.filename2) == ("none", "other")


def test_write_bytes_replaces_the_whole_content_and_says_when_it_is_durable(fs: Fs) -> None:
    assert fs.write_bytes("a", b"x" * 500_000) is None
    tid = fs.write_bytes("a", memoryview(b"short"), sync=True)
    assert fs.read_bytes("a") == b"short"
    assert fs.as_of(tid).read_bytes("a") == b"short"
    assert fs.write_text("a", "grüße\n", sync=True) > tid  # type: ignore[operator]
    assert fs.read_text("a") == "grüße\n"


def test_directories_are_listed_in_the_order_of_their_names(fs: Fs) -> None:
    for name in ("b", "a", "c"):
        fs.mkdir(name)
    fs.symlink("a", "l")
    fs.symlink("none", "m")
    assert fs.listdir("/") == ["a", "b", "c", "l", "m"]
    entries = {entry.name: entry for entry in fs.scandir()}
    assert entries["a"].is_dir() and not entries["a"].is_file() and not entries["a"].is_symlink()
    assert entries["l"].is_dir() and entries["l"].is_symlink() and not entries["l"].is_dir(follow_symlinks=False)
    assert not entries["m"].is_dir() and not entries["m"].is_file()
    assert entries["a"].stat().st_ino == entries["a"].inode() == entries["l"].stat().st_ino
    assert list(fs.iterdir("/a")) == []
    fs.write_bytes("f", b"")
    with pytest.raises(NotADirectoryError):
        fs.listdir("f")


def test_stat_speaks_like_os(fs: Fs) -> None:
    fs.write_bytes("a", b"12345")
    fs.utime("a", ns=(1, 2))
    found = fs.stat("a")
    assert stat.S_ISREG(found.st_mode) and found.is_file() and not found.is_dir()
    assert (found.st_size, found.st_nlink, found.st_atime_ns, found.st_mtime_ns) == (5, 1, 1, 2)
    fs.utime("a", (1.5, 2.5))
    assert fs.stat("a").st_mtime == 2.5
    fs.chmod("a", 0o4711)
    assert stat.S_IMODE(fs.stat("a").st_mode) == 0o4711
    fs.chown("a", 5, -1)
    assert (fs.stat("a").st_uid, fs.stat("a").st_gid) == (5, 0)
    with pytest.raises(ValueError, match="not both"):
        fs.utime("a", (1, 2), ns=(1, 2))


def test_links(fs: Fs) -> None:
    fs.write_bytes("a", b"x")
    fs.link("a", "b")
    assert fs.stat("b").st_nlink == 2
    fs.symlink("a", "s")
    assert fs.readlink("s") == "a"
    assert fs.lstat("s").is_symlink() and fs.is_symlink("s") and fs.is_file("s")
    fs.remove("a")
    assert not fs.exists("s") and fs.lexists("s")
    fs.symlink("loop", "loop")
    assert not fs.exists("loop")
    with pytest.raises(OSError) as info:
        fs.stat("loop")
    assert info.value.errno == errno.ELOOP


def test_writing_through_a_dangling_link_makes_what_it_points_to(fs: Fs) -> None:
    fs.mkdir("d")
    fs.symlink("f", "d/s")
    fs.symlink("/d/g", "t")
    fs.write_bytes("d/s", b"1")
    fs.write_bytes("t", b"2")
    assert (fs.read_bytes("d/f"), fs.read_bytes("/d/g")) == (b"1", b"2")
    with pytest.raises(FileExistsError):
        fs.open("d/s", "x")


def test_a_chain_of_dangling_links_is_followed_and_a_loop_is_not(fs: Fs) -> None:
    fs.symlink("two", "one")
    fs.symlink("three", "two")
    fs.write_bytes("one", b"x")
    assert fs.read_bytes("three") == b"x"
    fs.symlink("loop", "loop")
    with pytest.raises(OSError) as info:
        fs.write_bytes("loop", b"")
    assert info.value.errno == errno.ELOOP


def test_makedirs_and_rmtree(fs: Fs) -> None:
    fs.makedirs("a/b/c")
    with pytest.raises(FileExistsError):
        fs.makedirs("a/b/c")
    fs.makedirs("/a/b/c", exist_ok=True)
    fs.write_bytes("a/b/f", b"")
    fs.symlink("/a", "a/b/c/s")
    with pytest.raises(OSError) as info:
        fs.rmdir("a")
    assert info.value.errno == errno.ENOTEMPTY
    fs.rmtree("a")
    assert fs.listdir() == []
    fs.makedirs("x/y")
    fs.rmtree("/")
    assert fs.listdir() == []


def test_walk_as_os_does(fs: Fs) -> None:
    fs.makedirs("a/b")
    fs.write_bytes("a/f", b"")
    fs.symlink("b", "a/s")
    assert list(fs.walk("/a")) == [("/a", ["b", "s"], ["f"]), ("/a/b", [], [])]
    assert list(fs.walk("a", topdown=False)) == [("a/b", [], []), ("a", ["b", "s"], ["f"])]
    for _, folders, _ in fs.walk("/a"):
        folders.clear()
    assert [base for base, _, _ in fs.walk("/a", followlinks=True)] == ["/a", "/a/b", "/a/s"]
    errors: list[OSError] = []
    assert list(fs.walk("none", onerror=errors.append)) == []
    assert errors[0].errno == errno.ENOENT


def test_glob(fs: Fs) -> None:
    fs.makedirs("src/one")
    for name in ("src/a.py", "src/b.txt", "src/one/c.py", "top.py"):
        fs.write_bytes(name, b"")
    assert list(fs.glob("*.py")) == ["top.py"]
    assert list(fs.glob("/src/?.py")) == ["/src/a.py"]
    assert sorted(fs.glob("**/*.py")) == ["src/a.py", "src/one/c.py", "top.py"]
    assert list(fs.glob("src/[ab].*")) == ["src/a.py", "src/b.txt"]
    assert list(fs.glob("src/one")) == ["src/one"]
    assert list(fs.glob("none/*")) == list(fs.glob("top.py/*")) == []


def test_copies_share_their_data(fs: Fs) -> None:
    content = os.urandom(700_000)
    fs.write_bytes("a", content)
    fs.chmod("a", 0o640)
    assert fs.copy("a", "b") == len(content)
    assert fs.read_bytes("b") == content
    assert stat.S_IMODE(fs.stat("b").st_mode) == 0o640
    assert fs.statvfs().f_namemax == 255
    tid = fs.sync()
    log = fs.info().log
    fs.copy("b", "a2")
    fs.sync()
    assert fs.info().log == log, "no data was written"
    fs.write_bytes("a", b"new")
    fs.copy(f"a@@0x{tid:x}", "old")
    assert fs.read_bytes("old") == content
    with pytest.raises(OSError):
        fs.copy("a", "a")


def test_xattrs(fs: Fs) -> None:
    fs.write_bytes("a", b"")
    fs.setxattr("a", "user.x", b"1")
    fs.setxattr("a", b"user.y", b"2")
    assert fs.listxattr("a") == ["user.x", "user.y"]
    assert fs.getxattr("a", "user.x") == b"1"
    fs.removexattr("a", "user.x")
    with pytest.raises(OSError) as info:
        fs.getxattr("a", "user.x")
    assert info.value.errno == errno.ENODATA
    with pytest.raises(FileExistsError):
        fs.setxattr("a", "user.y", b"", os.XATTR_CREATE)


def test_truncate_and_touch(fs: Fs) -> None:
    fs.touch("a")
    fs.truncate("a", 10)
    assert fs.read_bytes("a") == bytes(10)
    with pytest.raises(OSError) as info:
        fs.truncate("a", -1)
    assert info.value.errno == errno.EINVAL
    fs.utime("a", ns=(0, 0))
    fs.touch("a")
    assert fs.stat("a").st_mtime_ns > 0
