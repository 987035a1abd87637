"""The two seams of the quorum: where it writes what must survive, and what it decides for.

The replica implements both; tests and the simulator have toys. Neither may call the core back from within a call.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, Protocol

from gavel.quorum.messages import Body, TxId


class Admission(IntEnum):
    """Whether this master may propose for a transaction now."""

    GO = 0
    BUSY = 1  # something stands against it that will go away
    FENCED = 2  # what it was written under is gone: it may not happen any more


class Committed(NamedTuple):
    """It happened, at this tid."""

    tid: int


class Collided(NamedTuple):
    """Nothing was applied: `key` in a range it read was changed at `tid`."""

    key: bytes
    tid: int


class TooOld(NamedTuple):
    """Nothing was applied: it read as of `at`, and what could collide is known from `horizon` on only."""

    at: int
    horizon: int


class Aborted(NamedTuple):
    """The masters decided that it never happens. The same under a new txid is welcome, unless it was FENCED."""

    why: str = "whoever coordinated it was lost before a majority had proposed"
    cause: Admission = Admission.GO  # what kept a majority from proposing, as far as this coordinator was told


Outcome = Committed | Collided | TooOld | Aborted


class Ledger(Protocol):
    """The volume's log, as far as the quorum writes there. It keeps order, also with what the machine writes on its
    own behalf."""

    def write(self, record: bytes) -> None:
        """Append a record. It is durable when a Sync(ticket) that was drained later is Synced; a crash before may
        keep it or lose it, but loses nothing that was written before something it keeps (in this log, the machine's
        own frames included).

        An error raised here ends the core: the shell steps no more events.
        """


class Machine(Protocol):
    """The deterministic state that transactions change, and its history."""

    @property
    def applied_tid(self) -> int:
        """The highest tid that was executed or installed; after a crash, of what survived."""

    def lacks(self, body: Body) -> list[bytes]:
        """Blobs named by the body that are not here. Naming them is asking for them: the machine sees to it that they
        come, and `Requested(Arrived(blob))` is stepped for each. A promise waits until none is lacking, and so does
        execution."""

    def admit(self, txid: TxId, body: Body) -> Admission:
        """Whether this master may propose for it; asked before every proposal, with all its blobs here, and never
        about what has a proposal in this epoch.

        After a GO it stands, restarts included, until `ended` says so: whatever a proposal must keep out stays out.
        Quorum.standing() tells what stands.
        """

    def ended(self, txid: TxId) -> None:
        """It was executed or installed, or never will be; told of every transaction that may have been admitted, once
        or more often."""

    def execute(self, txid: TxId, tid: int, body: Body) -> Outcome:
        """Certify and apply. Called once for each tid, ascending over all calls, with nothing undecided below; the
        same on every master.

        Deterministic in the calls before it, `install` included. What it writes goes through the same log as the
        Ledger's and needs no sync of its own: after a crash the quorum executes again what is above `applied_tid`.
        Outcomes are never Aborted.
        """

    def outcome(self, txid: TxId) -> Outcome | None:
        """How a transaction ended, as far as that is remembered in the state itself (the session's record)."""

    def changes(self, lo: int, hi: int, cursor: bytes | None, limit: int) -> tuple[bytes, bytes | None, int, int]:
        """What happened in (lo, hi] as (piece of about `limit` bytes, cursor of the next piece or None after the
        last, position, total).

        `hi` is at or below `applied_tid`. Position and total count alike (records or bytes; an estimate will do).
        Raises GavelError when hi can no longer be told from (pruned): the asker begins anew.
        """

    def install(self, lo: int, hi: int, piece: bytes, last: bool) -> bool:
        """Take in a piece of `changes(lo, hi)`, in order; after the last the state is that of hi and `applied_tid` is
        hi.

        Between the first and the last, nothing is executed and the watermark stays at `lo`, crashes included. A
        ledger record written after this call says how far installing came: when it is durable, so must be what was
        installed. False: part of the piece is in memory only (a transaction goes on in the next); after a crash it has
        to come again. After a crash pieces may come again, from there or from the first: installing is idempotent.
        Raises Damaged for bytes that are no piece.
        """
