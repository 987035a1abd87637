"""Victims, the reserve, and room given back to the host."""

from __future__ import annotations

import pytest

from gavel.errors import VolumeFull
from gavel.limits import BIG_BLOCK
from gavel.media.blockmap import BlockMap
from gavel.media.layout import FREE, HELD, LOG, TREE
from gavel.media.room import Trimmer, victims
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.unit.media.volumes import checkpoint, make, reopen

MIB = 1 << 20


def until_full(volume: Volume, reserve: bool = False) -> None:
    for _ in range(1000):
        volume.append_data(bytes(MIB), reserve=reserve)


def filled(device: SimDevice) -> tuple[Volume, list[int]]:
    """A volume that takes no more data, all of it live and durable; the places of its MiBs."""
    volume, _ = reopen(device)
    places: list[int] = []
    while True:
        try:
            places.append(volume.append_data(bytes(MIB)))
        except VolumeFull:
            break
        volume.add_live(places[-1], MIB)
        volume.settle(volume.written)
    checkpoint(volume, device)
    return volume, places


def test_victims_are_the_emptiest_first_and_none_that_is_open_or_needed() -> None:
    device = make(20 * BIG_BLOCK)
    volume, places = filled(device)
    blocks = sorted({place // BIG_BLOCK for place in places})
    assert volume.victims(0.1) == []
    for place in places:
        rank = blocks.index(place // BIG_BLOCK)
        if place % BIG_BLOCK > (rank + 1) * MIB:
            volume.drop_live(place, MIB)
    found = volume.victims(0.5)
    assert [victim.block for victim in found] == [block for block in blocks[:4] if block != volume._log.block]
    assert [victim.live for victim in found] == sorted(victim.live for victim in found)
    assert all(victim.kind == LOG and 0 < victim.live <= BIG_BLOCK // 2 for victim in found)
    assert len(volume.victims(1.0)) > len(volume.victims(0.5))
    assert volume._log.block not in {victim.block for victim in volume.victims(1.0)}


def test_what_replay_needs_or_may_still_be_referred_to_is_no_victim() -> None:
    device = make()
    volume, _ = reopen(device)
    first = volume.append_data(bytes(MIB))
    volume.add_live(first, MIB)
    for _ in range(8):
        volume.append_data(bytes(MIB))
    assert volume.victims(1.0) == []  # replay needs it
    checkpoint(volume, device)
    assert volume.victims(1.0) == []  # not settled
    volume.settle(volume.written)
    assert [victim[:3] for victim in volume.victims(1.0)] == [(first // BIG_BLOCK, LOG, MIB)]
    node = volume.save_node(bytes(MIB))
    for _ in range(9):
        volume.save_node(bytes(MIB))
    tree = (node >> 18) * 64 // BIG_BLOCK
    for _ in range(2):
        volume.flush()
    assert (tree, TREE) in [victim[:2] for victim in volume.victims(1.0)]


def test_marks_and_links_keep_nothing_from_being_settled() -> None:
    device = make()
    volume, _ = reopen(device)
    place = volume.append_data(bytes(MIB))
    volume.add_live(place, MIB)
    volume.settle(volume.written)
    volume.append(16, b"the record")
    volume.exclude(range(place // BIG_BLOCK, place // BIG_BLOCK + 1))
    checkpoint(volume, device)
    assert [victim.live for victim in volume.victims(0.0)] == [MIB]
    volume.drop_live(place, MIB)
    checkpoint(volume, device)
    assert volume._map.kinds[place // BIG_BLOCK] == HELD


def test_excluded_big_blocks_are_victims_however_full() -> None:
    blockmap = BlockMap(6)
    for block, live in ((1, 100), (2, BIG_BLOCK), (3, 0), (4, BIG_BLOCK - 1)):
        assert blockmap.take(LOG, 0) == block - 1
        blockmap.live[block - 1] = live
    blockmap.hold(range(1, 4))
    assert [victim.block for victim in victims(blockmap, 0.5, ())] == [0, 3, 1]
    assert [victim.block for victim in victims(blockmap, 0.5, (0, 3))] == [1]
    assert blockmap.kinds[4] == FREE


def test_a_full_volume_is_emptied_by_way_of_the_reserve() -> None:
    """Moving goes on where storing was refused, and each round of it leaves more room than it took."""
    device = make(20 * BIG_BLOCK)
    volume, places = filled(device)
    for place in places[1::2]:
        volume.drop_live(place, MIB)
    live = set(places[::2])
    with pytest.raises(VolumeFull):
        until_full(volume)
    before = volume._map.free
    for _ in range(30):
        found = volume.victims(0.6)
        if not found:
            break
        moved = 0
        for place in sorted(place for place in live if place // BIG_BLOCK in {victim.block for victim in found[:2]}):
            data = volume.read(place, MIB)
            fresh = volume.append_data(data, reserve=True)
            volume.add_live(fresh, MIB)
            volume.drop_live(place, MIB)
            live.remove(place)
            live.add(fresh)
            moved += 1
        volume.settle(volume.written)
        checkpoint(volume, device)
        assert moved
    assert volume._map.free > before + 4
    assert all(volume.read(place, MIB) == bytes(MIB) for place in live)
    reopened, _ = reopen(device)
    assert reopened.check() == [] and reopened.node_room > 0


def test_the_reserve_has_an_end_too() -> None:
    volume, _ = filled(make())
    with pytest.raises(VolumeFull):
        until_full(volume, reserve=True)
    assert volume._map.free == volume._log.keep_append > 0
    volume.save_node(bytes(100))


def test_freed_big_blocks_are_given_back_one_checkpoint_late() -> None:
    device = make(20 * BIG_BLOCK)
    volume, places = filled(device)
    trimmed = device.trims
    for place in places:
        volume.drop_live(place, MIB)
    checkpoint(volume, device)
    assert (volume._map.free > 10, device.trims) == (True, trimmed)
    again = volume.append_data(bytes(MIB))
    while again // BIG_BLOCK == volume._log.block:
        again = volume.append_data(bytes(MIB))
        if again % BIG_BLOCK > 6 * MIB:
            break
    free = [block for block, kind in enumerate(volume._map.kinds) if kind == FREE]
    checkpoint(volume, device)
    assert device.trims > trimmed
    assert device.read(free[-8] * BIG_BLOCK, MIB) == bytes(MIB)
    assert volume.read(again, MIB) == bytes(MIB)


def test_a_clean_close_gives_back_everything() -> None:
    device = make(20 * BIG_BLOCK)
    volume, places = filled(device)
    for place in places:
        volume.drop_live(place, MIB)
    checkpoint(volume, device, clean=True)
    assert device.trims >= 10


class _Counting:
    def __init__(self) -> None:
        self.given: list[int] = []

    def trim(self, offset: int, length: int) -> None:
        assert length == BIG_BLOCK
        self.given.append(offset // BIG_BLOCK)


def test_what_is_used_again_is_not_given_back_and_a_turn_has_a_bound() -> None:
    device = _Counting()
    trimmer = Trimmer(device)  # type: ignore[arg-type]
    blockmap = BlockMap(100)
    for block in range(100):
        trimmer.freed(block)
    trimmer.run(blockmap, False)
    assert device.given == []
    blockmap.take(LOG, 0)
    trimmer.run(blockmap, False)
    assert device.given == list(range(1, 64))
    trimmer.run(blockmap, True)
    assert device.given == list(range(1, 100))


def test_a_device_that_cannot_is_not_asked() -> None:
    trimmer = Trimmer(object())  # type: ignore[arg-type]
    trimmer.freed(1)
    trimmer.run(BlockMap(3), True)
