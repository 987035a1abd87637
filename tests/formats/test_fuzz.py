"""Volumes made by nobody: bytes that are not what they should be, with sums that say they are.

Rot is found by the sums. Here the sums are put right after the change, as somebody would who means harm, so that what
is behind them is reached. Whatever a volume says, opening and reading it ends in a typed error or in an answer, soon,
and within bounded memory.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from random import Random

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from gavel.errors import GavelError
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.cipher import Cipher, KeyFile, open_lock
from gavel.media.extents import Extent, decode, restore
from gavel.media.layout import Header
from gavel.media.members import unpack_table
from gavel.media.recovery import parse_frame
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.formats.golden import load

EXAMPLES = int(os.environ.get("GAVEL_FUZZ", "60"))
SMALL = settings(max_examples=EXAMPLES, deadline=None, database=None)
KEY = KeyFile(bytes(32))

Patch = list[tuple[int, bytes]]  # (offset in a structure, bytes that replace others)


def patches(size: int) -> st.SearchStrategy[Patch]:
    """One to four changes within so many bytes: random ones, and numbers that programs trip over."""
    nasty = st.sampled_from([0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, BIG_BLOCK, 0xFFFFFFFF, 2**63, 2**64 - 1])
    widths = st.sampled_from([1, 2, 4, 8])
    numbers = st.builds(lambda n, width: (n & (1 << 8 * width) - 1).to_bytes(width, "little"), nasty, widths)
    return st.lists(
        st.tuples(st.integers(0, size - 1), numbers | st.binary(min_size=1, max_size=8)), min_size=1, max_size=4
    )


def changed(data: bytes, patch: Patch, within: int) -> bytes:
    found = bytearray(data)
    for at, piece in patch:
        piece = piece[: within - at]
        found[at : at + len(piece)] = piece
    return bytes(found)


@cache
def golden() -> SimDevice:
    device = load("2")
    list(Volume.open(device).replay())
    return device


def copy() -> SimDevice:
    return golden().crash(Random(0), 1.0)


def newest(device: SimDevice) -> Header:
    return Volume.open(device)._header


def use(device: SimDevice) -> None:
    """Open it for writing and read everything there is; nothing but typed errors may come out."""
    try:
        volume = Volume.open(device)
        bodies = list(volume.replay())
        assert sum(len(body) for _, _, body in bodies) < 1 << 26
        volume.check()
        volume.space()
        volume.members()
        volume.victims(1.0)
        for at in range(0, len(volume.roots), 8):
            volume.load_node(int.from_bytes(volume.roots[at : at + 8], "little"))
        volume.append(16, b"goes on")
        volume.freeze()
        volume.save_node(b"node")
        volume.finish(volume.roots, 50)
        device.sync()
        volume.publish()
        device.sync()
        volume.retire()
    except GavelError:
        return
    list(Volume.open(device).replay())


def reseal_header(slot: bytes) -> bytes:
    version = int.from_bytes(slot[8:12], "little")
    total = crc32c(slot[16:], crc32c(layout.HEADER_MAGIC + version.to_bytes(4, "little")))
    return slot[:12] + total.to_bytes(4, "little") + slot[16:]


@given(patches(layout.SLOT_SIZE - 8))
@SMALL
def test_a_header_of_any_content(patch: Patch) -> None:
    device = copy()
    header = newest(device)
    slot = changed(layout.pack_header(header._replace(generation=header.generation + 2)), [], 0)
    slot = reseal_header(slot[:8] + changed(slot[8:], patch, len(slot) - 8))
    device.write(layout.slot_offset(0), [slot])
    use(device)


@given(st.data())
@SMALL
def test_a_header_with_any_numbers_in_its_fields(data: st.DataObject) -> None:
    device = copy()
    header = newest(device)
    names = ["big_blocks", "log_offset", "root_offset", "root_length", "tree_block", "map_block", "lives"]
    counts = ["generation", "synced", "last_tid", "log_sequence"]
    values = st.sampled_from([0, 1, 2, 3, 4, 5, 11, 12, 13, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
    large = st.sampled_from([0, 2**32 - 17, 2**32 - 16, 2**63 - 1, 2**63, 2**64 - 1])
    offsets = st.sampled_from([0, 1, BIG_BLOCK - 1, BIG_BLOCK, 3 * BIG_BLOCK, 12 * BIG_BLOCK - 8]) | values
    wanted = {
        name: data.draw(large if name in counts else offsets if name.endswith("offset") else values)
        for name in data.draw(st.lists(st.sampled_from(names + counts), min_size=1, max_size=2, unique=True))
    }
    changed_header = header._replace(**{"generation": header.generation + 2, **wanted})
    device.write(layout.slot_offset(2 * (header.generation % 2)), [layout.pack_header(changed_header)])
    use(device)


@given(st.binary(max_size=layout.MEMBERS_MAX), st.integers(0, 1 << 30))
@SMALL
def test_a_table_of_members_of_any_content(table: bytes, big_blocks: int) -> None:
    try:
        members = unpack_table(table, big_blocks)
    except GavelError:
        return
    assert all(member.base + member.big_blocks <= big_blocks for member in members)


def resealed(device: SimDevice, offset: int, length: int, patch: Patch, own: bool = True) -> bytes:
    """Change a structure with an envelope and put its sum right (and if not `own`, its stamp too is as changed)."""
    raw = device.read(offset, length)
    head = layout.NODE_HEAD.size
    found = changed(raw[head:], patch, length - head) if own else changed(raw, patch, length)[head:]
    front = raw[: head - 4] if own else changed(raw, patch, length)[: head - 4]
    magic, number, *_ = layout.NODE_HEAD.unpack(front + b"\0\0\0\0")
    covered = found[:number] if magic == layout.NODE_MAGIC else found  # a node may be padded
    total = crc32c(covered, crc32c(front + b"\0\0\0\0"))
    device.write(offset, [front + total.to_bytes(4, "little") + found])
    return total.to_bytes(4, "little")


@given(patches(layout.PAGE_SIZE), st.booleans())
@SMALL
def test_a_map_page_of_any_content(patch: Patch, near: bool) -> None:
    """The page, the root that names it and the header that names the root, all put right."""
    device = copy()
    header = newest(device)
    root = device.read(header.root_offset, header.root_length)
    page_at = int.from_bytes(root[24:32], "little")
    columns = [24, 7704, 11544, 15384]
    if near:  # where the entries of the twelve big-blocks are
        patch = [(columns[at % 4] - 24 + at % 12 * (8, 4, 4, 1)[at % 4], piece[:4]) for at, piece in patch]
    total = resealed(device, page_at, layout.PAGE_SIZE, patch)
    total = resealed(device, header.root_offset, header.root_length, [(8, total)])
    ours = header._replace(root_sum=int.from_bytes(total, "little"), generation=header.generation + 2)
    for slot in layout.slots_of(ours.generation):
        device.write(layout.slot_offset(slot), [layout.pack_header(ours)])
    use(device)


@given(patches(24 + 16))
@SMALL
def test_a_map_root_of_any_content(patch: Patch) -> None:
    device = copy()
    header = newest(device)
    total = resealed(device, header.root_offset, header.root_length, patch, own=False)
    ours = header._replace(root_sum=int.from_bytes(total, "little"), generation=header.generation + 2)
    for slot in layout.slots_of(ours.generation):
        device.write(layout.slot_offset(slot), [layout.pack_header(ours)])
    use(device)


def test_what_is_resealed_is_believed() -> None:
    device = copy()
    address = int.from_bytes(Volume.open(device).roots[:8], "little")
    offset, size = layout.node_extent(address)
    before = Volume.open(device).load_node(address)
    resealed(device, offset, size, [(0, bytes([before[0] ^ 1]))])
    assert Volume.open(device).load_node(address) == bytes([before[0] ^ 1]) + before[1:]


@given(patches(200), st.integers(0, 5))
@SMALL
def test_a_node_of_any_content(patch: Patch, which: int) -> None:
    device = copy()
    volume = Volume.open(device)
    roots = volume.roots
    address = int.from_bytes(roots[8 * which : 8 * which + 8], "little")
    offset, size = layout.node_extent(address)
    resealed(device, offset, size, [(at % size, piece) for at, piece in patch], own=False)
    with suppress(GavelError):
        assert len(volume.load_node(address)) < size


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@SMALL
def test_addresses_and_places_of_any_value(address: int, place: int, stored: int) -> None:
    volume = Volume.open(copy())
    for read in (
        lambda: volume.load_node(address),
        lambda: volume.read(place, stored),
        lambda: volume.read(address, stored % BIG_BLOCK),
        lambda: restore(Extent(place, 5, stored, address % 3, bytes(16)), b"12345"),
    ):
        with suppress(GavelError):
            assert len(read()) <= 2 * layout.NODE_MAX


@given(st.binary(max_size=80))
@SMALL
def test_a_data_record_of_any_content(value: bytes) -> None:
    try:
        shown = decode(value)
    except GavelError:
        return
    assert shown.inline == value[1:] or shown.extent is not None


def frame(device: SimDevice, offset: int, kind: int, body: bytes, after: int, sequence: int, synced: int = 0) -> int:
    """Write a frame that verifies; its sum."""
    salt = newest(golden()).salt
    head = layout.FRAME_HEAD.pack(layout.FRAME_MAGIC, kind, len(body), after, sequence, synced, salt ^ offset, 1)
    covered = body[:16] if kind == layout.DATA else body
    total = crc32c(covered, crc32c(head))
    device.write(offset, [head, total.to_bytes(4, "little"), body])
    return int(total)


LINKS = st.integers(0, 14).map(layout.LINK_BODY.pack) | st.binary(min_size=8, max_size=8)
FRAMES = st.tuples(st.just(layout.LINK), LINKS) | st.tuples(
    st.sampled_from([0, 16, 17, layout.DATA, layout.MARK, layout.LINK, 0xFF]), st.binary(max_size=60)
)


@given(st.lists(FRAMES, min_size=1, max_size=6), st.integers(0, 2**64 - 1))
@SMALL
def test_a_log_that_goes_on_with_any_frames(frames: list[tuple[int, bytes]], synced: int) -> None:
    device = copy()
    volume = Volume.open(device, read_only=True)
    list(volume.replay())
    offset, total, sequence = volume._log.cursor, volume._log.sum, volume._log.written
    for kind, body in frames:
        if kind == layout.DATA:
            body = xxh3_128_digest(body) + body
        sequence += 1
        total = frame(device, offset, kind, body, total, sequence, synced % (sequence + 2))
        offset += layout.frame_size(len(body))
        if kind == layout.LINK and len(body) == 8 and int.from_bytes(body, "little") < 12:
            offset = int.from_bytes(body, "little") * BIG_BLOCK
    device.sync()
    use(device)


@given(st.binary(max_size=300), st.integers(0, 300))
@SMALL
def test_a_frame_of_any_bytes(raw: bytes, at: int) -> None:
    assert parse_frame(raw, at, 4096, 77) is None
    head = layout.FRAME_HEAD.pack(layout.FRAME_MAGIC, len(raw) % 256, at * 99991, 1, 2, 3, 77 ^ 4096, 4)
    parse_frame(head + raw, 0, 4096, 77)


@given(st.binary(max_size=140), st.binary(max_size=100))
@SMALL
def test_a_lock_or_a_sealed_text_of_any_bytes(lock: bytes, sealed: bytes) -> None:
    for attempt in (
        lambda: open_lock(lock, KEY, bytes(16)),
        lambda: open_lock(b"\2\0\x08" + lock[:93].ljust(93, b"\0"), KEY, bytes(16)),
        lambda: Cipher(bytes(32)).open("it", b"GvNd", 0, 0, sealed),
    ):
        with pytest.raises(GavelError):
            attempt()


@given(st.lists(st.tuples(st.integers(0, 4), st.binary(min_size=1, max_size=4096)), max_size=6))
@SMALL
def test_a_device_of_any_bytes(pieces: list[tuple[int, bytes]]) -> None:
    device = SimDevice(12 * BIG_BLOCK)
    for where, piece in pieces:
        device.write(layout.slot_offset(where), [piece])
    with pytest.raises(GavelError):
        Volume.open(device)


HARMFUL: list[Callable[[Header], Header]] = [
    lambda header: header._replace(big_blocks=2**29),
    lambda header: header._replace(root_length=2**32 - 1),
    lambda header: header._replace(big_blocks=2**64 - 1),
    lambda header: header._replace(log_offset=12 * BIG_BLOCK - 48),
    lambda header: header._replace(lock=b"\1\x14\x08" + bytes(93)),
]


@pytest.mark.parametrize("harm", HARMFUL)
def test_memory_stays_bounded_whatever_a_header_claims(harm: Callable[[Header], Header]) -> None:
    device = copy()
    header = newest(device)
    ours = harm(header._replace(generation=header.generation + 2))
    for slot in layout.slots_of(ours.generation):
        device.write(layout.slot_offset(slot), [layout.pack_header(ours)])
    tracemalloc.start()
    try:
        with pytest.raises(GavelError):
            list(Volume.open(device).replay())
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
