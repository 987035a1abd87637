"""What opening a volume says of damage: a torn tail is the end of the log, rot is Damaged, and neither is mistaken."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from gavel.errors import Damaged, DeviceFailed, NewerFormat, NotAVolume
from gavel.limits import BIG_BLOCK, VOLUME_MIN
from gavel.media import layout
from gavel.media.foreign import SIGNATURES, recognise
from gavel.media.recovery import LogReader, read_header
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.unit.media.volumes import SALT, SIZE, checkpoint, make, reopen, sync


def frames_of(device: SimDevice) -> list[layout.Frame]:
    return list(LogReader(device, read_header(device)).frames())


def bodies(device: SimDevice) -> list[bytes]:
    return [body for _, _, body in reopen(device)[1]]


# -- the log -------------------------------------------------------------------------------------------------------


def test_rot_in_a_frame_that_was_synced_is_damage() -> None:
    device = make()
    volume, _ = reopen(device)
    for body in (b"one", b"two"):
        volume.append(1, body * 50)
        sync(volume, device)
    third = frames_of(device)[-2]
    device.rot(third.offset + 60)
    with pytest.raises(Damaged, match="log frame"):
        reopen(device)


def test_rot_in_file_data_that_was_synced_costs_that_data_alone() -> None:
    device = make()
    volume, _ = reopen(device)
    place = volume.append_data(b"x" * 4096)
    volume.append(1, b"refers to it")
    sync(volume, device)
    other = volume.append_data(b"y" * 4096)
    volume.append(1, b"later")
    volume.flush()
    device.rot(place + 1000)
    again, found = reopen(device)
    assert [body for _, _, body in found] == [b"refers to it", b"later"]
    assert again.read(place, 4096) != b"x" * 4096, "what its record's sum will tell"
    assert again.read(other, 4096) == b"y" * 4096


def test_file_data_that_was_never_synced_may_be_torn_and_ends_the_log() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.append(1, b"synced")
    sync(volume, device)
    place = volume.append_data(b"x" * 4096)
    volume.append(1, b"refers to it")
    volume.flush()
    device.rot(place + 1000)
    assert bodies(device) == [b"synced"]


def test_a_frame_that_was_never_synced_may_be_missing() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.append(1, b"synced")
    sync(volume, device)
    volume.append(1, b"torn")
    volume.append(1, b"whole, but after a torn one")
    volume.flush()
    torn = frames_of(device)[-2]
    device.rot(torn.offset + 50)
    assert bodies(device) == [b"synced"]


def test_damage_is_proved_by_frames_in_the_next_big_block() -> None:
    device = make()
    volume, _ = reopen(device)
    volume.append(1, b"early")
    sync(volume, device)
    for _ in range(20):
        volume.append(1, bytes(900_000))
        sync(volume, device)
    found = frames_of(device)
    first = next(frame for frame in found if frame.body == b"early")
    blocks = {frame.offset // BIG_BLOCK for frame in found}
    assert len(blocks) > 2
    # nothing of the first big-block verifies any more behind the rot
    for frame in found:
        if frame.offset >= first.offset and frame.offset // BIG_BLOCK == first.offset // BIG_BLOCK:
            device.rot(frame.offset + 45)
    with pytest.raises(Damaged, match="log frame"):
        reopen(device)


def test_rot_of_the_frame_that_the_header_names_is_damage() -> None:
    device = make()
    volume, _ = reopen(device)
    checkpoint(volume, device)
    device.rot(read_header(device).log_offset + 20)
    with pytest.raises(Damaged, match="log at its checkpoint"):
        reopen(device)


def test_frames_of_a_lost_tail_are_not_taken_up_again() -> None:
    """Life 1 loses A but not B; life 2 writes a frame as long as A in its place. B must not follow it."""
    device = make()
    volume, _ = reopen(device)
    volume.append(1, bytes(layout.MARK_BODY.size))
    volume.append(1, b"B")
    volume.flush()
    lost = frames_of(device)[-2]
    device.write(lost.offset, [bytes(lost.size)])
    assert bodies(device) == []
    assert bodies(device) == []


def test_an_image_of_the_volume_stored_in_itself_proves_nothing() -> None:
    device = make()
    volume, _ = reopen(device)
    for _ in range(50):
        volume.append(1, b"some frame")
        sync(volume, device)
    copy = device.read(BIG_BLOCK, 128 * 1024)
    volume.append(1, b"the last that was synced")
    sync(volume, device)
    torn = volume.written + 1
    volume.append(1, b"torn")
    for _ in range(20):
        volume.append_data(copy)
    volume.flush()
    device.rot(next(frame for frame in frames_of(device) if frame.sequence == torn).offset + 50)
    assert bodies(device)[-1] == b"the last that was synced"


def test_frames_of_an_older_volume_on_the_same_device_are_not_seen() -> None:
    device = make()
    volume, _ = reopen(device)
    for _ in range(100):
        volume.append(1, b"old")
        sync(volume, device)
    Volume.format(device, identity=bytes(16), salt=SALT + 1, label="", created_tid=1)
    assert bodies(device) == []


def test_an_absurd_length_ends_the_log() -> None:
    device = make()
    offset = frames_of(device)[-1].offset + layout.frame_size(8)
    head = layout.FRAME_HEAD.pack(layout.FRAME_MAGIC, 1, 0xFFFFFFFF, 0, 2, 0, SALT ^ offset, 1)
    device.write(offset, [head, bytes(4)])
    assert bodies(device) == []


# -- headers -------------------------------------------------------------------------------------------------------


def _rot_slots(device: SimDevice, slots: tuple[int, ...]) -> None:
    for slot in slots:
        device.rot(layout.slot_offset(slot) + 200)


@pytest.mark.parametrize("slot", range(4))
def test_one_damaged_header_copy_harms_nothing_and_is_mended(slot: int) -> None:
    device = make()
    volume, _ = reopen(device)
    checkpoint(volume, device, b"r1")
    volume.append(1, b"after")
    sync(volume, device)
    assert volume.check() == []
    _rot_slots(device, (slot,))
    if slot in layout.slots_of(volume._header.generation):
        assert any("header copy" in problem for problem in volume.check())
    volume, frames = reopen(device)
    assert volume.roots == b"r1" and [body for _, _, body in frames] == [b"after"]
    assert volume.check() == []


def test_losing_both_copies_of_the_newest_header_is_noticed() -> None:
    device = make()
    volume, _ = reopen(device)
    checkpoint(volume, device, b"r1")
    newest = layout.slots_of(volume._header.generation)
    volume.append(1, b"after")
    sync(volume, device)
    _rot_slots(device, newest)
    with pytest.raises(Damaged, match="newest volume header"):
        reopen(device)


def test_torn_copies_of_a_header_that_was_being_published_are_not_missed() -> None:
    device = make()
    volume, _ = reopen(device)
    checkpoint(volume, device, b"r1")
    volume.append(1, b"record")
    volume.freeze()
    volume.finish(b"r2", 0)
    device.sync()
    volume.publish()
    _rot_slots(device, layout.slots_of(volume._header.generation + 1))
    volume, frames = reopen(device)
    assert volume.roots == b"r1" and [body for _, _, body in frames] == [b"record"]


def test_damage_to_all_headers_is_damage_and_not_another_format() -> None:
    device = make()
    reopen(device)
    checkpoint(reopen(device)[0], device)
    _rot_slots(device, (0, 1, 2, 3))
    with pytest.raises(Damaged, match="header"):
        Volume.open(device)


def test_a_disk_that_cannot_be_read_is_not_called_no_volume() -> None:
    """Nobody is to be told to format it."""
    device = make()

    def read(offset: int, length: int) -> bytes:
        raise DeviceFailed("read", offset, "Input/output error")

    with patch.object(device, "read", read), pytest.raises(DeviceFailed, match="failed to read"):
        read_header(device)


def test_a_newer_format_is_called_newer() -> None:
    device = make()
    rest = device.read(layout.slot_offset(2), layout.SLOT_SIZE)[16:]
    envelope = layout.HEADER_ENVELOPE.pack(layout.HEADER_MAGIC, 9, layout._header_sum(9, rest))
    device.write(layout.slot_offset(0), [envelope + rest])
    with pytest.raises(NewerFormat) as caught:
        Volume.open(device)
    assert (caught.value.version, caught.value.known) == (9, layout.VERSION)


@pytest.mark.parametrize(("offset", "signature", "name"), SIGNATURES)
def test_what_is_no_volume_is_named(offset: int, signature: bytes, name: str) -> None:
    device = SimDevice(VOLUME_MIN)
    device.write(offset, [signature])
    with pytest.raises(NotAVolume) as caught:
        Volume.open(device)
    assert caught.value.found == name and name in str(caught.value)


@pytest.mark.parametrize(("offset", "signature", "name"), SIGNATURES)
def test_formatting_leaves_no_signature_of_another_format(offset: int, signature: bytes, name: str) -> None:
    device = SimDevice(VOLUME_MIN)
    device.write(offset, [signature])
    assert recognise(device) == name
    Volume.format(device, identity=bytes(16), salt=1, label="", created_tid=1)
    assert recognise(device) == ""


@pytest.mark.parametrize("size", [0, 512, 4096, 1 << 20])
def test_what_is_too_small_or_blank_is_no_volume(size: int) -> None:
    with pytest.raises(NotAVolume):
        Volume.open(SimDevice(size))


def test_a_volume_that_was_cut_short_is_damaged() -> None:
    device = make()
    device.resize(SIZE - BIG_BLOCK)
    with pytest.raises(Damaged, match="cut short") as caught:
        Volume.open(device)
    assert (caught.value.expected, caught.value.found) == (SIZE, SIZE - BIG_BLOCK)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("big_blocks", 0),
        ("big_blocks", 1 << 60),
        ("big_block_size", 4096),
        ("root_length", 1 << 31),
        ("root_offset", 1 << 62),
        ("log_offset", 1 << 62),
        ("log_offset", SIZE - 7),
        ("tree_block", 1 << 31),
        ("map_block", 1 << 31),
    ],
)
def test_absurd_fields_behind_a_good_checksum_are_damage(field: str, value: int) -> None:
    device = make()
    header = read_header(device)._replace(**{field: value})
    for slot in layout.slots_of(header.generation):
        device.write(layout.slot_offset(slot), [layout.pack_header(header)])
    with pytest.raises(Damaged):
        reopen(device)


@pytest.mark.parametrize("at", [5, 30, 60, 2000])
def test_rot_in_the_map_is_damage(at: int) -> None:
    device = make()
    header = read_header(device)
    device.rot((header.root_offset if at < 40 else header.root_offset + layout.SECTOR) + at)
    with pytest.raises(Damaged, match="map"):
        Volume.open(device)


def test_rot_in_a_node_and_addresses_that_cannot_be_are_damage() -> None:
    device = make()
    volume, _ = reopen(device)
    address = volume.save_node(b"node" * 100)
    volume.flush()
    assert volume.load_node(address) == b"node" * 100
    device.rot(layout.node_extent(address)[0] + 100)
    for wrong in (address, 0, 5, 2**64 - 1, address + 1, address + (1 << 18)):
        with pytest.raises(Damaged):
            volume.load_node(wrong)
    for place, stored in ((0, 10), (SIZE - 5, 10), (1 << 62, 1), (BIG_BLOCK, 1 << 30)):
        with pytest.raises(Damaged):
            volume.read(place, stored)
