"""The simulated device: what a crash may and may not do."""

from __future__ import annotations

from random import Random

import pytest

from gavel.errors import DeviceFailed, DeviceFull
from gavel.sim.device import SECTOR, SimDevice


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
