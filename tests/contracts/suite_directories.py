"""Reading directories while they change."""

from __future__ import annotations

import errno

import pytest

from tests.contracts.adapter import Adapter, fails, need


def walk(fs: Adapter, path: str, count: int) -> list[str]:
    """All names of a directory, read in replies of about `count`."""
    names: list[str] = []
    cookie = 0
    while batch := fs.readdir(path, cookie, count):
        names += [name for _, name in batch]
        cookie = batch[-1][0]
    return names


class Directories:
    def test_listing_what_is_no_directory(self, fs: Adapter) -> None:
        fs.write("a", b"")
        with fails(errno.ENOTDIR):
            fs.listdir("a")
        assert fs.listdir("") == ["a"]

    @pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
    def test_each_name_comes_once(self, fs: Adapter, count: int) -> None:
        need(fs, "cookies")
        fs.mkdir("d")
        assert sorted(walk(fs, "d", count)) == [".", ".."]
        names = [f"name-{number}" for number in range(30)]
        for name in names:
            fs.mknod(f"d/{name}", 0o644)
        assert sorted(walk(fs, "d", count)) == sorted([".", "..", *names])

    @pytest.mark.parametrize("count", [1, 4])
    def test_a_stable_name_comes_once_whatever_else_changes(self, fs: Adapter, count: int) -> None:
        need(fs, "cookies")
        fs.mkdir("d")
        stable = [f"stable-{number}" for number in range(20)]
        for number, name in enumerate(stable):
            fs.mknod(f"d/{name}", 0o644)
            fs.mknod(f"d/going-{number}", 0o644)
        seen: list[str] = []
        cookie = round = 0
        while batch := fs.readdir("d", cookie, count):
            seen += [name for _, name in batch]
            cookie = batch[-1][0]
            if round < 20:
                fs.unlink(f"d/going-{round}")
                fs.mknod(f"d/coming-{round}", 0o644)
                fs.rename(f"d/coming-{round}", f"d/came-{round}")
            round += 1
        assert sorted(name for name in seen if name.startswith("stable")) == sorted(stable)
        assert len(seen) == len(set(seen))

    def test_removing_all_that_is_listed_removes_all(self, fs: Adapter) -> None:
        need(fs, "cookies")
        fs.mkdir("d")
        for number in range(50):
            fs.mknod(f"d/{number}", 0o644)
        cookie = 0
        while batch := fs.readdir("d", cookie, 5):
            for _, name in batch:
                if name not in (".", ".."):
                    fs.unlink(f"d/{name}")
            cookie = batch[-1][0]
        assert fs.listdir("d") == []
        fs.rmdir("d")

    def test_cookies_can_be_used_again(self, fs: Adapter) -> None:
        need(fs, "cookies")
        fs.mkdir("d")
        for number in range(20):
            fs.mknod(f"d/{number}", 0o644)
        whole = fs.readdir("d", 0, 1000)
        for at, (cookie, _) in enumerate(whole):
            rest = fs.readdir("d", cookie, 1000)
            assert [name for _, name in rest] == [name for _, name in whole[at + 1 :]]

    def test_times_of_reading_a_directory(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.mknod("d/a", 0o644)
        before = fs.stat("d")
        fs.tick()
        fs.listdir("d")
        after = fs.stat("d")
        assert (after.mtime, after.ctime) == (before.mtime, before.ctime)
