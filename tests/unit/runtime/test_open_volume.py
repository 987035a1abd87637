"""Volumes of several files: opened as one, wherever they lie now; and holes where nothing is needed any more."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

import gavel
from gavel.client.fs import Fs
from gavel.client.volumes import caller, open_engine
from gavel.errors import BadRequest, DeviceFailed, GavelError, MemberMissing, NotAVolume, VolumeBusy
from gavel.limits import BIG_BLOCK, VOLUME_MIN
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine, Waiter
from gavel.runtime.file_device import FileDevice
from gavel.runtime.open_volume import add_member, open_device, remove_member
from gavel.runtime.recognise import recognise


@cache
def content() -> bytes:
    """More than the first file holds, and no two pieces of it alike."""
    return os.urandom(90 << 20)


def waited(engine: Engine, ask: Callable[[Waiter], object]) -> None:
    """Ask holding the turn, and wait for the waiter to be called; raises what went wrong."""
    done = threading.Event()
    results: list[int | GavelError] = []

    def waiter(result: int | GavelError) -> None:
        results.append(result)
        done.set()

    with engine.turn:
        ask(waiter)
    assert done.wait(60)
    if isinstance(results[0], GavelError):
        raise results[0]


def made(directory: Path, size: int = VOLUME_MIN) -> Path:
    """A volume of two files with a large file on it, closed."""
    directory.mkdir()
    path = directory / "first"
    gavel.format_volume(path, size=size)
    engine, device = open_engine(path)
    try:
        waited(engine, lambda waiter: add_member(engine, str(directory / "second"), waiter, size=10 * BIG_BLOCK))
        assert [use.size for use in engine.volume.members()] == [size, 10 * BIG_BLOCK]
    finally:
        engine.close_now()
        device.close()
    with gavel.open(path) as fs:
        fs.write_bytes("/large", content())
    return path


def test_a_volume_of_two_files_holds_more_than_either_and_moves_as_a_whole(tmp_path: Path) -> None:
    path = made(tmp_path / "a")
    with gavel.open(path) as fs:
        assert fs.read_bytes("/large") == content()
    assert os.stat(tmp_path / "a" / "second").st_blocks * 512 > BIG_BLOCK
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with gavel.open(tmp_path / "copy" / "first") as fs:  # finds its own second file, not the original's
        fs.write_bytes("/large", b"changed")
    with gavel.open(path) as fs:
        assert fs.read_bytes("/large") == content()
    (tmp_path / "b").mkdir()
    os.rename(tmp_path / "a" / "first", tmp_path / "b" / "first")
    with gavel.open(tmp_path / "b" / "first", read_only=True) as fs:  # where it was last known
        assert fs.read_bytes("/large") == content()


def test_a_missing_or_wrong_member_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "a")
    second = tmp_path / "a" / "second"
    with pytest.raises(NotAVolume, match="further member"):
        gavel.open(second)
    assert "further member" in recognise(str(second))
    held = FileDevice(str(second))
    with pytest.raises(VolumeBusy):
        gavel.open(path)
    held.close()
    second.rename(tmp_path / "away")
    with pytest.raises(MemberMissing, match=f"{second}.*no such file"):
        gavel.open(path)
    shutil.copyfile(path, second)
    with pytest.raises(MemberMissing, match="no member of a volume"):
        gavel.open(path)
    made(tmp_path / "other")
    shutil.copyfile(tmp_path / "other" / "second", second)
    with pytest.raises(MemberMissing, match="another volume"):
        gavel.open(path)
    device = FileDevice(str(path), read_only=True)
    with pytest.raises(MemberMissing, match="not opened"):
        Volume.open(device, read_only=True)
    device.close()
    os.replace(tmp_path / "away", second)
    gavel.open(path).close()


def test_an_empty_member_is_let_go_of(tmp_path: Path) -> None:
    path = tmp_path / "first"
    gavel.format_volume(path, size=2 * VOLUME_MIN)
    engine, device = open_engine(path)
    second = str(tmp_path / "second")
    try:
        waited(engine, lambda waiter: add_member(engine, second, waiter, size=4 * BIG_BLOCK))
        (_, use) = engine.volume.members()
        with engine.turn, pytest.raises(BadRequest, match="not leaving"):
            remove_member(engine, use.member.number, lambda result: None)
        with engine.turn:
            engine.volume.exclude(use.member.blocks)
        waited(engine, lambda waiter: remove_member(engine, use.member.number, waiter))
        assert len(engine.volume.members()) == 1
        FileDevice(second).close()  # nobody has it open any more
    finally:
        engine.close_now()
        device.close()
    assert recognise(second) == ""
    os.unlink(second)
    gavel.open(path).close()


def test_a_broken_member_is_let_go_of_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "first"
    gavel.format_volume(path, size=2 * VOLUME_MIN)
    engine, device = open_engine(path)
    try:
        waited(engine, lambda waiter: add_member(engine, str(tmp_path / "second"), waiter, size=4 * BIG_BLOCK))
        (_, use) = engine.volume.members()
        with engine.turn:
            engine.volume.exclude(use.member.blocks)
            monkeypatch.setattr(FileDevice, "write", broken_beside(str(tmp_path / "second")))
        waited(engine, lambda waiter: remove_member(engine, use.member.number, waiter))
        assert "still bears its name" in caplog.text and len(engine.volume.members()) == 1
    finally:
        engine.close_now()
        device.close()
    gavel.open(path).close()


def broken_beside(path: str) -> Callable[[FileDevice, int, Sequence[bytes]], None]:
    write = FileDevice.write

    def failing(device: FileDevice, offset: int, parts: Sequence[bytes]) -> None:
        if device.path == path:
            raise DeviceFailed("write", offset, "broken")
        write(device, offset, parts)

    return failing


def test_what_holds_something_is_not_made_a_member_unasked(tmp_path: Path) -> None:
    path = tmp_path / "first"
    gavel.format_volume(path, size=VOLUME_MIN)
    (tmp_path / "letters").write_bytes(b"dear" * 5_000_000)
    engine, device = open_engine(path)
    try:
        with engine.turn:
            for name, size, words in (
                ("letters", None, "holds data"),
                ("new", None, "how large"),
                ("small", BIG_BLOCK, "at least"),
            ):
                with pytest.raises(BadRequest, match=words):
                    add_member(engine, str(tmp_path / name), lambda result: None, size=size)
        assert sorted(os.listdir(tmp_path)) == ["first", "letters"]
        waited(engine, lambda waiter: add_member(engine, str(tmp_path / "letters"), waiter, force=True))
    finally:
        engine.close_now()
        device.close()
    gavel.open(path).close()


def test_deleting_gives_the_host_its_room_back(tmp_path: Path) -> None:
    path = str(tmp_path / "v")
    device = FileDevice(path, create_size=40 * BIG_BLOCK)
    Volume.format(device, identity=bytes(16), salt=3, label="", created_tid=1)
    volume = Volume.open(device)
    list(volume.replay())

    def checkpoint(clean: bool) -> None:
        volume.settle(volume.written)
        volume.freeze()
        volume.finish(b"", 0, clean)
        device.sync()
        volume.publish()
        device.sync()
        volume.retire()

    places = [volume.append_data(bytes(1 << 20)) for _ in range(100)]
    for place in places:
        volume.add_live(place, 1 << 20)
    checkpoint(False)
    full = os.stat(path).st_blocks * 512
    for place in places:
        volume.drop_live(place, 1 << 20)
    checkpoint(True)
    device._puncher.close()
    left = os.stat(path).st_blocks * 512
    if left == full:
        pytest.skip("the filesystem of the temporary directory cannot punch holes")
    assert full > 100 << 20 and left < 4 * BIG_BLOCK
    assert os.stat(path).st_size == 40 * BIG_BLOCK
    place = volume.append_data(b"again" * 100_000)
    volume.flush()
    assert volume.read(place, 500_000) == b"again" * 100_000
    device.close()


def test_what_is_written_again_is_not_punched(tmp_path: Path) -> None:
    path = tmp_path / "f"
    device = FileDevice(str(path), create_size=200 * BIG_BLOCK)
    for block in range(1, 101):
        device.write(block * BIG_BLOCK, [b"old" * 1000])
    for block in range(1, 101):
        device.trim(block * BIG_BLOCK, BIG_BLOCK)
    for block in range(1, 101, 3):
        device.write(block * BIG_BLOCK + 9, [b"new" * 1000])
    device.trim(150 * BIG_BLOCK + 5, 1)  # no whole big-block
    device._puncher.close()
    for block in range(1, 101):
        found = device.read(block * BIG_BLOCK + 9, 3000)
        assert found == (b"new" * 1000 if block % 3 == 1 else bytes(3000)) or not device._puncher.able
    device.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "gavel-punch"]


def test_open_device_leaves_nothing_open_when_it_fails(tmp_path: Path) -> None:
    path = made(tmp_path / "a")
    os.unlink(tmp_path / "a" / "second")
    with pytest.raises(MemberMissing):
        open_device(str(path))
    FileDevice(str(path)).close()


@pytest.mark.parametrize("key", [None, gavel.KeyFile(bytes(range(32)))])
def test_a_member_full_of_data_is_emptied_by_reblock_and_removed(tmp_path: Path, key: gavel.KeyFile | None) -> None:
    path, second = tmp_path / "first", str(tmp_path / "second")
    gavel.format_volume(path, size=VOLUME_MIN + 10 * BIG_BLOCK, key=key)
    engine, device = open_engine(path, key=key)
    fs = Fs(engine, caller())
    try:
        waited(engine, lambda waiter: add_member(engine, second, waiter, size=16 * BIG_BLOCK))
        fs.write_bytes("/filler", content(), sync=True)
        fs.write_bytes("/kept", content()[::-1])
        with engine.turn:
            waiting = engine.volume.members()[1]
        assert waiting.live > BIG_BLOCK
        fs.remove("/filler")
        for _ in range(1000):  # a large file goes in slices, when there is time
            fs.prune("/", everything=True)
            if engine.volume.space().data < 1.1 * len(content()):
                break
        with engine.turn:
            engine.volume.exclude(waiting.member.blocks)
        fs.reblock()
        with engine.turn:
            assert engine.volume.members()[1].used == BIG_BLOCK, "its name"
        waited(engine, lambda waiter: remove_member(engine, waiting.member.number, waiter))
        assert fs.read_bytes("/kept") == content()[::-1]
    finally:
        engine.close_now()
        device.close()
    os.unlink(second)
    with gavel.open(path, key=key) as fs:
        assert fs.read_bytes("/kept") == content()[::-1]
        assert list(fs.check(deep=True)) == []
