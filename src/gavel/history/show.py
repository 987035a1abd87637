"""Trees and records as they lie on a volume, as rows; what is damaged is a row too, and all else is still shown.

These functions read nodes through `load`, for example media.show.node_payload, and never through an open History:
they are for volumes that one cannot open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from gavel.btree.frozen import TreeRoot
from gavel.btree.node import HEIGHT_MAX, Node, decode
from gavel.errors import Damaged, DeviceFailed
from gavel.history.past import TID_SIZE, past_range, split_key
from gavel.history.versions import Version
from gavel.media.layout import node_extent
from gavel.media.show import Damage

Load = Callable[[int], bytes]


class NodeRow(NamedTuple):
    """A node of a tree; `held`: records in a leaf, children further up; `tid` is the highest in it."""

    address: int
    offset: int
    size: int
    level: int
    held: int
    first: bytes
    last: bytes
    tid: int


class _Todo(NamedTuple):
    node: Node
    lo: bytes
    hi: bytes | None


def node_at(load: Load, address: int, level: int | None = None) -> Node | Damage:
    """The node at an address, of whatever level it is."""
    offset, size = node_extent(address)
    try:
        payload = load(address)
        for candidate in range(HEIGHT_MAX) if level is None else (level,):
            node = Node(candidate, address)
            try:
                decode(node, payload)
            except Damaged as error:
                if level is not None:
                    return Damage("tree node", offset, error.fact)
                continue
            return node
    except (Damaged, DeviceFailed) as error:
        return Damage("tree node", offset, error.fact)
    return Damage("tree node", offset, f"{size} bytes hold no node")


def row_of(node: Node) -> NodeRow:
    """What there is to say of a node."""
    keys = node.keys
    first, last = (keys[0], keys[-1]) if keys else (b"", b"")
    return NodeRow(node.address, *node_extent(node.address), node.level, len(node.values), first, last, max(node.tids, default=0))  # fmt: skip  # noqa: E501


def nodes(load: Load, root: TreeRoot, lo: bytes = b"", hi: bytes | None = None) -> Iterator[Node | Damage]:
    """The nodes of a tree that may hold keys in [lo, hi), from the left, parents first; bounded by its height."""
    if not root.address:
        return
    stack = [_Todo(Node(min(root.level, HEIGHT_MAX), root.address), b"", None)]
    while stack:
        todo = stack.pop()
        node = node_at(load, todo.node.address, todo.node.level)
        yield node
        if isinstance(node, Damage) or not node.level:
            continue
        edges = [todo.lo, *node.keys, todo.hi]
        below = [
            _Todo(child, low or b"", high)
            for child, low, high in zip(node.values, edges[:-1], edges[1:], strict=True)
            if (high is None or high > lo) and (hi is None or low is None or low < hi)
        ]
        stack += reversed(below)


def versions(load: Load, current: TreeRoot, past: TreeRoot, key: bytes) -> Iterator[Version | Damage]:
    """Every version of a record that the trees on the volume hold, oldest first."""
    lo, hi = past_range(key)
    for node in nodes(load, past, lo, hi):
        if isinstance(node, Damage):
            yield node
        elif not node.level:
            for stored, created, value in zip(node.keys, node.tids, node.values, strict=True):
                if len(stored) == len(key) + TID_SIZE and stored.startswith(key):
                    yield Version(key, created, split_key(stored)[1], value)
    for node in nodes(load, current, key, key + b"\0"):
        if isinstance(node, Damage):
            yield node
        elif not node.level:
            for held, created, value in zip(node.keys, node.tids, node.values, strict=True):
                if held == key:
                    yield Version(key, created, None, value)
