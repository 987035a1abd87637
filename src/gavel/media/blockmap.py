"""The big-block map: what each big-block is for, how far it is filled, how many of its bytes are alive.

Two layers on the device (a root naming pages, pages of columns), flat arrays in memory. Invariants:

- an entry whose kind is FREE has no live bytes and nothing reachable points into its big-block; HELD is the same,
  but nothing may be put there (a member that no durable header knows yet, or that is leaving);
- no big-block below `lowest` is FREE;
- `live` counts references: bytes that several records share count once for each;
- `dirty` holds the index of every page that differs from its copy on the device;
- a page that was never written (offset 0 in the root) has only FREE entries.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator

from gavel.errors import Damaged, VolumeFull
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.layout import ABSENT, FREE, HEADER, HELD, PAGE_ENTRIES

_USED = re.compile(rb"[^\0\5\6]", re.DOTALL)  # neither FREE nor ABSENT nor HELD
_ON_DEVICE = bytes(FREE if kind == HELD else kind for kind in range(256))
PAGE_TEXT = layout.PAGE_SIZE - layout.PAGE_HEAD.size - layout.SEAL_SIZE


class BlockMap:
    """One entry per big-block; `pages` holds (offset, sum) of every page's copy on the device."""

    __slots__ = ("append", "dirty", "free", "generation", "kinds", "leaving", "live", "lowest", "pages")

    def __init__(self, big_blocks: int) -> None:
        self.kinds = bytearray(big_blocks)
        self.generation = array("I", bytes(4 * big_blocks))
        self.append = array("I", bytes(4 * big_blocks))
        self.live = array("Q", bytes(8 * big_blocks))
        self.pages = [(0, 0)] * -(-big_blocks // PAGE_ENTRIES)
        self.dirty: set[int] = set()
        self.lowest = 0
        self.free = big_blocks
        self.leaving: list[range] = []  # what becomes free there is HELD

    def __len__(self) -> int:
        return len(self.kinds)

    def copy(self) -> BlockMap:
        """A map of its own with the same entries, pages and dirt."""
        other = BlockMap(0)
        other.kinds, other.generation = self.kinds[:], self.generation[:]
        other.append, other.live = self.append[:], self.live[:]
        other.pages, other.dirty = self.pages[:], set(self.dirty)
        other.lowest, other.free, other.leaving = self.lowest, self.free, list(self.leaving)
        return other

    def used(self) -> Iterator[int]:
        """Every big-block that is not FREE, in order."""
        return (match.start() for match in _USED.finditer(self.kinds))

    def take(self, kind: int, keep: int) -> int:
        """Open the lowest FREE big-block for `kind`; raises VolumeFull unless more than `keep` are FREE."""
        if self.free <= keep:
            raise VolumeFull(self.free * BIG_BLOCK, BIG_BLOCK)
        block = self.kinds.find(FREE, self.lowest)
        self.lowest = block + 1
        self.assign(block, kind)
        return block

    def assign(self, block: int, kind: int) -> None:
        """A big-block begins to hold `kind`, from its first byte on."""
        if self.kinds[block] == FREE:
            self.free -= 1
        self.kinds[block] = kind
        self.generation[block] = (self.generation[block] + 1) & 0xFFFFFFFF
        self.append[block] = 0
        self.live[block] = 0
        self.dirty.add(block // PAGE_ENTRIES)

    def grow(self, count: int) -> None:
        """`count` further big-blocks, HELD."""
        first = len(self.kinds)
        self.kinds += bytes([HELD]) * count
        self.generation.extend(bytes(count))
        self.append.extend(bytes(count))
        self.live.extend(bytes(count))
        pages = -(-len(self.kinds) // PAGE_ENTRIES)
        self.pages += [(0, 0)] * (pages - len(self.pages))
        self.dirty.update(range(first // PAGE_ENTRIES, pages))

    def hold(self, blocks: range) -> None:
        """Put nothing there any more: FREE big-blocks are HELD, also those that become free later."""
        part = slice(blocks.start, blocks.stop)
        self.free -= self.kinds[part].count(FREE)
        self.kinds[part] = self.kinds[part].replace(bytes([FREE]), bytes([HELD]))
        self.leaving.append(blocks)

    def unhold(self, blocks: range) -> None:
        """HELD big-blocks are FREE."""
        part = slice(blocks.start, blocks.stop)
        self.leaving = [other for other in self.leaving if other != blocks]
        self.free += self.kinds[part].count(HELD)
        self.kinds[part] = self.kinds[part].replace(bytes([HELD]), bytes([FREE]))
        self.lowest = min(self.lowest, blocks.start)

    def forget(self, blocks: range) -> None:
        """The member that had them is gone: all of them are ABSENT, for good."""
        part = slice(blocks.start, blocks.stop)
        assert not any(self.live[part]) and not self.kinds[part].strip(bytes([HEADER, HELD])), "it is still in use"
        self.kinds[part] = bytes([ABSENT]) * len(blocks)
        self.leaving = [other for other in self.leaving if other != blocks]
        self.dirty.update(range(blocks.start // PAGE_ENTRIES, (blocks.stop - 1) // PAGE_ENTRIES + 1))

    def release(self, block: int) -> None:
        """A big-block that nothing points into any more is FREE again."""
        assert self.live[block] == 0 and 0 < self.kinds[block] < HEADER, f"big-block {block} is not dead"
        self.append[block] = 0
        if any(block in blocks for blocks in self.leaving):
            self.kinds[block] = HELD
        else:
            self.kinds[block] = FREE
            self.free += 1
            self.lowest = min(self.lowest, block)
        self.dirty.add(block // PAGE_ENTRIES)

    def fill(self, block: int, append: int) -> None:
        """The big-block is filled up to `append` bytes."""
        if self.append[block] != append:
            self.append[block] = append
            self.dirty.add(block // PAGE_ENTRIES)

    def add(self, block: int, size: int) -> None:
        """`size` more bytes of the big-block are referred to."""
        assert self.kinds[block] != FREE, f"a reference into the free big-block {block}"
        self.live[block] += size
        self.dirty.add(block // PAGE_ENTRIES)

    def drop(self, block: int, size: int) -> None:
        """`size` bytes of the big-block are no longer referred to."""
        left = self.live[block] - size
        assert left >= 0, f"big-block {block} has {left + size} live bytes, {size} dropped"
        self.live[block] = left
        self.dirty.add(block // PAGE_ENTRIES)

    def set_live(self, block: int, live: int) -> None:
        """Put the count right for a big-block whose live bytes are counted anew (those of the map itself)."""
        if self.live[block] != live:
            self.live[block] = live
            self.dirty.add(block // PAGE_ENTRIES)

    def _page_range(self, index: int) -> slice:
        return slice(index * PAGE_ENTRIES, min((index + 1) * PAGE_ENTRIES, len(self.kinds)))

    def encode_page(self, index: int) -> bytes:
        """The columns of a page, without its envelope: PAGE_TEXT bytes."""
        part = self._page_range(index)
        pieces: list[bytes | bytearray] = []
        for values in (self.live[part], self.generation[part], self.append[part]):
            if sys.byteorder == "big":
                values.byteswap()
            pieces.append(values.tobytes().ljust(PAGE_ENTRIES * values.itemsize, b"\0"))
        pieces.append(self.kinds[part].translate(_ON_DEVICE))
        return b"".join(pieces).ljust(PAGE_TEXT, b"\0")

    def decode_page(self, index: int, payload: bytes, offset: int) -> None:
        """Take over the entries of a page, which lies at `offset`; raises Damaged where an entry cannot be."""
        part = self._page_range(index)
        count = part.stop - part.start
        at = 0
        for column in (self.live, self.generation, self.append):
            values = array(column.typecode)
            values.frombytes(payload[at : at + count * values.itemsize])
            if sys.byteorder == "big":
                values.byteswap()
            column[part] = values
            at += PAGE_ENTRIES * values.itemsize
        kinds = payload[at : at + count]
        self.free -= count - kinds.count(FREE)
        self.kinds[part] = kinds
        if max(kinds) > ABSENT or max(self.append[part]) > BIG_BLOCK:
            raise Damaged("map page", offset, "possible kinds and fillings", (max(kinds), max(self.append[part])))
        if any(live for kind, live in zip(kinds, self.live[part], strict=True) if kind == FREE):
            raise Damaged("map page", offset, "no live bytes in a free big-block", "some")
