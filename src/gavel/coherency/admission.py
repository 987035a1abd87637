"""Transactions at a master: which are open here and what they write; which leases are in the way of one.

Invariant: what an admitted transaction writes stays blocked until it is executed here or known never to happen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from enum import IntEnum
from typing import Final

from gavel.coherency.messages import NONE, S, Want, X
from gavel.coherency.sessions import Session
from gavel.coherency.space import levels
from gavel.keys.ranges import Range, just

SPANS_MAX: Final = 16  # ranges that are recalled for one transaction; with more it is what lies between them, too


class Admission(IntEnum):
    """Whether a master may vote for a transaction."""

    GO = 0
    BUSY = 1  # somebody holds a lease against it, or there is a grace: again, when that is clear; recalls are under way
    FENCED = 2  # it was written under a lease that does not stand here any more: never


class Blocks:
    """What open transactions write: nothing is granted over it."""

    def __init__(self) -> None:
        self._keys: dict[Hashable, list[bytes] | None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, transaction: Hashable, writes: Sequence[bytes] | None) -> None:
        """It is open, and writes these; None: nobody here knows what."""
        self._keys[transaction] = None if writes is None else sorted(writes)

    def remove(self, transaction: Hashable) -> bool:
        """It is over; whether it was open."""
        return self._keys.pop(transaction, False) is not False

    def over(self, lo: bytes, hi: bytes) -> bool:
        """Whether one of them may write in [lo, hi)."""
        for keys in self._keys.values():
            if keys is None:
                return True
            at = bisect_left(keys, lo)
            if at < len(keys) and keys[at] < hi:
                return True
        return False


def against(other: Session, reads: Sequence[Range], writes: Sequence[bytes]) -> list[Want]:
    """What has to be recalled from another session before a transaction may be voted for that read these ranges and
    writes these keys, which ascend: all it holds over a key, what it holds in X over a range."""
    held = other.held
    if not len(held):
        return []
    if len(held) < len(writes):
        hit: list[bytes] = []
        for lo, hi, _ in held:
            hit += writes[bisect_left(writes, lo) : bisect_left(writes, hi)]
    else:
        hit = [key for key in writes if held.get(key) is not None]
    found = spans(hit)
    found += [Want(lo, hi, S) for lo, hi in reads if other.above(lo, hi, S)]
    return found


def spans(keys: Sequence[bytes]) -> list[Want]:
    """The objects of keys, which ascend, as ranges to recall altogether; if these are many, one around them all."""
    found: list[Want] = []
    for key in keys:
        if not found or key >= found[-1].hi:
            found.append(Want(*levels(*just(key))[1], NONE))
    if len(found) > SPANS_MAX:
        return [Want(found[0].lo, found[-1].hi, NONE)]
    return found


def wanted(reads: Sequence[Range], writes: Sequence[bytes]) -> list[Want]:
    """The same as what somebody waits for: X where it writes, S where it read."""
    found = [Want(lo, hi, X) for lo, hi, _ in spans(writes)]
    found += [Want(lo, hi, S) for lo, hi in reads[:SPANS_MAX]]
    return found


def alone(own: Session, reads: Sequence[Range], writes: Sequence[bytes]) -> bool:
    """Whether the session holds all of this in X, in one piece; then nobody else can be in the way."""
    lo = min((writes[0], *(low for low, _ in reads))) if writes else b""
    hi = max((writes[-1] + b"\0", *(high for _, high in reads))) if writes else b""
    pieces = own.held.over(lo, hi)
    return lo < hi and pieces == [(lo, hi, X)]
