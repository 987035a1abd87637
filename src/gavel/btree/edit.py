"""One batch of edits merged into a tree: a descent per leaf, a merge per leaf, splits and joins on the way back.

This is the hottest code of the project. Keys come sorted, so each node sees its part of the batch as one run; runs
of fresh keys and runs of overwrites are spliced as whole lists, and only mixed ones are walked key by key.

Invariants: whatever is edited is of the tree's current edition; when a node is left, its size and its bound in the
parent are right, and it is not larger than NODE_MAX unless it holds one huge record.

An edit of tid 0 changes only how something is kept, or drops what nobody asks for any more: it raises no bound, so that
subtrees in which nothing changed go on being passed over. Records that any other edit puts into a dated tree ended at
its tid, so what is due below is lowered to it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import eq
from typing import TYPE_CHECKING, Final

from gavel.btree.balance import emptied, join, split
from gavel.btree.dues import UNKNOWN, joined, lowered, parted
from gavel.btree.node import CHILD_OVERHEAD, NODE_MAX, NODE_MIN, RECORD_OVERHEAD, Node
from gavel.errors import Damaged, DeviceFailed

if TYPE_CHECKING:
    from gavel.btree.tree import BTree


SEQUENCE: Final = 8  # more fresh keys than this at a leaf's end are taken for part of an ascending sequence


class Replaced:
    """What a merge took out of the tree, in key order, and which keys already had the value given (`same`)."""

    __slots__ = ("keys", "same", "tids", "values")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.tids: list[int] = []
        self.values: list[bytes] = []
        self.same: list[bytes] = []


def put_in_leaf(node: Node, key: bytes, tid: int, value: bytes | None, replaced: Replaced) -> None:
    """Put a single record, or remove it, as is done in most leaves when a batch is spread over many."""
    keys = node.keys
    at = bisect_left(keys, key)
    if at < len(keys) and keys[at] == key:
        old = node.values[at]
        if old == value:
            replaced.same.append(key)
            return
        replaced.keys.append(key)
        replaced.tids.append(node.tids[at])
        replaced.values.append(old)
        if value is None:
            del keys[at], node.tids[at], node.values[at]
            node.size -= len(key) + len(old) + RECORD_OVERHEAD
        else:
            node.values[at] = value
            node.tids[at] = tid
            node.size += len(value) - len(old)
    elif value is not None:
        keys.insert(at, key)
        node.tids.insert(at, tid)
        node.values.insert(at, value)
        node.size += len(key) + len(value) + RECORD_OVERHEAD
        hot = node.hot
        node.hot = at + 1 if hot in (at, -at - 2) else -at - 3


class Edit:
    """A merge in progress."""

    __slots__ = ("edition", "keys", "removes", "replaced", "tid", "tids", "tree", "values")

    def __init__(
        self,
        tree: BTree,
        tid: int,
        keys: list[bytes],
        tids: list[int],
        values: list[bytes | None],
        replaced: Replaced,
    ) -> None:
        self.tree = tree
        self.edition = tree.edition
        self.tid = tid
        self.keys = keys
        self.tids = tids
        self.values = values
        self.removes = None in values
        self.replaced = replaced

    def run(self) -> None:
        """Merge all of it."""
        tree = self.tree
        assert not self.tid or self.tid >= tree.bound, "edits come in the order of their tids"
        tree.edits += 1
        tree.bound = self.tid or tree.bound
        root = tree.root
        if root.edition != self.edition:
            root = tree.own(root)
            tree.set_root(root)
        if root.level:
            self._inner(root, 0, len(self.keys))
        else:
            self._leaf(root, 0, len(self.keys))
        while root.size > NODE_MAX and len(root.values) > 1:
            root = self._grow(root)
        if root.level and len(root.values) == 1:
            self._shrink(root)

    def _grow(self, root: Node) -> Node:
        above = Node(root.level + 1, 0, self.edition)
        separators, pieces = split(root)
        size = sum(map(len, separators)) + CHILD_OVERHEAD * len(pieces)
        above.fill(separators, [self.tree.bound] * len(pieces), pieces, size)
        if self.tree.ends is not None:
            above.dues = parted(UNKNOWN, pieces, self.tree.ends)
        self.tree.nodes += len(pieces)
        self.tree.set_root(above)
        return above

    def _shrink(self, root: Node) -> None:
        """An only child becomes the root."""
        while root.level and len(root.values) == 1 and self._readable(root.values[0]):
            root = root.values[0]
            self.tree.nodes -= 1
            if root.edition != self.edition:
                root = self.tree.own(root)
        self.tree.set_root(root)

    def _inner(self, node: Node, i: int, j: int) -> None:
        """Merge keys[i:j], all of which belong below this node."""
        batch, tid, edition = self.keys, self.tid, self.edition
        keys, bounds, children, dues = node.keys, node.tids, node.values, node.dues
        at = 0
        while i < j:
            at = bisect_right(keys, batch[i], at)
            after = i + 1
            if at == len(keys):
                after = j
            elif after < j and batch[after] < keys[at]:
                after = bisect_left(batch, keys[at], after + 1, j)
            child = children[at]
            if child.edition != edition:
                child = children[at] = self.tree.own(child)
            bounds[at] = tid or bounds[at]
            if tid and dues is not None:
                dues[at] = lowered(dues[at], tid)
            before = child.size
            if child.level:
                self._inner(child, i, after)
            else:
                self._leaf(child, i, after)
            i = after
            if child.size > NODE_MAX:
                self._split(node, at, child)
            elif child.size < NODE_MIN and (child.size < before or child.level):
                at = self._join(node, at, child)

    def _split(self, node: Node, at: int, child: Node) -> None:
        if len(child.values) > 1:
            separators, pieces = split(child)
            node.keys[at:at] = separators
            node.tids[at : at + 1] = [node.tids[at]] * len(pieces)
            node.values[at : at + 1] = pieces
            if self.tree.ends is not None:
                node.dues[at : at + 1] = parted(node.dues[at], pieces, self.tree.ends)
            node.size += sum(map(len, separators)) + CHILD_OVERHEAD * len(separators)
            self.tree.nodes += len(separators)

    def _join(self, node: Node, at: int, child: Node) -> int:
        """Take out an empty child, or join a small one with a neighbour; returns where the batch goes on."""
        children = node.values
        if len(children) == 1:
            return at
        if emptied(child):
            self.tree.nodes -= child.level + 1
            self._unlink(node, at, max(at - 1, 0))
            return max(at - 1, 0)
        left = at - 1 if at else 0
        for index in (left, left + 1):
            if children[index].edition != self.edition:
                if not self._readable(children[index]):
                    return at
                if children[index].size >= NODE_MAX // 2:
                    return at
                children[index] = self.tree.own(children[index])
        if join(children[left], children[left + 1], node.keys[left]):
            node.tids[left] = max(node.tids[left], node.tids[left + 1])
            if node.dues is not None:
                node.dues[left] = joined(node.dues[left], node.dues[left + 1])
            self.tree.nodes -= 1
            self._unlink(node, left + 1, left)
            return left
        return at

    def _readable(self, node: Node) -> bool:
        """Whether a neighbour is, or can be brought, in memory; if not, there is no need to join it."""
        try:
            if node.keys is None:
                self.tree.pool.load(node)
        except (Damaged, DeviceFailed):
            return False
        return True

    def _unlink(self, node: Node, at: int, separator: int) -> None:
        node.size -= len(node.keys[separator]) + CHILD_OVERHEAD
        del node.keys[separator], node.tids[at], node.values[at]
        if node.dues is not None:
            del node.dues[at]

    def _leaf(self, node: Node, i: int, j: int) -> None:
        """Merge keys[i:j] into the leaf where they belong."""
        keys, batch = node.keys, self.keys
        before, size = len(keys), node.size
        count = j - i
        if count == 1:
            put_in_leaf(node, batch[i], self.tids[i], self.values[i], self.replaced)
        else:
            last = batch[j - 1]
            first = bisect_left(keys, batch[i])
            after = bisect_left(keys, last, first)
            hit = after < before and keys[after] == last
            removed = self.values[i:j].count(None) if self.removes else 0
            if after == first and not hit and not removed:
                self._splice(node, first, i, j)
            elif hit and after - first == count - 1 and removed in (0, count) and keys[first : after + 1] == batch[i:j]:
                if removed:
                    self._cut_out(node, first, after + 1)
                else:
                    self._overwrite(node, first, i, j)
            else:
                self._walk(node, first, i, j)
        self.tree.records += len(keys) - before
        self.tree.dirty_bytes += node.size - size

    def _splice(self, node: Node, at: int, i: int, j: int) -> None:
        """Fresh keys that go between two neighbours."""
        run, values = self.keys[i:j], self.values[i:j]
        node.keys[at:at] = run
        node.tids[at:at] = self.tids[i:j]
        node.values[at:at] = values
        count = j - i
        node.size += sum(map(len, run)) + sum(map(len, values)) + RECORD_OVERHEAD * count  # type: ignore[arg-type]
        hot = node.hot
        end = at + count
        sequence = hot in (at, -at - 2) or (count > SEQUENCE and end == len(node.keys))
        node.hot = end if sequence else -end - 2

    def _overwrite(self, node: Node, at: int, i: int, j: int) -> None:
        """New values for neighbours."""
        end = at + j - i
        values, old = self.values[i:j], node.values[at:end]
        if True in map(eq, old, values):
            self._walk(node, at, i, j)
            return
        replaced = self.replaced
        replaced.keys += self.keys[i:j]
        replaced.tids += node.tids[at:end]
        replaced.values += old
        node.values[at:end] = values
        node.tids[at:end] = self.tids[i:j]
        node.size += sum(map(len, values)) - sum(map(len, old))  # type: ignore[arg-type]

    def _cut_out(self, node: Node, at: int, end: int) -> None:
        """Neighbours that all go."""
        gone, values, replaced = node.keys[at:end], node.values[at:end], self.replaced
        replaced.keys += gone
        replaced.tids += node.tids[at:end]
        replaced.values += values
        del node.keys[at:end], node.tids[at:end], node.values[at:end]
        node.size -= sum(map(len, gone)) + sum(map(len, values)) + RECORD_OVERHEAD * len(gone)
        node.hot = -1

    def _walk(self, node: Node, at: int, i: int, j: int) -> None:
        """The general case, key by key."""
        keys, tids, values = node.keys, node.tids, node.values
        replaced = self.replaced
        before = count = len(keys)
        size = node.size
        for key, tid, value in zip(self.keys[i:j], self.tids[i:j], self.values[i:j], strict=True):
            at = bisect_left(keys, key, at)
            if at < count and keys[at] == key:
                old = values[at]
                if old == value:
                    replaced.same.append(key)
                    continue
                replaced.keys.append(key)
                replaced.tids.append(tids[at])
                replaced.values.append(old)
                if value is None:
                    del keys[at], tids[at], values[at]
                    count -= 1
                    size -= len(key) + len(old) + RECORD_OVERHEAD
                    continue
                values[at] = value
                tids[at] = tid
                size += len(value) - len(old)
            elif value is not None:
                keys.insert(at, key)
                tids.insert(at, tid)
                values.insert(at, value)
                count += 1
                size += len(key) + len(value) + RECORD_OVERHEAD
        node.size = size
        if count > before and keys[-1] is self.keys[j - 1]:
            node.hot = count if node.hot in (before, -before - 2) else -count - 2
        elif count != before:
            node.hot = -1
