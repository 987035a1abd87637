"""Prune: the horizon moves by a transaction, then what nobody can see any more is dropped, slice by slice.

Invariants:
- the horizon is committed before anything is dropped, so no reader ever meets a state of which a part is gone: it is
  kept, or HistoryPruned;
- a version goes only when it ended at or below the horizon and was not true at any kept tid; where no such version can
  be, nothing is read (btree/dues.py);
- dropped is what a checkpoint has written; a crash before that brings back versions that nobody can ask for, and the
  next run drops them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gavel.filesystem import retention, snapshots
from gavel.filesystem.retention import Policy
from gavel.history.history import History
from gavel.history.horizon import Horizon
from gavel.keys import records
from gavel.limits import JOB_DIRTY_MAX, JOB_RECORDS
from gavel.transaction.transaction import Transaction
from gavel.upkeep.job import Ask, Cursor, Progress, Steps, Write
from gavel.upkeep.walk import stored_bytes

Moved = tuple[Horizon, Horizon]
Move = Callable[[Transaction], Moved]


class Pruned(NamedTuple):
    """What a prune did, or would do: the horizon before and after it, states kept below it, versions dropped.

    `bytes` of file data that the dropped versions referred to: for estimates only, else None.
    """

    before: int
    horizon: int
    kept: int
    versions: int
    bytes: int | None = None


def moving(history: History, keep: tuple[int, Policy] | None = None, everything: bool = False) -> Move:
    """The transaction that moves the horizon; see retention.move."""

    def operation(tx: Transaction) -> Moved:
        named = [one.tid for one in snapshots.listing(tx)]
        return retention.move(tx, history.created_tid, history.last_tid, named, keep, everything)

    return operation


def prune(
    history: History, keep: tuple[int, Policy] | None = None, everything: bool = False, cursor: Cursor | None = None
) -> Steps[Pruned]:
    """Move the horizon as far as the policies allow and drop what is below; see moving() for `keep` and `everything`.

    With a cursor it begins where the last run was stopped and ends there, having come round; so runs that are always
    cut short still come by everywhere. Durable when it is through.
    """
    place = cursor if cursor is not None else Cursor()
    yield Ask.QUIET  # no open transaction stands on a state that is about to go
    before, after = yield Write(moving(history, keep, everything))
    dropped = 0
    start, wrapped = place.value, not place.value
    at: bytes | None = start if after.horizon else None
    while at is not None:
        at, count = history.prune(at, JOB_RECORDS)
        dropped += count
        if wrapped and start and at is not None and at >= start:
            at = None
        elif at is None and not wrapped:
            at, wrapped = b"", True
        place.value = b"" if at is None else at
        if history.dirty_bytes > JOB_DIRTY_MAX:
            yield Ask.CHECKPOINT
        total = history.counts().past_records + dropped
        yield Progress(total if at is None else _share(history, at, total), total, "versions", f"{dropped} dropped")
    if dropped:
        yield Ask.CHECKPOINT
    return Pruned(before.horizon, after.horizon, len(after.kept), dropped)


def estimate(
    history: History,
    look: Callable[[int], Transaction],
    keep: tuple[int, Policy] | None = None,
    everything: bool = False,
) -> Steps[Pruned]:
    """What prune() with the same arguments would do now; changes nothing, also where nothing may be changed.

    `look` gives a view of a tid.
    """
    yield Ask.COMMITTED
    before, after = moving(history, keep, everything)(look(history.last_tid))
    count = size = 0
    total = history.counts().past_records
    at: bytes | None = b"" if after.horizon else None
    while at is not None:
        found, at = history.needless(at, JOB_RECORDS, after)
        count += len(found)
        size += sum(map(stored_bytes, found))
        yield Progress(total if at is None else _share(history, at, total), total, "versions")
    return Pruned(before.horizon, after.horizon, len(after.kept), count, size)


def _share(history: History, past_key: bytes, total: int) -> int:
    """About how many of `total` past records lie before a key: by locality, and by object within it."""
    if len(past_key) < records.HEAD_SIZE:
        return 0
    key = records.parse(past_key)
    reserved = history.get(records.counter(key.pfs, records.OBJECTS))
    objects = int.from_bytes(reserved, "big") if reserved else 1
    localities = records.DATA - records.ROOT
    part = max(key.locality - 1, 0) * objects + min(key.object, objects)
    return min(total, total * part // (localities * objects))
