"""What a client holds: which masters grant which range, and so what is held by a majority, in which mode, until when.

Invariants: a range is held in the highest mode that a majority grants it in, as of the last review; how new data must
be is remembered until it has been reported.
"""

from __future__ import annotations

from collections.abc import Sequence

from gavel.coherency.events import Tokens
from gavel.coherency.messages import NONE, Granted, S, Want, X
from gavel.coherency.space import EVERYTHING
from gavel.coherency.standing import Masters, at_most, exclusive, lowered, mode_of, raised
from gavel.coherency.table import RangeMap
from gavel.keys.ranges import Range

_Value = tuple[int, int]


class Holdings:
    """See the module."""

    def __init__(self, masters: Masters) -> None:
        self._masters = masters
        self._support: RangeMap[_Value] = RangeMap()  # who grants it, and a tid that data must be as new as
        self.modes: RangeMap[int] = RangeMap()  # what is held

    def tokens(self, ranges: Sequence[Range], valid_until: int) -> Tokens | None:
        """Those of the masters that grant X on all of these; None if they are no majority as long as all that is held
        is held."""
        support = -1
        for lo, hi in ranges:
            if not self.modes.at_least(lo, hi, X):
                return None
            for _, _, (granted, _) in self._support.over(lo, hi):
                support &= granted
        if support <= 0:
            return None
        support = exclusive(support)
        return self._masters.tokens(support) if self._masters.until(support, X) >= valid_until else None

    def join(self, lo: bytes, hi: bytes, node: int, mode: int, tid: int) -> None:
        """A node grants [lo, hi); data there must be as new as `tid`."""

        def joined(old: _Value | None) -> _Value:
            support, newest = old or (0, 0)
            return raised(support, node, mode), max(newest, tid)

        self._support.change(lo, hi, joined)

    def lower(self, want: Want) -> None:
        """Nobody is believed to grant more than this any more."""

        def less(old: _Value | None) -> _Value | None:
            support = at_most(old[0], want.mode) if old is not None else 0
            return (support, old[1]) if old is not None and support else None

        self._support.change(want.lo, want.hi, less)

    def without(self, node: int) -> None:
        """A node grants nothing any more."""

        def less(old: _Value | None) -> _Value | None:
            support = lowered(old[0], node) if old is not None else 0
            return (support, old[1]) if old is not None and support else None

        self._support.change(*EVERYTHING, less)

    def lapse(self, lost: list[Want], known: int) -> None:
        """These are not held any more for lack of time: when they are held again, data must be as new as what was
        known."""
        for lo, hi, _ in lost:
            self._support.change(lo, hi, lambda old: None if old is None else (old[0], max(old[1], known)))

    def review(self, lo: bytes, hi: bytes, now: int, gained: list[Granted]) -> list[Want]:
        """Find out what is held of [lo, hi) now: adds to `gained` what was not held in any mode before, with how new
        data must be. Returns what was held in a higher mode, with the mode that is left."""
        lost: list[Want] = []
        for low, high, value in self._support.whole(lo, hi):
            support, tid = value or (0, 0)
            mode = self._mode(support, now)
            for a, b, old in self.modes.whole(low, high):
                if mode and not old:
                    gained.append(Granted(a, b, mode, tid))
                elif mode < (old or NONE):
                    lost.append(Want(a, b, mode))
            self.modes.set(low, high, mode or None)
            if mode and tid:
                self._support.set(low, high, (support, 0))
        return lost

    def _mode(self, support: int, now: int) -> int:
        if self._masters.until(support, X) > now:
            return X
        return S if self._masters.until(support, S) > now else NONE

    def until(self, now: int) -> int:
        """Until when all that is held is held; 0 if nothing is."""
        times: list[int] = []
        if len(self.modes):
            for support in dict.fromkeys(support for support, _ in self._support.values()):
                mode = self._mode(support, now)
                if mode:
                    times.append(self._masters.until(support, mode))
        return min(times, default=0)

    def lacking(self) -> bool:
        """Whether something is granted by somebody and not held in the highest mode in which anybody grants it."""
        return any(
            not self.modes.at_least(lo, hi, X if exclusive(support) else S) for lo, hi, (support, _) in self._support
        )

    def granted(self, node: int, want: Want) -> bool:
        """Whether a node grants all of this."""
        return all(
            value is not None and mode_of(value[0], node) >= want.mode
            for _, _, value in self._support.whole(want.lo, want.hi)
        )

    def granted_by(self, node: int, key: bytes) -> int:
        """In which mode a node grants a key."""
        support, _ = self._support.get(key) or (0, 0)
        return mode_of(support, node)

    def above(self, want: Want) -> bool:
        """Whether anybody is believed to grant more than this."""
        return any(at_most(support, want.mode) != support for _, _, (support, _) in self._support.over(*want[:2]))

    def missing(self, node: int) -> list[Want]:
        """What is held, but not granted by this node."""
        return [
            Want(a, b, mode)
            for lo, hi, mode in self.modes
            for a, b, (support, _) in self._support.over(lo, hi)
            if mode_of(support, node) < mode
        ]
