"""Unwanted nodes are written anew and nothing else changes, whatever the steps, with edits in between."""

from __future__ import annotations

from random import Random

from gavel.btree.checker import check_tree
from gavel.btree.edit import Replaced
from gavel.btree.evacuate import evacuate
from gavel.btree.tree import BTree
from tests.unit.btree.memory_store import MemoryStore, addresses, small_nodes
from tests.unit.btree.test_addresses import grown


def through(tree: BTree, unwanted: set[int], count: int, random: Random | None = None) -> int:
    size, tid = 0, 1
    cursor: bytes | None = b""
    while cursor is not None:
        moved, cursor = evacuate(tree, unwanted.__contains__, cursor, count)
        size += moved
        if random is not None:
            tid += 1
            tree.merge(tid, [b"%06d" % random.randrange(1500)], [tid], [random.randbytes(9)], Replaced())
    return size


def written(tree: BTree) -> None:
    store = tree.pool.store
    assert isinstance(store, MemoryStore)
    store.freeze()
    for _ in tree.freeze().save():
        pass


def content(tree: BTree) -> list[tuple[bytes, int, bytes]]:
    return [record for keys, tids, values in tree.slices() for record in zip(keys, tids, values, strict=True)]


def test_unwanted_nodes_have_other_addresses_after_the_next_checkpoint() -> None:
    random = Random(3)
    with small_nodes():
        for records in (1, 60, 1500):
            for count in (1, 4, 1000):
                tree = grown(records)
                before, there = content(tree), addresses(tree)
                unwanted = {address for address in sorted(there) if random.random() < 0.2} or set(there)
                assert through(tree, unwanted, count) > 0
                written(tree)
                assert not addresses(tree) & unwanted
                assert content(tree) == before
                assert [problem for problem in check_tree(tree) if problem] == []
                store = tree.pool.store
                assert isinstance(store, MemoryStore)
                assert store.live == addresses(tree)


def test_nothing_is_written_where_nothing_is_unwanted() -> None:
    with small_nodes():
        tree = grown(1500)
        assert through(tree, set(), 3) == 0
        assert tree.dirty_bytes == 0


def test_others_may_edit_in_between() -> None:
    with small_nodes():
        tree = grown(1500)
        unwanted = {address for address in sorted(addresses(tree)) if address % 5 == 0}
        through(tree, unwanted, 2, Random(1))
        written(tree)
        assert not addresses(tree) & unwanted
        assert [problem for problem in check_tree(tree) if problem] == []
