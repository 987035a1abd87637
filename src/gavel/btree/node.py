"""B-tree nodes: what they hold, how big they are, how they are written down.

A leaf holds sorted keys, a tid and a value for each. An inner node of n children holds n - 1 separators, for each
child a *bound* (no edit below it had a higher tid; HAMMER's mirror_tid) and the children themselves. Separators are
as short as can be: everything left of one is below it, everything right is not.

A Node is a handle that outlives its content. `keys` is None while the content is only on the volume. Invariants:
- `address` is 0 until the node is written; content under an address never changes again;
- a node whose `edition` is its tree's is edited in place; any other is replaced by a copy;
- a dirty node's parent is dirty, so all dirty nodes are reached from the root through dirty nodes.

On the volume a node is the MessagePack array [level, keys, tids, values]: level 0 is a leaf, whose values are
bytes; further up the values are addresses. Inner nodes of a dated tree have their dues as a fifth (dues.py).
"""

from __future__ import annotations

from itertools import repeat
from operator import add
from typing import Any, Final, Protocol

import msgspec

from gavel.btree.dues import Due
from gavel.errors import Damaged

NODE_MAX: Final = 16 * 1024  # bytes; a larger node is split, unless one huge record is all it holds
NODE_MIN: Final = NODE_MAX // 4  # a node that shrinks below this looks for a neighbour to join
NODE_JOINED: Final = NODE_MAX * 3 // 4  # neighbours join when both fit in this, so that the next insert does not split
NODE_PACKED: Final = NODE_MAX * 15 // 16  # how full the nodes are made that a run of ascending keys leaves behind
HEIGHT_MAX: Final = 16  # levels; with two children a node that is still 2**16 leaves, and nodes have hundreds

RECORD_OVERHEAD: Final = 13  # encoded: two bytes before the key, nine for the tid, two before the value
NODE_OVERHEAD: Final = 11  # encoded: the heads of four arrays and the level
CHILD_OVERHEAD: Final = 20  # encoded: two bytes before the separator, nine for the bound, nine for the address
# Dues do not count: they come and go without an edit that could split the node. A child's takes 13 to 33 bytes.

_encode = msgspec.msgpack.Encoder().encode
_decode_leaf = msgspec.msgpack.Decoder(tuple[int, list[bytes], list[int], list[bytes]]).decode
_decode_inner = msgspec.msgpack.Decoder(tuple[int, list[bytes], list[int], list[int]]).decode
_decode_dated = msgspec.msgpack.Decoder(tuple[int, list[bytes], list[int], list[int], list[Due]]).decode
_DATED: Final = b"\x95"  # how an array of five begins


class NodeStore(Protocol):
    """Where nodes are kept: the volume, or a dict in tests."""

    def load_node(self, address: int) -> bytes:
        """The payload saved at an address; raises Damaged."""

    def load_nodes(self, addresses: list[int]) -> dict[int, bytes]:
        """Payloads of some of these, the first if possible, as suits the store; load_node says why one is missing."""

    def save_node(self, payload: bytes, superseded: bool = False) -> int:
        """Keep a payload and return its address, above 0. `superseded`: only the image being written needs it."""

    def free_node(self, address: int) -> None:
        """The live tree no longer refers to this address; images already frozen or durable may."""


class Node:
    """A leaf (level 0) or inner node. `values` are the records' values, or the children."""

    __slots__ = ("address", "dues", "edition", "hot", "keys", "level", "size", "superseded", "tids", "used", "values")

    keys: list[bytes]  # None while the content is not in memory; typed for those who made sure that it is
    tids: list[int]
    values: list[Any]
    dues: list[Due]  # None where nothing is said: in leaves, in trees without dates, in nodes of older formats

    def __init__(self, level: int, address: int = 0, edition: int = 0) -> None:
        self.level = level
        self.address = address
        self.edition = edition
        self.size = 0  # bytes when encoded, within a few for each record
        self.hot = -1  # where the last fresh keys of a sequence ended; -2 - that, if they may become one; -1 is unknown
        self.used = False  # was asked for since the cache last looked
        self.superseded = False  # dirty when frozen, replaced in the live tree before it was written
        self.keys = self.tids = self.values = self.dues = None  # type: ignore[assignment]

    @property
    def loaded(self) -> bool:
        """Whether the content is in memory."""
        return self.keys is not None

    def fill(self, keys: list[bytes], tids: list[int], values: list[Any], size: int) -> Node:
        """Give it content; returns itself."""
        self.keys, self.tids, self.values, self.size = keys, tids, values, size
        return self

    def drop(self) -> None:
        """Forget the content; the address must lead back to it, or nobody may need it any more."""
        self.keys = self.tids = self.values = self.dues = None  # type: ignore[assignment]


def empty_leaf(edition: int) -> Node:
    """A leaf that holds nothing yet."""
    return Node(0, 0, edition).fill([], [], [], 0)


def leaf_sizes(node: Node) -> map[int]:
    """What each record of a leaf adds to its size."""
    return map(add, map(add, map(len, node.keys), map(len, node.values)), repeat(RECORD_OVERHEAD))


def size_of(node: Node) -> int:
    """A node's size, counted afresh from its content."""
    if node.level:
        return sum(map(len, node.keys)) + CHILD_OVERHEAD * len(node.values)
    keys, values = node.keys, node.values
    return sum(map(len, keys)) + sum(map(len, values)) + RECORD_OVERHEAD * len(keys)


def separator(left: bytes, right: bytes) -> bytes:
    """The shortest key above `left` and not above `right`, where left < right."""
    for at, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return right[: at + 1]
    return right[: len(left) + 1]


def encode(node: Node) -> bytes:
    """A node as it is written; every child must have its address."""
    if not node.level:
        return _encode((0, node.keys, node.tids, node.values))
    addresses = [child.address for child in node.values]
    assert all(addresses), "an inner node is written after its children"
    if node.dues is None:
        return _encode((node.level, node.keys, node.tids, addresses))
    return _encode((node.level, node.keys, node.tids, addresses, node.dues))


def decode(node: Node, payload: bytes) -> None:
    """Fill a node from what was written at its address; raises Damaged."""
    level = node.level
    values: Any
    dues: list[Due] | None = None
    try:
        if not level:
            found, keys, tids, values = _decode_leaf(payload)
        elif payload[:1] == _DATED:
            found, keys, tids, values, dues = _decode_dated(payload)
        else:
            found, keys, tids, values = _decode_inner(payload)
    except msgspec.MsgspecError as error:
        raise Damaged("B-tree node", node.address, "a node", str(error)) from None
    if found != level or len(tids) != len(values) or len(keys) != len(values) - (1 if level else 0):
        raise Damaged("B-tree node", node.address, f"level {level}", f"level {found}")
    if dues is not None and len(dues) != len(values):
        raise Damaged("B-tree node", node.address, f"{len(values)} dues", len(dues))
    node.keys, node.tids = keys, tids
    node.values = [Node(level - 1, address) for address in values] if level else values
    node.size = len(payload) - NODE_OVERHEAD
    node.dues = dues  # type: ignore[assignment]
    if dues is not None:
        node.size = size_of(node)
    node.used = False
    node.hot = -1
