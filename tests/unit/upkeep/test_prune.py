"""Prune on a simulated volume: what is kept can be read as before, what is not is refused, space is given up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gavel.errors import HistoryPruned
from gavel.filesystem import retention, snapshots
from gavel.keys.records import ROOT_OBJECT
from gavel.upkeep import prune as pruning
from gavel.upkeep.job import Cursor, Steps, Write
from gavel.upkeep.prune import Pruned, estimate, prune
from tests.crash.simulated import System, opened, state
from tests.unit.btree.memory_store import small_nodes
from tests.unit.upkeep.systems import get, problems, put, remove, run, volume

ALL = (ROOT_OBJECT, retention.parse("all:2s"))


def aged() -> tuple[System, list[int]]:
    """A volume with twenty versions of a file and of a deleted one, a second apart."""
    system = volume()
    moments = []
    for n in range(20):
        put(system, b"f", b"version %02d " % n * 40)
        moments.append(put(system, b"gone", bytes([n]) * 5000))
        system.shell.run(seconds=1)
    remove(system, b"gone")
    return system, moments


def move_horizon(system: System, steps: Steps[Pruned]) -> None:
    """What a prune does first, and no more."""
    step = next(steps)
    while not isinstance(step, Write):
        step = next(steps)
    system.engine.write(step.operation)


def test_nothing_goes_while_the_policy_keeps_everything() -> None:
    system, moments = aged()
    before = system.engine.history.counts()
    assert run(system, prune(system.engine.history)) == Pruned(0, 0, 0, 0)
    assert system.engine.history.counts().past_records == before.past_records
    assert get(system, b"f", moments[0]) == b"version 00 " * 40


def test_above_the_horizon_all_is_kept_and_below_it_is_refused() -> None:
    system, moments = aged()
    engine = system.engine
    states = {tid: state(engine, tid) for tid in moments}
    done = run(system, prune(engine.history, ALL))
    assert done.versions > 0
    assert done.horizon == engine.history.horizon > moments[10]
    for tid in moments:
        if tid >= done.horizon:
            assert state(engine, tid) == states[tid]
        else:
            with pytest.raises(HistoryPruned):
                state(engine, tid)
    assert problems(system) == []


def test_named_snapshots_stay_as_they_were_and_everything_else_goes() -> None:
    system, moments = aged()
    engine = system.engine
    named = moments[3], moments[11]
    for n, tid in enumerate(named):
        engine.write(snapshots.create, f"s{n}", tid)
    states = {tid: state(engine, tid) for tid in named}
    live = engine.volume.space().data
    done = run(system, prune(engine.history, everything=True))
    assert done.kept == 2
    for tid in moments:
        if tid in named:
            assert state(engine, tid) == states[tid]
        else:
            with pytest.raises(HistoryPruned):
                state(engine, tid)
    assert engine.volume.space().data < live / 3
    assert engine.history.counts().past_records < 40
    engine.write(snapshots.create, "same", named[1])
    with pytest.raises(HistoryPruned):
        engine.write(snapshots.create, "gone", moments[5])
    engine.write(snapshots.delete, "same")
    engine.write(snapshots.delete, "s0")
    assert run(system, prune(engine.history, everything=True)).kept == 1
    assert state(engine, named[1]) == states[named[1]]
    assert problems(system) == []


def test_an_estimate_says_what_a_prune_does_and_changes_nothing() -> None:
    system, _ = aged()
    engine = system.engine
    count, live = engine.history.counts().past_records, engine.volume.space().data
    expected = run(system, estimate(engine.history, engine.look, everything=True))
    assert (engine.history.counts().past_records, engine.volume.space().data) == (count, live)
    assert engine.history.horizon == 0
    assert not engine.cache.dirty
    done = run(system, prune(engine.history, everything=True))
    assert (done.versions, done.kept) == (expected.versions, expected.kept)
    assert live - engine.volume.space().data == expected.bytes


def test_an_estimate_is_made_where_nothing_may_be_written() -> None:
    system, _ = aged()
    expected = run(system, estimate(system.engine.history, system.engine.look, everything=True))
    assert expected.versions > 0
    system.checkpoint(clean=True)
    system.engine.abandon()
    after = opened(system.device, system.shell.clock(), read_only=True)
    found = run(after, estimate(after.engine.history, after.engine.look, everything=True))
    assert (found.versions, found.bytes, found.kept) == (expected.versions, expected.bytes, expected.kept)


@pytest.fixture
def many_leaves() -> Iterator[None]:
    """A step looks at a leaf, so that it takes several."""
    with small_nodes():
        yield


def test_a_prune_goes_on_from_its_cursor_after_a_restart(many_leaves: None) -> None:
    system, _ = aged()
    engine = system.engine
    cursor = Cursor()
    steps = prune(engine.history, everything=True, cursor=cursor)
    move_horizon(system, steps)
    engine.flush()
    system.checkpoint()
    after = opened(system.device.crash(keep=0.0), system.shell.clock())
    assert after.engine.history.horizon > 0
    job = after.engine.jobs.start("prune", prune(after.engine.history, everything=True, cursor=cursor))
    after.engine.jobs.slice_ns = 1
    after.shell.run_until(lambda: cursor.value != b"" or job.over)
    after.engine.jobs.cancel(job)
    value = cursor.value
    assert value
    again = run(after, prune(after.engine.history, everything=True, cursor=cursor))
    assert again.versions > 0
    assert cursor.value == b""
    left = run(after, prune(after.engine.history, everything=True)).versions
    assert left <= 1, "nothing was left behind but the last record of the horizon itself"
    assert problems(after) == []


def test_the_horizon_is_as_old_as_its_transaction_after_a_crash() -> None:
    system, moments = aged()
    steps = prune(system.engine.history, everything=True)
    move_horizon(system, steps)
    system.sync()
    after = opened(system.device.crash(keep=0.0), system.shell.clock())
    with pytest.raises(HistoryPruned):
        state(after.engine, moments[4])


def test_progress_grows_to_its_total() -> None:
    system, _ = aged()
    system.engine.jobs.slice_ns = 1
    job = system.engine.jobs.start("prune", pruning.prune(system.engine.history, everything=True))
    seen: list[int] = []
    while not job.over:
        system.shell.run(0.001)
        if job.progress is not None:
            seen.append(job.progress.done)
    assert job.progress is not None
    assert job.progress.done == job.progress.total
    assert seen == sorted(seen)
