"""A tree as it was at one moment, and how it gets onto the volume while edits go on.

The rules that keep the accounting of live bytes exact, where the *image* is what the checkpoint writes and the *live*
tree what edits see:
- a node written here counts in the image, and in the live tree too unless an edit has superseded it meanwhile;
- an edit that replaces a node with an address frees that address in the live tree, and the image keeps it;
- an edit that replaces a frozen node without an address marks it superseded.

Children are written before their parents. A frozen node's lists never change, and its children are handles that
learn their address here; a live copy of the parent shares the handles and so learns it too. A Frozen given up
half-way (the disk was full) leaves a consistent tree: what was written has its address, the rest is still dirty.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gavel.btree.node import Node, encode
from gavel.btree.pool import Pool


class TreeRoot(msgspec.Struct, array_like=True, frozen=True):
    """Where a written tree begins and what is known of it without reading it."""

    address: int
    level: int
    bound: int
    records: int
    nodes: int


class Frozen:
    """The dirty nodes of a tree at the moment of `BTree.freeze`."""

    __slots__ = ("_pool", "_root", "_shape", "unwritten")

    def __init__(self, pool: Pool, root: Node, shape: TreeRoot, unwritten: int) -> None:
        self._pool = pool
        self._root = root
        self._shape = shape
        self.unwritten = unwritten  # about how many bytes of nodes are still to be written

    @property
    def root(self) -> TreeRoot:
        """What finds the tree again; valid when `save` is through."""
        shape = self._shape
        assert self._root.address, "the root is known when all is written"
        return TreeRoot(self._root.address, shape.level, shape.bound, shape.records, shape.nodes)

    def save(self) -> Iterator[int]:
        """Write every node that has no address yet; yields the size after each. Raises VolumeFull, DeviceFull."""
        if self._root.address:
            self.unwritten = 0
            return
        path: list[tuple[Node, Iterator[Node]]] = [(self._root, iter(self._root.values if self._root.level else ()))]
        while path:
            node, children = path[-1]
            child = next((child for child in children if not child.address), None)
            if child is not None:
                path.append((child, iter(child.values if child.level else ())))
                continue
            path.pop()
            self._write(node)
            self.unwritten = max(0, self.unwritten - node.size)
            yield node.size
        self.unwritten = 0

    def _write(self, node: Node) -> None:
        node.address = self._pool.store.save_node(encode(node), node.superseded)
        if node.superseded:
            node.drop()
        elif node is not self._root:
            self._pool.admit(node)
