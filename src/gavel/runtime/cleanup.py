"""A volume that looks after itself: while it is mounted, what its configuration says is done when it is due.

No cron: the engine's own shell calls. Each task runs as a background job within its time budget, gives way to jobs
that somebody waits for, and goes on from its cursor the next time, also after a restart. See upkeep/cleanup.py for
the records.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from gavel.errors import GavelError
from gavel.runtime.jobs import Job, State
from gavel.upkeep import cleanup
from gavel.upkeep.cleanup import Course, Task
from gavel.upkeep.job import Cursor
from gavel.upkeep.scrub import Scrubbed

if TYPE_CHECKING:
    from gavel.runtime.engine import Engine

FIRST_LOOK_SECONDS: Final = 60.0  # a mount has other things to do at first
LOOK_SECONDS: Final = 300.0

log = logging.getLogger("gavel.cleanup")


class Courses(Protocol):
    """Where it is noted how things stand with the tasks."""

    def read(self) -> dict[str, Course]:
        """By the task's name."""

    def note(self, name: str, one: Course) -> None:
        """Raises GavelError, OSError; then the task is merely due again."""


class InRecords:
    """On the volume itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self) -> dict[str, Course]:
        """See Courses."""
        return self._engine.read(cleanup.course)

    def note(self, name: str, one: Course) -> None:
        """See Courses."""
        self._engine.write(cleanup.note, name, one)


class Cleanup:
    """Runs the tasks of an engine's volume. Like all of Jobs: on the engine's loop, or holding its turn."""

    def __init__(self, engine: Engine, courses: Courses | None = None) -> None:
        self._engine = engine
        self.courses: Courses = courses or InRecords(engine)
        self.put_off: Callable[[], bool] = lambda: False  # whether there is something better to do for now
        self._started = False
        self._running: list[Job[Any]] = []

    def start(self) -> None:
        """From now on do what is due; nothing where the volume takes no writes."""
        if not self._started and not self._engine.volume.read_only:
            self._started = True
            self._engine.later(FIRST_LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Begin nothing more by itself; what is under way goes on."""
        self._started = False

    def _look(self) -> None:
        if not self._started:
            return
        self._engine.later(LOOK_SECONDS, self._look)
        engine = self._engine
        if engine.jobs.listed() or engine.replica.failure is not None or self.put_off():
            return
        try:
            for name in engine.read(cleanup.due, engine.history.created_tid, self.courses.read()):
                self.run(name, background=True)
        except GavelError as error:
            log.warning("cannot see what is due: %s", error)

    def run(self, name: str, *, background: bool = False) -> Job[Any]:
        """Start a task now, within its budget where it is in the background, and note how it comes out."""
        engine = self._engine
        cursor = Cursor()
        before = self.courses.read().get(name)
        if before is not None:
            cursor.value = before.cursor
        task = engine.read(cleanup.tasks)[name]
        begun = engine.clock() // 1000
        steps = cleanup.steps(name, engine.history, engine.volume, engine.look, cursor)
        job: Job[Any] = engine.jobs.start(
            name,
            steps,
            background=background,
            rate=cleanup.SCRUB_RATE if background and name == "scrub" else None,
            seconds=task.budget if background else None,
        )
        job.on_end.append(lambda job: self._ended(job, task, begun, cursor))
        return job

    def _ended(self, job: Job[Any], task: Task, begun: int, cursor: Cursor) -> None:
        """Note it; whatever goes wrong with that, the task is merely due again."""
        ended = job.state is not State.STOPPED
        if job.error is not None:
            text = f"failed: {job.error}"
        elif not ended:
            text = "out of time" if job.out_of_time else "gave way"
        else:
            text = cleanup.told(job.name, job.result())
        log.info("%s: %s", job.name, text)
        if ended and job.error is None:
            _tell_damage(job.result())
        try:
            one = cleanup.outcome(task, begun, ended=ended, in_time=not job.out_of_time, cursor=cursor.value, text=text)
            self.courses.note(job.name, one)
        except (GavelError, OSError) as error:
            log.warning("cannot note how %s came out: %s", job.name, error)


def _tell_damage(result: Any) -> None:
    if isinstance(result, Scrubbed):
        for one in result.found:
            log.error("%s, bytes %d to %d, is damaged: %s", one.path, one.start, one.end, one.text)
