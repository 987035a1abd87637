"""Upkeep of an open volume, for every face: each long work is a generator that yields Progress and returns a result.

The work itself is a job of the engine (runtime/jobs.py), which goes on in slices by itself; the generators here only
start it and look on. Dropping one stops its job.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

from gavel.client.looking_back import Timeline, without_marks
from gavel.client.results import Progress
from gavel.client.states import Present
from gavel.errors import BadRequest
from gavel.filesystem import path, retention, snapshots
from gavel.filesystem.failure import failure
from gavel.filesystem.retention import Policy
from gavel.keys.records import ROOT_OBJECT
from gavel.runtime.engine import Engine
from gavel.runtime.jobs import Job
from gavel.transaction.transaction import Transaction
from gavel.upkeep import cleanup as tasks
from gavel.upkeep import prune as pruning
from gavel.upkeep.cleanup import Course, Task
from gavel.upkeep.dedup import Deduplicated, dedup
from gavel.upkeep.job import Steps
from gavel.upkeep.prune import Pruned
from gavel.upkeep.reblock import Reblocked, reblock
from gavel.upkeep.scrub import Scrubbed, scrub
from gavel.upkeep.snapshot_space import snapshot_space

T = TypeVar("T")

LOOK_SECONDS = 0.05  # how often whoever looks on is told


class Retained(NamedTuple):
    """The policy in force for a directory, and the directory it is stored for (a path; None for the default)."""

    policy: str
    stored_for: str | None


class CleanupRun(NamedTuple):
    """How a task of a cleanup came out."""

    name: str
    note: str
    error: str | None


# -- retention and prune ---------------------------------------------------------------------------------------


def retention_get(present: Timeline, raw: bytes) -> Retained:
    """The policy in force for what a path names."""
    raw, _ = without_marks(present, raw)
    return present.read(_retained, raw)


def retention_set(present: Timeline, raw: bytes, text: str | None) -> Retained:
    """Store a directory's policy, or with None forget it; what is in force then. Raises BadRequest, ENOTDIR."""
    raw, _ = without_marks(present, raw)

    def operation(tx: Transaction) -> Retained:
        retention.set_policy(tx, _directory(tx, raw), text)
        return _retained(tx, raw)

    return present.write(operation)


def retention_list(present: Timeline) -> list[tuple[str, str]]:
    """Every directory with a policy of its own, and the policy; the root's comes first, also when it is the default."""

    def operation(tx: Transaction) -> list[tuple[str, str]]:
        found = {"/": retention.policy_of(tx, ROOT_OBJECT).text}
        for one in retention.listing(tx):
            found[path.path_of(tx, one.directory) or f"object {one.directory}"] = one.text
        return list(found.items())

    return present.read(operation)


def prune(
    present: Present, raw: bytes, keep: str | None = None, everything: bool = False, dry_run: bool = False
) -> Generator[Progress, None, Pruned]:
    """Drop what the policies do not keep. `keep`: this policy in place of the directory's own, this once.

    `everything` keeps the present and the named snapshots only; as there is one horizon for the volume, it wants the
    root. `dry_run` says what would be dropped, bytes included. Raises BadRequest.
    """
    override = kept_instead(present, raw, keep, everything)
    history = present.engine.history
    if dry_run:
        steps = pruning.estimate(history, present.engine.look, override, everything)
        return _followed(present.engine, "prune (dry run)", steps)
    return _followed(present.engine, "prune", pruning.prune(history, override, everything))


def kept_instead(timeline: Timeline, raw: bytes, keep: str | None, everything: bool) -> tuple[int, Policy] | None:
    """The directory that a path names with the policy to keep in place of its own; raises BadRequest, ENOTDIR."""
    raw, _ = without_marks(timeline, raw)
    if keep is not None and everything:
        raise BadRequest("keep something or nothing: give --keep or --everything")
    directory = timeline.read(_directory, raw)
    if everything and directory != ROOT_OBJECT:
        raise BadRequest("--everything is for the whole volume: name its root")
    return None if keep is None else (directory, retention.parse(keep))


# -- the other jobs --------------------------------------------------------------------------------------------


def run_scrub(present: Present, rate: int | None = None) -> Generator[Progress, None, Scrubbed]:
    """Read and verify everything, at most `rate` bytes a second. Raises BadRequest for a rate that is none."""
    if rate is not None and (not isinstance(rate, int) or rate < 1):
        raise BadRequest(f"{rate!r} is no number of bytes a second; give a whole one, 1 at least")
    engine = present.engine
    return _followed(engine, "scrub", scrub(engine.history, engine.volume, engine.look), rate)


def run_reblock(present: Present, share: float = 0.9) -> Generator[Progress, None, Reblocked]:
    """Empty big-blocks of which at most `share` is alive; with 0.0 only those excluded from allocation."""
    engine = present.engine
    return _followed(engine, "reblock", reblock(engine.history, engine.volume, share))


def run_dedup(present: Present, simulate: bool = False) -> Generator[Progress, None, Deduplicated]:
    """Store the same content once; `simulate` only says what that would save."""
    engine = present.engine
    return _followed(engine, "dedup", dedup(engine.history, engine.volume, simulate))


def space_of_snapshots(present: Present) -> Generator[Progress, None, dict[str, int]]:
    """Bytes that each snapshot alone holds, by its name."""
    named = present.read(snapshots.listing)
    return _followed(present.engine, "space of snapshots", snapshot_space(present.engine.history, named))


# -- cleanup ---------------------------------------------------------------------------------------------------


def cleanup_show(present: Present) -> dict[str, tuple[Task, Course | None]]:
    """Every task of the configuration, and how it stands; Course.next is in microseconds since 1970."""
    found = present.read(tasks.tasks)
    with present.engine.turn:
        courses = present.engine.cleanup.courses.read()
    return {name: (task, courses.get(name)) for name, task in found.items()}


def cleanup_set(present: Timeline, name: str, every: str | None, budget: str | None = None) -> dict[str, Task]:
    """Set a task's period (a span like `1d`; None or `never`: never) and, if given, its budget. Raises BadRequest."""
    period = None if every in (None, "never") else _seconds(every or "")
    held = present.read(tasks.tasks).get(name)
    time = _seconds(budget) if budget is not None else held.budget if held is not None else 60
    return present.write(tasks.configure, name, period, time)


def cleanup(present: Present, names: list[str] | None = None) -> Generator[Progress, None, list[CleanupRun]]:
    """Run tasks now, one after the other, whether due or not: those that are configured, or those named."""
    engine = present.engine
    known = present.read(tasks.tasks)
    for name in names or []:
        if name not in known:
            raise BadRequest(f"there is no task {name!r}; there are {', '.join(known)}")
    chosen = [name for name, task in known.items() if (name in names if names else task.every is not None)]
    runs = []
    for name in chosen:
        with engine.turn:
            job = engine.cleanup.run(name)
        yield from _looking_on(engine, job)
        with engine.turn:
            said = tasks.told(name, job.result()) if job.error is None else ""
        runs.append(CleanupRun(name, said, None if job.error is None else str(job.error)))
    return runs


# -- inside ----------------------------------------------------------------------------------------------------


def _followed(engine: Engine, name: str, steps: Steps[T], rate: int | None = None) -> Generator[Progress, None, T]:
    """Start a job when this is first resumed, look on until it is over, and return its result or raise its error."""
    with engine.turn:
        job = engine.jobs.start(name, steps, rate=rate)
    yield from _looking_on(engine, job)
    return job.result()


def _looking_on(engine: Engine, job: Job[Any]) -> Generator[Progress, None, None]:
    try:
        while not job.over:
            if engine.threaded:
                job.wait_now(LOOK_SECONDS)
            at = job.progress
            if at is None:
                yield Progress(0, None, job.name, pause=LOOK_SECONDS)
            else:
                what = f"{at.unit}, {at.note}" if at.note else at.unit
                yield Progress(at.done, at.total, what, pause=LOOK_SECONDS)
    finally:
        with engine.turn:
            engine.jobs.cancel(job)


def _directory(tx: Transaction, raw: bytes) -> int:
    obj, inode = path.resolve(tx, ROOT_OBJECT, b"/" + raw)
    if not inode.is_dir:
        raise failure(errno.ENOTDIR)
    return obj


def _retained(tx: Transaction, raw: bytes) -> Retained:
    obj, _ = path.resolve(tx, ROOT_OBJECT, b"/" + raw)
    found = retention.policy_of(tx, obj)
    own = any(one.directory == found.directory for one in retention.listing(tx))
    where = path.path_of(tx, found.directory) if own else None
    return Retained(found.text, where)


def _seconds(text: str) -> int:
    seconds = retention.span(text)
    if seconds is None:
        raise BadRequest("forever is no period; write a span like 1d or 10m, or never")
    return seconds
