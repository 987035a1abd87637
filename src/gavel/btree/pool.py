"""Nodes whose content is both on the volume and in memory: a bounded cache, shared by the trees of a volume.

Invariants:
- a node in the pool has an address and its content; one that is edited leaves the pool first;
- their sizes add up to `bytes`, which stays within `limit` unless a single node is larger;
- a tree's root is not in the pool: it stays in memory as long as the tree;
- making room never takes the node that is being loaded.

Out goes what was loaded longest ago and not asked for since (second chance). Scans do not count as asking, so that
one long scan does not push out what lookups need. An inner node stays while a child of it has content.
"""

from __future__ import annotations

from collections import OrderedDict

from gavel.btree.node import HEIGHT_MAX, Node, NodeStore, decode


class Pool:
    """Loads nodes and decides which to forget."""

    __slots__ = ("_clean", "bytes", "limit", "loads", "store")

    def __init__(self, store: NodeStore, limit: int) -> None:
        self.store = store
        self.limit = limit
        self.bytes = 0
        self.loads = 0
        self._clean: OrderedDict[Node, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clean)

    def load(self, node: Node) -> list[bytes]:
        """Bring a node's content into memory; returns its keys. Raises Damaged."""
        payload = self.store.load_node(node.address)
        self._make_room(len(payload))
        decode(node, payload)
        self.loads += 1
        self._clean[node] = None
        self.bytes += node.size
        return node.keys

    def pin(self, node: Node) -> None:
        """Bring content into memory that is not the pool's to forget: a root. Raises Damaged."""
        decode(node, self.store.load_node(node.address))
        self.loads += 1

    def admit(self, node: Node) -> None:
        """Take a node that has just been written into the pool, after making room for it."""
        self._make_room(node.size)
        self._clean[node] = None
        self.bytes += node.size

    def leave(self, node: Node) -> None:
        """The node is about to be edited, pinned or forgotten; one that is not in the pool is let be."""
        if node in self._clean:
            del self._clean[node]
            self.bytes -= node.size

    def _make_room(self, size: int) -> None:
        clean = self._clean
        for _ in range(HEIGHT_MAX * len(clean)):  # each round takes at least the lowest that it finds
            if self.bytes + size <= self.limit or not clean:
                return
            node = clean.popitem(last=False)[0]
            if node.used or (node.level and any(child.keys is not None for child in node.values)):
                node.used = False
                clean[node] = None
            else:
                self.bytes -= node.size
                node.drop()
