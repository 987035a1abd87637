"""What each snapshot alone holds."""

from __future__ import annotations

from random import Random

import pytest

from gavel.filesystem import snapshots
from gavel.history.history import History
from gavel.keys.records import is_data
from gavel.media import extents
from gavel.upkeep.prune import prune
from gavel.upkeep.snapshot_space import snapshot_space
from tests.crash.simulated import System
from tests.unit.upkeep.systems import noise, put, remove, run, volume


def alone(system: System) -> dict[str, int]:
    named = system.engine.read(snapshots.listing)
    return run(system, snapshot_space(system.engine.history, named))


def test_each_snapshot_holds_what_no_other_and_not_the_present_has() -> None:
    system = volume()
    tids = []
    put(system, b"stays", noise(50_000, 1))
    for n in range(4):
        put(system, b"f", noise(10_000, n))
        tids.append(put(system, b"g%d" % n, noise(1000 * (n + 1), n)))
    for n in range(4):
        remove(system, b"g%d" % n)
    assert alone(system) == {}
    for n, tid in enumerate(tids):
        system.engine.write(snapshots.create, f"s{n}", tid)
    # f as of each but the last is in one of them alone; g0 to g2 are in all that followed as well, g3 in the last.
    assert alone(system) == {"s0": 10_000, "s1": 10_000, "s2": 10_000, "s3": 4000}
    system.engine.write(snapshots.delete, "s2")
    assert alone(system) == {"s0": 10_000, "s1": 10_000, "s3": 4000 + 3000}


def test_it_comes_back_when_the_snapshot_is_deleted_and_pruned() -> None:
    system = volume()
    put(system, b"f", noise(30_000, 1))
    system.engine.write(snapshots.create, "one", system.engine.history.last_tid)
    put(system, b"f", noise(30_000, 2))
    run(system, prune(system.engine.history, everything=True))
    held = alone(system)
    assert held == {"one": 30_000}
    before = system.engine.volume.space().data
    system.engine.write(snapshots.delete, "one")
    run(system, prune(system.engine.history, everything=True))
    assert before - system.engine.volume.space().data == held["one"]


def test_two_names_for_one_state_hold_nothing_alone() -> None:
    system = volume()
    tid = put(system, b"f", noise(30_000, 1))
    put(system, b"f", noise(30_000, 2))
    for name in ("a", "b"):
        system.engine.write(snapshots.create, name, tid)
    assert alone(system) == {"a": 0, "b": 0}


def by_brute_force(system: System) -> dict[str, int]:
    """File data that is there as of a snapshot, and neither as of any other nor now."""
    history = system.engine.history
    named = system.engine.read(snapshots.listing)
    states = {one.name: data_at(history, one.tid) for one in named}
    now = data_at(history, history.last_tid)
    found = {}
    for name, held in states.items():
        others = now.union(*(state for other, state in states.items() if other != name))
        places = [extents.reference(value) for _, value in held - others]
        found[name] = sum(place[1] for place in places if place is not None)
    return found


def data_at(history: History, tid: int) -> set[tuple[bytes, bytes]]:
    return {one for one in history.scan_at(b"", b"\xff" * 16, tid) if is_data(one[0])}


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_reading_all_states_finds(seed: int) -> None:
    random = Random(seed)
    system = volume()
    tids = [system.engine.flush()]
    names = [b"f%d" % n for n in range(6)]
    there: set[bytes] = set()
    for step in range(40):
        name = random.choice(names)
        if name in there and random.random() < 0.3:
            there.discard(name)
            tids.append(remove(system, name))
        else:
            there.add(name)
            content = noise(random.choice([100, 5000, 200_000]), 1000 * seed + step)
            tids.append(put(system, name, content, random.choice([0, 0, 3000, 150_000])))
    for number, tid in enumerate(sorted(random.sample(tids[1:], 8))):
        system.engine.write(snapshots.create, f"s{number}", tid)
    system.engine.flush()
    expected = by_brute_force(system)
    assert any(expected.values())
    assert alone(system) == expected
    run(system, prune(system.engine.history, everything=True))
    assert alone(system) == by_brute_force(system) == expected
