"""Which states of the past can be read: all from the horizon on, and below it those as of the kept tids.

A record of the filesystem says so, and counts from the transaction that writes it, so whoever has applied the same
transactions agrees. Invariants:
- the horizon never goes back: a record that says less than an earlier one is passed over, and so is one of no known
  form, or none at all;
- a tid below the horizon that is not kept never is again, whatever a record says: what it showed may be gone;
- the version of the record that set the horizon in force began above it, so no prune drops it: a history that is
  opened finds in the trees what held when they were written, also where a later record said nothing sensible.

The record is the MessagePack array [horizon, kept], kept ascending.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

import msgspec

from gavel.btree.dues import NEVER, Due
from gavel.errors import Damaged
from gavel.history.versions import Version
from gavel.keys import records


class Horizon(msgspec.Struct, array_like=True, frozen=True):
    """From tid `horizon` on every state can be read; below it those as of the `kept` tids (ascending)."""

    horizon: int = 0
    kept: tuple[int, ...] = ()

    def readable(self, tid: int) -> bool:
        """Whether the state as of a tid is kept."""
        if tid >= self.horizon:
            return True
        at = bisect_left(self.kept, tid)
        return at < len(self.kept) and self.kept[at] == tid

    def due(self, due: Due) -> bool:
        """Whether some version may be needless where this holds; see btree/dues.py."""
        return due.low <= self.horizon or (due.count > 0 and self._count(due.first, due.last) != due.count)

    def over(self, dues: Iterable[Due]) -> Due:
        """What holds of subtrees together, none of which is due."""
        low, first, last = NEVER, NEVER, 0
        for due in dues:
            low = min(low, due.low)
            if due.count:
                first, last = min(first, due.first), max(last, due.last)
        return Due(low, first, last, self._count(first, last)) if last else Due(low)

    def _count(self, first: int, last: int) -> int:
        """How many tids are kept in [first, last]."""
        return bisect_right(self.kept, last) - bisect_left(self.kept, first)

    def needless(self, created: int, deleted: int) -> bool:
        """Whether what was true during [created, deleted) is seen in no state that is kept."""
        if deleted > self.horizon:
            return False
        at = bisect_left(self.kept, created)
        return at == len(self.kept) or self.kept[at] >= deleted

    def nearest(self, tid: int) -> tuple[int, ...]:
        """The kept tids next to one below the horizon: the last before it and the first after it, where there are."""
        at = bisect_left(self.kept, tid)
        return (*self.kept[max(at - 1, 0) : at], *(self.kept[at : at + 1] or (self.horizon,)))

    def moved(self, to: Horizon) -> Horizon:
        """What holds after a record that says `to`."""
        if to.horizon < self.horizon:
            return self
        there = frozenset(self.kept)
        kept = [tid for tid in sorted(frozenset(to.kept)) if tid < to.horizon and (tid >= self.horizon or tid in there)]
        return Horizon(to.horizon, tuple(kept))


def horizon_key(pfs: int) -> bytes:
    """The record that says what is kept. That of pseudo-filesystem 0 speaks for the volume."""
    return records.config(pfs, b"horizon")


KEY: Final = horizon_key(0)

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Horizon).decode


def decode(value: bytes | None) -> Horizon:
    """What a record says; raises Damaged."""
    if value is None:
        return Horizon()
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise Damaged("the record of the horizon", 0, "MessagePack of a horizon", str(error)) from None


def said(value: bytes | None) -> Horizon:
    """The same where it must not fail: a record of no known form says nothing."""
    try:
        return decode(value)
    except Damaged:
        return Horizon()


def recalled(versions: Iterable[Version]) -> Horizon:
    """What holds after all versions of the record, oldest first."""
    held = Horizon()
    for version in versions:
        held = held.moved(said(version.value))
    return held
