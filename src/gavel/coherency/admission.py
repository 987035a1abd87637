"""Transactions at a master: which may be proposed, which are open here and what they write, which were refused.

Invariants: what an admitted transaction writes stays blocked until it is executed here or known never to happen; what
was refused for a while stands in the queue until it has come again, or does not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from enum import IntEnum
from typing import Final

from gavel.coherency.messages import NONE, Age, S, Token, Want, X
from gavel.coherency.queue import Intent, Queue
from gavel.coherency.rules import Rules
from gavel.coherency.sessions import Session
from gavel.coherency.space import levels
from gavel.keys.ranges import Range, just
from gavel.limits import LEASE_TERM_NS

INTENT_NS: Final = LEASE_TERM_NS // 4  # a refused transaction comes again within it, or gives way
INTENTS_MAX: Final = 1024
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


class Transactions:
    """See the module. `recall(session, range and mode, age, now)` asks for a lease back."""

    def __init__(
        self,
        sessions: dict[bytes, Session],
        queue: Queue,
        clock: Callable[[], int],
        recall: Callable[[Session, Want, Age, int], None],
        rules: Rules,
    ) -> None:
        self._sessions, self._queue, self._clock, self._recall, self._rules = sessions, queue, clock, recall, rules
        self._intents: dict[tuple[bytes, bytes], Intent] = {}
        self._numbers = 0
        self.blocks = Blocks()

    def admit(
        self, name: bytes, reads: Sequence[Range], writes: Sequence[bytes], tokens: Sequence[Token] | None, now: int
    ) -> Admission:
        """See Grantor.admit; the keys ascend, and there is no grace."""
        own = self._sessions.get(name)
        if tokens is not None and self._rules.fence:
            if own is None or own.ended or own.token not in tokens:
                return Admission.FENCED
            if alone(own, reads, writes):
                return Admission.GO
            if any(own.held.get(key) != X for key in writes):
                return Admission.FENCED
        if not self._rules.propose_waits:
            return Admission.GO
        if self._obstructed(name, reads, writes, tokens is None, now):
            return Admission.BUSY
        if self._intents:
            intent = self._intents.pop(_known_by(name, reads, writes), None)
            if intent is not None:
                self._queue.remove(intent)
        return Admission.GO

    def _obstructed(self, name: bytes, reads: Sequence[Range], writes: Sequence[bytes], queued: bool, now: int) -> bool:
        """Whether leases of others are in the way, or, if it is to stand in the queue, who came before it."""
        found = [(other, against(other, reads, writes)) for other in self._sessions.values() if other.name != name]
        found = [(other, wants) for other, wants in found if wants]
        if not found and not (queued and len(self._queue)):
            return False
        key, wants = _known_by(name, reads, writes), wanted(reads, writes)
        intent = self._intents.get(key)
        if intent is None:
            self._numbers += 1
            intent = Intent((Age(self._clock(), name), -self._numbers), wants, 0)
        if not found and not any(self._queue.older(intent.place).blocks(name, *want) for want in wants):
            return False
        if key not in self._intents:
            if len(self._intents) >= INTENTS_MAX:
                self._queue.remove(self._intents.pop(next(iter(self._intents))))
            self._intents[key] = intent
            self._queue.add(intent)
        intent.until = now + INTENT_NS
        for other, against_it in found:
            for want in against_it:
                self._recall(other, want, intent.place[0], now)
        return True

    def tick(self, now: int) -> None:
        """Who was refused and has not come again gives way."""
        for key in [key for key, intent in self._intents.items() if intent.until <= now]:
            self._queue.remove(self._intents.pop(key))

    def times(self) -> list[int]:
        """When it is to be ticked."""
        return [intent.until for intent in self._intents.values()]


def _known_by(session: bytes, reads: Sequence[Range], writes: Sequence[bytes]) -> tuple[bytes, bytes]:
    """What a transaction is known by while it is refused: its next try has another name, but writes the same."""
    return session, writes[0] if writes else reads[0][0] if reads else b""
