"""The B-tree against a sorted dict: batches, deletions, huge values, freezing, writing half-way, eviction, reload."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gavel.btree.checker import check_tree
from gavel.btree.edit import Replaced
from gavel.btree.frozen import Frozen
from gavel.btree.pool import Pool
from gavel.btree.tree import BTree
from gavel.errors import VolumeFull
from tests.unit.btree.memory_store import MemoryStore, addresses, small_nodes

KEYS = 400
EPOCH = 1 << 56  # tids are encoded in nine bytes, as real ones are
SOAK = bool(os.environ.get("GAVEL_SOAK"))

numbers = st.integers(0, KEYS - 1)
spans = st.tuples(numbers, st.integers(1, 150), st.integers(1, 5))  # first, how many, how far apart
sizes = st.sampled_from([0, 3, 10, 10, 40, 150, 1000])


def key(number: int) -> bytes:
    """Keys of two lengths, so that separators are cut at different places."""
    return b"%03d" % number + (b"tail" if number % 7 == 0 else b"")


class TreeMachine(RuleBasedStateMachine):
    @initialize(limit=st.sampled_from([0, 600, 5000, 10**6]), most=st.sampled_from([150, 300]))
    def begin(self, limit: int, most: int) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(small_nodes(most))
        self.store = MemoryStore()
        self.pool = Pool(self.store, limit)
        self.tree = BTree(self.pool)
        self.model: dict[bytes, tuple[int, bytes]] = {}
        self.tid = EPOCH
        self.frozen: Frozen | None = None
        self.saving: Iterator[int] | None = None
        self.then: dict[bytes, tuple[int, bytes]] = {}

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    @rule()
    def check(self) -> None:
        problems = [each for each in check_tree(self.tree) if each]
        assert problems == [], problems

    def merge(self, writes: dict[bytes, bytes | None]) -> None:
        self.tid += 1
        keys = sorted(writes)
        replaced = Replaced()
        self.tree.merge(self.tid, keys, [self.tid] * len(keys), [writes[each] for each in keys], replaced)
        gone, same = [], []
        for each in keys:
            value, old = writes[each], self.model.get(each)
            if old is not None:
                if old[1] == value:
                    same.append(each)
                    continue
                gone.append((each, *old))
            if value is not None:
                self.model[each] = self.tid, value
            else:
                self.model.pop(each, None)
        assert list(zip(replaced.keys, replaced.tids, replaced.values, strict=True)) == gone
        assert replaced.same == same

    @rule(span=spans, size=sizes, marker=st.integers(0, 3))
    def put(self, span: tuple[int, int, int], size: int, marker: int) -> None:
        first, count, step = span
        value = b"%d" % marker + bytes(size)
        self.merge({key(n): value for n in range(first, min(first + count * step, KEYS), step)})

    @rule(number=numbers, size=sizes)
    def put_one(self, number: int, size: int) -> None:
        self.merge({key(number): bytes(size)})

    @rule(span=spans)
    def delete(self, span: tuple[int, int, int]) -> None:
        first, count, step = span
        self.merge({key(n): None for n in range(first, min(first + count * step, KEYS), step)})

    @rule(writes=st.dictionaries(numbers, st.none() | sizes, min_size=1, max_size=60))
    def mixed(self, writes: dict[int, int | None]) -> None:
        self.merge({key(n): None if size is None else b"m" + bytes(size) for n, size in writes.items()})

    @precondition(lambda self: self.frozen is None)
    @rule()
    def freeze(self) -> None:
        self.store.freeze()
        self.frozen = self.tree.freeze()
        self.saving = self.frozen.save()
        self.then = dict(self.model)

    @precondition(lambda self: self.frozen is not None)
    @rule(steps=st.integers(1, 30))
    def save(self, steps: int) -> None:
        assert self.frozen is not None and self.saving is not None
        for _ in range(steps):
            if next(self.saving, None) is None:
                self.image_is_whole()
                return

    @precondition(lambda self: self.frozen is not None)
    @rule(steps=st.integers(0, 10))
    def save_until_full(self, steps: int) -> None:
        assert self.saving is not None
        self.store.full_after = steps
        try:
            for _ in self.saving:
                pass
        except VolumeFull:
            self.frozen = None
        else:
            self.image_is_whole()
        self.store.full_after = -1

    def image_is_whole(self) -> None:
        """What was written is the tree of the freeze, and the image refers to exactly its nodes."""
        assert self.frozen is not None
        written = BTree(Pool(self.store, 0), self.frozen.root)
        assert contents(written) == self.then
        assert addresses(written) == self.store.image
        assert not any(check_tree(written))
        self.frozen = None

    @precondition(lambda self: self.frozen is None)
    @rule()
    def reload(self) -> None:
        self.store.freeze()
        frozen = self.tree.freeze()
        for _ in frozen.save():
            pass
        assert self.store.image == self.store.live
        self.pool = Pool(self.store, self.pool.limit)
        self.tree = BTree(self.pool, frozen.root)

    @rule(limit=st.sampled_from([0, 600, 5000]))
    def evict(self, limit: int) -> None:
        self.pool.limit = limit
        self.pool._make_room(0)

    @rule(number=numbers)
    def read(self, number: int) -> None:
        lo = key(number)
        assert self.tree.get(lo) == self.model.get(lo, (0, None))[1]
        assert self.tree.find(lo) == self.model.get(lo)
        after = min((each for each in self.model if each >= lo), default=None)
        assert self.tree.seek(lo) == (None if after is None else (after, *self.model[after]))

    @rule(a=numbers, b=numbers, since=st.integers(EPOCH, EPOCH + 60))
    def scan(self, a: int, b: int, since: int) -> None:
        lo, hi = key(a), key(b)
        wanted = [(each, *self.model[each]) for each in sorted(self.model) if lo <= each < hi]
        assert flat(self.tree.slices(lo, hi)) == wanted
        young = flat(self.tree.slices(lo, hi, since))
        assert [each for each in young if each[1] > since] == [each for each in wanted if each[1] > since]

    @invariant()
    def accounts(self) -> None:
        if hasattr(self, "tree"):
            assert addresses(self.tree) == self.store.live
            assert self.tree.records == len(self.model)
            largest = max((len(payload) for payload in self.store.nodes.values()), default=0)
            assert self.pool.bytes <= max(self.pool.limit, largest)


def flat(slices: object) -> list[tuple[bytes, int, bytes]]:
    return [item for keys, tids, values in slices for item in zip(keys, tids, values, strict=True)]  # type: ignore[attr-defined]


def contents(tree: BTree) -> dict[bytes, tuple[int, bytes]]:
    return {each: (tid, value) for each, tid, value in flat(tree.slices())}


TestBTree = TreeMachine.TestCase
TestBTree.settings = settings(max_examples=3000 if SOAK else 40, stateful_step_count=40, deadline=None)
