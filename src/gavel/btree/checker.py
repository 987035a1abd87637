"""What must hold of a B-tree's nodes, one invariant per function; each yields sentences about what does not.

`walk` brings every node together with what its parent says of it; `checked` runs all invariants over all nodes, each
node read once, and hands on its leaves to those who have invariants of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import ge
from typing import Final, NamedTuple

from gavel.btree.dues import Calendar
from gavel.btree.node import NODE_MAX, NODE_MIN, Node, decode, size_of
from gavel.btree.tree import BTree
from gavel.errors import Damaged, DeviceFailed
from gavel.limits import SLICE_NODES

READ_TOGETHER: Final = 64  # nodes that may be read at once
SLACK: Final = 9  # bytes for each record by which the encoding may differ: of large values' heads, and of small tids


class Placed(NamedTuple):
    """A node with its place: it holds keys in [lo, hi), and nothing younger than `bound`."""

    node: Node
    lo: bytes
    hi: bytes | None
    bound: int
    siblings: int  # children of its parent, itself included; 0 for a root
    passed: bool = False  # by a prune, as it or a node above it is not due
    fresh: bool = False  # read for this check, so nothing was done to it in memory
    damage: Damaged | DeviceFailed | None = None  # why it cannot be read


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


def walk(
    tree: BTree, loaded_only: bool = False, start: bytes = b"", calendar: Calendar | None = None
) -> Iterator[Placed]:
    """Every node from the left that holds keys at or above `start`, parents first; `calendar` tells what is due.

    What is not in memory is read for this alone and forgotten, many nodes at once, or left out with `loaded_only`.
    The tree must not be edited meanwhile.
    """
    stack = [Placed(tree.root, b"", None, tree.bound, 0)]
    read: dict[int, bytes] = {}
    while stack:
        placed = stack.pop()
        node = placed.node
        payload = read.pop(node.address, None)
        if node.keys is None:
            if loaded_only:
                continue
            if payload is None:
                read |= tree.pool.store.load_nodes(_unread(node, stack))
            try:
                payload = payload or read.pop(node.address, None) or tree.pool.store.load_node(node.address)
                node = Node(node.level, node.address)
                decode(node, payload)
            except (Damaged, DeviceFailed) as damage:
                yield placed._replace(damage=damage)
                continue
            placed = placed._replace(node=node, fresh=True)
        if node.level:
            stack += reversed(_below(placed, start, calendar))
        yield placed


def _unread(node: Node, stack: list[Placed]) -> list[int]:
    """The address of a node, and of those neighbours that come next."""
    near = (placed.node for placed in stack[: -READ_TOGETHER - 1 : -1])
    return [node.address, *(each.address for each in near if each.level == node.level and each.keys is None)]


def _below(placed: Placed, start: bytes, calendar: Calendar | None) -> list[Placed]:
    """The children of a node in their places, as far as they hold keys at or above `start`."""
    node = placed.node
    edges = [placed.lo, *node.keys, placed.hi]
    found = [
        Placed(child, lo or b"", hi, bound, len(node.values), placed.passed)
        for child, lo, hi, bound in zip(node.values, edges, edges[1:], node.tids, strict=False)
    ]
    if calendar is not None and node.dues is not None:
        dues = zip(found, node.dues, strict=False)
        found = [child._replace(passed=child.passed or not calendar.due(due)) for child, due in dues]
    return [child for child in found if child.hi is None or child.hi > start]


def checked(tree: BTree, loaded_only: bool = False, calendar: Calendar | None = None) -> Iterator[str | Placed]:
    """All that is wrong with a tree, as far as it can be read, and its leaves, each after what is wrong with it.

    Yields "" after every few leaves. At each yield others may run and edit: then the tree is checked further from
    behind that leaf, but no longer knows what it should add up to.
    """
    start: bytes | None = b""
    whole, tally = not loaded_only, Tally()
    problems: list[str] = []
    while start is not None:
        edits, resume = tree.edits, None
        for placed in walk(tree, loaded_only, start, calendar):
            if placed.damage is not None:
                whole = False
                problems.append(placed.damage.fact)
                continue
            for check in NODE_CHECKS:
                problems += check(placed)
            tally.add(placed.node)
            if placed.node.level == 0:
                yield from problems
                problems.clear()
                yield placed
                if tally.leaves % SLICE_NODES == 0:  # not those above, or a slice might never get past them
                    yield ""
                if tree.edits != edits:
                    whole, resume = False, placed.hi
                    break
        start = resume
    yield from problems
    if whole:
        yield from counts(tree, tally)
        yield from fill(tally)


def check_tree(tree: BTree, loaded_only: bool = False) -> Iterator[str]:
    """All that is wrong with a tree, as far as it can be read; see checked()."""
    return (found for found in checked(tree, loaded_only) if isinstance(found, str))


def _name(placed: Placed) -> str:
    where = f"at 0x{placed.node.address:x}" if placed.node.address else "not yet written"
    return f"B-tree node of level {placed.node.level} {where}, from {placed.lo.hex() or 'the beginning'}"
