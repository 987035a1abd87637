"""What a master remembers of each session: token and term, what it holds, what is recalled from it, what it waits for.

Invariants: a token is never given twice; what a session holds ends with its term, or before if it was released or its
recall was left unanswered for as long; what is recalled is not renewed, unless the client says that it works on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from gavel.coherency.contention import Reach
from gavel.coherency.messages import NONE, Age, Ask, Recall, S, Token, Want, X
from gavel.coherency.queue import Place
from gavel.coherency.table import RangeMap
from gavel.keys.ranges import Range
from gavel.limits import LEASE_TERM_NS, LEASE_WORK_NS


class Recalling:
    """One recall that is not answered."""

    __slots__ = ("age", "deadline", "hi", "issued", "lo", "number", "to", "why")

    def __init__(self, number: int, wanted: Want, age: Age, why: int, now: int, deadline: int) -> None:
        self.number = number
        self.lo, self.hi, self.to = wanted
        self.age, self.why = age, why
        self.issued = now
        self.deadline = deadline  # then what is recalled is taken, and the session's token with it

    def message(self) -> Recall:
        """What the client is told."""
        return Recall(self.number, self.lo, self.hi, self.to, self.age, self.why)


class Session:
    """See the module."""

    def __init__(self, name: bytes, token: Token, released: int, until: int) -> None:
        self.name = name
        self.token = token
        self.until = until  # everything it holds is over then
        self.ended = False  # it left a recall unanswered: not renewed any more, and its token is void
        self.released = released  # the last Release processed
        self.held: RangeMap[int] = RangeMap()
        self.recalls: dict[int, Recalling] = {}
        self.waiting: dict[int, Waiting] = {}
        self.reach = Reach()
        self.crowd = b""  # where the next recall for lack of room begins

    def renew(self, working: Sequence[int], now: int, frozen: bool) -> bool:
        """Another term, but for what is recalled and not worked on; False if it has worked for too long."""
        if any(recall.issued + LEASE_WORK_NS <= now for recall in self.recalls.values()):
            return False
        self.until = now + LEASE_TERM_NS
        for number, recall in self.recalls.items():
            if number in working or not frozen:
                recall.deadline = self.until
        return True

    def raise_to(self, lo: bytes, hi: bytes, mode: int) -> None:
        """It holds [lo, hi) in this mode at least."""
        self.held.change(lo, hi, lambda old: mode if old is None or old < mode else old)

    def lower(self, lo: bytes, hi: bytes, to: int) -> None:
        """It holds [lo, hi) in this mode at most."""
        if to == NONE:
            self.held.set(lo, hi, None)
        elif to == S:
            self.held.change(lo, hi, lambda old: S if old == X else old)

    def above(self, lo: bytes, hi: bytes, to: int) -> bool:
        """Whether it holds more than this mode anywhere in [lo, hi)."""
        if to == NONE:
            return self.held.overlaps(lo, hi)
        return to == S and self.held.touches(lo, hi, (X,))

    def settle(self) -> None:
        """Drop the recalls that nothing is left of."""
        for number in [n for n, recall in self.recalls.items() if not self.above(recall.lo, recall.hi, recall.to)]:
            del self.recalls[number]

    def frozen(self, lo: bytes, hi: bytes, mode: int) -> bool:
        """Whether something is being recalled from it in [lo, hi) that this mode needs."""
        return any(mode > r.to and r.lo < hi and lo < r.hi for r in self.recalls.values())

    def end(self, now: int) -> None:
        """It left a recall unanswered: what that recalled is taken at once. The rest stands until its term is over, as
        the client may believe in it until then; but what is dirty under this token is refused from now on."""
        self.ended = True
        self.take(now)

    def take(self, now: int) -> None:
        """Take what was recalled and not answered in time."""
        for recall in [recall for recall in self.recalls.values() if recall.deadline <= now]:
            self.lower(recall.lo, recall.hi, recall.to)
            del self.recalls[recall.number]


class Waiting:
    """An ask that is not answered. A client says it again while it wants it."""

    __slots__ = ("ask", "place", "reach", "session", "since", "wants")

    def __init__(self, session: Session, ask: Ask, now: int) -> None:
        self.session, self.ask, self.since = session, ask, now
        self.place: Place = Age(*ask.age), ask.number
        self.wants: Sequence[Want] = ask.wants
        self.reach: list[Range] | None = None  # what to recall for each want, once something has to be
