"""A power cut at every write while upkeep runs: no state that is kept ever changes, and the volume is sound.

Each run prepares a past, does one job with others writing between its slices, and keeps the device as each write left
it. What comes back must be sound in depth; every kept state must be as it was, states below the horizon be refused, and
what was synced be there. Then the same job runs again on what the crash left, and the same must hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from gavel.errors import DeviceFailed, DeviceFull, HistoryPruned, VolumeFull
from gavel.filesystem import check, data, namespace, orphans, retention, snapshots
from gavel.keys.records import ROOT_OBJECT
from gavel.runtime.engine import Engine
from gavel.sim.device import SimDevice
from gavel.transaction.transaction import Transaction
from gavel.upkeep.dedup import dedup
from gavel.upkeep.job import Steps
from gavel.upkeep.prune import prune
from gavel.upkeep.reblock import reblock
from tests.crash.simulated import WHO, State, System, fresh, lookup, opened, state

SOAK = bool(os.environ.get("GAVEL_SOAK"))
SEEDS = range(12 if SOAK else 1)
CUTS = 400 if SOAK else 30  # devices looked at per run, spread over all writes

Work = Callable[[Engine], Steps[Any]]

JOBS: dict[str, Work] = {
    "prune everything": lambda engine: prune(engine.history, everything=True),
    "prune by policy": lambda engine: prune(engine.history, (ROOT_OBJECT, retention.parse("all:3s"))),
    "reblock": lambda engine: reblock(engine.history, engine.volume),
    "dedup": lambda engine: dedup(engine.history, engine.volume),
}


class Cut(NamedTuple):
    """A device after a crash, and the tid up to which everything was durable by then."""

    device: SimDevice
    durable: int


def prepared(random: Random, scattered: bool = False) -> System:
    """Thirty files of few different contents, overwritten in part, some deleted, over nine seconds; three snapshots.

    `scattered`: some of it lies between what was deleted before, so that there is something to move.
    """
    system = fresh(random.randrange(1 << 30))
    contents = [random.randbytes(random.choice([3000, 9000, 20_000])) for _ in range(8)]
    with patch("gavel.cache.lately.Lately.find", lambda *_: None):
        for n in range(20 * scattered):
            _write(system.engine, b"filler%d" % n, random.randbytes(1 << 20), 0)
            _write(system.engine, b"f%02d" % n, random.choice(contents), 0)
        for n in range(20 * scattered):
            _delete(system.engine, b"filler%d" % n)
        for n in range(45):
            _write(system.engine, b"f%02d" % (n % 30), random.choice(contents), 0)
            if n % 4 == 0:
                _write(system.engine, b"f%02d" % random.randrange(n % 30 + 1), random.randbytes(700), 1000)
            if n % 15 == 14:
                system.engine.write(snapshots.create, f"s{n}", system.engine.flush())
            system.shell.run(seconds=0.2)
    for n in range(0, 30, 3):
        _delete(system.engine, b"f%02d" % n)
    system.checkpoint()
    if scattered:
        done = system.engine.jobs.start("prune", prune(system.engine.history, (ROOT_OBJECT, retention.parse("all:6s"))))
        system.shell.run_until(lambda: done.over)
        done.result()
        system.checkpoint()
    return system


def _write(engine: Engine, name: bytes, content: bytes, offset: int) -> None:
    def operation(tx: Transaction) -> None:
        try:
            obj = lookup(tx, ROOT_OBJECT, name)
        except FileNotFoundError:
            obj, _ = namespace.create(tx, ROOT_OBJECT, name, 0o100644, WHO)
        data.write(tx, obj, offset, content)

    engine.write(operation)


def _delete(engine: Engine, name: bytes) -> None:
    obj = engine.read(lookup, ROOT_OBJECT, name)
    engine.write(namespace.unlink, ROOT_OBJECT, name)
    while not engine.write(orphans.reap, obj):
        pass


def test_the_workload_is_one() -> None:
    assert prepared(Random(0)).engine.history.counts().past_records > 60
    assert prepared(Random(0), scattered=True).engine.volume.victims(0.9), "there is something to move"


@contextmanager
def small_steps() -> Iterator[None]:
    """Jobs that look at three records in a step and want a checkpoint now and then."""
    with (
        patch("gavel.upkeep.prune.JOB_RECORDS", 3),
        patch("gavel.upkeep.walk.JOB_RECORDS", 3),
        patch("gavel.upkeep.prune.JOB_DIRTY_MAX", 2_000),
        patch("gavel.upkeep.reblock.JOB_DIRTY_MAX", 20_000),
        patch("gavel.upkeep.dedup.JOB_DIRTY_MAX", 20_000),
    ):
        yield


def run_cut(system: System, random: Random, work: Work) -> list[Cut]:
    """Do the job; the device as each write left it."""
    cuts: list[Cut] = []
    durable = system.engine.history.last_tid

    def wrote(device: SimDevice) -> None:
        cuts.append(Cut(device.crash(Random(random.getrandbits(32))), durable))

    system.device.on_write = wrote
    engine = system.engine
    engine.jobs.slice_ns = 1
    job = engine.jobs.start("job", work(engine))
    while not job.over:
        if random.random() < 0.3:
            # In the midst of a file: records that are not committed yet refer to extents that the job may move.
            name = b"%s%02d" % (random.choice([b"f", b"o"]), random.randrange(20))
            _write(engine, name, random.randbytes(random.choice([300, 2000])), random.choice([0, 500]))
            if random.random() < 0.3:
                durable = system.sync()
        system.shell.run(0.0005)
    job.result()
    cuts.append(Cut(system.device.crash(keep=0.0), durable))
    system.device.on_write = None
    return cuts


def sound(engine: Engine) -> None:
    assert engine.volume.check() == []
    assert [problem for problem in engine.history.check(deep=True) if problem] == []
    assert [found for found in engine.read(lambda tx: list(check.check(tx, True))) if found] == []


def kept_states(engine: Engine) -> dict[int, State]:
    """Some of the states that can be read, all that are kept below the horizon among them."""
    kept = engine.read(retention.read)
    moments = sorted({change.tid for change in engine.history.changes(kept.horizon, engine.history.last_tid)})
    some = [*kept.kept, *moments[:: max(1, len(moments) // 8)], moments[-1]]
    return {tid: state(engine, tid) for tid in some if kept.readable(tid)}


def compare(engine: Engine, states: dict[int, State]) -> int:
    """Every state that is kept is as it was; every other is refused as a whole. How many were refused."""
    kept = engine.read(retention.read)
    refused = 0
    for tid, before in states.items():
        if kept.readable(tid):
            assert state(engine, tid) == before
        else:
            refused += 1
            with pytest.raises(HistoryPruned):
                state(engine, tid)
    return refused


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(JOBS))
def test_a_cut_at_any_write_of_a_job_loses_nothing_that_is_kept(name: str, seed: int) -> None:
    random = Random(f"{name} {seed}")
    system = prepared(random, scattered=name in ("reblock", "dedup"))
    engine = system.engine
    states = kept_states(engine)
    with small_steps():
        cuts = run_cut(system, random, JOBS[name])
    compare(engine, states)
    sound(engine)
    assert len(cuts) > 10
    step = max(1, len(cuts) // CUTS)
    refused = 0
    for cut in [*cuts[seed % step :: step], cuts[-1]]:
        after = opened(cut.device, system.shell.clock())
        assert after.engine.history.last_tid >= cut.durable, "what was synced is there"
        refused += compare(after.engine, states)
        sound(after.engine)
        again = after.engine.jobs.start("again", JOBS[name](after.engine))
        after.shell.run_until(lambda again=again: again.over)  # type: ignore[misc]
        again.result()
        compare(after.engine, states)
        sound(after.engine)
        after.engine.abandon()
    assert (refused > 0) == name.startswith("prune")


@pytest.mark.parametrize("name", sorted(JOBS))
@pytest.mark.parametrize("kind", ["fails", "is full", "is full for long"])
def test_a_device_that_fails_or_is_full_at_any_call_loses_nothing_that_is_kept(name: str, kind: str) -> None:
    """The nth call, for growing n, until a run completes clean; then the same volume goes on, or what a crash left."""
    random = Random(f"{name} {kind}")
    template = prepared(random, scattered=name in ("reblock", "dedup"))
    template.checkpoint(clean=True)
    states = kept_states(template.engine)
    template.engine.abandon()
    call = clean = 0
    while not clean:
        call += 1 if SOAK else random.randrange(4, 12)
        system = opened(template.device.crash(keep=1.0), template.shell.clock())
        if kind == "fails":
            system.device.fail_at(call)
        else:
            system.device.full_at(call, lasting=kind == "is full for long")
        with small_steps():
            job = system.engine.jobs.start("job", JOBS[name](system.engine))
            try:
                system.shell.run_until(lambda job=job: job.over)  # type: ignore[misc]
                clean = job.result() is not None
            except (DeviceFailed, DeviceFull, VolumeFull):
                pass
        system.device.heal()
        if kind == "fails" and not clean:
            system.engine.abandon()
            system = opened(system.device.crash(Random(call)), system.shell.clock())
        compare(system.engine, states)
        again = system.engine.jobs.start("again", JOBS[name](system.engine))
        system.shell.run_until(lambda again=again: again.over)  # type: ignore[misc]
        again.result()
        compare(system.engine, states)
        sound(system.engine)
        system.engine.abandon()
        assert call < 2000
