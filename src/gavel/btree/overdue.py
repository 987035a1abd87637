"""Going to the leaves of a dated tree that are due, and saying when they are due again (see dues.py).

A leaf that was looked at is due again only when the calendar changes or something comes in; so is an inner node once
nothing below it is due any more. What cannot be read is passed over, and stays due.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from gavel.btree.dues import UNKNOWN, Calendar, Due
from gavel.btree.node import Node
from gavel.btree.tree import BTree
from gavel.errors import Damaged, DeviceFailed


class Stop(NamedTuple):
    """Where a descent ended: at a leaf to look at or without one, by child indexes; where to go on, None at the end."""

    leaf: Node | None
    way: list[int]
    after: bytes | None


def next_due(tree: BTree, start: bytes, calendar: Calendar) -> Stop:
    """Go down to the first leaf from a key on that is due, as far as one descent leads."""
    node = tree.root
    way: list[int] = []
    after: bytes | None = None
    while node.level:
        keys, count = node.keys, len(node.values)
        dues = node.dues or [UNKNOWN] * count
        at = bisect_right(keys, start)
        while at < count and not calendar.due(dues[at]):
            at += 1
        if at == count:
            return Stop(None, way, after)
        after = keys[at] if at < count - 1 else after
        child = node.values[at]
        way.append(at)
        if child.keys is None:
            try:
                tree.pool.load(child)
            except (Damaged, DeviceFailed):
                return Stop(None, [], after)
        node = child
    return Stop(node, way, after)


def settle(tree: BTree, way: list[int], calendar: Calendar) -> None:
    """Let the node at the end of a way, an inner one, be no longer due if nothing in it is. Raises Damaged."""
    node = tree.root
    for at in way:
        node = node.values[at]
        if node.keys is None:
            tree.pool.load(node)
    if way and node.dues is not None and not any(map(calendar.due, node.dues)):
        note(tree, way, calendar.over(node.dues), calendar)


def note(tree: BTree, way: list[int], due: Due, calendar: Calendar) -> None:
    """Say when the node at the end of a way is due again, and of those above it, if now nothing in them is.

    That is written with the next checkpoint. Raises Damaged, DeviceFailed.
    """
    if not way:
        return
    tree.edits += 1
    for node, at in zip(reversed(tree.own_way(way[:-1])), reversed(way), strict=True):
        node.dues[at] = due
        if any(map(calendar.due, reversed(node.dues))):
            return
        due = calendar.over(node.dues)
