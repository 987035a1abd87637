"""Jobs beside other work, in virtual time: slices, what a job may ask for, pause and stop, trouble."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest

from gavel.errors import BadRequest, DeviceFailed, VolumeFull
from gavel.filesystem import namespace
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import JOB_FLUSH_RECORDS, VOLUME_MIN
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine
from gavel.runtime.jobs import BUSY_SECONDS, BUSY_SLICE_NS, PUT_OFF_NS, SLICE_NS, Job, State
from gavel.sim.device import SimDevice
from gavel.sim.shell import SimShell
from gavel.transaction.transaction import Transaction
from gavel.upkeep.job import Ask, Fetch, Progress, Step, Steps, Write
from tests.crash.simulated import WHO, System, format_device, fresh, opened

KEY = records.config(0, b"test")


def run(system: System, job: Job[Any]) -> Any:
    system.shell.run_until(lambda: job.over)
    return job.result()


def counting(to: int, tick: Callable[[int], object] = lambda n: None) -> Steps[int]:
    for n in range(1, to + 1):
        tick(n)
        yield Progress(n, to, "things")
    return to


def test_a_job_is_done_in_slices_and_tells_how_far_it_is() -> None:
    system = fresh()
    times: list[int] = []

    def tick(_: int) -> None:
        system.shell._now += 300_000
        times.append(system.shell.clock())

    job = system.engine.jobs.start("count", counting(40, tick))
    assert job.progress is None
    assert job.state is State.WAITING
    system.shell.run(0)
    assert job.progress == Progress(4, 40, "things")
    assert times[-1] - times[0] <= SLICE_NS + 300_000
    assert run(system, job) == 40
    assert job.state is State.DONE
    assert job.spent_ns >= 40 * 250_000
    assert system.engine.jobs.current is None


def test_while_there_is_other_work_pauses_are_longer_than_slices() -> None:
    def time_of_job(busy: bool) -> int:
        system = fresh()
        system.engine.jobs.busy = lambda: busy
        before = system.shell.clock()
        run(system, system.engine.jobs.start("count", counting(10_000)))
        return system.shell.clock() - before

    assert time_of_job(True) > time_of_job(False) + 4 * int(BUSY_SECONDS * 1e9)


def test_a_commit_waits_for_no_more_than_a_slice() -> None:
    system = fresh()
    job = system.engine.jobs.start("count", counting(100_000))
    system.shell.run_until(lambda: job.progress is not None)
    for n in range(5):
        system.engine.write(namespace.create, ROOT_OBJECT, b"f%d" % n, 0o100644, WHO)
        before = system.shell.clock()
        system.sync()
        assert system.shell.clock() - before < 5_000_000
    assert not job.over


def test_a_slice_ends_when_somebody_comes() -> None:
    system = fresh()
    waits = False

    def tick(n: int) -> None:
        nonlocal waits
        waits = n == 5

    system.engine.jobs.pending = lambda: waits
    job = system.engine.jobs.start("count", counting(8, tick))
    system.shell.run(0)
    assert job.progress == Progress(5, 8, "things")
    waits = False
    assert run(system, job) == 8


def test_while_somebody_waits_a_job_has_a_short_slice_now_and_then() -> None:
    system = fresh()
    system.engine.jobs.pending = lambda: True
    times: list[int] = []
    job = system.engine.jobs.start("count", counting(20_000, lambda _: times.append(system.shell.clock())))
    system.shell.run_until(lambda: len(times) > 1000)
    pauses = [(a, b) for a, b in pairwise(times) if b - a > 1_000_000]
    assert len(pauses) > 2
    assert all(PUT_OFF_NS <= b - a < PUT_OFF_NS + 1_100_000 for a, b in pauses)
    assert all(b - a <= BUSY_SLICE_NS for (_, a), (b, _) in pairwise(pauses))
    jobs = system.engine.jobs
    jobs.cancel(job)


@pytest.mark.parametrize("ask", [Ask.QUIET, Ask.COMMITTED, Write(lambda tx: tx.put(KEY, b"written"))])
def test_a_job_leaves_a_backlog_to_those_whose_it_is(ask: Step) -> None:
    """Flushing what thousands of operations have left would hold up everybody, at a moment that nobody chose."""
    system = fresh()
    engine = system.engine
    for n in range(JOB_FLUSH_RECORDS):
        engine.write(namespace.create, ROOT_OBJECT, b"f%d" % n, 0o100644, WHO)
    ended: list[bool] = []

    def work() -> Steps[None]:
        yield ask
        ended.append(engine.cache.dirty)

    engine.jobs.start("work", work())
    system.shell.run(1)
    assert engine.cache.backlog >= JOB_FLUSH_RECORDS
    assert not ended
    engine.flush()
    system.shell.run(0.001)
    assert ended == [False]


def test_a_checkpoint_for_a_job_takes_what_is_committed() -> None:
    system = fresh()
    engine = system.engine
    for n in range(JOB_FLUSH_RECORDS):
        engine.write(namespace.create, ROOT_OBJECT, b"f%d" % n, 0o100644, WHO)

    def work() -> Steps[int]:
        return (yield Ask.CHECKPOINT)

    job = engine.jobs.start("work", work())
    assert run(system, job) == engine.history.last_tid
    assert engine.cache.backlog >= JOB_FLUSH_RECORDS


def test_a_job_does_not_wait_for_ever_for_others_to_flush() -> None:
    system = fresh()
    engine = system.engine

    def work() -> Steps[str]:
        try:
            yield Ask.QUIET
        except VolumeFull:
            return "heard"
        return "not"

    for n in range(JOB_FLUSH_RECORDS):
        engine.write(namespace.create, ROOT_OBJECT, b"f%d" % n, 0o100644, WHO)
    with patch.object(engine, "flush", side_effect=VolumeFull(0, 1)):
        assert run(system, engine.jobs.start("work", work())) == "heard"


def test_a_rate_holds_a_job_back() -> None:
    system = fresh()
    before = system.shell.clock()
    run(system, system.engine.jobs.start("count", counting(30_000), rate=10_000))
    assert 2e9 < system.shell.clock() - before < 4e9


def test_a_job_writes_and_gets_checkpoints_and_quiet() -> None:
    system = fresh()
    engine = system.engine
    heard: list[bytes] = []
    engine.on_outside.append(heard.extend)

    def operation(tx: Transaction) -> str:
        tx.put(KEY, b"written")
        return "answer"

    def work() -> Steps[tuple[str, int, bool]]:
        answer = yield Write(operation)
        tid = yield Ask.CHECKPOINT
        yield Ask.QUIET
        return answer, tid, engine.cache.dirty

    open_one = engine.begin()
    engine.write(namespace.create, ROOT_OBJECT, b"f", 0o100644, WHO)
    job = engine.jobs.start("work", work())
    system.shell.run(seconds=1)
    assert engine.history.get(KEY) == b"written"
    assert heard == [KEY]
    assert system.device.crash(keep=0.0) is not None
    assert not job.over, "somebody's transaction is open"
    engine.give_up(open_one)
    answer, tid, dirty = run(system, job)
    assert (answer, dirty) == ("answer", False)
    assert tid == engine.history.last_tid
    assert opened(system.device.crash(keep=0.0)).engine.history.get(KEY) == b"written"


def test_quiet_lasts_until_the_job_yields_again() -> None:
    """However short the slices are, and whatever others write between them."""
    system = fresh()
    engine = system.engine
    engine.jobs.slice_ns = 1
    dirty: list[bool] = []

    def work() -> Steps[None]:
        for n in range(20):
            yield Ask.QUIET
            dirty.append(engine.cache.dirty)
            yield Progress(n, 20, "things")

    job = engine.jobs.start("work", work())
    n = 0
    while not job.over:
        engine.write(namespace.create, ROOT_OBJECT, b"f%d" % n, 0o100644, WHO)
        n += 1
        system.shell.run(0.0001)
    assert dirty == [False] * 20
    assert n > 10


def test_what_goes_wrong_is_raised_in_the_job_which_may_go_on() -> None:
    system = fresh()

    def refused(tx: Transaction) -> None:
        raise BadRequest("no")

    def work(catch: bool) -> Steps[str]:
        try:
            yield Write(refused)
        except BadRequest:
            if not catch:
                raise
        yield Progress(1, 1, "things")
        return "went on"

    assert run(system, system.engine.jobs.start("work", work(True))) == "went on"
    failed = system.engine.jobs.start("work", work(False))
    with pytest.raises(BadRequest, match="no"):
        run(system, failed)
    assert failed.state is State.FAILED
    assert run(system, system.engine.jobs.start("count", counting(3))) == 3


def test_a_failed_checkpoint_is_raised_in_the_job() -> None:
    system = fresh()

    def work() -> Steps[None]:
        yield Progress(0, 1, "things")
        yield Ask.CHECKPOINT

    system.device.fail_at(1)
    job = system.engine.jobs.start("work", work())
    with pytest.raises(DeviceFailed):
        run(system, job)


def test_a_bug_in_a_job_stays_in_the_job() -> None:
    system = fresh()

    def tick(n: int) -> None:
        assert n < 5, "planted"

    with pytest.raises(AssertionError, match="planted"):
        run(system, system.engine.jobs.start("count", counting(9, tick)))
    system.sync()


def test_jobs_are_done_one_at_a_time_in_order() -> None:
    system = fresh()
    order: list[str] = []
    jobs = [
        system.engine.jobs.start(name, counting(5000, lambda _, name=name: order.append(name)))  # type: ignore[misc]
        for name in "abc"
    ]
    assert [run(system, job) for job in jobs] == [5000] * 3
    assert "".join(order) == "a" * 5000 + "b" * 5000 + "c" * 5000


def test_a_job_that_somebody_waits_for_goes_before_those_of_the_background() -> None:
    system = fresh()
    jobs = system.engine.jobs
    ended: list[str] = []
    first = jobs.start("first", counting(50_000), background=True)
    second = jobs.start("second", counting(5), background=True)
    for job in first, second:
        job.on_end.append(lambda job: ended.append(job.name))
    system.shell.run(0.01)
    asked = jobs.start("asked", counting(5))
    asked.on_end.append(lambda job: ended.append(job.name))
    assert (first.state, ended) == (State.STOPPED, ["first"])
    run(system, second)
    assert ended == ["first", "asked", "second"]


def test_pause_resume_and_cancel() -> None:
    system = fresh()
    jobs = system.engine.jobs
    closed: list[int] = []

    def work() -> Steps[None]:
        try:
            yield from counting(10**6)
        finally:
            closed.append(1)

    job = jobs.start("work", work())
    waiting = jobs.start("count", counting(3))
    system.shell.run(0.01)
    jobs.pause(job)
    held = job.progress
    system.shell.run(5)
    assert job.progress == held
    assert not waiting.over
    jobs.resume(job)
    system.shell.run(0.01)
    assert job.progress != held
    jobs.cancel(job)
    assert closed == [1]
    with pytest.raises(BadRequest, match="was stopped"):
        job.result()
    assert run(system, waiting) == 3
    jobs.cancel(waiting)
    assert waiting.result() == 3, "it was over"


def test_a_job_ends_when_its_time_is_up() -> None:
    system = fresh()
    system.engine.jobs.busy = lambda: True
    before = system.shell.clock()
    job = system.engine.jobs.start("count", counting(10**9), seconds=2)
    system.shell.run_until(lambda: job.over)
    assert job.state is State.STOPPED
    assert 2e9 <= system.shell.clock() - before < 2.1e9


def test_closing_the_engine_ends_the_jobs_and_takes_no_more() -> None:
    system = fresh()
    job = system.engine.jobs.start("count", counting(10**9))
    waiting = system.engine.jobs.start("count", counting(10**9))
    system.shell.run(0.01)
    system.engine.jobs.close()
    assert (job.state, waiting.state) == (State.STOPPED, State.STOPPED)
    assert system.engine.jobs.start("late", counting(1)).state is State.STOPPED


def test_a_thread_waits_for_a_job() -> None:
    device = format_device()
    engine = Engine(device)
    try:
        with engine.turn:
            job = engine.jobs.start("count", counting(1000))
            assert not job.wait_now(0)
        assert job.wait_now(60)
        assert job.result() == 1000
        with engine.turn:
            endless = engine.jobs.start("endless", counting(10**12))
    finally:
        closing = threading.Thread(target=engine.close_now)
        closing.start()
        closing.join()
    assert endless.wait_now(0)


def test_a_loop_waits_for_a_job() -> None:
    async def main() -> int:
        engine = Engine(format_device(), loop=asyncio.get_running_loop())
        try:
            job = engine.jobs.start("count", counting(1000))
            assert await job.wait() == 1000
            return await job.wait()
        finally:
            await engine.close()

    assert asyncio.run(main()) == 1000


def test_what_a_job_is_about_to_read_is_fetched_by_another_thread() -> None:
    """And what cannot be read there is left to be met by the job itself."""
    readers: set[str] = set()

    class Device(SimDevice):
        def read(self, offset: int, length: int) -> bytes:
            readers.add(threading.current_thread().name.partition("_")[0])
            return super().read(offset, length)

    def work() -> Steps[str]:
        readers.clear()
        yield Fetch([(0, 4096), (1 << 50, 4096), (8192, 10)])
        return "read"

    async def on_loop() -> str:
        engine = Engine(device, loop=asyncio.get_running_loop())
        try:
            return await engine.jobs.start("work", work()).wait()
        finally:
            await engine.close()

    device = Device(VOLUME_MIN)
    Volume.format(device, identity=bytes(16), salt=77, label="test", created_tid=1 << 40)
    assert asyncio.run(on_loop()) == "read"
    assert "gavel-fetch" in readers
    engine = Engine(device)
    with engine.turn:
        job = engine.jobs.start("work", work())
    assert job.wait_now(60)
    assert "gavel-fetch" in readers
    engine.close_now()


def test_a_volume_opened_for_reading_has_jobs_too() -> None:
    system = fresh()
    system.checkpoint(clean=True)
    system.engine.abandon()
    shell = SimShell(system.device)
    assert isinstance(system.device, SimDevice)
    engine = Engine(system.device, shell=shell, clock=shell.clock, read_only=True)
    job = engine.jobs.start("count", counting(10))
    shell.run_until(lambda: job.over)
    assert job.result() == 10
