"""Two mounts of one filesystem: what one has done, the other sees, at once and whole."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.mount_daemon import eventually, needs_mount
from tests.integration.shared_mounts import Shared

pytestmark = [needs_mount, pytest.mark.mounts]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    base = tmp_path_factory.mktemp("shared")
    one, two = base / "one", base / "two"
    one.mkdir()
    two.mkdir()
    with Shared([one, two]) as shared:
        yield shared


@pytest.fixture
def mounts(shared: Shared) -> tuple[Path, Path]:
    one, two = shared.directories
    return one, two


def test_what_was_written_is_read_elsewhere_also_where_it_was_read_before(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    for n in range(5):
        (one if n % 2 else two).joinpath("turns").write_bytes(b"%d" % n * 5000)
        assert (two if n % 2 else one).joinpath("turns").read_bytes() == b"%d" % n * 5000


def test_an_open_file_shows_what_others_write(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    (one / "open").write_bytes(b"before" * 2000)
    with open(two / "open", "rb", buffering=0) as file:
        assert file.read() == b"before" * 2000
        with open(one / "open", "r+b", buffering=0) as writer:
            writer.seek(6000)
            writer.write(b"after!")
        file.seek(6000)
        assert file.read(6) == b"after!"


def test_names_come_and_go_everywhere(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    assert not (two / "name").exists()  # and the kernel may not remember that
    (one / "name").mkdir()
    assert (two / "name").is_dir() and "name" in os.listdir(two)
    (two / "name" / "inner").touch()
    with pytest.raises(OSError, match="not empty") as caught:
        (one / "name").rmdir()
    assert caught.value.errno == errno.ENOTEMPTY
    (one / "name" / "inner").rename(one / "elsewhere")
    assert os.listdir(two / "name") == [] and (two / "elsewhere").exists()
    (two / "name").rmdir()
    assert not (one / "name").exists()


def test_attributes_and_links_are_the_same(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    (one / "file").write_bytes(b"x")
    assert (two / "file").stat().st_nlink == 1
    os.link(one / "file", one / "other")
    os.chmod(one / "file", 0o600)
    os.setxattr(one / "file", "user.colour", b"blue")
    seen = (two / "other").stat()
    assert (seen.st_nlink, seen.st_mode & 0o777) == (2, 0o600) and os.getxattr(two / "other", "user.colour") == b"blue"
    os.setxattr(two / "other", "user.colour", b"red")
    assert os.getxattr(one / "file", "user.colour") == b"red"
    assert (one / "file").stat().st_ino == seen.st_ino


def test_of_all_who_make_a_file_one_succeeds(mounts: tuple[Path, Path]) -> None:
    def make(where: Path) -> int:
        try:
            os.close(os.open(where, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        for n in range(10):
            assert sum(pool.map(make, [mount / f"lock{n}" for mount in mounts for _ in range(4)])) == 1


def test_appends_of_all_are_there_and_whole(mounts: tuple[Path, Path]) -> None:
    def append(which: int) -> None:
        with open(mounts[which % 2] / "log", "ab", buffering=0) as file:
            for n in range(25):
                file.write(b"%d:%d\n" % (which, n))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(4)))
    lines = (mounts[0] / "log").read_bytes().split()
    assert sorted(lines) == sorted(b"%d:%d" % (which, n) for which in range(4) for n in range(25))
    for which in range(4):
        own = [line for line in lines if line.startswith(b"%d:" % which)]
        assert own == [b"%d:%d" % (which, n) for n in range(25)]


def test_a_rename_loop_leaves_one_name(mounts: tuple[Path, Path]) -> None:
    """Both move one file between two names; at every moment it has exactly one."""
    (mounts[0] / "ping").write_bytes(b"ball")

    def move(mount: Path) -> int:
        moved = 0
        for _ in range(30):
            for source, target in (("ping", "pong"), ("pong", "ping")):
                try:
                    os.rename(mount / source, mount / target)
                    moved += 1
                except FileNotFoundError:
                    pass
        return moved

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(move, mounts)) >= 30
    assert [name for name in os.listdir(mounts[1]) if name in ("ping", "pong")] == [
        name for name in os.listdir(mounts[0]) if name in ("ping", "pong")
    ]
    assert sum((mounts[0] / name).exists() for name in ("ping", "pong")) == 1


def test_a_file_stays_readable_for_who_has_it_open_when_another_unlinks_it(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    (one / "doomed").write_bytes(b"still here" * 1000)
    with open(two / "doomed", "rb", buffering=0) as file:
        (one / "doomed").unlink()
        assert not (two / "doomed").exists()
        assert file.read() == b"still here" * 1000


def test_what_has_no_name_goes_when_its_time_is_over(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with Shared([one, two], keep_orphans=1.5) as shared:
        (one / "brief").write_bytes(b"x" * 300_000)
        (two / "brief").unlink()
        assert len(shared.orphans()) == 1
        eventually(lambda: shared.orphans() == [])


def test_a_large_file_is_the_same_on_both(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    content = os.urandom(3 << 20)
    (one / "large").write_bytes(content)
    assert (two / "large").read_bytes() == content
    os.truncate(two / "large", 1_000_001)
    assert (one / "large").read_bytes() == content[:1_000_001]


def test_the_past_is_looked_into_by_any_of_them(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    (one / "aged").mkdir()
    (one / "aged" / "file").write_text("young")
    time.sleep(1.1)
    (two / "aged" / "file").write_text("old")
    (two / "aged" / "more").touch()
    assert (two / "aged@@-1s" / "file").read_text() == "young" and not (one / "aged@@-1s" / "more").exists()
    assert (one / "aged@@-1s" / "file@@").read_text() == "old"
    assert not (one / "aged@@nonsense").exists() and not (one / "aged@@2199").exists()
    with pytest.raises(OSError, match="Read-only"):
        (one / "aged@@-1s" / "new").touch()
