"""What the quorum writes into the ledger, and how it reads it again.

A record of the ledger is a `Page`: entries in order, and how many there have been since the log began (the position
that peers remember).
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gavel.errors import Damaged
from gavel.quorum.messages import Body, Natural, Node, Record, TxId, Value


class Promised(Struct, array_like=True, frozen=True, gc=False, tag=1):
    """A promise, with the proposal; the body when no earlier entry has it."""

    tx: TxId
    ballot: Natural
    proposal: Natural
    body: Body | None


class Voted(Struct, array_like=True, frozen=True, gc=False, tag=2):
    """A value accepted under a ballot."""

    tx: TxId
    ballot: Natural
    value: Natural


class Settled(Struct, array_like=True, frozen=True, gc=False, tag=3):
    """A decision, learnt or made."""

    tx: TxId
    value: Natural


class Kept(Struct, array_like=True, frozen=True, gc=False, tag=4):
    """A whole register, in a snapshot."""

    tx: TxId
    promised: Natural
    proposal: Natural
    accepted: Natural
    value: Natural
    decided: Value
    body: Body | None


class Reserved(Struct, array_like=True, frozen=True, gc=False, tag=5):
    """The clock may go up to here."""

    tick: Natural


class Began(Struct, array_like=True, frozen=True, gc=False, tag=6):
    """The core was started for the nth time: an incarnation. `complete`: everything decided above it, up to S, has a
    register here; entries of former releases do not say. `leasing`: leases may stand that this node granted, or that
    it must not be in the way of; written again whenever that changes. `untold`: what was decided at or below it may be
    missing from what is vouched."""

    incarnation: Natural
    start: Natural
    complete: Natural | None = None
    leasing: bool = False
    untold: Natural = 0


class Stable(Struct, array_like=True, frozen=True, gc=False, tag=7):
    """Everything decided at or below was executed, and what the machine wrote about it stands before this."""

    tid: Natural


class Seen(Struct, array_like=True, frozen=True, gc=False, tag=8):
    """How far another member's log was, by its own word."""

    node: Node
    incarnation: Natural
    position: Natural


class Stopped(Struct, array_like=True, frozen=True, gc=False, tag=9):
    """Sealed under this ballot, the clock then being there."""

    ballot: Natural
    clock: Natural


class Backed(Struct, array_like=True, frozen=True, gc=False, tag=10):
    """A start record accepted under a ballot."""

    ballot: Natural
    record: Record


class Installed(Struct, array_like=True, frozen=True, gc=False, tag=11):
    """The epoch that is now. `informed`: every decision at or below S about a living transaction is known here."""

    record: Record
    informed: bool


class Filling(Struct, array_like=True, frozen=True, gc=False, tag=12):
    """Catching up to `hi` is under way, all before `cursor` is installed: nothing is executed before it is complete."""

    lo: Natural
    hi: Natural
    cursor: bytes | None


class Filled(Struct, array_like=True, frozen=True, gc=False, tag=13):
    """Catching up is complete, and the decisions that came with it are written."""

    hi: Natural
    informed: bool


class Expelled(Struct, array_like=True, frozen=True, gc=False, tag=14):
    """Others have seen this log further on than it is: this is an old copy, which never votes again."""

    position: Natural


Entry = (
    Promised
    | Voted
    | Settled
    | Kept
    | Reserved
    | Began
    | Stable
    | Seen
    | Stopped
    | Backed
    | Installed
    | Filling
    | Filled
    | Expelled
)


class Page(Struct, array_like=True, frozen=True, gc=False):
    """A record of the ledger."""

    position: Natural
    entries: list[Entry]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Page).decode


def encode(position: int, entries: list[Entry]) -> bytes:
    """The record of these entries."""
    return _encode(Page(position, entries))


def decode(record: bytes) -> Page:
    """The entries of a record; raises Damaged for bytes that are none."""
    try:
        return _decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        raise Damaged("a quorum record", 0, "entries", str(error)) from None
