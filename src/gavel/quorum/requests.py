"""What the replica asks of the quorum (`Requested(x)`) and what it is answered (`Reply(x, result)`)."""

from __future__ import annotations

from typing import NamedTuple

from gavel.quorum.messages import Body, Member, TxId


class Propose(NamedTuple):
    """Have this happen, once. Answered when it was executed here, in order, with its Outcome, or by an error.

    Outcome: what Machine.execute returned, or Aborted: it never happens under this txid; asking again needs a new
    one. Errors:
    - QuorumLost after limits.PATIENCE_MS (or `patience_ms`) without an outcome. It may still happen: ask again with
      the same txid, here or at another master;
    - Forgotten: its life is over and nobody remembers how it ended (Machine.outcome would);
    - NotAMember: this node does not (or no longer) vote, or its volume is a restored old copy. Ask another master;
    - TooLarge beyond limits.BODY_MAX.
    Two requests for one txid are both answered.
    """

    ticket: int
    txid: TxId
    body: Body
    patience_ms: int = 0


class Ask(NamedTuple):
    """How did this end? As Propose, for one who has no body; nothing is begun that was not. Unknown everywhere:
    Aborted or Forgotten."""

    ticket: int
    txid: TxId
    patience_ms: int = 0


class ReadPoint(NamedTuple):
    """A tid F at or below the watermark, such that everything acknowledged before this was asked is at or below F.
    Errors as Propose."""

    ticket: int
    patience_ms: int = 0


class Reconfigure(NamedTuple):
    """Have these members from here on. Answered by the members when an epoch with them has started here.

    Errors: BadRequest (no master in it, more than limits.MEMBERS_MAX, two roles for one node), Superseded when
    another change won, QuorumLost, NotAMember. New masters should have caught up as slaves: they are counted from the
    start, but vote only when they have.
    """

    ticket: int
    members: list[Member]
    patience_ms: int = 0


class Arrived(NamedTuple):
    """A blob that Machine.lacks named is durable here, or is written and will be durable with the next sync. Not
    answered."""

    blob: bytes


class Gone(NamedTuple):
    """A peer that can be reached does not have a blob that Machine.lacks named. Not answered.

    Who executed its transaction has dropped it: then this node catches up instead of executing.
    """

    blob: bytes


class GetStatus(NamedTuple):
    """Answered by a Status."""

    ticket: int


class PeerStatus(NamedTuple):
    """What is known of another member."""

    node: int
    role: int
    up: bool
    stable: int
    """its watermark as it last said"""
    vouched: int
    """the tid up to which it last vouched"""
    clock_off_us: int
    """its wall clock less this one's, as its last batch showed"""
    refused: bool


class CatchUpStatus(NamedTuple):
    """How far catching up is: bytes or records, as the serving Machine counts."""

    peer: int
    lo: int
    hi: int
    position: int
    total: int
    left_ms: int | None
    """how long it takes yet, at the speed of late; None while that cannot be told"""
    horizon: int
    """0, or a tid above `lo`: nobody who was asked remembers what was before it"""


class Status(NamedTuple):
    """Where this core stands."""

    node: int
    epoch: int
    members: list[Member]
    voting: bool
    sealed: bool
    refused: bool
    stable: int
    durable_stable: int
    bound: int
    """up to here a majority vouches; above `stable` by what is still undecided"""
    undecided: int
    registers: int
    incarnation: int
    position: int
    peers: list[PeerStatus]
    catch_up: CatchUpStatus | None
    left_behind: list[int]
    """voters that were away for so long that others forgot what they lack; they have to catch up"""


Request = Propose | Ask | ReadPoint | Reconfigure | Arrived | Gone | GetStatus
