"""What the payloads of messages say. Control messages are MessagePack arrays, to which later releases may add at the
end; a request is `session (16) seq (8) body`, a response `status (1) body`, a blob `id (24) data`, all else as it is.

Invariant: decoding raises BadPeer for whatever does not have the form; bodies are opaque here.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Annotated, Any, Final, TypeVar

import msgspec

from gavel.errors import BadPeer

SESSION_SIZE: Final = 16
REQUEST_HEAD: Final = Struct("<16sQ")

Identity = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
U8 = Annotated[int, msgspec.Meta(ge=0, le=255)]
U64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Text = Annotated[str, msgspec.Meta(max_length=1024)]


class Role(IntEnum):
    """What a side of a connection is to the cluster."""

    MASTER = 1  # votes
    SLAVE = 2  # keeps everything, streams, does not vote
    WITNESS = 3  # votes and keeps no data
    CLIENT = 4  # asks


class Status(IntEnum):
    """How a request ended."""

    DONE = 0  # the body is the result
    FAILED = 1  # the body is a typed error (wire/failures.py); it stays so
    ELSEWHERE = 2  # nothing was decided here; the body is the typed error that says why; ask another master


class Greeting(msgspec.Struct, array_like=True, frozen=True):
    """Both greetings: who one is, what one speaks, what one takes. In a WELCOME `version` is the one agreed on."""

    oldest: U8
    newest: U8
    version: U8
    cluster: Identity
    node: U8  # 1..255 for members; 0 for clients
    incarnation: Identity  # of this process; of a client: its session
    role: U8
    window: U64  # bytes of blobs that may be sent to me before I ask for more
    requests: U64  # requests that may be in flight to me
    name: Text = ""  # for people: host name, program
    epoch: bytes = b""  # of the quorum, opaque here


class Refusal(msgspec.Struct, array_like=True, frozen=True):
    """An ERROR: why the connection ends. `fields` are those of the typed error of this name, if there is one."""

    error: Text
    message: Text
    fields: msgspec.Raw = msgspec.Raw(b"\x90")


class Farewell(msgspec.Struct, array_like=True, frozen=True):
    """A GOAWAY."""

    reason: Text


class Ping(msgspec.Struct, array_like=True, frozen=True):
    """A PING; the PONG says the same number."""

    number: U64


class Pong(msgspec.Struct, array_like=True, frozen=True):
    """A PONG. From wire version 2 on it carries the clock of who answers, in ns since 1970; before: 0."""

    number: U64
    clock: U64 = 0


class Credit(msgspec.Struct, array_like=True, frozen=True):
    """A CREDIT: bytes of blobs granted on this connection from its beginning, all told."""

    granted: U64


Control = TypeVar("Control", Greeting, Refusal, Farewell, Ping, Pong, Credit)

_encode = msgspec.msgpack.Encoder().encode
_decoders: Final[dict[type[msgspec.Struct], msgspec.msgpack.Decoder[Any]]] = {
    form: msgspec.msgpack.Decoder(form) for form in (Greeting, Refusal, Farewell, Ping, Pong, Credit)
}


def encode(message: Greeting | Refusal | Farewell | Ping | Pong | Credit) -> bytes:
    """The payload of a control message."""
    return _encode(message)


def decode(form: type[Control], payload: memoryview) -> Control:
    """A control message of this form; raises BadPeer."""
    try:
        found: Control = _decoders[form].decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise BadPeer(f"form of a {form.__name__}", "as documented", str(problem)) from None
    return found
