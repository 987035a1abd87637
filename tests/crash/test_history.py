"""Cuts at every device write of a workload of applies, upkeep and checkpoints on the real volume.

What comes back is the history as it was after one of the transactions, none older than the last one synced; its
trees, its live bytes and all its versions are those of that moment, and life goes on from there.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from random import Random
from unittest.mock import patch

import pytest

from gavel.errors import HistoryPruned
from gavel.history import history
from gavel.history.horizon import KEY, Horizon, encode, recalled
from gavel.history.versions import Change, Step, Version
from gavel.keys import records
from gavel.limits import BIG_BLOCK
from gavel.media import extents, layout
from gavel.sim.device import SimDevice
from tests.unit.btree.memory_store import small_nodes
from tests.unit.history.model import Model, Writes, as_pairs, sorted_lists
from tests.unit.history.systems import VolumeSystem, node_addresses, shown

SEEDS = range(20) if os.environ.get("GAVEL_SOAK") else range(2)
END = b"\xff"


class Workload:
    """Random transactions, checkpoints in slices between them, syncs now and then."""

    def __init__(self, system: VolumeSystem, model: Model, random: Random) -> None:
        self.system, self.model, self.random = system, model, random
        self.running: Iterator[Step] | None = None

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.04:
            self.move_horizon()
        elif choice < 0.1:
            self.prune()
        elif choice < 0.12:
            self.evacuate()
        elif choice < 0.18:
            self.relocate()
        elif choice < 0.6:
            self.apply()
        elif choice < 0.7:
            self.system.sync()
        else:
            self.advance_checkpoint()

    def apply(self) -> None:
        random = self.random
        writes: Writes = {}
        for _ in range(random.choice([1, 5, 40])):
            number = random.randrange(60)
            kind = random.randrange(3)
            if kind == 0:
                key, value = records.inode(0, number), random.randbytes(40)
            elif kind == 1:
                key, value = records.entry(0, 1, b"name%d" % number), random.randbytes(9)
            else:
                key = records.extent(0, 5, number * 4096 + 4096)
                value = self.system.stage(random.randbytes(500))
            writes[key] = value if random.random() < 0.8 else None
        tid = self.model.last_tid + 256
        self.model.apply(tid, writes)  # first, as a cut within the apply may have it already
        self.system.apply(tid, *sorted_lists(writes))
        if random.random() < 0.3:
            self.system.volume.flush()

    def move_horizon(self) -> None:
        """Onwards, keeping some of what can be read."""
        held = recalled(self.model.versions(KEY))
        readable = [tid for tid in self.model.tids if held.readable(tid)]
        if not readable:
            return
        horizon = max(held.horizon, readable[len(readable) // 2])
        kept = [tid for tid in readable if tid < horizon and self.random.random() < 0.1]
        tid = self.model.last_tid + 256
        writes: Writes = {KEY: encode(Horizon(horizon, tuple(kept)))}
        self.model.apply(tid, writes)
        self.system.apply(tid, *sorted_lists(writes))

    def prune(self) -> None:
        cursor: bytes | None = b""
        while cursor is not None:
            cursor, _ = self.system.history.prune(cursor, 20)

    def evacuate(self) -> None:
        history = self.system.history
        blocks = {layout.node_extent(address)[0] // BIG_BLOCK for address in sorted(node_addresses(history))}
        cursor: bytes | None = b""
        while cursor is not None:
            cursor, _ = history.evacuate(blocks, cursor, 3)

    def relocate(self) -> None:
        """Data lies elsewhere from now on; the old place is given up."""
        history, volume = self.system.history, self.system.volume
        found = [one for one, _ in history.walk(b"", data_only=True)]
        for version in self.random.sample(found, min(len(found), 10)):
            view = extents.decode(version.value)
            assert view.extent is not None
            place = volume.append_data(volume.read(view.extent.place, view.extent.stored))
            new = extents.encode_view(view.extent._replace(place=place), view.skip, view.view)
            assert history.relocate(version.key, version.create_tid, version.delete_tid, version.value, new)
        volume.settle(volume.written)

    def advance_checkpoint(self) -> None:
        if self.running is None:
            self.running = self.system.checkpoint()
        for _ in range(self.random.randrange(1, 12)):
            if next(self.running, None) is None:
                self.running = None
                return


def seen(versions: Iterable[Version]) -> list[Version]:
    """Versions without the places of their extents."""
    return [one._replace(value=shown(one.key, one.value)) for one in versions]


def told(changes: Iterable[Change]) -> list[tuple[bytes, int, bytes | None, bytes | None]]:
    """The same of changes."""
    return [(key, tid, old and shown(key, old), new and shown(key, new)) for key, tid, old, new in changes]


def state(pairs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The same of a state."""
    return {key: shown(key, value) for key, value in pairs.items()}


def judge(device: SimDevice, workload: Workload, durable: int) -> VolumeSystem:
    """Open what a power cut left and compare it with the model."""
    system = VolumeSystem(3000, device)
    back, then = system.history, workload.model.until(system.history.last_tid)
    assert back.last_tid in (0, *then.tids)
    assert back.last_tid >= durable
    assert state(as_pairs(back.scan(b"", END))) == state(then.at(back.last_tid))
    held = recalled(then.versions(KEY))
    assert (back.horizon, back.kept) == (held.horizon, held.kept)
    for at in workload.random.sample(then.tids, min(3, len(then.tids))):
        if held.readable(at):
            assert state(as_pairs(back.scan_at(b"", END, at))) == state(then.at(at))
        else:
            with pytest.raises(HistoryPruned):
                back.scan_at(b"", END, at)
    needed = then.pruned(held)
    for key, versions in then.all.items():
        left, wanted = seen(back.versions(key)), seen(needed.all[key])
        assert [each for each in seen(versions) if each in left] == left, "nothing but what was"
        assert [each for each in left if each in wanted] == wanted, "and all that can be seen"
    since = held.horizon
    assert told(back.changes(since, back.last_tid)) == told(then.changes(since, back.last_tid))
    for version, _ in back.walk(b"", data_only=True):
        view = extents.decode(version.value)
        assert view.extent is not None
        extents.restore(view.extent, system.volume.read(view.extent.place, view.extent.stored))
    assert [problem for problem in back.check(True) if problem] == []
    system.check_live()
    return system


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("most", [250, 16 * 1024])
def test_a_cut_at_every_write_loses_nothing_that_was_synced(seed: int, most: int) -> None:
    random = Random(seed)
    cuts = 0
    with ExitStack() as stack:
        if most < 16 * 1024:
            stack.enter_context(small_nodes(most))
            stack.enter_context(patch.object(history, "SLICE_NODES", 1))
        system = VolumeSystem(3000)
        model = Model()
        model.last_tid = 1 << 58
        workload = Workload(system, model, Random(seed))

        def cut(device: SimDevice) -> None:
            nonlocal cuts
            cuts += 1
            crashed = device.crash(random, random.choice([None, None, 0.0, 1.0]))
            asked = Workload(system, model, Random(cuts))
            back = judge(crashed, asked, system.durable)
            if cuts % 8 == 0:
                live_on(back, model.until(back.history.last_tid) if back.history.last_tid else Model(), cuts)

        system.device.on_write = cut
        for _ in range(150):
            workload.step()
    assert cuts > 40


def live_on(system: VolumeSystem, model: Model, seed: int) -> None:
    """A recovered history takes more, and survives the next cut, too."""
    model.last_tid = max(model.last_tid, 1 << 58)
    workload = Workload(system, model, Random(seed))
    for _ in range(15):
        workload.step()
    judge(system.device.crash(Random(seed)), workload, system.durable)
