"""What only a whole volume can answer. Long work is a generator that yields Progress between slices.

Between two slices the engine's turn is free, so that other threads work on, and a mount answers its kernel.
"""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterator
from typing import NamedTuple, TypeVar

from gavel.client import paths
from gavel.client.operations import has_name
from gavel.client.results import Change, Info, Progress
from gavel.client.states import Present
from gavel.errors import BadRequest, BadWhen, Damaged, DeviceFailed
from gavel.filesystem import check as checks
from gavel.filesystem import diff as differences
from gavel.filesystem import file_history, restore, snapshots
from gavel.filesystem import log as logs
from gavel.filesystem import undo as undos
from gavel.filesystem.check import Problem
from gavel.filesystem.diff import Difference
from gavel.filesystem.failure import failure
from gavel.filesystem.file_history import FileVersion
from gavel.filesystem.log import Logged
from gavel.filesystem.snapshots import Snapshot
from gavel.filesystem.undo import Action
from gavel.keys import records
from gavel.keys import tid as tids
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import SLICE_NODES, SLICE_RECORDS
from gavel.media import extents
from gavel.media.extents import Extent
from gavel.runtime.engine import Engine
from gavel.runtime.moments import tid_named
from gavel.transaction.transaction import Transaction

S = TypeVar("S")
T = TypeVar("T")
When = int | str


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


def tid_of(engine: Engine, moment: When) -> int:
    """The tid that a WHEN stands for, everything done so far included in the present; raises BadWhen."""
    if isinstance(moment, int) and moment < 0:
        raise BadWhen(str(moment), "is no tid: they are above zero")
    with engine.turn:
        return tid_named(engine, tids.text(moment) if isinstance(moment, int) else moment)


def info(engine: Engine) -> Generator[Progress, None, Info]:
    """What the volume is and how full, everything done so far included. Known at once; nothing is looked at."""
    tid_of(engine, "")
    yield from ()
    with engine.turn:
        return _info(engine)


def _info(engine: Engine) -> Info:
    volume, history = engine.volume, engine.history
    space, counts = volume.space(), history.counts()
    return Info(
        label=volume.label,
        identity=volume.identity.hex(),
        size=space.total,
        free=space.free,
        live=counts.live_data,
        history=counts.past_data,
        log=space.log,
        trees=space.tree,
        reserve=space.reserve,
        created_tid=history.created_tid,
        last_tid=engine.replica.last_tid,
        horizon=max(history.horizon, history.created_tid),
        records=counts.live_records,
        past_records=counts.past_records,
        read_only=volume.read_only,
    )


def snapshot_create(present: Present, name: str, moment: When | None, note: str) -> Snapshot:
    """Name the state of a moment; raises BadRequest for a name that is taken or cannot be one, BadWhen."""
    tid = tid_of(present.engine, "" if moment is None else moment)
    return present.write(snapshots.create, name, tid, note)


def snapshot_list(present: Present) -> list[Snapshot]:
    """All snapshots, oldest state first."""
    return present.read(snapshots.listing)


def snapshot_delete(present: Present, name: str) -> Snapshot:
    """Forget a name; raises BadRequest where there is none such."""
    return present.write(snapshots.delete, name)


def without_marks(present: Present, raw: bytes) -> tuple[bytes, str | None]:
    """A path with the times taken out of its components, and the last of these times; for what spans all times."""
    skip, moment = 0, None
    while (cut := paths.cut_at_mark(raw, skip)) is not None:
        if _exists(present, cut.before, cut.literal):
            skip += 1
            continue
        raw = b"/".join(part for part in (cut.before, cut.name, cut.after) if part)
        moment = cut.when
    return raw, moment


def _exists(present: Present, directory: bytes, name: bytes) -> bool:
    try:
        return present.read(has_name, ROOT_OBJECT, directory, name)[1]
    except OSError:
        return False


def history(present: Present, raw: bytes) -> list[FileVersion]:
    """Every version of a path, oldest first; raises FileNotFoundError for one that never was."""
    raw, _ = without_marks(present, raw)
    with present.engine.turn:
        tid_of(present.engine, "")
        return file_history.file_history(present.engine.history, raw)


def log(
    present: Present, raw: bytes, since: When | None, until: When | None, limit: int | None
) -> Generator[Progress | Logged, None, bool]:
    """The transactions that touched a tree, newest first; whether there were more than `limit`."""
    engine = present.engine
    raw, _ = without_marks(present, raw)
    low = engine.history.horizon if since is None else tid_of(engine, since)
    high = tid_of(engine, "" if until is None else until)
    with engine.turn:
        held = file_history.holders(engine.history, raw)
    if not held:
        raise failure(errno.ENOENT)
    count = 0
    for one in _in_turns(engine, logs.logging(engine.history, held[-1].object, low, high)):
        if one is None:
            yield Progress(count, None)
        elif count == limit:
            return True
        else:
            count += 1
            yield one
    return False


def diff(
    present: Present, raw: bytes, old: When, new: When | None
) -> Generator[Progress | Difference, None, tuple[int, int]]:
    """What is different in a tree between two times; the tids that were compared."""
    engine = present.engine
    raw, _ = without_marks(present, raw)
    t0, t1 = tid_of(engine, old), tid_of(engine, "" if new is None else new)
    yield from (yield from _paced(engine, differences.diffing(engine.history, raw, t0, t1)))
    return t0, t1


def _paced(engine: Engine, work: Generator[None, None, T]) -> Generator[Progress, None, T]:
    """The result of work in slices, each done while holding the engine's turn."""
    while True:
        with engine.turn:
            try:
                next(work)
            except StopIteration as end:
                result: T = end.value
                return result
        yield Progress(0, None)


def undo(present: Present, raw: bytes, to: When | None, dry_run: bool) -> Generator[Progress, None, Undone]:
    """Bring a path back to what it was, in slices; between them the tree is sound and partly restored.

    A time in the path counts as `to`. Raises BadRequest where there is nothing to go back to, or both are given.
    """
    engine = present.engine
    raw, mark = without_marks(present, raw)
    if mark is not None and to is not None:
        raise BadRequest("the path has a time in it already; leave --to out, or the time")
    to = mark if to is None else to
    at = None if to is None else tid_of(engine, to)
    tid_of(engine, "")
    plan = yield from _paced(engine, undos.planning(engine.history, b"/" + raw, at))
    total, done = len(plan.actions), 0
    if not dry_run and total:
        work = restore.slices(engine.history, plan)
        while True:
            with engine.turn:
                piece = next(work, None)
                if piece is None:
                    break
                present.write(piece)
            done += piece.actions
            yield Progress(done, total, plan.path)
    return Undone(plan.path, plan.to, plan.actions)


def watched(engine: Engine, raw: bytes, since: int, until: int) -> list[Change]:
    """What was committed in a tree in (since, until], oldest first; nothing while there is no such tree."""
    with engine.turn:
        held = file_history.holders(engine.history, raw)
        if not held:
            return []
        found = list(logs.log(engine.history, held[-1].object, since, until))
    return [
        Change(one.tid, tuple(event.path for event in one.events), tuple(event.what for event in one.events))
        for one in reversed(found)
    ]


def check(present: Present, deep: bool) -> Generator[Progress, None, list[Problem]]:
    """Every problem of the volume: headers and map, trees, the filesystem in them; `deep` reads all there is.

    What a deep check reads is what the present and the past as of now refer to; changes meanwhile are left out.
    """
    engine = present.engine
    problems: list[Problem] = []
    at = tid_of(engine, "")
    with engine.turn:
        problems += [Problem("volume", 0, "the volume", text) for text in engine.volume.check()]
        counts = engine.history.counts()
        nodes, total = counts.live_nodes + counts.past_nodes, counts.live_records
        tx = engine.cache.frozen(at, engine.clock())
    seen = 0
    for text in _in_turns(engine, engine.history.check(deep)):
        if text:
            problems.append(Problem("trees", 0, "the trees", text))
        else:
            seen = min(seen + SLICE_NODES, nodes)
        yield Progress(seen, nodes, "nodes")
    for text in _in_turns(engine, engine.history.recount()) if deep else ():
        if text:
            problems.append(Problem("live_bytes_counted", 0, "the map", text))
        yield Progress(nodes, nodes, "map")
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done = count

    for found in _in_turns(engine, checks.check(tx, deep, advance)):
        if found is not None:
            problems.append(found)
        yield Progress(min(done, total), total, "filesystem")
    if deep:
        for count, broken in enumerate(_in_turns(engine, _past_data(engine, tx)), 1):
            if broken is not None:
                problems.append(broken)
            if count % SLICE_RECORDS == 0:
                yield Progress(total, total, "past file data")
    return problems


def _looking(engine: Engine, work: Generator[None, None, T]) -> Generator[Progress, None, T]:
    """The result of work that pauses from time to time; each stretch of it holds the engine's turn."""
    while True:
        with engine.turn:
            try:
                next(work)
            except StopIteration as done:
                result: T = done.value
                return result
        yield Progress(0, None)


def _in_turns(engine: Engine, source: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, each fetched while holding the engine's turn."""
    while True:
        with engine.turn:
            try:
                item = next(source)
            except StopIteration:
                return
        yield item


def _past_data(engine: Engine, tx: Transaction) -> Iterator[Problem | None]:
    """Read the file data that the past refers to, also below the horizon; what does not verify."""
    last: Extent | None = None
    for version, _ in engine.history.walk(b"", data_only=True, closed_only=True):
        try:
            extent = extents.decode(version.value).extent
            if extent is not None and extent != last:
                last = extent
                tx.load(extent)
            yield None
        except (Damaged, DeviceFailed) as damage:
            obj = records.parse(version.key).object
            until = tids.text(version.delete_tid or 0)
            yield Problem("past_data_verifies", obj, f"object {obj} before {until}", str(damage))
