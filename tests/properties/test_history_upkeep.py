"""History under upkeep against a list of versions: prune, relocate, evacuate between applies, checkpoints, crashes.

Values of extents are compared by what they show, not by where that lies.
"""

from __future__ import annotations

import os
from random import Random
from unittest.mock import patch

import pytest

from gavel.errors import HistoryPruned
from gavel.filesystem.retention import Horizon
from gavel.history import history as histories
from gavel.history.versions import Step, Version
from gavel.keys import records
from gavel.limits import BIG_BLOCK
from gavel.media import extents, layout
from tests.unit.btree.memory_store import small_nodes
from tests.unit.history.model import Model, Writes, as_pairs, sorted_lists
from tests.unit.history.systems import VolumeSystem, node_addresses, shown

SEEDS = range(60 if os.environ.get("GAVEL_SOAK") else 6)
STEPS = 250
END = b"\xff"
KEYS = sorted(
    [records.inode(0, obj) for obj in range(1, 25)]
    + [records.entry(0, 1, b"name%d" % n) for n in range(12)]
    + [records.extent(pfs, 7, (n + 1) * 4096) for pfs in (0, 3) for n in range(20)]
)


class Upkeep:
    """A system, its model, and one operation after the other."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.system = VolumeSystem(self.random.choice([0, 2000, 10**6]))
        self.model = Model()
        self.tid = 1_763_800_000_000_000 << 8
        self.kept = Horizon()
        self.cursor = b""
        self.running = None
        self.contents = [self.random.randbytes(400) for _ in range(6)]

    def apply(self) -> None:
        random = self.random
        writes: Writes = {}
        for key in random.sample(KEYS, random.choice([1, 3, 20])):
            value = self.system.stage(random.choice(self.contents)) if records.is_data(key) else random.randbytes(30)
            writes[key] = value if random.random() < 0.8 else None
        self.tid += 256
        self.system.apply(self.tid, *sorted_lists(writes))
        self.model.apply(self.tid, writes)

    def move_horizon(self) -> None:
        """Onwards, keeping some of what can be read."""
        random = self.random
        readable = [tid for tid in self.model.tids if self.kept.readable(tid)]
        if not readable:
            return
        horizon = max(self.kept.horizon, random.choice(readable))
        below = [tid for tid in readable if tid < horizon]
        self.kept = Horizon(horizon, tuple(sorted(random.sample(below, min(len(below), random.randrange(6))))))
        self.system.history.set_horizon(self.kept.horizon, self.kept.kept)

    def prune(self) -> None:
        after, _ = self.system.history.prune(self.cursor, self.random.choice([1, 7, 1000]))
        assert after is None or after > self.cursor
        self.cursor = after or b""

    def relocate(self) -> None:
        history, random = self.system.history, self.random
        found = [one for one, _ in history.walk(b"", data_only=True)]
        for version in random.sample(found, min(len(found), 8)):
            view = extents.decode(version.value)
            if view.extent is None:
                continue
            data = self.system.volume.read(view.extent.place, view.extent.stored)
            place = self.system.volume.append_data(data)
            new = extents.encode_view(view.extent._replace(place=place), view.skip, view.view)
            key, created, deleted, value = version
            assert not history.relocate(key, created + 1, deleted, value, new)
            assert history.holds(version)
            assert history.relocate(key, created, deleted, value, new)
            assert not history.holds(version)
            assert history.holds(version._replace(value=new))
            assert not history.relocate(key, created, deleted, value, new), "it is not what it was any more"

    def evacuate(self) -> None:
        history = self.system.history
        blocks = {layout.node_extent(address)[0] // BIG_BLOCK for address in sorted(node_addresses(history))}
        some = frozenset(block for block in sorted(blocks) if self.random.random() < 0.7)
        cursor: bytes | None = b""
        while cursor is not None:
            cursor, _ = history.evacuate(some, cursor, self.random.choice([1, 5]))
        left = {layout.node_extent(address)[0] // BIG_BLOCK for address in sorted(node_addresses(history))}
        assert not left & some

    def advance_checkpoint(self) -> None:
        if self.running is None:
            self.running = self.system.checkpoint()
        for _ in range(self.random.choice([1, 3, 100])):
            if next(self.running, None) is None:
                self.running = None
                break

    def crash(self) -> None:
        self.running = None
        survived = self.system.crash(self.random.randrange(1 << 30))
        assert survived >= self.system.durable or survived >= 0
        self.model = self.model.until(survived)
        self.tid = max(self.tid, survived)
        self.system.history.set_horizon(self.kept.horizon, self.kept.kept)
        self.cursor = b""

    def check(self) -> None:
        history, model = self.system.history, self.model
        for tid in self.random.sample(model.tids, min(len(model.tids), 6)):
            if not self.kept.readable(tid):
                with pytest.raises(HistoryPruned):
                    history.scan_at(b"", END, tid)
                with pytest.raises(HistoryPruned):
                    history.get_at(KEYS[0], tid)
                continue
            expected = {key: shown(key, value) for key, value in model.at(tid).items()}
            found = as_pairs(history.scan_at(b"", END, tid))
            assert {key: shown(key, value) for key, value in found.items()} == expected
            key = self.random.choice(KEYS)
            value = history.get_at(key, tid)
            assert (None if value is None else shown(key, value)) == expected.get(key)
        walked = [one for one, _ in history.walk(b"")]
        assert sorted(walked) == sorted(one for key in KEYS for one in history.versions(key))
        assert [one for one, _ in history.walk(b"", data_only=True)] == [
            one for one in walked if records.is_data(one.key)
        ]
        assert [one for one, _ in history.walk(b"", closed_only=True)] == [one for one in walked if one.delete_tid]
        for index in range(0, len(walked), 17):
            cursor = list(history.walk(b""))[index][1]
            assert [one for one, _ in history.walk(cursor)] == walked[index + 1 :]
        assert all(self.needed_or_waiting(one) for one in walked)

    def needed_or_waiting(self, version: Version) -> bool:
        """What is left is in the model, whose versions were never dropped."""
        return any(
            (one.create_tid, one.delete_tid) == version[1:3]
            and shown(one.key, one.value) == shown(version.key, version.value)
            for one in self.model.versions(version.key)
        )

    def settle(self) -> None:
        """At the end all that can go goes, and all accounts agree."""
        self.running = None
        cursor: bytes | None = b""
        while cursor is not None:
            cursor, _ = self.system.history.prune(cursor, 5)
        kept = self.kept
        for version, _ in self.system.history.walk(b"", closed_only=True):
            assert version.delete_tid is not None
            assert not kept.needless(version.create_tid, version.delete_tid)
        self.check()
        self.system.check_live()
        for step in self.system.checkpoint():
            assert step in Step
        self.system.check_live()
        self.system.check_image()
        # Sizes of nodes are estimates, a few bytes short for nodes as small as these.
        problems = [text for text in self.system.history.check(deep=True) if text and "over the limit" not in text]
        assert problems == []


@pytest.mark.parametrize("seed", SEEDS)
def test_upkeep_changes_nothing_that_can_be_seen(seed: int) -> None:
    with small_nodes(300), patch.object(histories, "SLICE_NODES", 1):
        upkeep = Upkeep(seed)
        weights = {
            upkeep.apply: 10, upkeep.move_horizon: 1, upkeep.prune: 4, upkeep.relocate: 2, upkeep.evacuate: 1,
            upkeep.advance_checkpoint: 6, upkeep.crash: 0.5, upkeep.system.sync: 1,
        }  # fmt: skip
        for number in range(STEPS):
            chosen = upkeep.random.choices(list(weights), list(weights.values()))[0]
            chosen()
            if number % 10 == 0:
                upkeep.check()
        upkeep.settle()


def test_a_scan_under_way_ends_when_what_it_shows_is_no_longer_kept() -> None:
    upkeep = Upkeep(1)
    for _ in range(20):
        upkeep.apply()
    history = upkeep.system.history
    early = upkeep.model.tids[5]
    scan, changes = history.scan_at(b"", END, early), history.changes(early, history.last_tid)
    next(scan)
    next(changes)
    upkeep.apply()
    history.set_horizon(upkeep.model.tids[10], ())
    while history.prune(b"", 1000)[1]:
        pass
    with pytest.raises(HistoryPruned):
        list(scan)
    with pytest.raises(HistoryPruned):
        list(changes)
