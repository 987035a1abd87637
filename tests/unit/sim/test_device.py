"""The simulated device: what a crash may and may not do."""

from __future__ import annotations

from random import Random

import pytest

from gavel.errors import DeviceFailed, DeviceFull
from gavel.sim.device import SECTOR, Faults, SimDevice


def test_reads_see_what_was_last_written() -> None:
    device = SimDevice(1 << 20)
    device.write(1000, [b"abc", b"", bytearray(b"def" * 400)])
    device.write(1002, [memoryview(b"Z")])
    assert device.read(999, 8) == b"\0abZdefd"
    assert device.read((1 << 20) - 4, 4) == bytes(4)


def test_a_synced_write_survives_any_crash() -> None:
    device = SimDevice(1 << 20)
    device.write(700, [b"durable" * 500])
    device.sync()
    for seed in range(20):
        assert device.crash(Random(seed)).read(700, 3500) == b"durable" * 500


def test_a_crash_keeps_loses_tears_and_reorders() -> None:
    device = SimDevice(1 << 20)
    device.write(0, [b"a" * SECTOR * 64])
    device.sync()
    device.write(0, [b"b" * SECTOR * 64])
    device.write(0, [b"c" * SECTOR * 64])
    seen = set()
    for seed in range(20):
        after = device.crash(Random(seed)).read(0, SECTOR * 64)
        seen |= {bytes(sorted(set(after[at : at + SECTOR]))) for at in range(0, len(after), SECTOR)}
    assert {b"a", b"b", b"c"} < seen
    assert any(len(contents) == 2 for contents in seen)
    assert device.read(0, 1) == b"c"


def test_bytes_beside_a_lost_write_are_not_harmed() -> None:
    device = SimDevice(1 << 20)
    device.write(0, [b"a" * 300])
    device.sync()
    device.write(300, [b"b" * 300])
    for seed in range(50):
        assert device.crash(Random(seed)).read(0, 300) == b"a" * 300


def test_the_same_seed_gives_the_same_crash() -> None:
    device = SimDevice(1 << 20)
    device.write(0, [bytes(range(256)) * 400])
    first, second = (device.crash(Random(9)).read(0, 102_400) for _ in range(2))
    assert first == second
    assert device.crash(keep=0.0).read(0, 102_400) == bytes(102_400)
    assert device.crash(keep=1.0).read(0, 102_400) == bytes(range(256)) * 400


def test_faults_strike_at_the_call_they_were_set_for() -> None:
    device = SimDevice(1 << 20)
    device.fail_at(2, lasting=False)
    device.write(0, [b"x"])
    with pytest.raises(DeviceFailed):
        device.sync()
    device.sync()
    device.full_at(1, lasting=True)
    for _ in range(2):
        with pytest.raises(DeviceFull):
            device.write(0, [b"y"])
    assert device.read(0, 1) == b"x"
    device.heal()
    device.write(0, [b"y"])
    device.rot(0)
    assert device.read(0, 1) == bytes([ord("y") ^ 0xFF])


def test_nothing_lies_past_the_end() -> None:
    device = SimDevice(1024)
    for action in (lambda: device.read(1000, 25), lambda: device.write(1024, [b"x"]), lambda: device.read(-1, 1)):
        with pytest.raises(DeviceFailed):
            action()
    device.resize(2048)
    assert device.size() == 2048 and device.read(1024, 1024) == bytes(1024)


def test_a_failed_sync_is_not_made_good_by_a_later_one() -> None:
    device = SimDevice(1 << 20)
    device.write(0, [b"a" * SECTOR * 2])
    device.fail_at(1, lasting=False)
    with pytest.raises(DeviceFailed):
        device.sync()
    device.write(SECTOR, [b"b" * SECTOR])
    for _ in range(2):
        device.sync()
        after = device.crash(keep=0.0)
        assert after.read(0, 2 * SECTOR) == bytes(SECTOR) + b"b" * SECTOR
    device.write(0, [b"c"])
    device.sync()
    assert device.crash(keep=0.0).read(0, 1) == b"c"
    assert not device.unsynced()


def test_a_thin_device_has_room_for_so_much_more() -> None:
    device = SimDevice(1 << 20)
    device.write(0, [b"x"])
    device.thin(1, 4096)
    device.write(100, [b"x"])
    with pytest.raises(DeviceFull):
        device.write(8000, [bytes(1000)])
    device.write(4096, [bytes(4096)])
    with pytest.raises(DeviceFull):
        device.write(8192, [b"x"])
    assert device.faults.struck == 2
    device.trim(4096, 4096)
    device.write(8192, [b"y"])
    with pytest.raises(DeviceFull):
        device.write(4096, [b"x"])
    device.heal()
    device.write(4096, [b"x"])


def test_a_long_read_is_what_short_ones_are() -> None:
    device = SimDevice(1 << 20)
    for at in (0, 65_500, 200_000, (1 << 20) - 7):
        device.write(at, [bytes(range(1, 8))])
    for offset, length in ((0, 1 << 20), (1, (1 << 20) - 1), (66_000, 130_000), (190_000, 70_000)):
        short = b"".join(
            device.read(at, min(1000, offset + length - at)) for at in range(offset, offset + length, 1000)
        )
        assert device.read(offset, length) == short


def test_devices_that_share_their_faults_are_counted_together() -> None:
    faults = Faults()
    one, other = SimDevice(4096, faults=faults), SimDevice(4096, faults=faults)
    faults.only = "write"
    one.fail_at(2, lasting=False)
    one.sync()
    one.write(0, [b"x"])
    with pytest.raises(DeviceFailed):
        other.write(0, [b"x"])
    other.write(0, [b"x"])
    assert (faults.calls, faults.struck) == (3, 1)
