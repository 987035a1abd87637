"""A NodeStore in memory that knows what the live tree and what the image under way refer to."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from gavel.btree import balance, checker, edit, tree
from gavel.btree.node import Node
from gavel.btree.tree import BTree
from gavel.errors import Damaged, VolumeFull


class MemoryStore:
    def __init__(self) -> None:
        self.nodes: dict[int, bytes] = {}
        self.live: set[int] = set()
        self.image: set[int] = set()
        self.next = 1 << 40  # encoded in nine bytes, as real addresses are
        self.full_after = -1  # this many more saves succeed; below 0: all

    def load_node(self, address: int) -> bytes:
        if address not in self.nodes:
            raise Damaged("node", address)
        return self.nodes[address]

    def load_nodes(self, addresses: list[int]) -> dict[int, bytes]:
        return {address: self.nodes[address] for address in addresses[:3] if address in self.nodes}

    def save_node(self, payload: bytes, superseded: bool = False) -> int:
        if self.full_after == 0:
            raise VolumeFull(0, len(payload))
        self.full_after -= 1
        address, self.next = self.next, self.next + 1
        self.nodes[address] = payload
        self.image.add(address)
        if not superseded:
            self.live.add(address)
        return address

    def free_node(self, address: int) -> None:
        self.live.remove(address)

    def freeze(self) -> None:
        self.image = set(self.live)


def addresses(tree: BTree) -> set[int]:
    """Every address that the tree refers to; loads all of it."""
    found: set[int] = set()
    stack: list[Node] = [tree.root]
    while stack:
        node = stack.pop()
        if node.address:
            found.add(node.address)
        if node.level:
            if node.keys is None:
                tree.pool.load(node)
            stack += node.values
    return found


@contextmanager
def small_nodes(most: int = 300) -> Iterator[None]:
    """Trees of many levels from few records."""
    bounds = {"NODE_MAX": most, "NODE_MIN": most // 4, "NODE_JOINED": most * 3 // 4, "NODE_PACKED": most * 15 // 16}
    patches = [
        patch.multiple(module, **{name: bound for name, bound in bounds.items() if hasattr(module, name)})
        for module in (balance, checker, edit, tree)
    ]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
