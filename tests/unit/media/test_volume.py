"""A volume over the simulated device: what goes in comes out, before and after reopening."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest

from gavel.errors import BadRequest, Damaged, ReadOnly, VolumeFull
from gavel.limits import BIG_BLOCK, NODE_READ_MAX, VOLUME_MIN
from gavel.media import layout
from gavel.media.extents import describe, restore
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.unit.media.volumes import IDENTITY, SIZE, checkpoint, make, reopen


def test_a_fresh_volume_says_who_it_is_and_is_empty() -> None:
    volume, frames = reopen(make())
    assert (volume.label, volume.identity, volume.created_tid, volume.last_tid) == ("tëst", IDENTITY, 77, 77)
    assert frames == [] and volume.roots == b"" and volume.clean
    assert volume.check() == []


def test_formatting_writes_little_whatever_the_size() -> None:
    device = SimDevice(4 << 40)
    Volume.format(device, identity=IDENTITY, salt=5, label="", created_tid=1)
    assert len(device._sectors) * 512 < 2 << 20
    volume, _ = reopen(device)
    assert volume.space().total == 4 << 40


def test_frames_come_back_in_order_after_reopening() -> None:
    device = make()
    volume, _ = reopen(device)
    first = volume.append(1, b"one")
    place = volume.append_data(b"file bytes")
    second = volume.append(2, memoryview(b"two" * 5000))
    assert second == first + 2 == volume.written
    volume.flush()
    volume, frames = reopen(device)
    assert frames == [(1, first, b"one"), (2, second, b"two" * 5000)]
    assert volume.read(place, 10) == b"file bytes"
    assert not volume.clean


def test_what_was_not_flushed_can_be_read_but_is_lost() -> None:
    device = make()
    volume, _ = reopen(device)
    place = volume.append_data(b"x" * 5000)
    assert volume.read(place + 10, 20) == b"x" * 20
    assert reopen(device)[1] == []


def test_the_callers_buffer_may_be_reused_at_once() -> None:
    device = make()
    volume, _ = reopen(device)
    for size in (100, 4096, 70_000):
        buffer = bytearray(b"a" * size)
        extent = describe(buffer, volume.append_data(memoryview(buffer)))
        buffer[:] = b"b" * size
        assert restore(extent, volume.read(extent.place, size)) == b"a" * size


def test_the_sum_of_a_data_frame_may_be_given() -> None:
    device = make()
    volume, _ = reopen(device)
    extent = describe(b"q" * 4096, 0)
    place = volume.append_data(b"q" * 4096, extent.sum)
    volume.append(1, b"after")
    volume.flush()
    volume, frames = reopen(device)
    assert [kind for kind, _, _ in frames] == [1]
    assert volume.read(place, 4096) == b"q" * 4096


def test_the_log_goes_on_in_further_big_blocks() -> None:
    device = make()
    volume, _ = reopen(device)
    places = [volume.append_data(bytes([n]) * 128 * 1024) for n in range(200)]
    sequence = volume.append(3, b"end")
    volume.flush()
    volume, frames = reopen(device)
    assert frames == [(3, sequence, b"end")]
    assert len({place // BIG_BLOCK for place in places}) == 4
    for n, place in enumerate(places):
        assert volume.read(place, 128 * 1024) == bytes([n]) * 128 * 1024


def test_nodes_are_loaded_before_and_after_a_checkpoint_and_reopening() -> None:
    device = make()
    volume, _ = reopen(device)
    payloads = [bytes([n]) * (n * 700 + 1) for n in range(100)]
    volume.freeze()
    addresses = [volume.save_node(payload) for payload in payloads]
    assert [volume.load_node(address) for address in addresses] == payloads
    volume.finish(b"roots", 99)
    device.sync()
    volume.publish()
    device.sync()
    volume.retire()
    assert (volume.roots, volume.last_tid) == (b"roots", 99)
    volume, frames = reopen(device)
    assert frames == [] and (volume.roots, volume.last_tid) == (b"roots", 99)
    assert [volume.load_node(address) for address in addresses] == payloads
    assert volume.check() == []


def test_nodes_that_lie_together_are_read_together() -> None:
    device = make()
    volume, _ = reopen(device)
    payloads = [bytes([n]) * 20_000 for n in range(60)]
    addresses = [volume.save_node(payload) for payload in payloads]
    checkpoint(volume, device)
    with patch.object(device, "read", side_effect=device.read) as read:
        found = volume.load_nodes([addresses[10], *addresses[20:2:-1], addresses[22]])
        assert found == {addresses[n]: payloads[n] for n in (*range(10, 21), 22)}
        assert read.call_count == 1
        found = volume.load_nodes([addresses[3], *addresses])
        assert found == {addresses[n]: payloads[n] for n in range(3, 3 + NODE_READ_MAX // 20_032)}
        found = volume.load_nodes([addresses[3], addresses[20], addresses[21]])
        assert set(found) == {addresses[3]}, "what lies far away is not read past"
        assert read.call_count == 3
    offset, size = layout.node_extent(addresses[5])
    device.rot(offset + size // 2, 0x40)
    found = volume.load_nodes(addresses[4:7])
    assert set(found) == {addresses[4], addresses[6]}
    with pytest.raises(Damaged):
        volume.load_node(addresses[5])
    assert volume.load_nodes([layout.node_address(1 << 45, 4096)]) == {}
    volume.freeze()
    waiting = volume.save_node(b"waits")
    assert (volume.load_nodes([waiting]), volume.load_node(waiting)) == ({}, b"waits")


def test_a_checkpoint_ends_the_replay_of_what_was_before_it() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.append(1, b"before")
    volume.note_records(3)
    assert volume.replay_size[0] > 0 and volume.replay_size[1] == 3
    volume.freeze()
    after = volume.append(1, b"meanwhile")
    volume.note_records(2)
    volume.finish(b"", 0)
    device.sync()
    volume.publish()
    device.sync()
    volume.retire()
    assert volume.replay_size[1] == 2
    volume.flush()
    assert reopen(device)[1] == [(1, after, b"meanwhile")]


def test_the_replay_size_is_the_same_after_reopening() -> None:
    device = make()
    volume, _ = reopen(device)
    for _ in range(70):
        volume.append(1, bytes(900_000))
    volume.flush()
    size = volume.replay_size[0]
    mark = layout.frame_size(layout.MARK_BODY.size)
    assert 63_000_000 < size < 64_000_000
    volume, _ = reopen(device)
    assert volume.replay_size[0] == size + mark  # that of the new life


def test_a_clean_close_is_remembered() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.append(1, b"x")
    checkpoint(volume, device, clean=True)
    volume, _ = reopen(device)
    assert volume.clean
    checkpoint(volume, device)
    assert not reopen(device)[0].clean


def test_dead_big_blocks_come_back_at_the_checkpoint_after() -> None:
    device = make()
    volume, _ = reopen(device)
    start = volume.space().free
    for _ in range(40):
        for _ in range(16):
            place = volume.append_data(bytes(128 * 1024))
            volume.add_live(place, 128 * 1024)
            volume.drop_live(place, 128 * 1024)
        volume.settle(volume.written)
        checkpoint(volume, device)
    assert volume.space().free > start - 4 * BIG_BLOCK
    assert volume.check() == []


def test_unsettled_data_is_kept() -> None:
    device = make()
    volume, _ = reopen(device)
    place = volume.append_data(b"staged" * 1000)
    for _ in range(70):
        volume.append_data(bytes(128 * 1024))
    checkpoint(volume, device)
    checkpoint(volume, device)
    assert volume._map.kinds[place // BIG_BLOCK] != 0
    volume.settle(volume.written)
    checkpoint(volume, device)
    assert volume._map.kinds[place // BIG_BLOCK] == 0


def test_a_superseded_node_belongs_to_the_image_only() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.freeze()
    address = volume.save_node(b"n" * 1000, superseded=True)
    volume.finish(b"", 0)
    device.sync()
    volume.publish()
    device.sync()
    volume.retire()
    block = (address >> 18) * 64 // BIG_BLOCK
    assert volume._map.live[block] == 0 and volume._map.kinds[block] != 0
    assert Volume.open(device)._map.live[block] > 0


def test_an_image_keeps_a_node_that_is_freed_after_the_freeze() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.freeze()
    address = volume.save_node(b"n" * 1000)
    volume.finish(b"", 0)
    volume.free_node(address)
    device.sync()
    volume.publish()
    device.sync()
    volume.retire()
    reopened, _ = reopen(device)
    assert reopened.load_node(address) == b"n" * 1000


def test_an_abandoned_checkpoint_leaves_no_trace() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.freeze()
    lost = volume.save_node(b"a" * 1000, superseded=True)
    kept = volume.save_node(b"b" * 1000)
    volume.finish(b"never", 5)
    checkpoint(volume, device, b"real", 6)
    volume, _ = reopen(device)
    assert volume.roots == b"real" and volume.load_node(kept) == b"b" * 1000
    assert volume.check() == []
    assert lost != kept


def _fill(append: Callable[[], int]) -> None:
    for _ in range(2000):
        try:
            append()
        except VolumeFull:
            return
    raise AssertionError("the volume was never full")


def test_a_full_volume_keeps_a_reserve_for_transactions_and_nodes() -> None:
    device = make(VOLUME_MIN)
    volume, _ = reopen(device)
    _fill(lambda: volume.append_data(bytes(128 * 1024)))
    assert volume.space().free < 128 * 1024 + 200
    volume.append(1, bytes(1000 * 1000))
    _fill(lambda: volume.append(1, bytes(1000 * 1000)))
    checkpoint(volume, device)
    volume.settle(volume.written)
    checkpoint(volume, device)
    volume.append_data(bytes(128 * 1024))
    assert volume.check() == []


def test_a_promise_of_nodes_keeps_room_for_them() -> None:
    device = make(VOLUME_MIN)
    volume, _ = reopen(device)
    free = volume.space().free
    volume.promise(3 * BIG_BLOCK)
    assert volume.space().free == free - 3 * BIG_BLOCK
    volume.promise(0)
    assert volume.space().free == free


def test_read_only_takes_nothing_and_writes_nothing() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.append(1, b"x")
    volume.flush()
    writes = device.writes
    volume, frames = reopen(device, read_only=True)
    assert [body for _, _, body in frames] == [b"x"] and device.writes == writes
    for action in (
        lambda: volume.append(1, b""),
        lambda: volume.append_data(b"x"),
        lambda: volume.save_node(b""),
        volume.freeze,
    ):
        with pytest.raises(ReadOnly):
            action()


def test_sizes_that_cannot_be_are_refused() -> None:
    for size in (0, VOLUME_MIN - 512, 1 << 60):
        with pytest.raises(BadRequest):
            Volume.format(SimDevice(size), identity=IDENTITY, salt=1, label="", created_tid=1)
    with pytest.raises(BadRequest):
        Volume.format(SimDevice(SIZE), identity=IDENTITY, salt=1, label="x" * 65, created_tid=1)
