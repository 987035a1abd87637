"""What the machines do not show: how little is read, what stays in memory, what happens when a node is gone."""

from itertools import pairwise

import pytest

from gavel.btree.checker import check_tree, walk
from gavel.btree.edit import Replaced
from gavel.btree.frozen import TreeRoot
from gavel.btree.node import NODE_MIN, NODE_PACKED
from gavel.btree.pool import Pool
from gavel.btree.reach import reach
from gavel.btree.tree import BTree
from gavel.errors import Damaged
from tests.unit.btree.memory_store import MemoryStore, addresses

TID = 1 << 50


def put(tree: BTree, tid: int, keys: list[bytes], value: bytes | None) -> Replaced:
    replaced = Replaced()
    tree.merge(tid, keys, [tid] * len(keys), [value] * len(keys), replaced)
    return replaced


def key(number: int) -> bytes:
    return b"key%08d" % number


def written(tree: BTree) -> TreeRoot:
    frozen = tree.freeze()
    for _ in frozen.save():
        pass
    return frozen.root


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def large(store: MemoryStore, count: int = 30_000, limit: int = 1 << 20) -> BTree:
    tree = BTree(Pool(store, 1 << 30))
    put(tree, TID, [key(n) for n in range(count)], b"v" * 40)
    return BTree(Pool(store, limit), written(tree))


def test_ascending_keys_fill_their_nodes(store: MemoryStore) -> None:
    tree = BTree(Pool(store, 1 << 30))
    for first in range(0, 20_000, 7):
        put(tree, TID + first, [key(n) for n in range(first, first + 7)], b"v" * 40)
    sizes = [placed.node.size for placed in walk(tree) if placed.node.level == 0]
    assert sum(sizes) / len(sizes) > 14_000


def test_a_lookup_reads_one_node_a_level_and_then_none(store: MemoryStore) -> None:
    tree = large(store)
    before = tree.pool.loads
    assert tree.get(key(12_345)) == b"v" * 40
    assert tree.pool.loads - before == tree.root.level
    assert tree.get(key(12_345) + b"x") is None
    assert tree.find(key(12_345)) == (TID, b"v" * 40)
    assert tree.pool.loads - before == tree.root.level


def test_what_did_not_change_is_not_read(store: MemoryStore) -> None:
    tree = large(store)
    put(tree, TID + 5, [key(100)], b"new")
    before = tree.pool.loads
    found = [each for keys, tids, _ in tree.slices(above=TID) for each in zip(keys, tids, strict=True)]
    assert (key(100), TID + 5) in found and len(found) < 500
    assert list(tree.slices(key(5000), key(6000), TID)) == []
    assert list(tree.slices(above=TID + 5)) == []
    assert tree.pool.loads == before


def test_a_scan_holds_no_more_than_the_pool_allows(store: MemoryStore) -> None:
    tree = large(store, limit=100_000)
    count = 0
    for keys, _, _ in tree.slices():
        count += len(keys)
        assert tree.pool.bytes <= 100_000
    assert count == 30_000
    in_memory = sum(placed.node.size for placed in walk(tree, loaded_only=True))
    assert in_memory <= 100_000 + tree.root.size


def test_a_scan_does_not_push_out_what_lookups_use(store: MemoryStore) -> None:
    tree = large(store, limit=400_000)
    hot = [key(n) for n in range(0, 3000, 100)]
    for each in hot:
        tree.get(each)
    for _ in tree.slices():
        for each in hot:
            tree.get(each)
    before = tree.pool.loads
    for each in hot:
        tree.get(each)
    assert tree.pool.loads == before


def test_deleting_nearly_all_leaves_few_nodes(store: MemoryStore) -> None:
    tree = large(store)
    put(tree, TID + 1, [key(n) for n in range(30_000) if n % 1000], None)
    assert tree.records == 30
    assert not any(check_tree(tree))
    assert tree.nodes < 10
    put(tree, TID + 2, [key(n) for n in range(0, 30_000, 1000)], None)
    assert (tree.records, tree.nodes, tree.root.level) == (0, 1, 0)
    assert addresses(tree) == store.live == set()


def test_deleting_one_by_one_leaves_few_nodes(store: MemoryStore) -> None:
    tree = large(store, 5000)
    for n in range(5000):
        put(tree, TID + 1 + n, [key(n * 7919 % 5000)], None)
    assert (tree.records, tree.nodes) == (0, 1)
    assert store.live == set()


def test_neighbours_that_go_together_are_all_reported(store: MemoryStore) -> None:
    tree = large(store, 1000)
    gone = [key(n) for n in range(300, 700)]
    replaced = put(tree, TID + 1, gone, None)
    assert (replaced.keys, replaced.tids, replaced.same) == (gone, [TID] * 400, [])
    assert len(replaced.values) == 400
    assert [tree.find(key(n)) is None for n in (299, 300, 699, 700)] == [False, True, True, False]
    assert not any(check_tree(tree))


def test_equal_values_are_reported_and_change_nothing(store: MemoryStore) -> None:
    tree = BTree(Pool(store, 1 << 20))
    put(tree, TID, [key(n) for n in range(10)], b"v")
    replaced = put(tree, TID + 1, [key(n) for n in range(5, 15)], b"v")
    assert replaced.same == [key(n) for n in range(5, 10)]
    assert replaced.keys == []
    assert tree.find(key(5)) == (TID, b"v")
    assert tree.find(key(12)) == (TID + 1, b"v")


def test_a_node_that_is_gone_is_damage(store: MemoryStore) -> None:
    tree = large(store, limit=0)
    store.nodes.clear()
    for read in (tree.get, tree.find, tree.seek):
        with pytest.raises(Damaged):
            read(key(77))
    with pytest.raises(Damaged):
        list(tree.slices())
    with pytest.raises(Damaged):
        put(tree, TID + 1, [key(77)], b"")


def test_reach_reads_what_an_edit_needs_and_tells_what_is_there(store: MemoryStore) -> None:
    tree = large(store, limit=1 << 30)
    wanted = sorted([*(key(n) for n in range(3, 30_000, 1000)), b"a", b"z", *(key(n) + b"+" for n in range(50, 80))])
    assert reach(tree, wanted) == [key(n) for n in range(3, 30_000, 1000)]
    before = tree.pool.loads
    assert before < 40
    put(tree, TID + 1, wanted, b"new")
    assert tree.pool.loads == before
    assert reach(tree, []) == []
    assert reach(tree, [key(n) for n in range(30_000)]) == [key(n) for n in range(30_000)]


def test_a_root_of_absurd_height_is_damage(store: MemoryStore) -> None:
    with pytest.raises(Damaged):
        BTree(Pool(store, 0), TreeRoot(1, 99, 0, 0, 0))


def test_unwritten_bytes_go_down_as_they_are_written_and_up_again_when_given_up(store: MemoryStore) -> None:
    tree = BTree(Pool(store, 1 << 30))
    put(tree, TID, [key(n) for n in range(5000)], b"v" * 40)
    whole = tree.unwritten
    assert whole > 5000 * 60
    saving = tree.freeze().save()
    next(saving)
    left = tree.unwritten
    assert 0 < left < whole
    put(tree, TID + 1, [key(0)], b"w")
    assert tree.unwritten > left
    saving.close()  # type: ignore[attr-defined]
    written(tree)
    assert tree.unwritten == 0


def test_what_is_rewritten_does_not_look_changed(store: MemoryStore) -> None:
    tree = large(store)
    put(tree, TID + 5, [key(29_000)], b"w" * 40)
    replaced = Replaced()
    tree.rewrite([key(17)], [TID], [b"x" * 40], replaced)
    tree.rewrite([key(n) for n in range(2000, 9000)], [0] * 7000, [None] * 7000, replaced)
    tree.rewrite([key(12_000)], [TID], [b"y" * 30_000], replaced)
    assert replaced.keys == [key(17), *[key(n) for n in range(2000, 9000)], key(12_000)]
    assert tree.find(key(17)) == (TID, b"x" * 40)
    assert (tree.bound, tree.records) == (TID + 5, 23_000)
    assert [problem for problem in check_tree(tree) if problem] == []
    young = [keys for keys, _, _ in tree.slices(above=TID)]
    assert len(young) == 1 and key(29_000) in young[0]


def test_sequences_side_by_side_leave_full_leaves_behind(store: MemoryStore) -> None:
    """Several growing at once within one leaf: each split once took a thin slice off the sequences behind it."""
    tree = BTree(Pool(store, 1 << 30))
    tid = TID
    for n in range(400):
        for name in (b"a", b"b", b"c"):  # some of each at a time, as versions of a few files come
            for m in range(4):
                tid += 1
                put(tree, tid, [name + b"%08d" % (4 * n + m)], bytes(90))
    sizes = [sum(map(len, keys)) + sum(map(len, values)) for keys, _, values in tree.slices()]
    assert len(sizes) < 1.4 * sum(sizes) / NODE_PACKED
    assert sum(a + b < NODE_MIN for a, b in pairwise(sizes)) <= 1
