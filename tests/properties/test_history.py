"""History against a list of versions: applies, as-of reads, changes, prunes, checkpoints cut anywhere, crashes."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gavel.errors import HistoryPruned
from gavel.history import history
from gavel.history.horizon import KEY, Horizon, encode, recalled
from gavel.history.versions import Change, Step
from gavel.keys import records
from gavel.keys.ranges import just
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from tests.unit.btree.memory_store import small_nodes
from tests.unit.history.model import Model, Writes, as_pairs, sorted_lists
from tests.unit.history.systems import FakeSystem, VolumeSystem, node_addresses

SOAK = bool(os.environ.get("GAVEL_SOAK"))
EPOCH = 1_763_800_000_000_000 << 8
END = b"\xff"

KEYS = sorted(
    [records.inode(pfs, obj) for pfs in (0, 3) for obj in range(1, 15)]
    + [records.entry(0, 1, b"name%d" % n) for n in range(12)]
    + [records.extent(pfs, 7, (n + 1) * 4096) for pfs in (0, 3) for n in range(10)]
)
DATA = [key for key in KEYS if records.is_data(key)]
which = st.integers(0, len(KEYS) - 1)
sizes = st.sampled_from([1, 8, 30, 200])
batches = st.dictionaries(which, st.none() | st.tuples(sizes, st.integers(0, 3)), max_size=40)


GOES_BACK = encode(Horizon(1, (0,)))


class HistoryMachine(RuleBasedStateMachine):
    system_class: type[FakeSystem] | type[VolumeSystem] = FakeSystem

    @initialize(cache=st.sampled_from([0, 2000, 10**6]), most=st.sampled_from([200, 600]))
    def begin(self, cache: int, most: int) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(small_nodes(most))
        self.stack.enter_context(patch.object(history, "SLICE_NODES", 1))  # applies between any two nodes written
        self.system = self.system_class(cache)
        self.model = Model()
        self.tid = EPOCH
        self.durable = 0  # what must survive a crash
        self.running: Iterator[Step] | None = None
        self.applied: list[tuple[int, Writes]] = []
        self.extents: list[bytes] = []
        self.whole = Model()  # without prunes
        self.held = Horizon()

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    # -- changing ----------------------------------------------------------------------------------------------

    def apply(self, writes: Writes) -> None:
        self.tid += 256
        self.system.apply(self.tid, *sorted_lists(writes))
        self.model.apply(self.tid, writes)
        self.whole.apply(self.tid, writes)
        self.applied.append((self.tid, writes))

    def value(self, key: bytes, size: int, marker: int) -> bytes:
        if not records.is_data(key):
            return b"%d" % marker + bytes(size)
        if marker == 0:
            return b"\0" + bytes(size)
        if marker == 1 and self.extents:
            return self.extents[size % len(self.extents)]  # shared
        self.extents.append(self.system.stage(bytes([marker]) * size * 20))
        return self.extents[-1]

    @rule(batch=batches)
    def change(self, batch: dict[int, tuple[int, int] | None]) -> None:
        self.apply({KEYS[n]: what and self.value(KEYS[n], *what) for n, what in batch.items()})

    @rule(first=which, count=st.integers(1, 60), marker=st.none() | st.integers(0, 3))
    def change_many(self, first: int, count: int, marker: int | None) -> None:
        keys = KEYS[first : first + count]
        self.apply({key: None if marker is None else self.value(key, 30, marker) for key in keys})

    @rule(first=which, count=st.integers(1, 60))
    def write_the_same(self, first: int, count: int) -> None:
        state = self.model.at(self.tid)
        self.apply({key: state[key] for key in KEYS[first : first + count] if key in state})

    @precondition(lambda self: self.applied)
    @rule(data=st.data())
    def apply_again(self, data: st.DataObject) -> None:
        tid, writes = data.draw(st.sampled_from(self.applied))
        self.system.history.apply(tid, *sorted_lists(writes))

    @rule(steps=st.integers(1, 6))
    def checkpoint(self, steps: int) -> None:
        if self.running is None:
            self.running = self.system.checkpoint()
        for _ in range(steps):
            if next(self.running, None) is None:
                self.running = None
                self.system.check_image()
                return

    @precondition(lambda self: self.running is not None)
    @rule()
    def give_up_checkpoint(self) -> None:
        assert self.running is not None
        self.running.close()  # type: ignore[attr-defined]
        self.running = None

    @rule()
    def sync(self) -> None:
        self.system.sync()
        self.durable = self.tid

    @rule(seed=st.integers(0, 1000))
    def crash(self, seed: int) -> None:
        self.running = None
        survived = self.system.crash(seed)
        assert survived >= self.durable or survived == max((t for t in self.model.tids if t <= self.durable), default=0)
        self.whole = self.whole.until(survived)
        self.held = recalled(self.whole.versions(KEY))
        self.model = self.whole
        self.prune(7)  # a prune that was not durable is undone; its horizon may be there or not
        self.applied = [each for each in self.applied if each[0] <= survived]
        self.extents.clear()  # those of lost transactions may be gone

    @rule(data=st.data())
    def move_horizon(self, data: st.DataObject) -> None:
        readable = [tid for tid in self.model.tids if self.held.readable(tid)]
        if readable:
            horizon = max(self.held.horizon, data.draw(st.sampled_from(readable)))
            kept = data.draw(st.sets(st.sampled_from(readable), max_size=4))
            self.apply({KEY: encode(Horizon(horizon, tuple(sorted(kept))))})
            self.held = Horizon(horizon, tuple(sorted(tid for tid in kept if tid < horizon)))

    @rule(value=st.sampled_from([None, b"", b"\xc1", GOES_BACK]))
    def say_nothing_of_the_horizon(self, value: bytes | None) -> None:
        if value != GOES_BACK or self.held.horizon > 1:  # before there is a horizon it would set one
            self.apply({KEY: value})

    @rule(limit=st.sampled_from([1, 5, 1000]))
    def prune(self, limit: int) -> None:
        cursor: bytes | None = b""
        while cursor is not None:
            after, _ = self.system.history.prune(cursor, limit)
            assert after is None or after > cursor
            cursor = after
        self.model = self.model.pruned(self.held)

    @rule(steps=st.integers(1, 5), count=st.integers(1, 4), which=st.integers(0, 7))
    def evacuate(self, steps: int, count: int, which: int) -> None:
        history = self.system.history
        blocks = {layout.node_extent(address)[0] // BIG_BLOCK for address in sorted(node_addresses(history))}
        chosen = {block for block in sorted(blocks) if which & 1 << block % 3}
        cursor: bytes | None = b""
        for _ in range(steps):
            if cursor is not None:
                cursor, _ = history.evacuate(chosen, cursor, count)

    # -- asking ------------------------------------------------------------------------------------------------

    def moment(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from([0, EPOCH, *self.model.tids])) + data.draw(st.sampled_from([-1, 0, 1]))

    def bounds(self, data: st.DataObject) -> tuple[bytes, bytes]:
        a, b = KEYS[data.draw(which)], KEYS[data.draw(which)]
        choice = data.draw(st.integers(0, 4))
        if choice == 0:
            return just(a)
        if choice == 1:
            return records.whole(3)
        if choice == 2:
            return b"", END
        return (a, b) if choice == 3 else (a + b"\0", b + b"\0")

    def readable(self, at: int) -> bool:
        return self.held.readable(at)

    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        key, asked = KEYS[data.draw(which)], self.system.history
        at = max(0, self.moment(data))
        versions = self.model.versions(key)
        live = versions[-1] if versions and versions[-1].delete_tid is None else None
        assert asked.get(key) == (live.value if live else None)
        assert asked.version(key) == ((live.create_tid, live.value) if live else None)
        if self.readable(at):
            assert asked.get_at(key, at) == self.whole.at(at).get(key)
        else:
            with pytest.raises(HistoryPruned):
                asked.get_at(key, at)
        assert asked.versions(key) == versions

    @rule(data=st.data())
    def scan(self, data: st.DataObject) -> None:
        (lo, hi), at = self.bounds(data), max(0, self.moment(data))
        asked = self.system.history
        assert as_pairs(asked.scan(lo, hi)) == self.model.at(self.tid, lo, hi)
        if self.readable(at):
            assert as_pairs(asked.scan_at(lo, hi, at)) == self.whole.at(at, lo, hi)
        else:
            with pytest.raises(HistoryPruned):
                asked.scan_at(lo, hi, at)

    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        (lo, hi), t0, t1 = self.bounds(data), max(0, self.moment(data)), max(0, self.moment(data))
        asked = self.system.history
        if (t0 and not self.readable(t0)) or (t0 < t1 and not self.readable(t1)):  # 0: all that is kept
            with pytest.raises(HistoryPruned):
                asked.changes(t0, t1, lo, hi)
        elif t0 >= self.held.horizon:
            assert list(asked.changes(t0, t1, lo, hi)) == self.whole.changes(t0, t1, lo, hi)
        else:
            self.same_ends(list(asked.changes(t0, t1, lo, hi)), t0, t1, lo, hi)
        if t0 < self.held.horizon and t0 < asked.last_tid:
            with pytest.raises(HistoryPruned):
                asked.changed(lo, hi, t0)
            return
        newest = max((change.tid for change in self.whole.changes(t0, self.tid, lo, hi)), default=0)
        assert newest <= asked.newest(lo, hi) <= asked.last_tid
        told = asked.changed(lo, hi, t0)
        expected = {(change.key, change.tid) for change in self.whole.changes(t0, self.tid, lo, hi)}
        assert told in expected if expected else told is None

    def same_ends(self, told: list[Change], t0: int, t1: int, lo: bytes, hi: bytes) -> None:
        """Changes from a kept state on tell what it had and what is there at the end, of all keys that differ."""
        assert [(change.key, change.tid) for change in told] == sorted({(each.key, each.tid) for each in told})
        before, after = self.whole.at(t0, lo, hi), self.whole.at(max(t0, t1), lo, hi)
        first = {change.key: change.old for change in reversed(told)}
        last = {change.key: change.new for change in told}
        assert all(first[key] == before.get(key) and last[key] == after.get(key) for key in first)
        assert {key for key in {**before, **after} if before.get(key) != after.get(key)} <= set(first)

    @rule(data=st.data(), batch=batches, taken=st.integers(0, 40))
    def read_while_changing(self, data: st.DataObject, batch: dict[int, tuple[int, int] | None], taken: int) -> None:
        at, t0, last = max(0, self.moment(data)), max(0, self.moment(data)), self.tid
        at = at if self.readable(at) else self.held.horizon
        t0 = max(t0, self.held.horizon)
        state, changes = self.whole.at(min(at, last)), self.whole.changes(t0, last)
        scan, told = self.system.history.scan_at(b"", END, at), self.system.history.changes(t0, last)
        some, first = list(islice(scan, taken)), list(islice(told, taken))
        self.apply({KEYS[n]: what and self.value(KEYS[n], *what) for n, what in batch.items()})
        assert as_pairs([*some, *scan]) == state
        assert [*first, *told] == changes

    @rule()
    def check(self) -> None:
        assert [each for each in self.system.history.check(True) if each] == []

    @invariant()
    def accounts(self) -> None:
        if hasattr(self, "system"):
            self.system.check_live()
            counts = self.system.history.counts()
            versions = [each for key in self.model.all for each in self.model.all[key]]
            live = sum(each.delete_tid is None for each in versions)
            assert (counts.live_records, counts.past_records) == (live, len(versions) - live)


class VolumeMachine(HistoryMachine):
    system_class = VolumeSystem


def _settings(examples: int) -> settings:
    return settings(max_examples=2000 if SOAK else examples, stateful_step_count=40, deadline=None)


TestHistory = HistoryMachine.TestCase
TestHistory.settings = _settings(150)
TestHistoryOnVolume = VolumeMachine.TestCase
TestHistoryOnVolume.settings = _settings(40)
