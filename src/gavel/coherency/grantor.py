"""A master's part in leases: who holds what here, who waits for what, and which transactions may be voted for.

See docs/internals/coherency.md. Invariants: what a client believes that this master grants it is a part of what is
recorded here; nothing is granted over what another session holds in conflict, nor over a write that was admitted and is
not executed; all is in memory only, and a restart is followed by a grace.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from gavel.coherency.messages import FromClient, FromMaster, Token
from gavel.coherency.rules import ALL, Rules
from gavel.keys.ranges import Range


class Admission(IntEnum):
    """Whether a master may vote for a transaction."""

    GO = 0
    BUSY = 1  # somebody holds a lease against it, or there is a grace: again, when that is clear; recalls are under way
    FENCED = 2  # it was written under a lease that does not stand here any more: never


class Tell(NamedTuple):
    """Say this to a session, if it can be reached; else nothing is owed."""

    session: bytes
    message: FromMaster


class Note(NamedTuple):
    """Something worth a log line: a name, a session, and what there is to say."""

    name: str
    session: bytes
    fields: dict[str, Any]


class Host(Protocol):
    """What a grantor asks of the master around it."""

    def newest(self, lo: bytes, hi: bytes) -> int:
        """A tid at or above every one executed here that touched the lease range. The watermark is one; lower saves
        clients from looking again."""
        ...

    def stable(self) -> int:
        """The watermark: everything decided at or below is known and executed here."""
        ...

    def clock(self) -> int:
        """The newest tick of the clock."""
        ...

    def observe(self, tid: int) -> None:
        """Propose nothing at or below this tid any more. Within the call, before anything else is proposed."""
        ...


class Grantor:
    """See the module. `now` is ns, never back, and counts while the machine sleeps.

    The shell calls `tick` at or after `wake_at`, and after each call carries out `drain()`.
    """

    def __init__(self, incarnation: int, host: Host, rules: Rules = ALL) -> None:
        self._incarnation = incarnation
        self._host = host
        self._rules = rules
        self._out: list[Tell | Note] = []
        self.wake_at: int | None = None

    # Clients.

    def hear(self, session: bytes, message: FromClient, now: int) -> None:
        """A client said this."""

    def drain(self) -> list[Tell | Note]:
        """What is to be said and noted since the last call, in order."""
        out, self._out = self._out, []
        return out

    def tick(self, now: int) -> None:
        """Time has passed."""

    # Transactions.

    def admit(
        self, session: bytes, reads: Sequence[Range], writes: Sequence[bytes], tokens: Sequence[Token] | None, now: int
    ) -> Admission:
        """Whether a proposal may be made for a transaction of this session, which read these lease ranges and writes
        these lease keys. `tokens`: those of this master that it names (one, or [] if it names only those of others);
        None if it names none at all, so was not made under leases.

        BUSY recalls what is in its way and keeps new grants away from there for a while. Asked before a proposal, not
        after one. A refusal is a promise without a proposal: what was accepted before is still told.
        """
        return Admission.GO

    def clear(self, session: bytes, writes: Sequence[bytes] | None, now: int) -> bool:
        """Whether a value of a transaction that was not admitted here may be accepted: nobody else holds a lease over
        what it writes (None: unknown, so anything). If not, that is recalled; ask again."""
        return True

    def block(self, transaction: Hashable, writes: Sequence[bytes] | None) -> None:
        """The transaction was admitted, or is about to be accepted, here: nothing new is granted over these lease keys
        (None: unknown, so over anything) until unblock(). Again for one that is blocked already: these replace them."""

    def unblock(self, transaction: Hashable, now: int) -> None:
        """It was executed here, or is known never to happen. Nothing if it was not blocked."""

    # The master's own life.

    def start_grace(self, now: int) -> None:
        """This master knows no leases though there may be some: it (re)started, or entered an epoch as a new voter."""

    def in_grace(self, now: int) -> bool:
        """Whether nothing may be granted, proposed, accepted or answered as of now."""
        return False

    def enter(self, epoch: int, voters: Sequence[int], now: int) -> None:
        """The epoch in which this master acts, and whose majority counts. Until the first call, and between
        seal() and the next one, nobody is renewed and nothing is granted."""

    def seal(self) -> None:
        """This master votes no more in its epoch."""

    def status(self, now: int) -> dict[str, Any]:
        """For people: sessions, what each holds, who waits, recalls, memory."""
        return {}
