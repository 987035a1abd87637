"""Each invariant of the checker finds the damage that is planted for it, and nothing else does."""

from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest

from gavel.btree.checker import Tally, check_tree, checked, counts, fill, walk
from gavel.btree.edit import Replaced
from gavel.btree.node import Node
from gavel.btree.pool import Pool
from gavel.btree.tree import BTree
from tests.unit.btree.memory_store import MemoryStore, small_nodes


@pytest.fixture
def tree() -> Iterator[BTree]:
    with small_nodes():
        tree = BTree(Pool(MemoryStore(), 10**6))
        keys = [b"%04d" % number for number in range(800)]
        tree.merge(1 << 40, keys, [1 << 40] * 800, [b"value"] * 800, Replaced())
        assert set(check_tree(tree)) == {""}
        yield tree


def tally_of(tree: BTree) -> Tally:
    tally = Tally()
    for placed in walk(tree):
        tally.add(placed.node)
    return tally


def leaf(tree: BTree, index: int = 3) -> Node:
    return [placed.node for placed in walk(tree) if placed.node.level == 0][index]


def parent(tree: BTree, index: int = 0) -> Node:
    return [placed.node for placed in walk(tree) if placed.node.level == 1][index]


def swap_keys(tree: BTree) -> None:
    keys = leaf(tree).keys
    keys[0], keys[1] = keys[1], keys[0]


def move_key(tree: BTree) -> None:
    leaf(tree).keys[-1] = b"9999"


def young_record(tree: BTree) -> None:
    leaf(tree).tids[0] += 1


def short_list(tree: BTree) -> None:
    del leaf(tree).tids[0]


def empty_child(tree: BTree) -> None:
    node = leaf(tree)
    tree.records -= len(node.keys)
    node.fill([], [], [], 0)


def wrong_level(tree: BTree) -> None:
    parent(tree).level += 1


def wrong_size(tree: BTree) -> None:
    leaf(tree).size += 200


def too_large(tree: BTree) -> None:
    node = leaf(tree)
    node.values[0] = bytes(400)
    node.size += 395


def wrong_count(tree: BTree) -> None:
    tree.records += 1


DAMAGE: list[tuple[Callable[[BTree], None], str]] = [
    (swap_keys, "out of order"),
    (move_key, "outside of what the parent says"),
    (young_record, "above its bound"),
    (short_list, "differ in length"),
    (empty_child, "is empty"),
    (wrong_level, "not one level below"),
    (wrong_size, "its size is"),
    (too_large, "over the limit"),
    (wrong_count, "the tree counts 801 records"),
]


@pytest.mark.parametrize(("plant", "message"), DAMAGE)
def test_planted_damage_is_found(tree: BTree, plant: Callable[[BTree], None], message: str) -> None:
    plant(tree)
    found = [problem for problem in check_tree(tree) if problem]
    assert any(message in problem for problem in found), found
    assert plant is wrong_level or len(found) == 1, found


def test_rows_of_nearly_empty_leaves_are_found(tree: BTree) -> None:
    tally = Tally()
    for _ in range(20):
        tally.add(Node(0).fill([b"k"], [1], [b"v"], 16))
    assert list(fill(tally)) == ["19 of 20 leaves could join their neighbour and still be nearly empty"]
    assert len(list(counts(tree, tally))) == 1


def test_the_check_goes_on_behind_damage() -> None:
    with small_nodes():
        store = MemoryStore()
        tree = BTree(Pool(store, 10**6))
        keys = [b"%04d" % number for number in range(800)]
        tree.merge(1, keys, [1] * 800, [b"value"] * 800, Replaced())
        frozen = tree.freeze()
        for _ in frozen.save():
            pass
        again = BTree(Pool(store, 0), frozen.root)
        for index in (3, 9):
            del store.nodes[leaf(tree, index).address]
        found = [problem for problem in check_tree(again) if problem]
        assert len(found) == 2 and all("is damaged" in problem for problem in found)
        assert sum(1 for each in checked(again) if not isinstance(each, str)) == tally_of(tree).leaves - 2
        assert list(check_tree(again, loaded_only=True)) == []


def test_a_tree_may_be_edited_between_two_pieces_of_a_check(tree: BTree) -> None:
    check = check_tree(tree)
    tid = 1 << 41
    for problem in check:
        assert problem == ""
        tid += 1
        keys = [b"%04d" % number for number in range(tid % 3, 800, 3)]
        tree.merge(tid, keys, [tid] * len(keys), [None] * len(keys) if tid % 2 else [b"x" * 30] * len(keys), Replaced())


def test_a_check_reads_every_node_once_and_leaves_memory_as_it_was() -> None:
    with small_nodes():
        store = MemoryStore()
        tree = BTree(Pool(store, 10**6))
        keys = [b"%04d" % number for number in range(800)]
        tree.merge(1, keys, [1] * 800, [b"value"] * 800, Replaced())
        frozen = tree.freeze()
        for _ in frozen.save():
            pass
        again = BTree(Pool(store, 10**6), frozen.root)
        again.get(keys[300])
        before, singly, together = len(again.pool), store.load_node, store.load_nodes
        read: list[int] = []

        def load_nodes(addresses: list[int]) -> dict[int, bytes]:
            read.extend(found := together(addresses))
            return found

        with patch.object(store, "load_nodes", load_nodes), patch.object(store, "load_node", side_effect=singly) as one:
            assert not any(check_tree(again))
        assert one.call_count == 0 and len(again.pool) == before == again.root.level
        assert len(read) == len(set(read)) == tree.nodes - before - 1
