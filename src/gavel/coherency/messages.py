"""What clients and masters tell each other about leases: messages, and their encoding.

Ranges are of lease keys (space.py), half open. Times are the sender's own, in ns of a clock that also counts while the
machine sleeps; nobody compares them with his own. A *mode* is NONE, S (many readers) or X (one client). Nothing here
changes once it is made. docs/internals/coherency.md says what each message means.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gavel.errors import BadPeer
from gavel.limits import LEASE_KEY_MAX, LEASE_MESSAGE_MAX, LEASE_WANTS_MAX, MEMBERS_MAX

NONE: Final = 0
S: Final = 1
X: Final = 2

WANTED: Final = 0  # why something is recalled: somebody else needs it
CROWDED: Final = 1  # the session, or the master, has more ranges than it may

ABSURD: Final = 0  # why an ask is refused: a range, or a mode, that makes no sense
FLOOD: Final = 1  # more asks wait for this session, or at this master, than may
CLOSED: Final = 2  # the session's time is over here; it may begin anew when its term is

Natural = Annotated[int, Meta(ge=0)]  # MessagePack has none of more than 64 bits
Node = Annotated[int, Meta(ge=0, le=255)]
Mode = Annotated[int, Meta(ge=NONE, le=X)]
Key = Annotated[bytes, Meta(max_length=LEASE_KEY_MAX)]


class Token(NamedTuple):
    """Under what a session stands at a master: ended and begun anew it is another one. Later ones compare higher."""

    incarnation: Natural
    """of the master"""
    counter: Natural


class Age(NamedTuple):
    """Who asked first; kept over retries. Lower is older."""

    since: Natural
    """the newest clock of a master that the client had heard of at its first try"""
    session: bytes


class Want(NamedTuple):
    """A range, and the mode in which it is asked for, given up to, or held."""

    lo: Key
    hi: Key
    mode: Mode


class Granted(NamedTuple):
    """A range that a master stands behind, and a tid at or above all that was executed there in it."""

    lo: Key
    hi: Key
    mode: Mode
    tid: Natural


Wants = Annotated[list[Want], Meta(max_length=LEASE_WANTS_MAX)]


# From a client.


class Alive(Struct, array_like=True, frozen=True, gc=False, tag=1):
    """I am there: renew what has not been recalled. Sent every third of a term; registers the session."""

    sent: Natural
    """the client's time; comes back in Renewed"""
    after: Natural
    """the last Release sent to this master"""
    working: list[Natural]
    """recalls that are being worked on: what is dirty there is on its way"""


class Ask(Struct, array_like=True, frozen=True, gc=False, tag=2):
    """I want all of these, together. Says the same on every retry."""

    number: Natural
    age: Age
    wants: Wants
    wide: bool
    """more is welcome, as far as it takes nothing from anybody"""
    hold: bool
    """False: recall and wait in the same way, but record nothing; for a read or a write without a lease"""
    after: Natural
    """the last Release sent to this master; before that one is processed, this is not"""


class Release(Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Of these ranges I use no more than this mode, and nothing is dirty there that needs more."""

    number: Natural
    since: Natural
    """the Release sent before this one whose processing is known; what came between is in this one"""
    ranges: list[Want]
    tid: Natural
    """the highest tid that the client saw or wrote there"""


class Leave(Struct, array_like=True, frozen=True, gc=False, tag=4):
    """I use nothing any more, and nothing is dirty; the session is over."""


# From a master.


class Recall(Struct, array_like=True, frozen=True, gc=False, tag=5):
    """Use no more than this mode of the range, flush what needs more, then release. Frozen here: not renewed."""

    number: Natural
    """of this master; again with the same one when an older asker has come"""
    lo: Key
    hi: Key
    to: Mode
    age: Age
    """of who wants it"""
    why: Natural


class Renewed(Struct, array_like=True, frozen=True, gc=False, tag=6):
    """Answer to Alive. All that the session holds here stands for another term, but for what is recalled."""

    sent: Natural
    token: Token
    epoch: Natural
    voters: Annotated[list[Node], Meta(max_length=MEMBERS_MAX)]
    """of this epoch; leases count by a majority of them"""
    tid: Natural
    """everything up to it is known and executed here"""
    clock: Natural
    released: Natural
    """the last Release processed"""
    recalls: list[Recall]
    """all that are not answered yet"""


class Grant(Struct, array_like=True, frozen=True, gc=False, tag=7):
    """Answer to Ask: recorded, or, if not held, free of conflicts at this moment."""

    number: Natural
    token: Token
    held: bool
    """False: nothing is recorded, as was asked, or as the range is contended and better served without leases"""
    ranges: list[Granted]
    clock: Natural
    released: Natural


class Refused(Struct, array_like=True, frozen=True, gc=False, tag=8):
    """Answer to Ask: not here."""

    number: Natural
    why: Natural


FromClient = Alive | Ask | Release | Leave
FromMaster = Recall | Renewed | Grant | Refused
Message = FromClient | FromMaster

_encode = msgspec.msgpack.Encoder().encode
_from_client = msgspec.msgpack.Decoder(list[FromClient]).decode
_from_master = msgspec.msgpack.Decoder(list[FromMaster]).decode


def encode(messages: list[FromClient] | list[FromMaster]) -> bytes:
    """The messages of one drain for one receiver, in order, as bytes."""
    return _encode(messages)


def from_client(data: bytes) -> list[FromClient]:
    """What a client says; raises BadPeer for anything that is none."""
    try:
        return _from_client(_sized(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        raise BadPeer("form of a client's lease messages", "as documented", str(error)) from None


def from_master(data: bytes) -> list[FromMaster]:
    """What a master says; raises BadPeer for anything that is none."""
    try:
        return _from_master(_sized(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        raise BadPeer("form of a master's lease messages", "as documented", str(error)) from None


def _sized(data: bytes) -> bytes:
    if len(data) > LEASE_MESSAGE_MAX:
        raise BadPeer("length of lease messages", f"at most {LEASE_MESSAGE_MAX}", len(data))
    return data
