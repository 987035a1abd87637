"""Every node's address is met, a few at a time, also while the tree is edited in between."""

from __future__ import annotations

from random import Random

from gavel.btree.addresses import addresses
from gavel.btree.edit import Replaced
from gavel.btree.pool import Pool
from gavel.btree.tree import BTree
from tests.unit.btree.memory_store import MemoryStore, small_nodes
from tests.unit.btree.memory_store import addresses as all_of


def grown(records: int) -> BTree:
    store = MemoryStore()
    tree = BTree(Pool(store, 1 << 20))
    keys = [b"%06d" % n for n in range(records)]
    tree.merge(1, keys, [1] * records, [b"value"] * records, Replaced())
    store.freeze()
    for _ in tree.freeze().save():
        pass
    return tree


def walked(tree: BTree, count: int) -> list[int]:
    found: list[int] = []
    cursor: bytes | None = b""
    while cursor is not None:
        some, cursor = addresses(tree, cursor, count)
        assert len(some) <= count + tree.root.level
        found += some
    return found


def test_all_nodes_are_met_once_whatever_the_steps() -> None:
    """The root came again with each inner node below it, and so the map seemed to count too little."""
    with small_nodes():
        for records in (0, 1, 5, 60, 2000):
            tree = grown(records)
            for count in (1, 3, 1000):
                assert sorted(walked(tree, count)) == sorted(all_of(tree))


def test_what_was_there_all_the_while_is_met_although_others_edit() -> None:
    with small_nodes():
        tree = grown(1500)
        random = Random(1)
        before = all_of(tree)
        found: set[int] = set()
        cursor: bytes | None = b""
        tid = 1
        while cursor is not None:
            some, cursor = addresses(tree, cursor, 2)
            found.update(some)
            tid += 1
            tree.merge(tid, [b"%06d" % random.randrange(1500)], [tid], [random.randbytes(9)], Replaced())
        leaves = {address for address in before & all_of(tree) if address}
        inner = {child.address for child in tree.root.values} | {tree.root.address}
        assert leaves - inner <= found
