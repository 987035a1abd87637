"""The copy-on-write B-tree: one sorted map from keys to (tid, value), part in memory and part on the volume.

Invariants:
- every leaf is at the same depth; the root is always in memory;
- edits touch only nodes of the current edition; `freeze` ends the edition, so what a Frozen holds stays as it is;
- the bound of a child is at least every tid at which something below it was put or removed;
- in a dated tree what is said to be due is right (dues.py), and every inner node of the current edition says it;
- live bytes on the volume are exactly those of the nodes the tree refers to by address (see frozen.py).

Iteration is by slices of leaves, each found by a descent from the root: a microsecond per hundred records buys
iterators that survive any edit between two steps.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator

from gavel.btree.dues import UNKNOWN, Ends, lowered
from gavel.btree.edit import Edit, Replaced, put_in_leaf
from gavel.btree.frozen import Frozen, TreeRoot
from gavel.btree.node import HEIGHT_MAX, NODE_MAX, RECORD_OVERHEAD, Node, empty_leaf
from gavel.btree.pool import Pool
from gavel.errors import Damaged

Slice = tuple[list[bytes], list[int], list[bytes]]


class BTree:
    """A tree over a pool; `start` is what Frozen.root gave when it was last written, None for an empty tree.

    With `ends` it is dated: each record that a merge puts ended at the tid of the merge, and its key says so.
    """

    __slots__ = (
        "_frozen", "_levels", "bound", "dirty_bytes", "edition", "edits", "ends", "nodes", "pool", "records", "root",
    )  # fmt: skip

    def __init__(self, pool: Pool, start: TreeRoot | None = None, ends: Ends | None = None) -> None:
        self.pool = pool
        self.ends = ends
        self.edition = 1
        self.edits = 0  # counts merges, so that iterators notice
        self.dirty_bytes = 0  # about how much of it was changed since it was last frozen
        self._frozen: Frozen | None = None  # the last one
        if start is None or not start.address:
            self.root = empty_leaf(self.edition)
            self.bound = self.records = 0
            self.nodes = 1
        else:
            if not 0 <= start.level < HEIGHT_MAX:
                raise Damaged("B-tree root", start.address, f"a level below {HEIGHT_MAX}", start.level)
            self.root = Node(start.level, start.address)
            pool.pin(self.root)
            self.bound, self.records, self.nodes = start.bound, start.records, start.nodes
        self._levels: tuple[None, ...] = (None,) * self.root.level

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None where there is none. Raises Damaged, as all reading does."""
        node = self.root
        keys = node.keys
        for _ in self._levels:
            node = node.values[bisect_right(keys, key)]
            keys = node.keys
            if keys is None:
                keys = self.pool.load(node)
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            node.used = True
            value: bytes = node.values[at]
            return value
        return None

    def find(self, key: bytes) -> tuple[int, bytes] | None:
        """The tid and value of a key."""
        node = self.root
        keys = node.keys
        for _ in self._levels:
            node = node.values[bisect_right(keys, key)]
            keys = node.keys
            if keys is None:
                keys = self.pool.load(node)
        node.used = True
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            return node.tids[at], node.values[at]
        return None

    def seek(self, key: bytes) -> tuple[bytes, int, bytes] | None:
        """The first record at or above a key: key, tid, value."""
        node = self.root
        keys = node.keys
        upper: bytes | None = None
        for _ in self._levels:
            at = bisect_right(keys, key)
            if at < len(keys):
                upper = keys[at]
            node = node.values[at]
            keys = node.keys
            if keys is None:
                keys = self.pool.load(node)
        node.used = True
        at = bisect_left(keys, key)
        if at < len(keys):
            return keys[at], node.tids[at], node.values[at]
        if upper is None:
            return None
        return next(((keys[0], tids[0], values[0]) for keys, tids, values in self.slices(upper)), None)

    def slices(self, lo: bytes = b"", hi: bytes | None = None, above: int = -1) -> Iterator[Slice]:
        """The records in [lo, hi) as (keys, tids, values), a leaf at a time, in order, never empty.

        Leaves (and all below an inner node) whose bound is at most `above` are left out: nothing there is younger.
        Each slice is as of the moment it is taken; the tree may be edited between two steps.
        """
        start: bytes | None = lo
        while start is not None and (hi is None or start < hi):
            leaf, first, start = self._leaf_from(start, hi, above)
            if leaf is None:
                continue
            keys = leaf.keys
            a = bisect_left(keys, first)
            b = len(keys) if hi is None or (start is not None and start <= hi) else bisect_left(keys, hi, a)
            if a < b:
                yield keys[a:b], leaf.tids[a:b], leaf.values[a:b]

    def youngest(self, lo: bytes, hi: bytes, of: Callable[[list[bytes], list[int]], int]) -> int:
        """The highest tid that the bounds of [lo, hi) are about, or somewhat more: nothing is read for it that is not
        in memory. `of(keys, tids)` tells it of some records of a leaf; there is at least one."""
        best = 0
        edges = [(self.root, self.bound)]
        for _ in self._levels:
            below: list[tuple[Node, int]] = []
            for node, bound in edges:
                if node.keys is None or bound <= best:
                    best = max(best, bound)
                    continue
                first, last = bisect_right(node.keys, lo), bisect_left(node.keys, hi)
                bounds = node.tids
                if last - first > 1:
                    best = max(best, max(bounds[first + 1 : last]))
                below += [(node.values[at], bounds[at]) for at in dict.fromkeys((first, last)) if bounds[at] > best]
            edges = below
        for leaf, bound in edges:
            if leaf.keys is None:
                best = max(best, bound)
            elif bound > best:
                a, b = bisect_left(leaf.keys, lo), bisect_left(leaf.keys, hi)
                if a < b:
                    best = max(best, of(leaf.keys[a:b], leaf.tids[a:b]))
        return best

    def _leaf_from(self, key: bytes, hi: bytes | None, above: int) -> tuple[Node | None, bytes, bytes | None]:
        """The leaf with `key`, or the next whose bound is above `above`; where to begin in it; where the next begins.

        Without a leaf, the third tells where to go on; None is the end of the tree.
        """
        node = self.root
        upper: bytes | None = None
        if self.bound <= above:
            return None, key, None
        for _ in self._levels:
            keys, bounds = node.keys, node.tids
            first = at = bisect_right(keys, key)
            count = len(bounds)
            while at < count and bounds[at] <= above:
                at += 1
            if at == count:
                return None, key, upper
            if at > first:
                key = keys[at - 1]
                if hi is not None and key >= hi:
                    return None, key, None
            if at < count - 1:
                upper = keys[at]
            node = node.values[at]
            if node.keys is None:
                self.pool.load(node)
        return node, key, upper

    def merge(
        self, tid: int, keys: list[bytes], tids: list[int], values: list[bytes | None], replaced: Replaced
    ) -> None:
        """Put sorted unique keys with their tids and values; a value of None removes its key, if it is there.

        `tid` is the tid of the edit, at least the tree's bound, and becomes the bound of what it touches. What was
        there before goes to `replaced`; a value equal to the one in place changes nothing. Raises Damaged, after
        which the tree may hold a part of the edit and must not be written.
        """
        value = values[0] if len(keys) == 1 else None
        if keys and (value is None or not self._put(tid, keys[0], tids[0], value, replaced)):
            Edit(self, tid, keys, tids, values, replaced).run()

    def rewrite(self, keys: list[bytes], tids: list[int], values: list[bytes | None], replaced: Replaced) -> None:
        """Like merge, for what is no change to those who ask: records kept otherwise, or not kept any longer.

        It has no tid, and no bound is raised. Values given are of records that are there, with the tids they have.
        """
        Edit(self, 0, keys, tids, values, replaced).run()

    def _put(self, bound: int, key: bytes, tid: int, value: bytes, replaced: Replaced) -> bool:
        """A merge of one record where there is room for it; False, and nothing put, where a leaf has to be split."""
        edition, node = self.edition, self.root
        if node.edition != edition:
            return False
        self.edits += 1
        self.bound = bound
        for _ in self._levels:
            at = bisect_right(node.keys, key)
            child = node.values[at]
            if child.edition != edition:
                child = node.values[at] = self.own(child)
            node.tids[at] = bound
            if node.dues is not None:
                node.dues[at] = lowered(node.dues[at], bound)
            node = child
        size = len(key) + len(value) + RECORD_OVERHEAD
        if node.size + size > NODE_MAX:
            return False
        before = len(node.keys)
        old = node.size
        put_in_leaf(node, key, tid, value, replaced)
        self.records += len(node.keys) - before
        self.dirty_bytes += node.size - old
        return True

    def set_root(self, root: Node) -> None:
        """Put another root in place; for Edit."""
        assert root.edition == self.edition
        self.root = root
        self._levels = (None,) * root.level

    def own(self, node: Node) -> Node:
        """A node of the current edition with the content of one that is not; for Edit. Raises Damaged.

        The old node no longer is part of the live tree. Written, it gives its content away: whoever still refers
        to it (a frozen parent) needs but its address. Not yet written, it keeps the content until it is.
        """
        if node.keys is None:
            self.pool.load(node)
        mine = Node(node.level, 0, self.edition)
        mine.hot = node.hot
        self.dirty_bytes += node.size
        if node.address:
            mine.fill(node.keys, node.tids, node.values, node.size)
            mine.dues = node.dues
            self.pool.leave(node)
            node.drop()
            self.pool.store.free_node(node.address)
        else:
            mine.fill(node.keys.copy(), node.tids.copy(), node.values.copy(), node.size)
            if node.dues is not None:
                mine.dues = node.dues.copy()
            node.superseded = True
        if mine.level and mine.dues is None and self.ends is not None:
            mine.dues = [UNKNOWN] * len(mine.values)
        return mine

    def own_way(self, way: list[int]) -> list[Node]:
        """The nodes from the root down by these child indexes, each of the current edition. Raises Damaged."""
        node = self.root
        if node.edition != self.edition:
            node = self.own(node)
            self.set_root(node)
        nodes = [node]
        for at in way:
            child = node.values[at]
            if child.edition != self.edition:
                child = node.values[at] = self.own(child)
            nodes.append(child)
            node = child
        return nodes

    def freeze(self) -> Frozen:
        """The tree as it is now, to be written while edits go on. Give up a former one before."""
        shape = TreeRoot(0, self.root.level, self.bound, self.records, self.nodes)
        self._frozen = Frozen(self.pool, self.root, shape, self.unwritten)
        self.edition += 1
        self.dirty_bytes = 0
        return self._frozen

    @property
    def unwritten(self) -> int:
        """About how many bytes of nodes are to be written, by the checkpoint under way and by the next."""
        return self.dirty_bytes + (self._frozen.unwritten if self._frozen is not None else 0)
