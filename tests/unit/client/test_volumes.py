"""Volumes in real files: made, opened, refused; what happens when things go wrong underneath."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import gavel
from gavel.client.fs import Fs
from gavel.client.volumes import caller
from gavel.errors import BadRequest, DeviceFailed, NewerFormat, NotAVolume, VolumeBusy
from gavel.keys import tid as tids
from gavel.limits import VOLUME_MIN
from gavel.sim.device import SimDevice
from tests.contracts.api import opened

SIZE = 128 * 1024**2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One volume for all tests that only look; making one means waiting for the disk."""
    path = tmp_path_factory.mktemp("volumes") / "made.gavel"
    with gavel.open(path, create=True, size=SIZE, label="shelf") as fs:
        fs.write_text("a", "x")
    return path


def test_a_volume_keeps_what_it_is_given(made: Path) -> None:
    with gavel.open(made, read_only=True) as fs:
        assert fs.read_text("a") == "x"
        info = fs.info()
        assert (info.label, info.size, info.read_only) == ("shelf", SIZE, True)
        assert len(info.identity) == 32
        assert info.created_tid < info.last_tid
        for write in (lambda: fs.write_bytes("b", b""), lambda: fs.remove("a")):
            with pytest.raises(OSError) as problem:
                write()
            assert problem.value.errno == errno.EROFS
        assert fs.sync() == info.last_tid
    fs.close()
    assert os.stat(made).st_blocks * 512 < SIZE, "the file is sparse"


def test_create_leaves_alone_what_is_there(made: Path) -> None:
    with gavel.open(made, create=True, read_only=True) as fs:
        assert fs.read_text("a") == "x"


def test_one_process_at_a_time(made: Path) -> None:
    with gavel.open(made), pytest.raises(VolumeBusy) as info:
        gavel.open(made)
    assert info.value.pid == os.getpid()


def test_what_is_no_volume(tmp_path: Path, made: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gavel.open(tmp_path / "none")
    (tmp_path / "text").write_text("hello" * 10_000)
    with pytest.raises(NotAVolume):
        gavel.open(tmp_path / "text")
    with pytest.raises(NotAVolume):
        gavel.open(tmp_path / "text", create=True)
    with pytest.raises((BadRequest, IsADirectoryError)):
        gavel.open(tmp_path)
    newer = tmp_path / "newer"
    newer.write_bytes(made.read_bytes()[: 16 * 1024**2])
    with open(newer, "r+b") as file:
        from gavel.media import layout

        for slot in range(layout.SLOTS):
            offset = layout.slot_offset(slot)
            file.seek(offset)
            block = bytearray(file.read(layout.SLOT_SIZE))
            if block[:8] != layout.HEADER_MAGIC:
                continue
            rest = bytes(block[layout.HEADER_ENVELOPE.size :])
            total = layout._header_sum(layout.VERSION + 1, rest)
            file.seek(offset)
            file.write(layout.HEADER_ENVELOPE.pack(layout.HEADER_MAGIC, layout.VERSION + 1, total) + rest)
    with pytest.raises(NewerFormat):
        gavel.open(newer)


def test_formatting_refuses_what_holds_data(tmp_path: Path, made: Path) -> None:
    with pytest.raises(BadRequest, match="GavelFS volume"):
        gavel.format_volume(made)
    database = tmp_path / "app.db"
    database.write_bytes(b"SQLite format 3\0" + bytes(4096))
    with pytest.raises(BadRequest, match="SQLite"):
        gavel.format_volume(database, size=SIZE)
    with pytest.raises(BadRequest, match="directory"):
        gavel.format_volume(tmp_path)
    with pytest.raises(BadRequest, match="at least"):
        gavel.format_volume(tmp_path / "small", size=VOLUME_MIN - 1)
    assert not (tmp_path / "small").exists()
    gavel.format_volume(database, size=SIZE, force=True)
    with gavel.open(database) as fs:
        assert fs.listdir() == []


def test_this_process_owns_what_it_makes(made: Path) -> None:
    who = caller()
    assert (who.uid, who.gid) == (os.geteuid(), os.getegid())
    before = os.umask(0o027)
    try:
        assert caller().umask == 0o027
    finally:
        os.umask(before)


def test_threads_take_turns(fs: Fs) -> None:
    def work(name: str) -> None:
        fs.mkdir(name)
        for number in range(100):
            fs.write_text(f"{name}/{number}", str(number))
            assert fs.read_text(f"{name}/{number}") == str(number)
            if number % 25 == 0:
                fs.sync()

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(fs.listdir(name)) for name in fs.listdir()] == [100] * 4
    assert fs.check(deep=True) == []


def test_what_was_synced_survives_a_crash(fs: Fs, device: SimDevice) -> None:
    tid = fs.write_bytes("kept", b"x" * 300_000, sync=True)
    fs.write_bytes("lost", b"y")
    with opened(device.crash(keep=0.0)) as after:
        assert after.read_bytes("kept") == b"x" * 300_000
        assert not after.exists("lost")
        assert after.as_of(tid).exists("kept")
        assert after.tid() >= tid
        assert after.check(deep=True) == []


def test_a_device_that_fails_is_told_by_sync_and_reads_go_on(device: SimDevice) -> None:
    fs = opened(device)
    fs.write_bytes("a", b"x", sync=True)
    fs.write_bytes("b", b"y")
    device.fail_at(1)
    with pytest.raises(DeviceFailed):
        fs.sync()
    assert fs.read_bytes("b") == b"y"
    with pytest.raises(DeviceFailed):
        fs.write_bytes("c", b"")
    fs._engine.abandon()


def test_info_counts(fs: Fs) -> None:
    empty = fs.info()
    assert (empty.live, empty.history) == (0, 0)
    fs.write_bytes("a", os.urandom(1_000_000), sync=True)
    full = fs.info()
    assert (full.live, full.history) == (1_000_000, 0)
    assert full.free <= empty.free
    assert full.records > empty.records
    fs.remove("a")
    gone = fs.info()
    assert (gone.live, gone.history) == (0, 1_000_000), "the past keeps it"
    assert gone.past_records > full.past_records
    assert tids.micros(full.created_tid) <= tids.micros(full.last_tid)
    stat = fs.statvfs()
    assert stat.f_blocks * stat.f_bsize == full.size
    assert stat.f_bavail <= stat.f_bfree <= stat.f_blocks


def test_a_closed_volume_says_so(fs: Fs) -> None:
    fs.write_text("a", "x")
    tid = fs.tid()
    view = fs.as_of(tid)
    file = fs.open("a", "rb")
    fs.close()
    assert fs.closed
    for call in (
        lambda: fs.write_text("b", ""),
        lambda: fs.read_text("a"),
        lambda: view.read_text("a"),
        lambda: file.read(),
        fs.sync,
        fs.transaction,
        fs.info,
        lambda: fs.history("a"),
        lambda: fs.watch(),
        lambda: fs.check(),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()
    file.close()
    fs.close()


def test_a_program_that_forgets_to_close(tmp_path: Path, made: Path) -> None:
    copy = tmp_path / "copy.gavel"
    shutil.copy(made, copy)
    program = f"""
import os, gavel
fs = gavel.open({str(copy)!r})
fs.write_text("last", "words")
if os.fork() == 0:
    raise SystemExit
os.wait()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    with gavel.open(copy) as fs:
        assert fs.read_text("last") == "words"
