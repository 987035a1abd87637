"""Which of the nodes that were found tell the present and the past of which keys, when nobody knows the root.

Nodes that no other refers to are *tops*: the newest root, roots of older checkpoints, and children of what is lost.
Walked from the newest top to the oldest, each tells of the keys that none before it told of; what a walk misses stays
open for older ones. So every key is told of once, by the newest leaf that can be reached and covers it, and a record
that is not in that leaf was removed. The outcome is disjoint pieces of leaves in key order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import attrgetter
from typing import Final, NamedTuple

from gavel.btree.node import Node
from gavel.history.past import TID_SIZE
from gavel.keys import records
from gavel.keys.ranges import RangeSet
from gavel.upkeep.remains import Found, Remains

END: Final = b"\xff" * 300  # above every key
_FIXED: Final = {records.INODE: 0, records.EXTENT: 8, records.ORPHAN: 8}  # bytes of the subkey, by type


class Piece(NamedTuple):
    """The keys in [lo, hi) are those of this leaf."""

    lo: bytes
    hi: bytes
    address: int


class Layers:
    """The pieces of both trees.

    `lost`: current keys that the newest top should tell of and cannot; older leaves tell of them, or none.
    `certain`: the newest top is as high as any, thus a root; otherwise keys may be lost without anybody knowing, and
    what stands for them be of an earlier time.
    """

    def __init__(self, remains: Remains, roots: tuple[int, int] = (0, 0)) -> None:
        """`roots`: addresses of the roots of current and past tree, where a header tells; else 0."""
        self._remains = remains
        self.lost = RangeSet()
        tops = [found for found in remains.nodes.values() if found.address not in remains.referred]
        tops.sort(key=attrgetter("generation", "tid", "level"), reverse=True)
        ranged = [(top, *self._range(top)) for top in tops if top.address not in roots]
        present = [top for top, _, _, past in ranged if not past]
        highest = max((top.level for top in present), default=0)
        if roots[0]:
            self.certain = roots[0] in remains.nodes
        else:
            self.certain = bool(present) and present[0].level == highest
        self.current = self._layered(roots[0], [one[:3] for one in ranged if not one[3]], self.lost)
        self.past = self._layered(roots[1], [one[:3] for one in ranged if one[3]], RangeSet())

    def _range(self, top: Found) -> tuple[bytes, bytes, bool]:
        """What a top tells of for sure, and whether its keys are those of closed versions."""
        first, last = self._edge(top.address, 0), self._edge(top.address, -1)
        if not first or not last:
            return b"", b"", False
        return first[0], last[-1] + b"\0", is_past(first[0])

    def _edge(self, address: int, at: int, level: int = -1) -> list[bytes]:
        """The keys of the outermost leaf on one side that can be reached."""
        node = self._node(address, level)
        if node is None or not node.level:
            return node.keys if node is not None else []
        for child in node.values if at == 0 else reversed(node.values):
            found = self._edge(child.address, at, node.level - 1)
            if found:
                return found
        return []

    def _node(self, address: int, level: int) -> Node | None:
        """A node of that level (-1: any), so that no walk can run in circles."""
        found = self._remains.nodes.get(address)
        if found is None or (level >= 0 and found.level != level):
            return None
        return self._remains.node(address)

    def _layered(self, root: int, tops: list[tuple[Found, bytes, bytes]], lost: RangeSet) -> list[Piece]:
        open_ = RangeSet([(b"", END)])
        pieces: list[Piece] = []
        if root in self._remains.nodes:
            self._walk(root, b"", END, open_, pieces, lost)
        newest = max((top.generation for top, _, _ in tops), default=0)
        for top, lo, hi in tops:
            mine = lost if root not in self._remains.nodes and top.generation == newest else RangeSet()
            self._walk(top.address, lo, hi, open_, pieces, mine)
        pieces.sort()
        return pieces

    def _walk(self, address: int, lo: bytes, hi: bytes, open_: RangeSet, pieces: list[Piece], lost: RangeSet) -> None:
        stack = [(address, lo, hi, -1)]
        while stack:
            address, lo, hi, level = stack.pop()
            if not open_.overlaps(lo, hi):
                continue
            node = self._node(address, level)
            if node is None:
                lost.add(lo, hi)
            elif node.level:
                edges = [lo, *(min(max(key, lo), hi) for key in node.keys), hi]
                down = zip(node.values, edges[:-1], edges[1:], strict=True)
                below = [(child.address, a, b, node.level - 1) for child, a, b in down]
                stack += reversed(below)
            else:
                parts = [(max(a, lo), min(b, hi)) for a, b in open_ if a < hi and lo < b]
                pieces += [Piece(a, b, address) for a, b in parts]
                open_.remove(lo, hi)

    def wants(self, key: bytes) -> bool:
        """Whether what older log frames say of a key is of use."""
        return not self.certain or key in self.lost

    def records(self, pieces: list[Piece], lo: bytes, hi: bytes) -> Iterator[tuple[bytes, int, bytes]]:
        """Key, tid and value of what these pieces hold in [lo, hi), in key order; one leaf in memory at a time."""
        for at in range(max(0, bisect_left(pieces, (lo,)) - 1), len(pieces)):
            piece = pieces[at]
            if piece.lo >= hi:
                return
            if piece.hi <= lo:
                continue
            node = self._remains.node(piece.address)
            if node is None:
                continue
            keys = node.keys
            first, last = bisect_left(keys, max(lo, piece.lo)), bisect_left(keys, min(hi, piece.hi))
            yield from zip(keys[first:last], node.tids[first:last], node.values[first:last], strict=True)


def is_past(key: bytes) -> bool:
    """Whether this is the key of a closed version: a record key and a tid behind it."""
    subkey = key[records.HEAD_SIZE :]
    fixed = _FIXED.get(key[records.HEAD_SIZE - 1]) if len(key) >= records.HEAD_SIZE else None
    if fixed is not None:
        return len(subkey) == fixed + TID_SIZE
    start = 8 if key[records.HEAD_SIZE - 1 : records.HEAD_SIZE] == bytes([records.ENTRY]) else 0
    return subkey.find(b"\0", start) == len(subkey) - 1 - TID_SIZE
