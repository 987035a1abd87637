"""Several devices as one address space."""

from __future__ import annotations

import pytest

from gavel.errors import DeviceFailed
from gavel.limits import BIG_BLOCK
from gavel.media.span import SpanDevice
from gavel.sim.device import SimDevice

MIB = 1024**2


def three() -> tuple[SpanDevice, list[SimDevice]]:
    devices = [SimDevice(2 * BIG_BLOCK, sector=4096) for _ in range(3)]
    span = SpanDevice(devices[0])
    span.attach(2 * BIG_BLOCK, devices[1])
    span.attach(5 * BIG_BLOCK, devices[2])  # a member before it is gone
    return span, devices


def test_a_single_member_is_called_itself() -> None:
    device = SimDevice(2 * BIG_BLOCK)
    span = SpanDevice(device)
    assert span.read == device.read and span.write == device.write and span.sync == device.sync
    span.write(5, [b"ab", b"c"])
    assert device.read(4, 5) == b"\0abc\0"
    span.resize(3 * BIG_BLOCK)
    assert span.size() == device.size() == 3 * BIG_BLOCK


def test_each_member_keeps_its_range() -> None:
    span, devices = three()
    assert span.size() == 7 * BIG_BLOCK
    span.write(3 * BIG_BLOCK + 7, [b"second", b" member"])
    span.write(5 * BIG_BLOCK, [b"third"])
    assert devices[1].read(BIG_BLOCK + 7, 13) == b"second member" == span.read(3 * BIG_BLOCK + 7, 13)
    assert devices[2].read(0, 5) == b"third" == span.read(5 * BIG_BLOCK, 5)
    span.write(2 * BIG_BLOCK - 3, [b"acr", memoryview(b"oss")])
    assert (devices[0].read(2 * BIG_BLOCK - 3, 3), devices[1].read(0, 3)) == (b"acr", b"oss")
    assert span.read(2 * BIG_BLOCK - 3, 6) == b"across"
    before = [device.syncs for device in devices]
    span.sync()
    assert [device.syncs for device in devices] == [n + 1 for n in before]
    with pytest.raises(DeviceFailed):
        span.resize(MIB)


def test_what_no_member_holds_is_an_error() -> None:
    span, _ = three()
    for offset, length in ((4 * BIG_BLOCK, 1), (4 * BIG_BLOCK - 1, 2), (7 * BIG_BLOCK, 1), (-1, 1)):
        with pytest.raises(DeviceFailed):
            span.read(offset, length)
        with pytest.raises(DeviceFailed):
            span.write(offset, [bytes(length)])


def test_a_detached_member_is_let_go_of() -> None:
    span, devices = three()
    assert span.member(2 * BIG_BLOCK) is devices[1]
    assert span.detach(2 * BIG_BLOCK) is devices[1]
    with pytest.raises(DeviceFailed):
        span.read(2 * BIG_BLOCK, 1)
    assert span.detach(5 * BIG_BLOCK) is devices[2]
    assert span.read == devices[0].read
    with pytest.raises(AssertionError):
        span.attach(0, devices[1])


def test_a_sync_minds_a_failing_member_unless_it_was_let_go_of_meanwhile() -> None:
    span, devices = three()
    devices[1].fail_at(1)
    with pytest.raises(DeviceFailed):
        span.sync()
    devices[1].heal()

    class Leaving(SimDevice):
        def sync(self) -> None:
            span.detach(8 * BIG_BLOCK)
            raise DeviceFailed("sync", 0, "closed")

    span.attach(8 * BIG_BLOCK, Leaving(BIG_BLOCK))
    span.sync()


def test_trim_goes_to_the_member_that_can() -> None:
    span, devices = three()
    span.write(3 * BIG_BLOCK, [b"x" * 8192])
    span.trim(3 * BIG_BLOCK, BIG_BLOCK)
    assert [device.trims for device in devices] == [0, 1, 0]
    assert span.read(3 * BIG_BLOCK, 8192) == bytes(8192)


def test_a_crash_of_the_simulated_device_may_undo_a_trim() -> None:
    device = SimDevice(BIG_BLOCK, sector=4096)
    device.write(0, [b"x" * 12288])
    device.sync()
    device.trim(100, 8192)  # whole sectors only
    assert device.read(0, 12288) == b"x" * 4096 + bytes(4096) + b"x" * 4096
    assert device.crash(keep=0.0).read(4096, 4096) == b"x" * 4096
    assert device.crash(keep=1.0).read(4096, 4096) == bytes(4096)


def test_what_is_at_hand_is_for_the_member_to_tell() -> None:
    class Knowing(SimDevice):
        def at_hand(self, offset: int, length: int) -> bool:
            return offset + length <= 100

    span = SpanDevice(SimDevice(2 * BIG_BLOCK))
    span.attach(2 * BIG_BLOCK, Knowing(2 * BIG_BLOCK))
    assert span.at_hand(2 * BIG_BLOCK, 100)
    assert not span.at_hand(2 * BIG_BLOCK, 101)
    assert not span.at_hand(0, 10)
    assert not span.at_hand(9 * BIG_BLOCK, 10)
