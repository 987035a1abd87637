"""Modes, owners, sizes and times: what changes them and what must not."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable

import pytest

from tests.contracts.adapter import Adapter, fails, need

OLD = 1_000_000_000_123_456_789  # ns; long before any clock of a test


def changed_times(fs: Adapter, path: str, call: Callable[[], None], now: str | None = None) -> str:
    """Which times of an object a call changes: "m", "c", "mc" or ""."""
    before = fs.stat(path)
    fs.tick()
    call()
    after = fs.stat(now or path)
    return ("m" if after.mtime > before.mtime else "") + ("c" if after.ctime > before.ctime else "")


class Attributes:
    def test_a_mode_loses_the_umask(self, fs: Adapter) -> None:
        need(fs, "umask")
        for mask in (0o000, 0o022, 0o077, 0o777):
            fs.umask(mask)
            fs.mknod(f"f{mask}", 0o6777)
            fs.mkdir(f"d{mask}", 0o1777)
            fs.symlink("x", f"s{mask}")
            fs.mknod(f"p{mask}", stat.S_IFIFO | 0o666)
            assert fs.stat(f"f{mask}").mode & 0o7777 == 0o6777 & ~mask
            assert fs.stat(f"d{mask}").mode & 0o7777 == 0o1777 & ~mask
            assert fs.stat(f"s{mask}").mode & 0o7777 == 0o777
            assert fs.stat(f"p{mask}").mode & 0o7777 == 0o666 & ~mask

    @pytest.mark.parametrize("mode", [0o000, 0o644, 0o1755, 0o2710, 0o4755, 0o7777])
    def test_chmod_sets_twelve_bits(self, fs: Adapter, mode: int) -> None:
        fs.mknod("a", 0o644)
        fs.mkdir("d")
        for path, kind in (("a", stat.S_IFREG), ("d", stat.S_IFDIR)):
            fs.chmod(path, mode)
            assert fs.stat(path).mode == kind | mode

    def test_chmod_goes_through_a_symbolic_link(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        fs.symlink("a", "s")
        fs.chmod("s", 0o600)
        assert fs.stat("a").mode & 0o777 == 0o600

    def test_chown(self, fs: Adapter) -> None:
        need(fs, "owners")
        fs.mknod("a", 0o644)
        fs.symlink("a", "s")
        fs.chown("a", 1000, 2000)
        assert fs.stat("a")[3:5] == (1000, 2000)
        fs.chown("a", -1, 3000)
        assert fs.stat("a")[3:5] == (1000, 3000)
        fs.chown("a", 4_000_000_000, -1)
        assert fs.stat("a")[3:5] == (4_000_000_000, 3000)
        fs.chown("s", 5, 6)
        assert fs.stat("s")[3:5] == (5, 6)
        assert fs.stat("a")[3:5] == (4_000_000_000, 3000)

    @pytest.mark.parametrize(
        ("mode", "left"),
        [(0o4755, 0o755), (0o2755, 0o755), (0o6711, 0o711), (0o2745, 0o2745), (0o6745, 0o2745), (0o1755, 0o1755)],
    )
    def test_a_new_owner_takes_the_set_id_bits(self, fs: Adapter, mode: int, left: int) -> None:
        need(fs, "owners")
        fs.mknod("a", 0o644)
        fs.chmod("a", mode)
        fs.chown("a", 1000, 0)
        if mode != 0o2745 and mode != 0o6745:  # without group execute, setgid once meant mandatory locking
            assert fs.stat("a").mode & 0o7777 == left
        else:
            assert fs.stat("a").mode & 0o5777 == left & 0o5777

    def test_a_directory_keeps_its_set_id_bits(self, fs: Adapter) -> None:
        need(fs, "owners")
        fs.mkdir("d")
        fs.chmod("d", 0o6755)
        fs.chown("d", 1000, 1000)
        assert fs.stat("d").mode & 0o7777 == 0o6755

    def test_a_setgid_directory_hands_its_group_down(self, fs: Adapter) -> None:
        need(fs, "owners")
        fs.mkdir("d")
        fs.chown("d", 0, 1234)
        fs.chmod("d", 0o2775)
        fs.mknod("d/a", 0o644)
        fs.mkdir("d/e")
        fs.symlink("x", "d/s")
        fs.mkdir("d/e/f")
        assert [fs.stat(f"d/{name}").gid for name in ("a", "e", "s", "e/f")] == [1234] * 4
        assert [fs.stat(f"d/{name}").uid for name in ("a", "e", "s", "e/f")] == [0] * 4
        assert fs.stat("d/a").mode & 0o7777 == 0o644
        assert fs.stat("d/e").mode & 0o7777 == 0o2755
        assert fs.stat("d/e/f").mode & 0o7777 == 0o2755
        fs.mkdir("plain")
        fs.mkdir("plain/e")
        assert fs.stat("plain/e").gid == 0
        fs.rename("plain/e", "d/moved")
        assert fs.stat("d/moved").gid == 0

    # Sizes.

    def test_truncate(self, fs: Adapter) -> None:
        fs.write("a", b"0123456789")
        fs.truncate("a", 4)
        assert fs.read("a") == b"0123"
        fs.truncate("a", 8)
        assert fs.read("a") == b"0123\0\0\0\0"
        fs.truncate("a", 0)
        assert fs.read("a") == b""
        fs.truncate("a", 1 << 40)
        assert fs.stat("a").size == 1 << 40

    def test_truncate_what_is_no_file(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.symlink("d", "s")
        fs.write("a", b"x")
        fs.symlink("a", "t")
        with fails(errno.EISDIR):
            fs.truncate("d", 0)
        with fails(errno.EISDIR):
            fs.truncate("s", 0)
        with fails(errno.EINVAL):
            fs.truncate("a", -1)
        fs.truncate("t", 0)
        assert fs.stat("a").size == 0

    # Times.

    def test_times_of_something_new(self, fs: Adapter) -> None:
        fs.mkdir("d")
        before = fs.stat("d")
        fs.tick()
        fs.mknod("d/a", 0o644)
        found = fs.stat("d/a")
        assert found.mtime == found.ctime == found.atime
        assert found.ctime > before.ctime

    def test_times_are_kept_to_the_nanosecond(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        fs.mkdir("d")
        fs.symlink("a", "s")
        for path in ("a", "d", "s"):
            fs.utime(path, OLD + 1, OLD + 2)
            found = fs.stat(path)
            assert (found.atime, found.mtime) == (OLD + 1, OLD + 2)
            assert found.ctime > OLD + 2
        fs.utime("a", 0, 0)
        assert fs.stat("a").mtime == 0

    def test_times_before_1970(self, fs: Adapter) -> None:
        fs.mknod("a", 0o644)
        fs.utime("a", -1_500_000_000, -2_000_000_001)
        found = fs.stat("a")
        assert (found.atime, found.mtime) == (-1_500_000_000, -2_000_000_001)

    def test_changing_entries_changes_the_directory(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.mknod("x", 0o644)
        calls: list[Callable[[], None]] = [
            lambda: fs.mknod("d/a", 0o644),
            lambda: fs.mkdir("d/b"),
            lambda: fs.symlink("t", "d/c"),
            lambda: fs.link("x", "d/x"),
            lambda: fs.rename("d/a", "d/e"),
            lambda: fs.unlink("d/e"),
            lambda: fs.rmdir("d/b"),
            lambda: fs.rename("d/x", "x"),
        ]
        assert [changed_times(fs, "d", call) for call in calls[:-1]] == ["mc"] * (len(calls) - 1)
        # The last names the same file twice, so nothing moves.
        assert changed_times(fs, "d", calls[-1]) == ""

    def test_failing_changes_nothing(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.mkdir("d/b")
        fs.write("d/a", b"x")
        calls: list[Callable[[], None]] = [
            lambda: fs.mknod("d/a", 0o644),
            lambda: fs.mkdir("d/a"),
            lambda: fs.rmdir("d/a"),
            lambda: fs.unlink("d/b"),
            lambda: fs.rename("d/none", "d/a"),
            lambda: fs.rename("d/a", "d/b"),
        ]
        before = fs.stat("d"), fs.stat("d/a"), fs.stat("d/b")
        fs.tick()
        for call in calls:
            with pytest.raises(OSError):
                call()
        assert (fs.stat("d"), fs.stat("d/a"), fs.stat("d/b")) == before

    def test_what_changes_the_times_of_a_file(self, fs: Adapter) -> None:
        fs.write("a", b"x")
        calls: dict[str, Callable[[], None]] = {
            "link": lambda: fs.link("a", "b"),
            "unlink": lambda: fs.unlink("b"),
            "chmod": lambda: fs.chmod("a", 0o600),
            "same chmod": lambda: fs.chmod("a", 0o600),
            "truncate": lambda: fs.truncate("a", 5),
            "write": lambda: fs.write("a", b"y"),
            "stat": lambda: [fs.stat("a"), None][1],  # type: ignore[list-item, func-returns-value]
        }
        expected = {
            "link": "c",
            "unlink": "c",
            "chmod": "c",
            "same chmod": "c",
            "truncate": "mc",
            "write": "mc",
            "stat": "",
        }
        assert {name: changed_times(fs, "a", call) for name, call in calls.items()} == expected
        fs.mkdir("d")
        assert changed_times(fs, "a", lambda: fs.rename("a", "d/a"), "d/a") == "c"

    def test_chown_changes_ctime_alone(self, fs: Adapter) -> None:
        need(fs, "owners")
        fs.write("a", b"x")
        assert changed_times(fs, "a", lambda: fs.chown("a", 1, 1)) == "c"

    def test_what_happens_in_a_file_does_not_change_its_directory(self, fs: Adapter) -> None:
        fs.mkdir("d")
        fs.write("d/a", b"x")
        for call in (
            lambda: fs.write("d/a", b"yy"),
            lambda: fs.chmod("d/a", 0o600),
            lambda: fs.utime("d/a", 1, 1),
            lambda: fs.link("d/a", "b"),
        ):
            assert changed_times(fs, "d", call) == ""
        fs.mkdir("d/e")
        assert changed_times(fs, "d", lambda: fs.mknod("d/e/f", 0o644)) == ""
