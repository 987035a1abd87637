"""Having nodes written anew that lie where they should not, without changing what they hold.

A node that is owned by the current edition has no address, so the next checkpoint writes it to fresh space; with it
all nodes above it, as ever. Bounds stay as they are: nothing was put or removed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress

from gavel.btree.node import Node
from gavel.btree.tree import BTree
from gavel.errors import Damaged, DeviceFailed


def evacuate(tree: BTree, unwanted: Callable[[int], bool], start: bytes, count: int) -> tuple[int, bytes | None]:
    """Own the unwanted among `count` leaves from the one with `start` on and the nodes above; `unwanted` by address.

    Returns the bytes that will be written anew for it, and where to go on; None at the end. What cannot be read stays
    where it is.
    """
    path: list[tuple[Node, int]] = []
    node, after = tree.root, None
    try:
        while node.level:
            keys = node.keys if node.keys is not None else tree.pool.load(node)
            at = bisect_right(keys, start)
            path.append((node, at))
            if node.level == 1:
                break
            after = keys[at] if at < len(keys) else after
            node = node.values[at]
        if not path:
            return (_own_path(tree, [], []) if _is(node, unwanted) else 0), None
        parent, first = path[-1]
        last = min(first + count, len(parent.values))
        if last < len(parent.values):
            after = parent.keys[last - 1]
        leaves = [at for at in range(first, last) if _is(parent.values[at], unwanted)]
        if leaves or any(_is(above, unwanted) for above, _ in path):
            return _own_path(tree, [at for _, at in path[:-1]], leaves), after
    except (Damaged, DeviceFailed):
        pass  # of a node above the leaves; all below it is passed over
    return 0, after


def _is(node: Node, unwanted: Callable[[int], bool]) -> bool:
    return node.address != 0 and unwanted(node.address)


def _own_path(tree: BTree, way: list[int], leaves: list[int]) -> int:
    """Own the nodes on the way from the root by child indexes, and these leaves at its end, as far as readable."""
    before = tree.dirty_bytes
    tree.edits += 1
    node = tree.own_way(way)[-1]
    for at in leaves:
        with suppress(Damaged, DeviceFailed):
            if node.values[at].edition != tree.edition:
                node.values[at] = tree.own(node.values[at])
    return tree.dirty_bytes - before
