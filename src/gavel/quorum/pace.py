"""How fast one gives to those who catch up: as fast as they take it, unless transactions are decided meanwhile.

Then it gives by turns: QUIET without a piece, GIVING with pieces at a rate. From how long decisions took in each of
them, and how many there were, follows whether the rate may rise or has to fall. So it finds the rate at which they are
SLOWER per cent slower, whatever it is that makes them slow: how long they take says what happens here, how many there
are what it does to clients that wait for one before the next. A ceiling holds always.

Invariant: while transactions are decided, no piece is due before its rate has earned it.
"""

from __future__ import annotations

from typing import Final

from gavel.limits import CATCH_UP_LEAST, MIB
from gavel.quorum.desk import Desk

SECOND: Final = 1_000_000_000  # ns
QUIET: Final = SECOND // 5
GIVING: Final = SECOND // 2
BUSY_FOR: Final = SECOND  # since the last decision; a client that writes now and then is not to wait for pieces either
SLOWER: Final = 5  # per cent; half of what is promised, since the measure is rough
FEW: Final = 3  # decisions in a turn that say something
FASTEST: Final = 1 << 62  # bytes a second: no limit


class Measure:
    """How decisions go in one kind of turn, smoothed over a few turns."""

    __slots__ = ("_apart", "_took", "known")

    def __init__(self) -> None:
        self.known = False
        self._took = 0  # ns of one
        self._apart = 0  # ns from one to the next

    def add(self, count: int, took: int, lasted: int) -> None:
        """A turn of `lasted` ns in which so many were made, and what they took together."""
        one, apart = took // count, lasted // count
        self._took += (one - self._took) >> 2 if self.known else one
        self._apart += (apart - self._apart) >> 2 if self.known else apart
        self.known = True

    def is_slower(self, usual: Measure) -> bool:
        """Whether they take longer, or are fewer, than usual."""
        most = 100 + SLOWER
        return self._took * 100 > usual._took * most or self._apart * 100 > usual._apart * most


class Pace:
    """When the next piece is due, desk time."""

    def __init__(self, desk: Desk) -> None:
        self.due = 0
        self.ceiling = 0  # bytes a second that are never exceeded; 0: none
        self._desk = desk
        self._rate = CATCH_UP_LEAST * MIB
        self._giving = False
        self._until = -2 * GIVING  # when this turn ends
        self._since = 0  # when it began
        self._counted = self._took = 0  # as the desk counted then
        self._quiet = Measure()
        self._given = Measure()
        self._seen = 0
        self._busy_until = 0

    @property
    def busy(self) -> bool:
        """Whether transactions are being decided."""
        return self._desk.time < self._busy_until

    @property
    def rate(self) -> int:
        """Bytes a second, now."""
        fastest = self.ceiling or FASTEST
        return min(fastest, self._rate) if self.busy else fastest

    def look(self) -> bool:
        """Whether a piece may be made now; to be asked before each."""
        desk = self._desk
        if desk.decisions != self._seen:
            self._seen = desk.decisions
            self._busy_until = desk.time + BUSY_FOR
        if self.busy and desk.time >= self._until:
            self._turn()
        return desk.time >= self.due

    def spent(self, size: int) -> None:
        """A piece was made; it counts for so many bytes."""
        self.due = max(self.due, self._desk.time) + size * SECOND // self.rate

    def _turn(self) -> None:
        """The end of a turn: learn from it, and begin the other."""
        desk = self._desk
        count, took = desk.decisions - self._counted, desk.deciding - self._took
        late = desk.time - self._until > GIVING  # nobody looked for long: it says nothing
        if late:
            self._quiet, self._given = Measure(), Measure()
        elif count >= FEW:
            (self._given if self._giving else self._quiet).add(count, took, desk.time - self._since)
            if self._giving and self._quiet.known:
                if self._given.is_slower(self._quiet):
                    self._rate = max(self._rate * 4 // 5, CATCH_UP_LEAST * MIB)
                else:
                    self._rate = min(self._rate * 5 // 4, FASTEST)
        self._counted, self._took, self._since = desk.decisions, desk.deciding, desk.time
        self._giving = late or not self._giving  # what is soon over does not wait at all
        self._until = desk.time + (GIVING if self._giving else QUIET)
        if not self._giving:
            self.due = max(self.due, self._until)
