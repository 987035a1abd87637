"""What must hold of a B-tree's nodes, one invariant per function; each yields sentences about what does not.

`walk` brings every node together with what its parent says of it; `check_tree` runs all invariants over all nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import ge
from typing import Final, NamedTuple

from gavel.btree.node import NODE_MAX, NODE_MIN, Node, size_of
from gavel.btree.tree import BTree
from gavel.errors import Damaged


class Placed(NamedTuple):
    """A node with its place: it holds keys in [lo, hi), and nothing younger than `bound`."""

    node: Node
    lo: bytes
    hi: bytes | None
    bound: int
    parent: Node | None


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
    """Lists fit each other; children are one level down; only a root is empty."""
    node = placed.node
    if len(node.tids) != len(node.values) or len(node.keys) != len(node.values) - (1 if node.level else 0):
        yield f"{_name(placed)}: its lists differ in length"
    if node.level and any(child.level != node.level - 1 for child in node.values):
        yield f"{_name(placed)}: a child is not one level below"
    alone = placed.parent is not None and len(placed.parent.values) == 1
    if not node.values and placed.parent is not None and not alone:
        yield f"{_name(placed)}: is empty"


def size(placed: Placed) -> Iterator[str]:
    """The size is right, and within the limit unless one record alone is larger."""
    node = placed.node
    expected = size_of(node)
    if node.size != expected:
        yield f"{_name(placed)}: its size is {expected}, not {node.size}"
    if expected > NODE_MAX and len(node.values) > 1:
        yield f"{_name(placed)}: {expected} bytes are over the limit"


def fill(tree: BTree) -> Iterator[str]:
    """Deletions do not leave rows of nearly empty leaves behind: neighbours that would fit in one quarter are few."""
    leaves = pairs = before = 0
    for placed in walk(tree):
        if placed.node.level == 0:
            own = size_of(placed.node)
            leaves += 1
            pairs += leaves > 1 and own + before < NODE_MIN
            before = own
    if leaves > 8 and pairs * 4 > leaves:
        yield f"{pairs} of {leaves} leaves could join their neighbour and still be nearly empty"


def counts(tree: BTree) -> Iterator[str]:
    """The tree knows how many records and nodes it has."""
    records = nodes = 0
    for placed in walk(tree):
        nodes += 1
        records += len(placed.node.keys) if placed.node.level == 0 else 0
    if (records, nodes) != (tree.records, tree.nodes):
        yield f"the tree counts {tree.records} records in {tree.nodes} nodes, there are {records} in {nodes}"


NODE_CHECKS: Final[tuple[Callable[[Placed], Iterator[str]], ...]] = (shape, order, bounds, tids, size)


def walk(tree: BTree, loaded_only: bool = False) -> Iterator[Placed]:
    """Every node from the left, parents first; `loaded_only` leaves out what is not in memory.

    The tree must not be edited meanwhile. Raises Damaged.
    """
    stack = [Placed(tree.root, b"", None, tree.bound, None)]
    while stack:
        placed = stack.pop()
        node = placed.node
        if node.keys is None:
            if loaded_only:
                continue
            tree.pool.load(node)
        yield placed
        if node.level:
            edges = [placed.lo, *node.keys, placed.hi]
            stack += [
                Placed(child, edges[at] or b"", edges[at + 1], node.tids[at], node)
                for at, child in reversed(list(enumerate(node.values)))
            ]


def check_tree(tree: BTree, loaded_only: bool = False) -> Iterator[str]:
    """All that is wrong with a tree, as far as it can be read."""
    try:
        for placed in walk(tree, loaded_only):
            for check in NODE_CHECKS:
                yield from check(placed)
        if not loaded_only:
            yield from counts(tree)
            yield from fill(tree)
    except Damaged as damage:
        yield str(damage)


def _name(placed: Placed) -> str:
    where = f"at 0x{placed.node.address:x}" if placed.node.address else "not yet written"
    return f"B-tree node of level {placed.node.level} {where}, from {placed.lo.hex() or 'the beginning'}"
