"""What masters tell each other: messages, the batch that carries them, and their encoding.

All that a core has for one peer when it is drained leaves as one `Batch`: messages in order, one `Vouch`, and who
speaks. Nothing here changes once it is made, so one object may be sent to many. docs/internals/quorum.md says what
each message means.

Numbers: a *ballot* is `round << 32 | start << 8 | node`, so that no two attempts ever share one, not even across a
crash of their master (`start` counts its starts); 0 is none, and 1 that of a value carried over from a former epoch; a
*value* is the tid at which a transaction happens, or ABORT (0): never. A *proposal* of 0 is none.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gavel.errors import BadPeer
from gavel.limits import BATCH_MAX, MEMBERS_MAX

ABORT: Final = 0
UNDECIDED: Final = -1
NO_BALLOT: Final = 0
CARRIED: Final = 1

Natural = Annotated[int, Meta(ge=0)]
Node = Annotated[int, Meta(ge=0, le=255)]
Session = Annotated[bytes, Meta(min_length=16, max_length=16)]
Value = Annotated[int, Meta(ge=-1)]


class TxId(NamedTuple):
    """Who a transaction is; the same on every retry, to whatever master.

    `born` is a tid-like time (end of its life: `born` plus limits.TRANSACTION_LIFE_US); `session` and `seq` are the
    client's; `coord` is the node that was asked first.
    """

    born: Natural
    session: Session
    seq: Natural
    coord: Node


class Body(Struct, array_like=True, frozen=True, gc=False):
    """What a transaction is about; only `blobs` matters to the quorum, by Machine.lacks."""

    reads: list[tuple[bytes, bytes, int]]
    """ranges read [lo, hi), each with the tid as of which it was read"""
    keys: list[bytes]
    """keys written, ascending"""
    blobs: list[bytes]
    """what must be durable at a master before it promises"""
    payload: bytes
    tokens: list[tuple[Natural, Natural, Natural]] = []
    """of the leases it was made under (transaction.requests.Submit); opaque to the quorum"""


class Prepare(Struct, array_like=True, frozen=True, gc=False, tag=1):
    """Coordinator: promise this ballot, and propose. Without a body: the coordinator does not know it, and asks."""

    tx: TxId
    ballot: Natural
    body: Body | None
    patient: bool
    """the data that the body names comes from the coordinator: wait for it; else promise at once, without a proposal"""
    proposing: bool = True
    """else: promise, and propose no more; this coordinator wants it to be over"""


class Promise(Struct, array_like=True, frozen=True, gc=False, tag=2):
    """Acceptor: promised, durably. The body is there when the Prepare had none and it is known here."""

    tx: TxId
    ballot: Natural
    proposal: Natural
    accepted: Natural
    """ballot under which `value` was accepted"""
    value: Natural
    body: Body | None = None


class Accept(Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Coordinator: accept this value under this ballot."""

    tx: TxId
    ballot: Natural
    value: Natural


class Accepted(Struct, array_like=True, frozen=True, gc=False, tag=4):
    """Acceptor: accepted, durably."""

    tx: TxId
    ballot: Natural


class Nack(Struct, array_like=True, frozen=True, gc=False, tag=5):
    """Acceptor: a higher ballot is promised."""

    tx: TxId
    ballot: Natural
    promised: Natural


class Busy(Struct, array_like=True, frozen=True, gc=False, tag=22):
    """Voter: nothing is promised; something here stands against a proposal. `fenced`: it always will."""

    tx: TxId
    ballot: Natural
    fenced: bool


class Decided(Struct, array_like=True, frozen=True, gc=False, tag=6):
    """Anybody: this is the value. A fact, true in every epoch."""

    tx: TxId
    value: Natural


class Closed(Struct, array_like=True, frozen=True, gc=False, tag=7):
    """Anybody: the end of this transaction's life is past here and it is not known to be decided, or forgotten; no
    vote will come."""

    tx: TxId
    through: Natural
    """the sender's durable stable tid, at or above the end of the life"""


class BodyAsk(Struct, array_like=True, frozen=True, gc=False, tag=8):
    """Anybody: a decided body is missing here."""

    tx: TxId


class BodyTold(Struct, array_like=True, frozen=True, gc=False, tag=9):
    """The body asked for; none: it was executed here, catch up instead."""

    tx: TxId
    body: Body | None


class VouchAsk(Struct, array_like=True, frozen=True, gc=False, tag=10):
    """Begin a new stream of vouches to me: everything that I, who know all up to `stable`, might lack."""

    stable: Natural


class ReadAsk(Struct, array_like=True, frozen=True, gc=False, tag=11):
    """What is the highest value that you accepted or know?"""

    number: Natural


class ReadTold(Struct, array_like=True, frozen=True, gc=False, tag=12):
    """Answer to ReadAsk."""

    number: Natural
    highest: Natural


class Member(NamedTuple):
    """A node and its role in an epoch: MASTER, WITNESS or SLAVE (votes.py)."""

    node: Node
    role: Annotated[int, Meta(ge=0, le=2)]


Members = Annotated[list[Member], Meta(max_length=MEMBERS_MAX)]


class Record(Struct, array_like=True, frozen=True, gc=False):
    """How an epoch starts; chosen by one register among the members of the epoch before."""

    epoch: Natural
    members: Members
    carry: list[tuple[TxId, Natural]]
    """transactions with the value each must have"""
    floor: Natural
    """microseconds; every clock moves past it"""
    stable: Natural
    """who has not durably reached it does not act"""
    leasing: bool | None = None
    """leases of the former epoch may stand; None: somebody of a former release composed it, or passed it on"""


class Seal(Struct, array_like=True, frozen=True, gc=False, tag=13):
    """Somebody wants another epoch with these members: vote no more in this one, and say what you know."""

    ballot: Natural
    members: Members


class Sealed(Struct, array_like=True, frozen=True, gc=False, tag=14):
    """Sealed, durably. `known`: (transaction, accepted ballot, accepted value, decided or -1) that may have to be
    carried over."""

    ballot: Natural
    accepted: Natural
    record: Record | None
    known: list[tuple[TxId, Natural, Natural, Value]]
    clock: Natural
    stable: Natural
    since: Natural | None = None
    """`known` has every decision above it that is known here; without one, above `stable`"""
    leasing: bool = False
    """leases that this voter granted may stand"""


class Choose(Struct, array_like=True, frozen=True, gc=False, tag=15):
    """Accept this start record under this ballot."""

    ballot: Natural
    record: Record


class Chosen(Struct, array_like=True, frozen=True, gc=False, tag=16):
    """Start record accepted, durably."""

    ballot: Natural


class Start(Struct, array_like=True, frozen=True, gc=False, tag=17):
    """This epoch has started. A fact."""

    record: Record


class CatchUp(Struct, array_like=True, frozen=True, gc=False, tag=18):
    """Give me what happened in (lo, hi], from `cursor` on. With `hi` 0: up to where you are now, once that is
    `least`."""

    lo: Natural
    hi: Natural
    cursor: bytes | None
    least: Natural
    known_above: Natural
    """decisions wanted with the last piece: those above this tid"""
    stream: Natural = 0
    """the same in all questions of one stream, later ones of which acknowledge; higher in a later stream"""
    window: Natural = 1
    """pieces that may be on their way"""


class Piece(Struct, array_like=True, frozen=True, gc=False, tag=19):
    """A piece of what was asked for. `cursor` is that of the ask, `following` that of the next; none after the last."""

    lo: Natural
    hi: Natural
    cursor: bytes | None
    data: bytes
    following: bytes | None
    position: Natural
    total: Natural
    known: list[tuple[TxId, Natural]]
    """after the data: decisions about transactions whose life does not end at or below hi"""
    stream: Natural = 0


class Refused(Struct, array_like=True, frozen=True, gc=False, tag=20):
    """You are not whom I knew: I have seen your log further on (`incarnation`, `position`) than you show. You do not
    vote."""

    incarnation: Natural
    position: Natural


class Beyond(Struct, array_like=True, frozen=True, gc=False, tag=21):
    """What happened since `lo` cannot be told here any more: the history begins at the horizon. Told to those only who
    asked with a stream; former releases do not know it."""

    lo: Natural
    horizon: Natural


Message = (
    Prepare
    | Promise
    | Accept
    | Accepted
    | Nack
    | Busy
    | Decided
    | Closed
    | BodyAsk
    | BodyTold
    | VouchAsk
    | ReadAsk
    | ReadTold
    | Seal
    | Sealed
    | Choose
    | Chosen
    | Start
    | CatchUp
    | Piece
    | Refused
    | Beyond
)


FACTS: Final[frozenset[type[Message]]] = frozenset(
    {Decided, Closed, BodyAsk, BodyTold, CatchUp, Piece, Start, Refused, Beyond}
)
"""what is true, or asked for, whatever the epoch; everything else counts only in the epoch that its batch names"""


class Vouch(Struct, array_like=True, frozen=True, gc=False):
    """All my proposals from here on are above `now`; those before are in the items of this stream up to this number.

    Streams are per link and begin, as number 0, with everything that one who knows all up to `since` might lack.
    Every later number adds what came since the one before. `now` of 0 vouches for nothing yet.
    """

    stream: Natural
    number: Natural
    since: Natural
    now: Natural
    items: list[tuple[TxId, Natural, Value]]
    """transaction, lowest tid it might get by what is known here, decided value or -1"""
    settled: Natural
    """lives that end at or below it are durably over here"""
    stable: Natural


class Batch(Struct, array_like=True, frozen=True, gc=False):
    """What leaves for one peer at one drain. The speaker's identity is the link's."""

    incarnation: Natural
    position: Natural
    """how far the speaker's log is durable, in entries since its beginning"""
    wall: Natural
    """the speaker's own clock, microseconds since 1970"""
    epoch: Natural
    vouch: Vouch | None
    messages: list[Message]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


def encode(batch: Batch) -> bytes:
    """The batch as bytes."""
    return _encode(batch)


def decode(data: bytes) -> Batch:
    """The batch in these bytes; raises BadPeer for anything that is none."""
    if len(data) > BATCH_MAX:
        raise BadPeer("length of a batch", f"at most {BATCH_MAX}", len(data))
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        raise BadPeer("form of a batch", "as documented", str(error)) from None
