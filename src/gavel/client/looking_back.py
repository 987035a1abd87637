"""What looks back over the whole of a filesystem's time: versions, log, diff, undo, snapshots.

Written once, over a Timeline: a volume open in this process, or a cluster. Long work is a generator that yields
Progress between slices; between two of them the turn is free, so that others work on.
"""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from gavel.client import paths
from gavel.client.operations import has_name
from gavel.client.results import Change, Progress
from gavel.client.runner import Operation, P
from gavel.errors import BadRequest
from gavel.filesystem import diff as differences
from gavel.filesystem import file_history, restore, snapshots
from gavel.filesystem import log as logs
from gavel.filesystem import undo as undos
from gavel.filesystem.diff import Difference
from gavel.filesystem.failure import failure
from gavel.filesystem.file_history import FileVersion
from gavel.filesystem.log import Logged
from gavel.filesystem.past import Past
from gavel.filesystem.snapshots import Snapshot
from gavel.filesystem.undo import Action
from gavel.keys.records import ROOT_OBJECT

S = TypeVar("S")
T = TypeVar("T")
When = int | str


class Turns(Protocol):
    """What has a turn that has to be held to look at it."""

    @property
    def turn(self) -> AbstractContextManager[Any]:
        """The turn."""


class Timeline(Turns, Protocol):
    """A filesystem through all its time."""

    def past(self) -> Past:
        """Its history up to now."""

    def tid_of(self, moment: When) -> int:
        """The tid that a WHEN stands for, everything done so far included in the present; raises BadWhen."""

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that only reads, on the present."""

    def write(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation on the present."""


def named_errors(job: Generator[S, None, T], path: paths.AnyPath) -> Generator[S, None, T]:
    """The same job, whose OSErrors say which path they are about."""
    try:
        return (yield from job)
    except OSError as problem:
        raise paths.named(problem, path) from None


class Undone(NamedTuple):
    """What an undo did, or would do: to which path, the tid it went back to, and its actions in order."""

    path: str
    to: int
    actions: list[Action]


def snapshot_create(timeline: Timeline, name: str, moment: When | None, note: str) -> Snapshot:
    """Name the state of a moment; raises BadRequest for a name that is taken or cannot be one, BadWhen."""
    tid = timeline.tid_of("" if moment is None else moment)
    return timeline.write(snapshots.create, name, tid, note)


def snapshot_list(timeline: Timeline) -> list[Snapshot]:
    """All snapshots, oldest state first."""
    return timeline.read(snapshots.listing)


def snapshot_delete(timeline: Timeline, name: str) -> Snapshot:
    """Forget a name; raises BadRequest where there is none such."""
    return timeline.write(snapshots.delete, name)


def without_marks(timeline: Timeline, raw: bytes) -> tuple[bytes, str | None]:
    """A path with the times taken out of its components, and the last of these times; for what spans all times."""
    skip, moment = 0, None
    while (cut := paths.cut_at_mark(raw, skip)) is not None:
        if _exists(timeline, cut.before, cut.literal):
            skip += 1
            continue
        raw = b"/".join(part for part in (cut.before, cut.name, cut.after) if part)
        moment = cut.when
    return raw, moment


def _exists(timeline: Timeline, directory: bytes, name: bytes) -> bool:
    try:
        return timeline.read(has_name, ROOT_OBJECT, directory, name)[1]
    except OSError:
        return False


def history(timeline: Timeline, raw: bytes) -> list[FileVersion]:
    """Every version of a path, oldest first; raises FileNotFoundError for one that never was."""
    raw, _ = without_marks(timeline, raw)
    with timeline.turn:
        timeline.tid_of("")
        return file_history.file_history(timeline.past(), raw)


def log(
    timeline: Timeline, raw: bytes, since: When | None, until: When | None, limit: int | None
) -> Generator[Progress | Logged, None, bool]:
    """The transactions that touched a tree, newest first; whether there were more than `limit`."""
    raw, _ = without_marks(timeline, raw)
    high = timeline.tid_of("" if until is None else until)
    past = timeline.past()
    low = past.horizon if since is None else timeline.tid_of(since)
    with timeline.turn:
        held = file_history.holders(past, raw)
    if not held:
        raise failure(errno.ENOENT)
    count = 0
    for one in in_turns(timeline, logs.logging(past, held[-1].object, low, high)):
        if one is None:
            yield Progress(count, None)
        elif count == limit:
            return True
        else:
            count += 1
            yield one
    return False


def diff(
    timeline: Timeline, raw: bytes, old: When, new: When | None
) -> Generator[Progress | Difference, None, tuple[int, int]]:
    """What is different in a tree between two times; the tids that were compared."""
    raw, _ = without_marks(timeline, raw)
    t0, t1 = timeline.tid_of(old), timeline.tid_of("" if new is None else new)
    yield from (yield from _paced(timeline, differences.diffing(timeline.past(), raw, t0, t1)))
    return t0, t1


def _paced(timeline: Timeline, work: Generator[None, None, T]) -> Generator[Progress, None, T]:
    """The result of work in slices, each done while holding the engine's turn."""
    while True:
        with timeline.turn:
            try:
                next(work)
            except StopIteration as end:
                result: T = end.value
                return result
        yield Progress(0, None)


def undo(timeline: Timeline, raw: bytes, to: When | None, dry_run: bool) -> Generator[Progress, None, Undone]:
    """Bring a path back to what it was, in slices; between them the tree is sound and partly restored.

    A time in the path counts as `to`. Raises BadRequest where there is nothing to go back to, or both are given.
    """
    raw, mark = without_marks(timeline, raw)
    if mark is not None and to is not None:
        raise BadRequest("the path has a time in it already; leave --to out, or the time")
    to = mark if to is None else to
    at = None if to is None else timeline.tid_of(to)
    timeline.tid_of("")
    past = timeline.past()
    plan = yield from _paced(timeline, undos.planning(past, b"/" + raw, at))
    total, done = len(plan.actions), 0
    if not dry_run and total:
        work = restore.slices(past, plan)
        while True:
            with timeline.turn:
                piece = next(work, None)
                if piece is None:
                    break
                timeline.write(piece)
            done += piece.actions
            yield Progress(done, total, plan.path)
    return Undone(plan.path, plan.to, plan.actions)


def watched(past: Past, raw: bytes, since: int, until: int) -> list[Change]:
    """What was committed in a tree in (since, until], oldest first; nothing while there is no such tree.

    To be called while holding the turn.
    """
    held = file_history.holders(past, raw)
    if not held:
        return []
    found = list(logs.log(past, held[-1].object, since, until))
    return [
        Change(one.tid, tuple(event.path for event in one.events), tuple(event.what for event in one.events))
        for one in reversed(found)
    ]


def in_turns(timeline: Turns, source: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, each fetched while holding the engine's turn."""
    while True:
        with timeline.turn:
            try:
                item = next(source)
            except StopIteration:
                return
        yield item
