"""Checks of headers and map against the device, one invariant per function, each yielding sentences.

Nothing here repairs. What the trees refer to is checked above, by history and filesystem.
"""

from __future__ import annotations

from collections.abc import Iterator

from gavel.errors import Damaged, DeviceFailed
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.blockmap import BlockMap
from gavel.media.cipher import Cipher
from gavel.media.device import Device
from gavel.media.layout import ABSENT, FREE, HEADER, HELD, KIND_NAMES, LOG, MAP, TREE, Header
from gavel.media.recovery import read_map


def check_volume(
    device: Device, header: Header, blockmap: BlockMap, tree_block: int, log_block: int, cipher: Cipher | None = None
) -> list[str]:
    """All problems found, in a fixed order."""
    problems = list(header_copies(device, header))
    problems += durable_map(device, header, cipher)
    problems += open_blocks(blockmap, header, tree_block, log_block)
    problems += free_entries(blockmap)
    problems += map_live(blockmap, header)
    return problems


def header_copies(device: Device, header: Header) -> Iterator[str]:
    """Both copies of the newest header verify and agree."""
    for slot in layout.slots_of(header.generation):
        offset = layout.slot_offset(slot)
        try:
            found = layout.unpack_header(device.read(offset, layout.SLOT_SIZE))
        except DeviceFailed as error:
            yield f"header copy at byte {offset} cannot be read: {error.fact}"
            continue
        if not isinstance(found, Header):
            yield f"header copy at byte {offset} is damaged; the next checkpoint but one rewrites it"
        elif found.generation != header.generation:
            yield f"header copy at byte {offset} is of generation {found.generation}, not {header.generation}"


def durable_map(device: Device, header: Header, cipher: Cipher | None = None) -> Iterator[str]:
    """The map that the newest header names can be read and verifies."""
    try:
        read_map(device, header, cipher)
    except (Damaged, DeviceFailed) as error:
        yield error.fact


def open_blocks(blockmap: BlockMap, header: Header, tree_block: int, log_block: int) -> Iterator[str]:
    """Every open big-block has the kind of its stream, and big-block 0 holds the headers."""
    expected = [(0, HEADER), (log_block, LOG)]
    expected += [(block, kind) for block, kind in ((tree_block, TREE), (header.map_block, MAP)) if block]
    for block, kind in expected:
        if blockmap.kinds[block] != kind:
            yield f"big-block {block} should be {KIND_NAMES[kind]}, the map says {KIND_NAMES[blockmap.kinds[block]]}"


def free_entries(blockmap: BlockMap) -> Iterator[str]:
    """A FREE big-block has no live bytes (nor has one that is HELD or ABSENT), and their number is known."""
    free = 0
    for block, kind in enumerate(blockmap.kinds):
        free += kind == FREE
        if kind in (FREE, HELD, ABSENT) and blockmap.live[block]:
            yield f"big-block {block} is {KIND_NAMES[kind]} and has {blockmap.live[block]} live bytes"
    if free != blockmap.free:
        yield f"{free} big-blocks are free, {blockmap.free} are counted"


def map_live(blockmap: BlockMap, header: Header) -> Iterator[str]:
    """The live bytes of MAP big-blocks are those of the root and the pages that lie there."""
    live = {header.root_offset // BIG_BLOCK: header.root_length}
    for offset, _ in blockmap.pages:
        if offset:
            block = offset // BIG_BLOCK
            live[block] = live.get(block, 0) + layout.PAGE_SIZE
    for block, kind in enumerate(blockmap.kinds):
        if kind == MAP and blockmap.live[block] != live.get(block, 0):
            yield f"map big-block {block} has {live.get(block, 0)} live bytes, the map says {blockmap.live[block]}"
