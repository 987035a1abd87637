"""The real device: a sparse file, its lock, and a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gavel.errors import BadRequest, DeviceFailed, DeviceFull, VolumeBusy
from gavel.limits import BIG_BLOCK
from gavel.media.volume import Volume
from gavel.runtime.file_device import FileDevice
from gavel.runtime.recognise import recognise

SIZE = 16 * BIG_BLOCK


def test_a_volume_in_a_file_is_sparse_and_reopens(tmp_path: Path) -> None:
    path = str(tmp_path / "disk.gavel")
    device = FileDevice(path, create_size=1 << 40)
    Volume.format(device, identity=bytes(16), salt=3, label="real", created_tid=1)
    assert os.stat(path).st_blocks * 512 <= 4 * BIG_BLOCK
    volume = Volume.open(device)
    assert list(volume.replay()) == []
    place = volume.append_data(b"data" * 50_000)
    volume.append(1, b"frame")
    volume.flush()
    device.sync()
    device.close()
    device = FileDevice(path, read_only=True)
    volume = Volume.open(device, read_only=True)
    assert [body for _, _, body in volume.replay()] == [b"frame"]
    assert volume.read(place, 200_000) == b"data" * 50_000
    device.close()


def test_many_parts_go_out_in_order(tmp_path: Path) -> None:
    device = FileDevice(str(tmp_path / "f"), create_size=SIZE)
    parts = [bytes([n % 251]) * (n % 7) for n in range(3000)]
    device.write(5000, parts)
    assert device.read(5000, sum(map(len, parts))) == b"".join(parts)
    device.close()


def test_nothing_lies_past_the_end(tmp_path: Path) -> None:
    device = FileDevice(str(tmp_path / "f"), create_size=SIZE)
    with pytest.raises(DeviceFailed):
        device.write(SIZE - 1, [b"xy"])
    with pytest.raises(DeviceFailed):
        device.read(SIZE - 1, 2)
    assert os.stat(tmp_path / "f").st_size == SIZE
    device.resize(2 * SIZE)
    assert device.read(SIZE, 2) == b"\0\0"
    device.close()


def test_a_second_process_is_told_who_has_it(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    device = FileDevice(path, create_size=SIZE)
    program = (
        "import sys; from gavel.runtime.file_device import FileDevice; from gavel.errors import VolumeBusy\n"
        "try: FileDevice(sys.argv[1])\n"
        "except VolumeBusy as error: print(error.pid, error.command)"
    )
    result = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    pid, _, command = result.stdout.partition(" ")
    assert int(pid) == os.getpid() and command.strip()
    with pytest.raises(VolumeBusy):
        FileDevice(path, read_only=True)
    FileDevice(path, read_only=True, exclusive=False).close()
    device.close()
    FileDevice(path).close()


def test_what_cannot_hold_a_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileDevice(str(tmp_path / "none"))
    for path in ("/dev/null", str(tmp_path)):
        with pytest.raises((BadRequest, IsADirectoryError)):
            FileDevice(path, read_only=True)
    with pytest.raises(BadRequest):
        FileDevice(str(tmp_path / "huge"), create_size=1 << 62)


def test_errors_of_the_disk_become_typed_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FileDevice(str(tmp_path / "f"), create_size=SIZE)

    def raising(number: int):
        def call(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        return call

    monkeypatch.setattr(os, "pwritev", raising(5))
    with pytest.raises(DeviceFailed):
        device.write(0, [b"x"])
    monkeypatch.setattr(os, "pwritev", raising(28))
    with pytest.raises(DeviceFull):
        device.write(0, [b"x"])
    monkeypatch.setattr(os, "posix_fallocate", raising(28))
    with pytest.raises(DeviceFull):
        device.write(BIG_BLOCK, [b"x"])
    monkeypatch.setattr(os, "fdatasync", raising(5))
    with pytest.raises(DeviceFailed):
        device.sync()
    device.close()


def test_what_a_path_holds_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert recognise(str(path)) == ""
    for content, name in (
        (b"", ""),
        (bytes(100_000), ""),
        (b"hello", "data"),
        (bytes(200_000) + b"tail", "data"),
        (b"SQLite format 3\0" + bytes(100), "an SQLite database"),
        (bytes(1080) + b"\x53\xef" + bytes(100), "an ext2, ext3 or ext4 filesystem"),
    ):
        path.write_bytes(content)
        assert recognise(str(path)) == name
    device = FileDevice(str(path), create_size=SIZE)
    Volume.format(device, identity=bytes(16), salt=3, label="", created_tid=1)
    device.close()
    assert recognise(str(path)) == "a GavelFS volume"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_under_a_volume_is_survived(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "small", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        _fill_and_grow(disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _until_full(append: Callable[[], object]) -> None:
    for _ in range(10_000):
        try:
            append()
        except DeviceFull:
            return
    raise AssertionError("the disk was never full")


def _fill_and_grow(disk: Path) -> None:
    device = FileDevice(str(disk / "volume"), create_size=1 << 30)
    Volume.format(device, identity=bytes(16), salt=3, label="", created_tid=1)
    volume = Volume.open(device)
    list(volume.replay())
    places: list[int] = []
    _until_full(lambda: places.append(volume.append_data(len(places).to_bytes(4, "little") * 8192)))
    _until_full(lambda: volume.append(1, bytes(100_000)))
    subprocess.run(["mount", "-o", "remount,size=128m", str(disk)], check=True)
    volume.append(1, b"and on")
    volume.flush()
    device.sync()
    assert len(places) > 500
    volume = Volume.open(device)
    assert [body for _, _, body in volume.replay()][-1] == b"and on"
    for n, place in enumerate(places):
        assert volume.read(place, 32_768) == n.to_bytes(4, "little") * 8192
    device.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="setting up a loop device needs root")
def test_a_block_device_holds_a_volume(tmp_path: Path) -> None:
    backing = tmp_path / "backing"
    with backing.open("wb") as file:
        file.truncate(SIZE)
    looped = subprocess.run(["losetup", "--find", "--show", str(backing)], capture_output=True, text=True)
    if looped.returncode:
        pytest.skip("no loop device can be had here")
    path = looped.stdout.strip()
    try:
        assert recognise(path) == ""
        device = FileDevice(path, create_size=123)
        assert device.size() == SIZE
        Volume.format(device, identity=bytes(16), salt=3, label="block", created_tid=1)
        with pytest.raises(VolumeBusy):
            FileDevice(path)
        with pytest.raises(DeviceFailed):
            device.resize(2 * SIZE)
        device.close()
        device = FileDevice(path)
        volume = Volume.open(device)
        list(volume.replay())
        place = volume.append_data(b"on a block device")
        volume.flush()
        device.sync()
        assert volume.read(place, 17) == b"on a block device"
        device.close()
        assert recognise(path) == "a GavelFS volume"
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


def test_what_the_host_has_in_memory_is_told_and_read_all_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "disk.gavel")
    device = FileDevice(path, create_size=SIZE)
    device.write(BIG_BLOCK, [b"x" * 100_000])
    assert device.at_hand(BIG_BLOCK, 100_000)
    device.sync()
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    assert not device.at_hand(SIZE - 10, 20)
    assert not device.at_hand(SIZE + 10, 20)
    assert device.read(BIG_BLOCK, 100_000) == b"x" * 100_000
    assert device.at_hand(BIG_BLOCK, 100_000)
    device.close()
