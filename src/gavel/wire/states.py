"""The states of a connection, as a table alone: which message may be sent and received when, and what follows.

Invariant: what the table does not allow does not happen. Sending it is `Misuse`, a bug on this side; receiving it is
`BadPeer`, a fault of the other side. The diagram in docs/internals/wire.md is made by `diagram()` and compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final

from gavel.wire.frames import Kind


class Misuse(RuntimeError):
    """This side asked a connection for what it cannot do in its state: a bug of the caller, never of the peer."""


class State(Enum):
    """Where a connection is."""

    __hash__ = object.__hash__  # Enum's own is a function in Python, called for each frame

    DIALLED = "we connected and shall say hello"
    GREETED = "we said hello and shall hear whether we are welcome"
    ACCEPTED = "they connected and shall say hello"
    JUDGING = "they said hello and shall hear whether they are welcome"
    OPEN = "everything goes both ways"
    DRAINING = "we said goaway: we take no new requests, and answer those we have"
    LEAVING = "they said goaway: we send no new requests, and hear the answers to ours"
    PARTING = "both said goaway"
    CLOSED = "nothing goes any way"


class Way(Enum):
    """The direction of a message, seen from this side."""

    __hash__ = object.__hash__

    SEND = "send"
    RECEIVE = "receive"


S, R = Way.SEND, Way.RECEIVE
_ALWAYS: Final = (Kind.PEER, Kind.RESPONSE, Kind.PING, Kind.PONG, Kind.CREDIT, Kind.BLOB, Kind.LEASE)

TABLE: Final[dict[State, dict[tuple[Way, Kind], State]]] = {
    State.DIALLED: {(S, Kind.HELLO): State.GREETED},
    State.GREETED: {(R, Kind.WELCOME): State.OPEN, (R, Kind.ERROR): State.CLOSED},
    State.ACCEPTED: {(R, Kind.HELLO): State.JUDGING},
    State.JUDGING: {(S, Kind.WELCOME): State.OPEN},
    State.OPEN: {
        (S, Kind.REQUEST): State.OPEN,
        (R, Kind.REQUEST): State.OPEN,
        (S, Kind.GOAWAY): State.DRAINING,
        (R, Kind.GOAWAY): State.LEAVING,
        (R, Kind.ERROR): State.CLOSED,
    },
    State.DRAINING: {
        (S, Kind.REQUEST): State.DRAINING,
        (R, Kind.REQUEST): State.DRAINING,  # one that crossed our goaway; answer that it must go elsewhere
        (R, Kind.GOAWAY): State.PARTING,
        (R, Kind.ERROR): State.CLOSED,
    },
    State.LEAVING: {
        (R, Kind.REQUEST): State.LEAVING,
        (S, Kind.GOAWAY): State.PARTING,
        (R, Kind.ERROR): State.CLOSED,
    },
    State.PARTING: {(R, Kind.REQUEST): State.PARTING, (R, Kind.ERROR): State.CLOSED},
    State.CLOSED: {},
}
for _state, _row in TABLE.items():
    if (R, Kind.GOAWAY) in _row or (S, Kind.GOAWAY) in _row or _state is State.PARTING:
        _row.update({(way, kind): _state for way in Way for kind in _ALWAYS})
    if _state is not State.CLOSED:
        _row[S, Kind.ERROR] = State.CLOSED  # whoever finds a fault says so and closes

TALKING: Final = frozenset((State.OPEN, State.DRAINING, State.LEAVING, State.PARTING))


def diagram() -> str:
    """The table as lines of text: each state, what is sent (>), received (<) or both (<>) in it, and what follows."""
    return "\n".join(line for state in TABLE for line in _lines(state)) + "\n"


def _lines(state: State) -> Iterator[str]:
    yield f"{state.name}: {state.value}"
    row = TABLE[state]
    follows: dict[State, list[str]] = {}
    for way, kind in sorted(row, key=lambda move: (move[1], move[0].value)):
        after = row[way, kind]
        both = row.get((S, kind)) is row.get((R, kind))
        if not both:
            follows.setdefault(after, []).append((">" if way is S else "<") + kind.name)
        elif way is S:
            follows.setdefault(after, []).append("<>" + kind.name)
    for after, moves in follows.items():
        yield f"    {'stays' if after is state else f'-> {after.name}':<12} {' '.join(moves)}"
