"""What must hold of a B-tree's nodes, one invariant per function; each yields sentences about what does not.

`walk` brings every node together with what its parent says of it; `check_tree` runs all invariants over all nodes,
each node read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import ge
from typing import Final, NamedTuple

from gavel.btree.node import NODE_MAX, NODE_MIN, Node, size_of
from gavel.btree.tree import BTree
from gavel.errors import Damaged
from gavel.limits import SLICE_NODES

SLACK: Final = 9  # bytes for each record by which the encoding may differ: of large values' heads, and of small tids


class Placed(NamedTuple):
    """A node with its place: it holds keys in [lo, hi), and nothing younger than `bound`."""

    node: Node
    lo: bytes
    hi: bytes | None
    bound: int
    siblings: int  # children of its parent, itself included; 0 for a root
    fresh: bool = False  # read for this check, so nothing was done to it in memory


def order(placed: Placed) -> Iterator[str]:
    """Keys ascend strictly."""
    keys = placed.node.keys
    if any(map(ge, keys, keys[1:])):
        yield f"{_name(placed)}: keys are out of order"


def bounds(placed: Placed) -> Iterator[str]:
    """Keys lie between the separators above."""
    keys = placed.node.keys
    if keys and (keys[0] < placed.lo or (placed.hi is not None and keys[-1] >= placed.hi)):
        yield f"{_name(placed)}: keys lie outside of what the parent says"


def tids(placed: Placed) -> Iterator[str]:
    """No tid or bound is above the bound that the parent has for the node."""
    found = max(placed.node.tids, default=0)
    if found > placed.bound:
        yield f"{_name(placed)}: tid 0x{found:016x} is above its bound 0x{placed.bound:016x}"


def shape(placed: Placed) -> Iterator[str]:
    """Lists fit each other; children are one level down; none is empty but a root or an only child."""
    node = placed.node
    if len(node.tids) != len(node.values) or len(node.keys) != len(node.values) - (1 if node.level else 0):
        yield f"{_name(placed)}: its lists differ in length"
    if node.dues is not None and len(node.dues) != len(node.values):
        yield f"{_name(placed)}: its dues differ in number"
    if node.level and any(child.level != node.level - 1 for child in node.values):
        yield f"{_name(placed)}: a child is not one level below"
    if not node.values and placed.siblings > 1:
        yield f"{_name(placed)}: is empty"


def size(placed: Placed) -> Iterator[str]:
    """The size is right, and within the limit unless one record alone is larger."""
    node = placed.node
    if placed.fresh and node.size <= NODE_MAX:
        return  # it was decoded from just so many bytes
    expected = size_of(node)
    if abs(node.size - expected) > SLACK * (len(node.values) + 4):
        yield f"{_name(placed)}: its size is {expected}, not {node.size}"
    if min(expected, node.size) > NODE_MAX and len(node.values) > 1:
        yield f"{_name(placed)}: {expected} bytes are over the limit"


class Tally:
    """What the nodes of a tree add up to."""

    __slots__ = ("_last", "leaves", "nodes", "pairs", "records")

    def __init__(self) -> None:
        self.nodes = self.leaves = self.records = 0
        self.pairs = 0  # neighbouring leaves that are both nearly empty
        self._last = NODE_MIN

    def add(self, node: Node) -> None:
        """Count a node; they come from the left."""
        self.nodes += 1
        if node.level == 0:
            own = node.size  # which `size` has looked at
            self.leaves += 1
            self.records += len(node.keys)
            self.pairs += own + self._last < NODE_MIN
            self._last = own


def fill(tally: Tally) -> Iterator[str]:
    """Deletions do not leave rows of nearly empty leaves behind: neighbours that would fit in one quarter are few."""
    if tally.leaves > 8 and tally.pairs * 4 > tally.leaves:
        yield f"{tally.pairs} of {tally.leaves} leaves could join their neighbour and still be nearly empty"


def counts(tree: BTree, tally: Tally) -> Iterator[str]:
    """The tree knows how many records and nodes it has."""
    if (tally.records, tally.nodes) != (tree.records, tree.nodes):
        yield (
            f"the tree counts {tree.records} records in {tree.nodes} nodes, there are {tally.records} in {tally.nodes}"
        )


NODE_CHECKS: Final[tuple[Callable[[Placed], Iterator[str]], ...]] = (shape, order, bounds, tids, size)


def walk(tree: BTree, loaded_only: bool = False, start: bytes = b"") -> Iterator[Placed]:
    """Every node from the left that holds keys at or above `start`, parents first.

    `loaded_only` leaves out what is not in memory. The tree must not be edited meanwhile. Raises Damaged.
    """
    stack = [Placed(tree.root, b"", None, tree.bound, 0)]
    while stack:
        placed = stack.pop()
        node = placed.node
        if node.keys is None:
            if loaded_only:
                continue
            tree.pool.load(node)
            placed = placed._replace(fresh=True)
        if node.level:
            edges = [placed.lo, *node.keys, placed.hi]
            below = [
                Placed(child, lo or b"", hi, bound, len(node.values))
                for child, lo, hi, bound in zip(node.values, edges, edges[1:], node.tids, strict=False)
                if hi is None or hi > start
            ]
            stack += reversed(below)
        yield placed


def check_tree(tree: BTree, loaded_only: bool = False) -> Iterator[str]:
    """All that is wrong with a tree, as far as it can be read.

    Yields "" after every few nodes: a chance to let others run and edit. Edited, the tree is checked further from
    where it was left, but no longer knows what it should add up to.
    """
    start: bytes | None = b""
    whole, tally, seen = not loaded_only, Tally(), 0
    try:
        while start is not None:
            edits, resume = tree.edits, None
            for placed in walk(tree, loaded_only, start):
                for check in NODE_CHECKS:
                    yield from check(placed)
                tally.add(placed.node)
                if tally.leaves - seen == SLICE_NODES:  # not those above, or a slice might never get past them
                    seen = tally.leaves
                    yield ""
                    if tree.edits != edits:
                        whole, resume = False, placed.hi
                        break
            start = resume
    except Damaged as damage:
        yield str(damage)
        return
    if whole:
        yield from counts(tree, tally)
        yield from fill(tally)


def _name(placed: Placed) -> str:
    where = f"at 0x{placed.node.address:x}" if placed.node.address else "not yet written"
    return f"B-tree node of level {placed.node.level} {where}, from {placed.lo.hex() or 'the beginning'}"
