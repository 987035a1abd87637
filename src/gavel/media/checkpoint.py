"""A checkpoint in the making: the frozen image of the map, and the writing of it.

Invariants:

- the image is what the header will name: the map as of the freeze plus the nodes saved for it; what happens to live
  records after the freeze does not touch it;
- a changed page is written to fresh MAP space, then the root that names all pages; nothing the former root reaches
  is overwritten;
- writing the map changes the map: places are given out until no further page has become dirty, only then is anything
  encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from gavel.errors import DeviceFailed
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.blockmap import BlockMap
from gavel.media.cipher import Cipher
from gavel.media.device import Buffer, Device
from gavel.media.layout import FREE, HELD, MAP, PAGE_SIZE, SECTOR, TREE, Header

_COMPACT = BIG_BLOCK // 4  # a MAP big-block with no more live bytes than this is emptied when the next one is opened
_PAGE_PAYLOAD = PAGE_SIZE - layout.PAGE_HEAD.size


class Placed(NamedTuple):
    """Where the root of a written map lies, and the open MAP big-block."""

    offset: int
    length: int
    sum: int
    block: int


@dataclass
class Image:
    """What a checkpoint freezes: its map, where its log begins, and counters of the volume at that moment."""

    map: BlockMap
    generation: int
    log_offset: int
    log_sequence: int
    log_sum: int
    appended: int
    records: int
    rewritten: set[int] = field(default_factory=set)  # pages written by finish(), stale should it be abandoned
    header: Header | None = None
    members: bytes = b""
    roots: bytes = b""
    published: bool = False

    def hold(self, block: int, size: int, append: int) -> None:
        """Count a node saved for the image."""
        if self.map.kinds[block] != TREE:
            assert self.map.kinds[block] in (FREE, HELD), f"big-block {block} is in use in the image"
            self.map.assign(block, TREE)
        self.map.add(block, size)
        self.map.fill(block, append)


class _Placer:
    """Gives out places in the MAP stream, in the live map and in the image alike."""

    def __init__(self, live: BlockMap, image: BlockMap, block: int) -> None:
        self.live, self.image, self.block = live, image, block

    def place(self, size: int) -> int:
        """The offset of `size` fresh bytes; raises VolumeFull."""
        if not self.block or self.live.append[self.block] + size > BIG_BLOCK:
            self._compact()
            self.block = self.live.take(MAP, 0)
            if self.image is not self.live:
                self.image.assign(self.block, MAP)
        append = self.live.append[self.block]
        self.live.fill(self.block, append + size)
        self.image.fill(self.block, append + size)
        return self.block * BIG_BLOCK + append

    def _compact(self) -> None:
        """Have the pages of MAP big-blocks that are mostly dead or leaving written anew, so that those die."""
        image = self.image
        for index, (offset, _) in enumerate(image.pages):
            block = offset // BIG_BLOCK
            if offset and (image.live[block] <= _COMPACT or any(block in blocks for blocks in self.live.leaving)):
                image.dirty.add(index)


def write_map(
    device: Device,
    live: BlockMap,
    image: BlockMap,
    salt: int,
    generation: int,
    block: int,
    cipher: Cipher | None = None,
) -> Placed:
    """Write the image's dirty pages and its root, going on in MAP big-block `block`; afterwards a sync is due.

    Updates the image's pages. Raises VolumeFull or DeviceFull; it may then be called again, at the cost of the space
    used so far.
    """
    placer = _Placer(live, image, block)
    root_length = layout.NODE_HEAD.size + len(image.pages) * layout.ROOT_ENTRY.size
    root_offset = placer.place(-(-root_length // SECTOR) * SECTOR)
    places: dict[int, int] = {}
    while fresh := sorted(image.dirty - places.keys()):
        for index in fresh:
            places[index] = placer.place(PAGE_SIZE)
        _recount(image, places, root_offset, root_length)
    writes: list[tuple[int, bytes]] = []
    pages = list(image.pages)
    for index, offset in places.items():
        text = image.encode_page(index)
        text = cipher.seal(layout.PAGE_MAGIC, index, offset, text) if cipher else text.ljust(_PAGE_PAYLOAD, b"\0")
        page = layout.seal(layout.PAGE_MAGIC, index, salt ^ offset, generation, text)
        pages[index] = (offset, layout.sealed_sum(page))
        writes.append((offset, page))
    entries = b"".join([layout.ROOT_ENTRY.pack(offset, total, 0) for offset, total in pages])
    root = layout.seal(layout.ROOT_MAGIC, len(pages), salt ^ root_offset, generation, entries)
    writes.append((root_offset, root.ljust(-(-root_length // SECTOR) * SECTOR, b"\0")))
    _write_gathered(device, sorted(writes))
    image.pages = pages
    image.dirty.clear()
    return Placed(root_offset, root_length, layout.sealed_sum(root), placer.block)


def _recount(image: BlockMap, places: dict[int, int], root_offset: int, root_length: int) -> None:
    """Set the live bytes of every MAP big-block to what the new root will reach."""
    live: dict[int, int] = {root_offset // BIG_BLOCK: root_length}
    for index, (offset, _) in enumerate(image.pages):
        place = places.get(index, offset)
        if place:
            live[place // BIG_BLOCK] = live.get(place // BIG_BLOCK, 0) + PAGE_SIZE
    at = image.kinds.find(MAP)
    while at >= 0:
        image.set_live(at, live.get(at, 0))
        at = image.kinds.find(MAP, at + 1)


def _write_gathered(device: Device, writes: list[tuple[int, bytes]]) -> None:
    start, parts, end = 0, list[Buffer](), 0
    for offset, part in writes:
        if parts and offset != end:
            device.write(start, parts)
            parts = []
        if not parts:
            start = offset
        parts.append(part)
        end = offset + len(part)
    device.write(start, parts)


def write_header(device: Device, header: Header) -> None:
    """Write both copies of a generation's header; afterwards a sync is due."""
    packed = layout.pack_header(header)
    for slot in layout.slots_of(header.generation):
        device.write(layout.slot_offset(slot), [packed])


def mend_header(device: Device, header: Header) -> None:
    """Write anew a copy of this header that is torn, rotten or was never written; afterwards a sync is due."""
    packed = layout.pack_header(header)
    for slot in layout.slots_of(header.generation):
        offset = layout.slot_offset(slot)
        try:
            whole = device.read(offset, layout.SLOT_SIZE) == packed
        except DeviceFailed:
            continue  # a bad spot; the other copy serves, and check() names this one
        if not whole:
            device.write(offset, [packed])


def adopt(live: BlockMap, image: BlockMap) -> None:
    """The image is the durable one: its pages are now those that the live map's dirt is relative to."""
    live.pages = list(image.pages)
    at = image.kinds.find(MAP)
    while at >= 0:
        live.set_live(at, image.live[at])
        at = image.kinds.find(MAP, at + 1)
