"""Members come, are emptied, and go; the table and the names that tell of them."""

from __future__ import annotations

import pytest

from gavel.errors import BadRequest, Damaged, DeviceFailed, DeviceFull, MemberMissing, NotAVolume, VolumeFull
from gavel.limits import BIG_BLOCK
from gavel.media.layout import ABSENT, FREE, HEADER, HELD, MEMBERS_MAX, TREE
from gavel.media.members import LEAVING, Member, check_name, clear_name, pack_table, unpack_table, write_name
from gavel.media.span import SpanDevice
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.unit.media.volumes import IDENTITY, checkpoint, make, sync

FIRST = 14
SECOND = 6


def opened(*devices: SimDevice) -> Volume:
    span = SpanDevice(devices[0])
    base = FIRST
    for device in devices[1:]:
        span.attach(base * BIG_BLOCK, device)
        base += device.size() // BIG_BLOCK
    volume = Volume.open(span)
    list(volume.replay())
    return volume


def two() -> tuple[Volume, SimDevice, SimDevice]:
    first, second = make(FIRST * BIG_BLOCK), SimDevice(SECOND * BIG_BLOCK + 5 * 4096, sector=4096)
    volume = opened(first)
    volume.grow(second, b"2" * 16, "/disks/two")
    return volume, first, second


def fill(volume: Volume) -> list[int]:
    """Live data until the volume is full; its places."""
    places = []
    while True:
        try:
            places.append(volume.append_data(bytes(1 << 20)))
        except VolumeFull:
            return places
        volume.add_live(places[-1], 1 << 20)
        volume.settle(volume.written)


def test_a_new_member_is_used_only_when_a_durable_header_names_it() -> None:
    volume, first, second = two()
    before = volume.space()
    assert (before.total, volume._map.kinds[FIRST]) == ((FIRST + SECOND) * BIG_BLOCK, HEADER)
    assert volume._map.kinds[FIRST + 1 :] == bytes([HELD]) * (SECOND - 1)
    places = fill(volume)
    assert max(places) < FIRST * BIG_BLOCK
    sync(volume, first)
    assert len(opened(first)._map) == FIRST, "a crash leaves the volume without it"
    checkpoint(volume, volume._device)  # type: ignore[arg-type]
    assert volume.space().free >= (SECOND - 1) * BIG_BLOCK
    places = fill(volume)
    assert max(places) >= FIRST * BIG_BLOCK
    sync(volume, volume._device)  # type: ignore[arg-type]
    volume = opened(first, second)
    assert [use.member[:5] for use in volume.members()] == [
        (0, 0, 0, FIRST, IDENTITY),
        (1, 0, FIRST, SECOND, b"2" * 16),
    ]
    assert [use.member.path for use in volume.members()] == ["", "/disks/two"]
    assert volume.check() == []
    second.rot(20)
    assert any("is not at /disks/two" in problem for problem in volume.check())
    second.rot(20)
    assert volume.members()[1].used >= 2 * BIG_BLOCK and volume.check() == []
    assert volume.read(places[-1], 1 << 20) == bytes(1 << 20)


def test_a_member_that_comes_during_a_checkpoint_waits_for_its_end() -> None:
    first, second = make(FIRST * BIG_BLOCK), SimDevice(SECOND * BIG_BLOCK, sector=4096)
    volume = opened(first)
    span = volume._device
    volume.freeze()
    volume.grow(second, b"2" * 16, "two")
    volume.save_node(b"node")
    volume.finish(b"", 0)
    span.sync()
    volume.publish()
    span.sync()
    assert len(volume._map) == FIRST
    volume.retire()
    assert len(volume._map) == FIRST + SECOND and volume._map.kinds[-1] == HELD
    volume.freeze()
    volume.grow(SimDevice(2 * BIG_BLOCK, sector=4096), b"3" * 16, "three")
    volume.freeze()  # the one before is given up, and the map may grow
    assert len(volume._map) == FIRST + SECOND + 2
    volume.finish(b"", 0)
    span.sync()
    volume.publish()
    span.sync()
    volume.retire()
    assert volume._map.kinds[-1] == FREE == volume._map.kinds[FIRST + 1]
    assert volume.check() == []


def test_a_volume_does_not_open_without_its_member() -> None:
    volume, first, second = two()
    checkpoint(volume, volume._device)  # type: ignore[arg-type]
    with pytest.raises(MemberMissing, match=r"3232.*/disks/two"):
        opened(first)
    with pytest.raises(NotAVolume, match="further member of a GavelFS volume"):
        Volume.open(second)


def test_an_excluded_member_gets_nothing_new_and_goes_when_it_is_empty() -> None:
    volume, first, second = two()
    span = volume._device
    checkpoint(volume, span)  # type: ignore[arg-type]
    places = fill(volume)
    inside = [place for place in places if place >= FIRST * BIG_BLOCK]
    outside = [place for place in places if place < FIRST * BIG_BLOCK]
    blocks = volume.members()[1].member.blocks
    assert blocks == range(FIRST, FIRST + SECOND) and inside
    with pytest.raises(VolumeFull):
        volume.exclude(blocks)
    for place in outside[: len(outside) * 3 // 4]:
        volume.drop_live(place, 1 << 20)
    for _ in range(2):
        checkpoint(volume, span)  # type: ignore[arg-type]
    volume.exclude(blocks)
    assert volume._log.block < FIRST and volume.members()[1].member.state == LEAVING
    wanted = {victim.block for victim in volume.victims(0.0)}
    assert wanted == {place // BIG_BLOCK for place in inside} - volume._spared()
    with pytest.raises(BadRequest, match="in use"):
        volume.drop(1, lambda device: None)
    for place in inside:
        moved = volume.append_data(volume.read(place, 1 << 20), reserve=True)
        assert moved < FIRST * BIG_BLOCK
        volume.add_live(moved, 1 << 20)
        volume.drop_live(place, 1 << 20)
        volume.settle(volume.written)
    for _ in range(2):
        checkpoint(volume, span)  # type: ignore[arg-type]
    volume = opened(first, second)  # it goes on leaving
    span = volume._device
    assert volume._map.kinds[FIRST + 1 :] == bytes([HELD]) * (SECOND - 1)
    gone: list[object] = []
    volume.drop(1, gone.append)
    assert not gone and volume._map.kinds[FIRST:] == bytes([ABSENT]) * SECOND
    checkpoint(volume, span)  # type: ignore[arg-type]
    assert gone == [second]
    clear_name(second)
    volume = opened(first)
    assert volume.check() == [] and volume.space().total == FIRST * BIG_BLOCK
    assert [use.member.number for use in volume.members()] == [0]
    assert len(volume._map) == FIRST + SECOND
    third = SimDevice(2 * BIG_BLOCK, sector=4096)
    assert volume.grow(third, b"3" * 16, "three").base == FIRST + SECOND, "no range is given out twice"


def test_include_takes_exclude_back() -> None:
    volume, _, _ = two()
    blocks = volume.members()[1].member.blocks
    volume.exclude(blocks)
    volume.include(blocks)  # before it was ever used: still nothing may be put there
    assert volume._map.kinds[FIRST + 1] == HELD
    checkpoint(volume, volume._device)  # type: ignore[arg-type]
    assert volume._map.kinds[FIRST + 1] == FREE
    free = volume._map.free
    volume.exclude(blocks)
    volume.exclude(blocks)
    assert volume._map.free == free - (SECOND - 1)
    volume.include(blocks)
    volume.include(blocks)
    assert volume._map.free == free and volume.members()[1].member.state != LEAVING
    for wrong in (range(3), range(3, 3), range(3, 99)):
        with pytest.raises(BadRequest):
            volume.exclude(wrong)
    with pytest.raises(BadRequest, match="not leaving"):
        volume.drop(1, lambda device: None)
    with pytest.raises(BadRequest):
        volume.drop(0, lambda device: None)


def test_nothing_is_excluded_when_the_rest_could_not_even_go_on() -> None:
    volume = opened(make(FIRST * BIG_BLOCK))
    with pytest.raises(VolumeFull):
        volume.exclude(range(4, FIRST))
    assert not volume._map.leaving and volume._map.free == FIRST - 3
    volume.exclude(range(6, FIRST))


def test_a_member_that_stays_after_all_may_hold_the_log_though_the_header_calls_it_leaving() -> None:
    volume, first, second = two()
    span = volume._device
    checkpoint(volume, span)  # type: ignore[arg-type]
    blocks = volume.members()[1].member.blocks
    volume.exclude(blocks)
    volume.freeze()
    volume.include(blocks)
    volume.exclude(range(3, FIRST))  # so that the log goes into the member
    volume._log.leave()
    assert volume._log.block in blocks
    volume.append(16, b"there")
    volume.finish(b"", 0)
    span.sync()
    volume.publish()
    span.sync()
    volume.retire()
    volume.append(16, b"and on")
    sync(volume, span)  # type: ignore[arg-type]
    volume = opened(first, second)
    assert volume.members()[1].member.state == LEAVING and volume._log.block in blocks
    assert volume.check() == []
    volume.exclude(blocks)
    assert volume._log.block not in blocks


def test_open_streams_leave_an_excluded_range() -> None:
    volume = opened(make(FIRST * BIG_BLOCK))
    span = volume._device
    volume.save_node(b"node")
    log, tree, maps = volume._log.block, volume._nodes.block, volume._map_block
    volume.append(16, b"in the old big-block")
    volume.exclude(range(1, 4))
    assert {log, tree, maps} == {1, 2, 3}
    node = volume.save_node(b"another")
    checkpoint(volume, span)  # type: ignore[arg-type]
    assert min(volume._log.block, volume._nodes.block, volume._map_block) > 3
    assert volume.load_node(node) == b"another"
    volume.settle(volume.written)
    checkpoint(volume, span)  # type: ignore[arg-type]
    assert bytes(volume._map.kinds[1:4]) == bytes([HELD, HELD, TREE])  # the first node lives on there
    assert volume.check() == []


def test_what_cannot_be_a_member_is_refused() -> None:
    volume, _, _ = two()
    with pytest.raises(BadRequest, match="at least"):
        volume.grow(SimDevice(BIG_BLOCK, sector=4096), b"3" * 16, "small")
    with pytest.raises(BadRequest, match="path"):
        volume.grow(SimDevice(2 * BIG_BLOCK, sector=4096), b"3" * 16, "x" * 256)
    for n in range(7):
        volume.grow(SimDevice(2 * BIG_BLOCK, sector=4096), bytes(16), f"{n:0200}")
    with pytest.raises(BadRequest, match="no room"):
        volume.grow(SimDevice(2 * BIG_BLOCK, sector=4096), bytes(16), "x" * 200)
    single = Volume.open(make())
    list(single.replay())
    with pytest.raises(BadRequest, match="single device"):
        single.grow(SimDevice(2 * BIG_BLOCK, sector=4096), b"3" * 16, "x")


def test_a_device_that_fails_to_become_a_member_is_none_and_harms_nothing() -> None:
    volume = opened(make(FIRST * BIG_BLOCK))
    for failing in (
        lambda device: device.fail_at(1),
        lambda device: device.fail_at(2),
        lambda device: device.full_at(1),
    ):
        device = SimDevice(SECOND * BIG_BLOCK, sector=4096)
        failing(device)
        with pytest.raises((DeviceFailed, DeviceFull)):
            volume.grow(device, b"2" * 16, "two")
    assert len(volume.members()) == 1 and volume._device.size() == FIRST * BIG_BLOCK
    checkpoint(volume, volume._device)  # type: ignore[arg-type]
    assert len(volume._map) == FIRST and volume.check() == []


def test_a_member_that_fails_ends_the_appends_of_the_volume() -> None:
    volume, _, second = two()
    checkpoint(volume, volume._device)  # type: ignore[arg-type]
    second.fail_at(1)
    with pytest.raises(DeviceFailed):
        fill(volume)
    second.heal()
    with pytest.raises(DeviceFailed):
        volume.append_data(b"x")


MEMBERS = [Member(0, 0, 0, 5, IDENTITY, ""), Member(3, 1, 5, 2, b"m" * 16, "/a/ö"), Member(1, 0, 9, 1, b"n" * 16, "b")]


def test_the_table_comes_back_as_it_was_and_is_checked() -> None:
    table = pack_table(MEMBERS)
    assert unpack_table(table, 10) == MEMBERS and unpack_table(b"", 10) == [] and len(table) < MEMBERS_MAX
    first, second, third = MEMBERS
    for wrong in (
        [second],
        [first, third, second],
        [first, second, second._replace(base=8)],
        [first, second._replace(base=4)],
        [first, second._replace(big_blocks=0)],
        [first, second._replace(state=2)],
        [first, second._replace(big_blocks=6)],
    ):
        with pytest.raises(Damaged):
            unpack_table(pack_table(wrong), 10)
    for cut in (1, 5, 30):
        with pytest.raises(Damaged):
            unpack_table(table[:-cut], 10)


def test_a_name_tells_whose_member_a_device_is() -> None:
    device = SimDevice(2 * BIG_BLOCK, sector=4096)
    member = MEMBERS[1]
    with pytest.raises(MemberMissing, match="no member"):
        check_name(device, IDENTITY, member)
    write_name(device, IDENTITY, member)
    check_name(device.crash(keep=0.0), IDENTITY, member)
    with pytest.raises(MemberMissing, match="another volume"):
        check_name(device, bytes(16), member)
    with pytest.raises(MemberMissing, match="is member 6d6d"):
        check_name(device, IDENTITY, MEMBERS[2])
    device.resize(BIG_BLOCK)
    with pytest.raises(MemberMissing, match="cut short"):
        check_name(device, IDENTITY, member)
    device.rot(50)
    with pytest.raises(MemberMissing, match="damaged"):
        check_name(device, IDENTITY, member)
    device.resize(512)
    with pytest.raises(MemberMissing, match="too short"):
        check_name(device, IDENTITY, member)
