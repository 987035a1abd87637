"""Whether a link is up, judged by completed round trips alone; and how long one takes.

A peer that can send and not receive sounds alive for ever, so that something is heard counts for nothing: only the PONG
to a PING does. While somebody waits for the peer it is asked often, else rarely. The answer to a request is a round
trip, too: after one there is no need to ask for a while. It ends no doubt: the request may have been heard long ago.

Invariants:
- at most one ping is unanswered; nothing but its answer makes a link that is in doubt be up again;
- doubt costs little (somebody else is asked as well), so it may come early; the connection is given up much later.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from gavel.limits import LINK_DEAD_MS, LINK_DOUBT_MS, PING_BUSY_MS, PING_IDLE_MS

_MS: Final = 1_000_000
_WEIGHT: Final = 8  # a new round trip counts for one part in so many


class Health(Enum):
    """What the round trips say of a link."""

    UP = "up"
    DOUBT = "in doubt"
    DEAD = "dead"


class Pulse:
    """The pulse of one link from the moment it is open; all times are monotonic ns."""

    __slots__ = ("_number", "_pinged", "_quiet", "_waiting", "completed", "rtt", "skew")

    def __init__(self, now: int) -> None:
        self._number = 0
        self._pinged = now  # when the last ping went out
        self._quiet = now  # when it was last asked, or answered a request
        self._waiting = False  # for its answer
        self.completed = now  # when the last round trip ended
        self.rtt = 0  # ns, smoothed; 0 until the first round trip
        self.skew = 0  # ns that the peer's clock is ahead of ours; 0 if it does not say

    def due(self, now: int, busy: bool) -> int | None:
        """The number to ping with now, if it is time to; `busy`: somebody waits for this peer."""
        if self._waiting or now < self._quiet + (PING_BUSY_MS if busy else PING_IDLE_MS) * _MS:
            return None
        self._number += 1
        self._pinged = self._quiet = now
        self._waiting = True
        return self._number

    def answered(self, now: int) -> None:
        """The peer has answered a request."""
        if not self._waiting:
            self._quiet = now

    def ponged(self, number: int, now: int, ours: int = 0, theirs: int = 0) -> None:
        """The answer to a ping has come; `ours` and `theirs` are the wall clocks, ns since 1970, `theirs` if known."""
        if not self._waiting or number != self._number:
            return
        took = now - self._pinged
        self._waiting, self.completed = False, now
        self.rtt = took if not self.rtt else self.rtt + (took - self.rtt) // _WEIGHT
        self.skew = theirs - (ours - took // 2) if theirs else 0

    def health(self, now: int) -> Health:
        """How the link is."""
        if not self._waiting or now < self._pinged + LINK_DOUBT_MS * _MS:
            return Health.UP
        return Health.DOUBT if now < self._pinged + LINK_DEAD_MS * _MS else Health.DEAD

    def next(self, now: int, busy: bool) -> int:
        """When due() or health() may say something else than now."""
        if not self._waiting:
            return self._quiet + (PING_BUSY_MS if busy else PING_IDLE_MS) * _MS
        doubt = self._pinged + LINK_DOUBT_MS * _MS
        return doubt if now < doubt else self._pinged + LINK_DEAD_MS * _MS
