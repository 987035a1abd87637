"""Upkeep beside everything else: runs the steps of one job at a time in short slices, through the engine's shell.

Invariants:
- a slice ends with the first step after its time, or after which somebody waits for the cores; so whoever comes waits
  for a small step, not for a slice;
- while somebody waits none begins, but for a short one after as long as PUT_OFF_NS: under the fullest load a job has
  a twentieth of the time;
- what others have written and not flushed is theirs to flush: a job waits for it unless it is little;
- at most one job is under way; jobs that somebody waits for go before those that a mount runs by itself, and end
  one of those that is under way (its cursor lets it go on later);
- nothing a job raises reaches anybody but those who look at the job.

All methods are called on the engine's loop or holding its turn, except where they say otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gavel.errors import BadRequest, GavelError
from gavel.limits import FLUSH_SECONDS, JOB_FLUSH_RECORDS
from gavel.upkeep.job import Ask, Fetch, Progress, Steps, Write

if TYPE_CHECKING:
    from gavel.runtime.engine import Engine

T = TypeVar("T")

SLICE_NS = 1_000_000
BUSY_SLICE_NS = 250_000  # while there is other work
PUT_OFF_NS = 5_000_000  # how long a slice is put off while somebody waits
BUSY_SECONDS = 0.001  # pause between slices while there is other work: that gets four fifths of the time
IDLE_SECONDS = 0.0002  # and while there is none, for threads that wait for the turn
RETRY_SECONDS = 0.05  # how soon to look again whether the last open transaction has ended, or others have flushed

log = logging.getLogger("gavel.jobs")


class State(Enum):
    """Where a job is on its way."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"  # cancelled, or out of time


_OVER = (State.DONE, State.FAILED, State.STOPPED)


class Job(Generic[T]):
    """A job that was started: what it is doing, and in the end its result.

    `progress`, `state`, `error` may be looked at from any thread. `on_end` is called once, when it is over.
    """

    def __init__(self, name: str, steps: Steps[T], background: bool, rate: int | None, seconds: float | None) -> None:
        self.name = name
        self.background = background
        self.state = State.WAITING
        self.progress: Progress | None = None
        self.error: BaseException | None = None
        self.on_end: list[Callable[[Job[T]], object]] = []
        self.spent_ns = 0  # in its own slices
        self.out_of_time = False
        self._steps = steps
        self._rate = rate
        self._budget_ns = None if seconds is None else int(seconds * 1e9)
        self._answer: Any = None
        self._asked: Ask | Fetch | Write | None = None
        self._patient_ns = 0  # until when it waits for others to flush what is theirs
        self._trouble: BaseException | None = None
        self._result: T | None = None
        self._began_ns = -1
        self._ended = threading.Event()

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in _OVER

    @property
    def _called_back(self) -> bool:
        """Whether it waits for something that will call back."""
        return self._asked is Ask.CHECKPOINT or isinstance(self._asked, Fetch | Write)

    def result(self) -> T:
        """What it came to, once it is over; raises what it ended with, BadRequest if it was stopped."""
        assert self.over, "a job under way has no result yet"
        if self.error is not None:
            raise self.error
        if self.state is State.STOPPED:
            raise BadRequest(f"{self.name} was stopped before it had ended; start it again, it goes on from there")
        return self._result  # type: ignore[return-value]

    def wait_now(self, seconds: float | None = None) -> bool:
        """Wait in a thread, not holding the turn, until it is over; whether it is."""
        return self._ended.wait(seconds)

    async def wait(self) -> T:
        """Wait on the engine's loop; its result. Cancelling the wait leaves the job alone."""
        if not self.over:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.on_end.append(lambda _: None if future.done() else future.set_result(None))
            await future
        return self.result()


class Jobs:
    """The jobs of an engine.

    `busy` tells whether there is other work just now, `pending` whether somebody waits at this very moment; a mount
    puts in what it knows.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[Job[Any]] = deque()
        self._armed = 0  # number of the call that is awaited, 0 for none
        self._calls = 0
        self._others = False  # whether there was other work at the end of the last slice
        self._ended_ns = 0  # when that was
        self._closed = False
        self.current: Job[Any] | None = None
        self.slice_ns = SLICE_NS
        self.busy: Callable[[], bool] = lambda: False
        self.pending: Callable[[], bool] = lambda: engine.turn.wanted
        engine.on_commit.append(self._committed)

    # -- for those who start jobs ------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        steps: Steps[T],
        *,
        background: bool = False,
        rate: int | None = None,
        seconds: float | None = None,
    ) -> Job[T]:
        """Have a job done; returns at once.

        `background`: nobody waits for it, so it gives way to other jobs. `rate`: at most so many units of progress a
        second. `seconds`: it is stopped after as long.
        """
        job = Job(name, steps, background, rate, seconds)
        if self._closed:
            self._end(job, State.STOPPED)
            return job
        if background:
            self._waiting.append(job)
        else:
            self._waiting.insert(sum(not other.background for other in self._waiting), job)
            if self.current is not None and self.current.background:
                self.cancel(self.current)
        self._arm(0)
        return job

    def pause(self, job: Job[Any]) -> None:
        """Do nothing more on it for now; others have to wait for it, too."""
        if not job.over:
            job.state = State.PAUSED

    def resume(self, job: Job[Any]) -> None:
        """Go on with one that was paused."""
        if job.state is State.PAUSED:
            job.state = State.RUNNING if job is self.current else State.WAITING
            self._arm(0)

    def cancel(self, job: Job[Any]) -> None:
        """Stop it where it is. What it has done stays done."""
        if job in self._waiting:
            self._waiting.remove(job)
        if not job.over:
            self._end(job, State.STOPPED)

    def listed(self) -> list[Job[Any]]:
        """The job under way and those that wait, in order."""
        return [*([self.current] if self.current is not None else []), *self._waiting]

    def close(self) -> None:
        """Stop all jobs and take no more: the volume is about to be closed."""
        self._closed = True
        for job in self.listed():
            self.cancel(job)

    # -- slices ------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        """Take the next turn after so long; at once, whatever was planned, when that is 0."""
        if self._closed or (self._armed and seconds):
            return
        self._calls += 1
        self._armed = call = self._calls
        self._engine.later(seconds, lambda: self._turn(call))

    def _turn(self, call: int) -> None:
        """A slice of the job under way, or of the next."""
        if call != self._armed:
            return
        self._armed = 0
        if self.current is None and self._waiting and not self._closed:
            self.current = self._waiting.popleft()
            if self.current.state is State.WAITING:
                self.current.state = State.RUNNING
        job = self.current
        if job is None or job.state is not State.RUNNING or job._called_back:
            return
        begin = self._engine.clock()
        if self._wanted() and 0 <= begin - self._ended_ns < PUT_OFF_NS:
            self._arm(BUSY_SECONDS)
            return
        if job._began_ns < 0:
            job._began_ns = begin
        try:
            self._slice(job, begin)
        finally:
            self._ended_ns = self._engine.clock()
            job.spent_ns += max(0, self._ended_ns - begin)
        if not job.over:
            self._engine.volume.promise(self._engine.history.dirty_bytes)
            if not job._called_back:
                self._arm(self._pause(job))

    def _wanted(self) -> bool:
        """Whether somebody waits for the cores, or for what they have asked the device."""
        return self.pending() or self._engine.waited_for

    def _slice(self, job: Job[Any], begin: int) -> None:
        """Steps until the time is up, somebody waits, the job is over, or it waits for something."""
        clock = self._engine.clock
        now = begin
        end = begin + min(self.slice_ns, BUSY_SLICE_NS if self._others else SLICE_NS)
        sure = begin + BUSY_SLICE_NS if self._wanted() else begin  # so much it has whoever waits: it was put off
        while job.state is State.RUNNING:
            if job._budget_ns is not None and now - job._began_ns > job._budget_ns:
                job.out_of_time = True
                self._end(job, State.STOPPED)
                return
            if job._asked is None:
                if self._ahead(job) > 0:
                    return
                self._step(job)
            while job._asked is not None:
                if not self._answered(job):
                    return
                self._step(job)  # at once: it may rely on what it asked for only until others have their turn
            now = clock()
            if now >= end or (now >= sure and self._wanted()):
                return

    def _step(self, job: Job[Any]) -> None:
        """Resume the job with its answer, and take in what it yields."""
        answer, trouble, job._answer, job._trouble = job._answer, job._trouble, None, None
        try:
            step = job._steps.throw(trouble) if trouble is not None else job._steps.send(answer)
        except StopIteration as end:
            job._result = end.value
            self._end(job, State.DONE)
        except Exception as error:
            job.error = error
            log.warning("%s ended: %s", job.name, error, exc_info=not isinstance(error, GavelError | OSError))
            self._end(job, State.FAILED)
        else:
            match step:
                case Progress():
                    job.progress = step
                case Ask() | Fetch():
                    job._asked = step
                case Write(operation):
                    job._asked = step
                    self._engine.transact(operation, lambda result, error: self._written(job, result, error))

    def _written(self, job: Job[Any], result: Any, error: BaseException | None) -> None:
        """A transaction of the job is written: it may be resumed when that is committed; or it has failed."""
        job._answer, job._trouble = result, error
        job._asked = None if error is not None else Ask.COMMITTED
        self._arm(0)

    def _answered(self, job: Job[Any]) -> bool:
        """Try to give the job what it asks for; whether it can go on at once."""
        engine = self._engine
        if isinstance(job._asked, Fetch):
            engine.fetch(job._asked.ranges, lambda: self._fetched(job))
            return False
        if isinstance(job._asked, Write):
            return False
        little = engine.cache.backlog <= JOB_FLUSH_RECORDS
        if job._asked is Ask.CHECKPOINT:
            engine.request_checkpoint(lambda result: self._checkpointed(job, result), flush=little)
            return job._asked is None
        if job._asked is Ask.QUIET and engine.cache.open_transactions:
            return False
        if not little and self._patient(job):
            return False
        job._asked, job._patient_ns = None, 0
        try:
            engine.flush()
        except GavelError as error:
            job._trouble = error
        return True

    def _patient(self, job: Job[Any]) -> bool:
        """Whether to go on waiting for others to flush: longer than they may take is not to be expected."""
        now = self._engine.clock()
        if not job._patient_ns:
            job._patient_ns = now + 2 * FLUSH_SECONDS * 1_000_000_000
        return now < job._patient_ns

    def _committed(self, _tid: int, _keys: list[bytes]) -> None:
        """Something was committed: others have flushed what was theirs, if it is that for which the job waits."""
        if self.current is not None and self.current._patient_ns:
            self._arm(0)

    def _fetched(self, job: Job[Any]) -> None:
        job._asked = None
        self._arm(BUSY_SECONDS if self._others else 0)

    def _checkpointed(self, job: Job[Any], result: int | GavelError) -> None:
        if isinstance(result, GavelError):
            job._trouble = result
        else:
            job._answer = result
        job._asked = None
        self._arm(0)

    def _pause(self, job: Job[Any]) -> float:
        if job._asked is not None:
            return RETRY_SECONDS
        engine = self._engine
        self._others = engine.waited_for or engine.cache.dirty or self.busy()
        return max(BUSY_SECONDS if self._others else IDLE_SECONDS, min(self._ahead(job), 1.0))

    def _ahead(self, job: Job[Any]) -> float:
        """How many seconds it is ahead of its rate."""
        if job._rate is None or job.progress is None:
            return 0.0
        return job.progress.done / job._rate - (self._engine.clock() - job._began_ns) / 1e9

    def _end(self, job: Job[Any], state: State) -> None:
        job.state = state
        if job is self.current:
            self.current = None
        if state is State.STOPPED:
            job._steps.close()
        job._ended.set()
        for callback in job.on_end:
            callback(job)
        if self._waiting:
            self._arm(0)
