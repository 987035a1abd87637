"""Cleanup: what is due is done while a volume is in use, within its time, and goes on after restarts."""

from __future__ import annotations

import pytest

from gavel.errors import BadRequest
from gavel.filesystem import retention
from gavel.keys import tid as tids
from gavel.keys.records import ROOT_OBJECT
from gavel.runtime.cleanup import FIRST_LOOK_SECONDS, LOOK_SECONDS
from gavel.runtime.jobs import State
from gavel.transaction.transaction import Transaction
from gavel.upkeep import cleanup
from gavel.upkeep.cleanup import DEFAULTS, Course, Task
from gavel.upkeep.job import Progress, Steps
from tests.crash.simulated import System, opened, state
from tests.unit.upkeep.systems import ended, noise, problems, put, volume

DAY = 86_400
SOON = FIRST_LOOK_SECONDS + LOOK_SECONDS + 60


def course(system: System) -> dict[str, Course]:
    return system.engine.read(cleanup.course)


def due(system: System) -> list[str]:
    return _due(system, tids.make(system.shell.clock() // 1000 - DAY * 10**6 + 10**6))


def _due(system: System, created: int) -> list[str]:
    return system.engine.read(cleanup.due, created, system.engine.cleanup.courses.read())


def test_the_defaults_prune_and_reblock_daily_and_scrub_monthly() -> None:
    system = volume()
    assert system.engine.read(cleanup.tasks) == DEFAULTS
    created = tids.make(system.shell.clock() // 1000 - DAY * 10**6 + 10**6)
    assert _due(system, created) == [], "the volume is younger than a day"
    system.shell.run(2)
    assert _due(system, created) == ["prune", "reblock"]


def test_the_configuration_is_stored() -> None:
    system = volume()
    found = system.engine.write(cleanup.configure, "dedup", 7 * DAY, 600)
    assert found == {**DEFAULTS, "dedup": Task(7 * DAY, 600)}
    system.engine.write(cleanup.configure, "scrub", None, 600)
    system.sync()
    after = opened(system.device.crash(keep=0.0), system.shell.clock())
    assert after.engine.read(cleanup.tasks)["scrub"] == Task(None, 600)
    assert after.engine.read(cleanup.tasks)["dedup"] == Task(7 * DAY, 600)


def test_a_configuration_that_makes_no_sense_is_refused() -> None:
    system = volume()
    with pytest.raises(BadRequest, match="there are prune"):
        system.engine.write(cleanup.configure, "polish", DAY, 60)
    with pytest.raises(BadRequest, match="minute"):
        system.engine.write(cleanup.configure, "prune", DAY, 1)


def test_a_mount_does_by_itself_what_is_due() -> None:
    system = volume()
    engine = system.engine
    engine.write(retention.set_policy, ROOT_OBJECT, "all:1h,daily:10d")
    for n in range(10):
        put(system, b"f", noise(20_000, n))
    system.shell.run(2 * DAY)
    put(system, b"f", b"new")
    count = engine.history.counts().past_records
    engine.cleanup.start()
    engine.cleanup.start()
    system.shell.run(SOON)
    found = course(system)
    assert list(found) == ["prune", "reblock"] or set(found) == {"prune", "reblock", "scrub"}
    assert "versions dropped" in found["prune"].note
    assert engine.history.counts().past_records < count
    assert engine.history.horizon > 0
    assert found["prune"].next > system.shell.clock() // 1000 + (DAY - 3600) * 10**6
    again = found["prune"].next
    system.shell.run(3 * 3600)
    assert course(system)["prune"].next == again
    system.shell.run(DAY)
    assert course(system)["prune"].next > again
    assert problems(system) == []


def test_what_is_due_waits_while_there_is_something_better_to_do() -> None:
    system = volume()
    system.engine.cleanup.put_off = lambda: True
    system.engine.cleanup.start()
    system.shell.run(2 * DAY)
    assert course(system) == {}
    system.engine.cleanup.put_off = lambda: False
    system.shell.run(SOON)
    assert {"prune", "reblock"} <= set(course(system))


def test_what_runs_out_of_time_goes_on_the_next_day_from_where_it_was() -> None:
    system = volume()
    engine = system.engine
    engine.jobs.slice_ns = 1
    for n in range(40):
        put(system, b"f%02d" % n, noise(20_000, n))
    engine.write(cleanup.configure, "scrub", 30 * DAY, 60)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cleanup, "SCRUB_RATE", 5000)
        job = engine.cleanup.run("scrub", background=True)
        system.shell.run_until(lambda: job.over)
    assert job.state is State.STOPPED
    assert job.out_of_time
    found = course(system)["scrub"]
    assert found.cursor
    assert found.note == "out of time"
    assert found.next < system.shell.clock() // 1000 + (DAY + 60) * 10**6
    system.checkpoint(clean=True)
    engine.abandon()
    after = opened(system.device, system.shell.clock())
    rest = after.engine.cleanup.run("scrub")
    result = ended(after, rest)
    assert 0 < result.extents < 40
    assert course(after)["scrub"].cursor == b""


def test_what_gave_way_is_due_at_the_next_look() -> None:
    system = volume()
    engine = system.engine
    engine.jobs.slice_ns = 1

    def work() -> Steps[None]:
        yield Progress(1, 1, "things")

    for n in range(20):
        put(system, b"f%02d" % n, noise(20_000, n))
    job = engine.cleanup.run("scrub", background=True)
    system.shell.run(0.001)
    assert not job.over
    ended(system, engine.jobs.start("asked", work()))
    assert course(system)["scrub"].note == "gave way"
    assert "scrub" in due(system)


def test_closing_notes_how_far_it_came() -> None:
    system = volume()
    engine = system.engine
    engine.jobs.slice_ns = 1
    for n in range(20):
        put(system, b"f%02d" % n, noise(20_000, n))
    job = engine.cleanup.run("scrub", background=True)
    system.shell.run_until(lambda: job.progress is not None and job.progress.done > 300_000)
    engine.jobs.close()
    system.checkpoint(clean=True)
    after = opened(system.device.crash(keep=0.0), system.shell.clock())
    assert course(after)["scrub"].cursor


def test_a_failed_task_is_noted_and_the_others_go_on() -> None:
    system = volume()
    engine = system.engine
    engine.write(lambda tx: tx.put(retention.horizon_key(0), b"\xc1"))
    job = engine.cleanup.run("prune", background=True)
    system.shell.run_until(lambda: job.over)
    assert job.state is State.FAILED
    assert course(system)["prune"].note.startswith("failed: ")
    engine.write(lambda tx: tx.delete(retention.horizon_key(0)))
    ended(system, engine.cleanup.run("reblock", background=True))


def test_a_clock_that_was_wrong_puts_nothing_off() -> None:
    system = volume()

    def far_ahead(tx: Transaction) -> None:
        now = tx.now // 1000 + 1000 * DAY * 10**6
        one = cleanup.outcome(DEFAULTS["prune"], now, ended=True, in_time=True, cursor=b"", text="")
        cleanup.note(tx, "prune", one)

    system.engine.write(far_ahead)
    assert due(system) == ["prune"]


def test_what_can_be_seen_stays_as_it_is() -> None:
    system = volume()
    for n in range(10):
        put(system, b"f%02d" % n, noise(20_000, n))
    before = state(system.engine)
    for name in DEFAULTS:
        ended(system, system.engine.cleanup.run(name))
    assert state(system.engine) == before
    assert set(course(system)) == set(DEFAULTS)
