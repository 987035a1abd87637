"""Mounting, unmounting, crashing, changes from outside, and the past through the kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gavel.mount import abi, attach, mounted
from gavel.mount.table import NEVER
from tests.integration.mount_daemon import Served, eventually, needs_mount

pytestmark = [needs_mount, pytest.mark.mounts]


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mnt").mkdir()
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path / "mnt")], stderr=subprocess.DEVNULL, check=False)


def serve(base: Path, mode: str = "") -> Served:
    return Served(base / "mnt", base / "volume", mode)


def fails(code: int, function: object, *args: object) -> None:
    assert callable(function)
    with pytest.raises(OSError) as caught:
        function(*args)
    assert caught.value.errno == code, errno.errorcode[caught.value.errno or 0]


def test_what_was_written_is_there_after_the_next_mount(base: Path) -> None:
    here = base / "mnt"
    with serve(base) as served:
        (here / "d").mkdir()
        (here / "d" / "f").write_bytes(b"kept" * 5000)
        os.symlink("d/f", here / "s")
        # Not closed: still in the kernel's cache when the mount goes.
        fd = os.open(here / "open", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"cached")
        assert served.stop() == 0
        with contextlib.suppress(OSError):
            os.close(fd)
    assert mounted.at(here) is None
    with serve(base) as served:
        assert (here / "s").read_bytes() == b"kept" * 5000
        assert (here / "open").read_bytes() == b"cached"
        assert served.stop() == 0


def test_it_is_found_among_the_mounts(base: Path) -> None:
    here = base / "mnt"
    with serve(base):
        (here / "below").mkdir()
        found = mounted.at(here)
        assert found is not None and found.type == "fuse.gavel" and found.source == str(base / "volume")
        assert mounted.holding(here / "below" / "not there") == found
        assert mounted.holding(base) is None
        assert found in mounted.ours()
        ahead = Path(f"/sys/class/bdi/{found.device}/read_ahead_kb").read_text()
        assert int(ahead) == 4096


def test_a_busy_mount_can_be_taken_away(base: Path) -> None:
    served = serve(base)
    fd = os.open(base / "mnt" / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 10)
    fails(errno.EBUSY, attach.detach, str(base / "mnt"))
    assert served.stop() == 0
    assert os.listdir(base / "mnt") == []
    fails(errno.ENOTCONN, os.fsync, fd)
    with contextlib.suppress(OSError):
        os.close(fd)
    with serve(base):
        assert (base / "mnt" / "f").read_bytes() == b"x" * 10


def test_unmounted_from_outside_the_daemon_ends(base: Path) -> None:
    served = serve(base)
    (base / "mnt" / "f").write_bytes(b"x")
    subprocess.run(["umount", str(base / "mnt")], check=True)
    assert served.process.wait(20) == 0
    served.kill()
    with serve(base):
        assert (base / "mnt" / "f").read_bytes() == b"x"


def test_a_crash_leaves_no_hung_mount(base: Path) -> None:
    here = base / "mnt"
    served = serve(base)
    (here / "f").write_bytes(b"synced")
    fd = os.open(here / "f", os.O_RDWR)
    os.fsync(fd)
    os.unlink(here / "f")
    os.fsync(fd)
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    fails(errno.ENOTCONN, os.stat, here)
    fails(errno.ENOTCONN, os.fsync, fd)
    os.close(fd)
    assert mounted.at(here) is not None
    # Mounting over the dead mount takes it away; what was open without a name is reaped.
    with serve(base) as again:
        assert os.listdir(here) == []
        eventually(lambda: again.ask("orphans") == 0)
    served.kill()
    attach_errors = subprocess.run(["umount", str(here)], capture_output=True, check=False)
    assert attach_errors.returncode != 0  # nothing is mounted any more


def test_what_was_not_synced_is_lost_for_some_seconds_at_most(base: Path) -> None:
    served = serve(base)
    fd = os.open(base / "mnt" / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"never closed, never synced")

    def durable() -> bool:
        return any(opcode == abi.WRITE for opcode, _, _ in served.ask("seen")) and not served.ask("dirty")

    eventually(durable)
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    with contextlib.suppress(OSError):
        os.close(fd)
    with serve(base):
        assert (base / "mnt" / "f").read_bytes() == b"never closed, never synced"
    served.kill()


def test_a_dead_mount_can_be_unmounted(base: Path) -> None:
    served = serve(base)
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    attach.detach(str(base / "mnt"), lazy=True)
    assert os.listdir(base / "mnt") == []
    served.kill()


def test_a_stopped_daemon_only_makes_others_wait(base: Path) -> None:
    with serve(base) as served:
        (base / "mnt" / "f").write_bytes(b"x")
        served.process.send_signal(signal.SIGSTOP)
        asking = subprocess.Popen(["ls", str(base / "mnt")], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            asking.wait(0.3)
        asking.kill()  # who waits can be killed
        asking.communicate(timeout=10)
        served.process.send_signal(signal.SIGCONT)
        assert os.listdir(base / "mnt") == ["f"]


def test_mounting_on_what_is_no_directory(base: Path) -> None:
    (base / "file").write_bytes(b"")
    fails(errno.ENOTDIR, attach.attach, str(base / "file"), "x")
    fails(errno.ENOENT, attach.attach, str(base / "none"), "x")


def test_read_only(base: Path) -> None:
    with serve(base):
        (base / "mnt" / "f").write_bytes(b"x")
    with serve(base, "ro"):
        assert (base / "mnt" / "f").read_bytes() == b"x"
        fails(errno.EROFS, os.mkdir, base / "mnt" / "d")
        fails(errno.EROFS, os.open, base / "mnt" / "f", os.O_WRONLY)


def test_what_changes_outside_is_seen(base: Path) -> None:
    here = base / "mnt"
    with serve(base) as served:
        (here / "f").write_bytes(b"first version, long")
        root, obj = here.stat().st_ino, (here / "f").stat().st_ino
        assert (here / "f").read_bytes() == b"first version, long"
        served.ask("write", obj, 0, "FIRST")
        eventually(lambda: (here / "f").read_bytes() == b"FIRST version, long")
        served.ask("truncate", obj, 5)
        eventually(lambda: (here / "f").read_bytes() == b"FIRST")
        assert (here / "f").stat().st_size == 5
        served.ask("chmod", obj, 0o600)
        eventually(lambda: stat.S_IMODE((here / "f").stat().st_mode) == 0o600)
        assert not (here / "new").exists()
        served.ask("mkdir", root, "new", 0o755)
        eventually((here / "new").is_dir)
        assert sorted(os.listdir(here)) == ["f", "new"]
        served.ask("rename", root, "f", root, "g")
        eventually((here / "g").exists)
        assert not (here / "f").exists()
        served.ask("unlink", root, "g")
        eventually(lambda: not (here / "g").exists())
        eventually(lambda: served.ask("orphans") == 0)


def test_what_changes_outside_is_seen_by_who_has_it_open(base: Path) -> None:
    here = base / "mnt"
    with serve(base) as served:
        (here / "f").write_bytes(b"x" * 10000)
        obj = (here / "f").stat().st_ino
        with open(here / "f", "rb") as file:
            assert len(file.read()) == 10000
            served.ask("truncate", obj, 100)
            eventually(lambda: os.fstat(file.fileno()).st_size == 100)
            served.ask("write", obj, 100, "y" * 100)
            eventually(lambda: os.fstat(file.fileno()).st_size == 200)
            assert os.pread(file.fileno(), 1000, 0) == b"x" * 100 + b"y" * 100


def test_the_past(base: Path) -> None:
    here = base / "mnt"
    with serve(base) as served:
        (here / "d").mkdir()
        (here / "d" / "f").write_bytes(b"then")
        os.link(here / "d" / "f", here / "d" / "g")
        then = f"0x{served.ask('tid'):016x}"
        time.sleep(0.001)
        (here / "d" / "f").write_bytes(b"now, and longer")
        (here / "d" / "new").write_bytes(b"new")
        (here / "gone").write_bytes(b"gone")
        before = f"0x{served.ask('tid'):016x}"
        (here / "gone").unlink()
        assert (here / f"d@@{then}" / "f").read_bytes() == b"then"
        assert (here / "d" / f"f@@{then}").read_bytes() == b"then"
        assert (here / f"@@{then}" / "d" / "f").read_bytes() == b"then"
        assert (here / f"gone@@{before}").read_bytes() == b"gone"
        assert sorted(os.listdir(here / f"d@@{then}")) == ["f", "g"]
        assert (here / "d@@" / "f").read_bytes() == b"now, and longer"
        assert (here / f"d@@{then}" / "f@@").read_bytes() == b"now, and longer"
        assert (here / f"d@@{then}" / "@@" / "f").read_bytes() == b"now, and longer"
        assert (here / "@@" / "d" / "f").read_bytes() == b"now, and longer"
        assert (here / f"d@@{then}" / f"f@@{before}").read_bytes() == b"now, and longer"
        past, live = (here / f"d@@{then}" / "f").stat(), (here / "d" / "f").stat()
        assert past.st_ino != live.st_ino
        assert past.st_ino == (here / f"d@@{then}" / "g").stat().st_ino and past.st_nlink == 2
        assert (here / f"d@@{then}").stat().st_ino != (here / "d").stat().st_ino
        fails(errno.ENOENT, os.stat, here / f"gone@@{then}")
        fails(errno.ENOENT, os.stat, here / "d@@no time at all")
        fails(errno.ENOENT, os.stat, here / "d@@2999-01-01")
        fails(errno.ENOENT, os.stat, here / "d@@1999-01-01")
        (here / "real@@-5m").write_bytes(b"a real name wins")
        assert (here / "real@@-5m").read_bytes() == b"a real name wins"


def test_old_views_are_taken_from_the_kernel(base: Path) -> None:
    here = base / "mnt"
    with serve(base) as served:
        (here / "d").mkdir()
        for number in range(40):
            (here / "d" / f"f{number}").write_bytes(b"%d" % number)
        served.ask("views_max", 100)
        tids, held = [], []
        for _ in range(12):
            (here / "d" / "f0").write_bytes(b"0")
            tids.append(served.ask("tid"))
            past = here / f"d@@0x{tids[-1]:016x}"
            assert [(past / f"f{number}").read_bytes() for number in range(40)] == [b"%d" % one for one in range(40)]
            held.append(served.ask("views"))
        assert max(held) > 100, "the table was full at times"
        eventually(lambda: served.ask("views") <= 200)
        assert (here / f"d@@0x{tids[0]:016x}" / "f7").read_bytes() == b"7", "what was forgotten is looked up again"


def test_the_past_cannot_be_written(base: Path) -> None:
    here = base / "mnt"
    with serve(base) as served:
        (here / "d").mkdir()
        (here / "d" / "f").write_bytes(b"then")
        os.chmod(here / "d" / "f", 0o755)
        past = here / f"d@@0x{served.ask('tid'):016x}"
        for function, *args in (
            (os.mkdir, past / "x"),
            (os.mknod, past / "x"),
            (os.unlink, past / "f"),
            (os.rename, past / "f", here / "x"),
            (os.rename, here / "d" / "f", past / "f"),
            (os.link, past / "f", here / "x"),
            (os.symlink, "a", past / "x"),
            (os.chmod, past / "f", 0o600),
            (os.truncate, past / "f", 0),
            (os.utime, past / "f"),
            (os.setxattr, past / "f", "user.a", b""),
            (os.open, past / "x", os.O_CREAT | os.O_WRONLY),
            (os.open, past / "f", os.O_TRUNC | os.O_WRONLY),
            (os.open, past, os.O_TMPFILE | os.O_WRONLY),
        ):
            fails(errno.EROFS, function, *args)
        fd = os.open(past / "f", os.O_RDWR)
        fails(errno.EROFS, os.write, fd, b"changed")
        os.close(fd)
        assert (past / "f").read_bytes() == b"then"
        assert os.listxattr(past / "f") == []
        (here / "d" / "f").write_bytes(b"#!/bin/sh\nexit 3\n")
        runs = here / f"d@@0x{served.ask('tid'):016x}" / "f"
        assert subprocess.run([str(runs)], check=False).returncode == 3


def test_a_tree_of_the_past_can_be_copied(base: Path) -> None:
    here = base / "mnt"
    with serve(base) as served:
        (here / "d" / "sub").mkdir(parents=True)
        (here / "d" / "f").write_bytes(b"a" * 100_000)
        (here / "d" / "sub" / "g").write_bytes(b"b")
        os.symlink("f", here / "d" / "s")
        past = f"d@@0x{served.ask('tid'):016x}"
        for one in (here / "d" / "f", here / "d" / "sub" / "g"):
            one.unlink()
        subprocess.run(["cp", "-a", str(here / past), str(here / "back")], check=True)
        assert (here / "back" / "f").read_bytes() == b"a" * 100_000
        assert (here / "back" / "sub" / "g").read_bytes() == b"b"
        tar = ["tar", "-C", str(here), "-cf", str(base / "t.tar"), past]
        subprocess.run(tar, check=True)
        with tarfile.open(base / "t.tar") as archive:
            assert sorted(archive.getnames()) == sorted(
                [past, f"{past}/f", f"{past}/s", f"{past}/sub", f"{past}/sub/g"]
            )


def test_a_mount_as_of_a_time(base: Path) -> None:
    here = base / "mnt"
    with serve(base) as served:
        (here / "f").write_bytes(b"then")
        tid = served.ask("tid")
        time.sleep(0.001)
        (here / "f").write_bytes(b"now")
    with serve(base, str(tid)):
        assert (here / "f").read_bytes() == b"then"
        assert os.listdir(here) == ["f"]
        fails(errno.EROFS, os.mkdir, here / "d")


def test_requests_are_few_and_enosys_is_never_an_accident(base: Path) -> None:
    """Which requests each operation costs, once the kernel knows what it need not ask; see docs and table.py."""
    here = base / "mnt"
    with serve(base) as served:

        def costs(action: object, *args: object) -> list[int]:
            served.ask("reset")
            assert callable(action)
            action(*args)
            quiet = {abi.FORGET, abi.BATCH_FORGET}
            seen = {opcode: count for opcode, _, count in served.ask("seen") if opcode not in quiet}
            return sorted(opcode for opcode, count in seen.items() for _ in range(count))

        def create() -> None:
            fd = os.open(here / "d" / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(fd, b"x" * 4096)
            os.close(fd)

        def read() -> None:
            fd = os.open(here / "d" / "f", os.O_RDONLY)
            assert len(os.read(fd, 8192)) == 4096
            os.close(fd)

        (here / "warm").write_bytes(b"x")
        assert (here / "warm").read_bytes() == b"x"
        (here / "d").mkdir()
        os.listdir(here / "d")
        wanted = [abi.LOOKUP, abi.MKNOD, abi.GETXATTR, abi.WRITE, abi.SETATTR]
        assert costs(create) == sorted(wanted)
        assert costs(read) == [abi.GETATTR]  # of the directory, which has changed
        assert costs(read) == []
        assert costs(os.listdir, here / "d") == [abi.READDIR, abi.READDIRPLUS]
        assert costs(os.listdir, here / "d") == [abi.GETATTR]  # its atime may have changed
        assert costs((here / "d" / "none").exists) == [abi.LOOKUP]
        assert costs((here / "d" / "none").exists) == []
        assert costs((here / "d" / "f").unlink) == sorted([abi.UNLINK, abi.SETATTR])
        never = {opcode for opcode, code, _ in served.ask("seen") if code == errno.ENOSYS}
        assert never <= set(NEVER)
