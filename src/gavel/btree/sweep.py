"""Going through a tree for upkeep, which is to come to its end also where a part of the tree cannot be read."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from gavel.btree.tree import BTree, Slice
from gavel.errors import Damaged, DeviceFailed


def sweep(tree: BTree, start: bytes = b"") -> Iterator[Slice]:
    """The records from a key on as (keys, tids, values), a leaf at a time, in order, never empty.

    Like BTree.slices it may be held over edits. What cannot be read is passed over, with all below it: reading that
    leaf or checking the tree tells of it.
    """
    at: bytes | None = start
    while at is not None:
        node, upper = tree.root, None
        try:
            while node.level:
                keys = node.keys if node.keys is not None else tree.pool.load(node)
                index = bisect_right(keys, at)
                upper = keys[index] if index < len(keys) else upper
                node = node.values[index]
            keys = node.keys if node.keys is not None else tree.pool.load(node)
        except (Damaged, DeviceFailed):
            at = upper
            continue
        first = bisect_left(keys, at)
        at = upper
        if first < len(keys):
            yield keys[first:], node.tids[first:], node.values[first:]
