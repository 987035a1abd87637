"""What masters send each other besides the votes: file data on its way, the wish for it, and that it is not there.

One message is one byte of kind and its body. A Stage travels as its head and the data as they are, so that sending it
to several peers copies nothing.

    0  quorum's Batch      1  Stage: u16 length of the head, MessagePack [session, number, codec, length, sum], data
    2  Want: MessagePack list of ids                  3  Lost: the same
"""

from __future__ import annotations

import msgspec

from gavel.errors import BadPeer
from gavel.quorum import messages
from gavel.quorum.messages import Batch, Busy, Piece
from gavel.transaction.requests import Stage

BATCH, STAGE, WANT, LOST = 0, 1, 2, 3
_KINDS = [bytes((kind,)) for kind in range(4)]


class Want(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Send me these staged extents, by id."""

    blobs: list[bytes]


class Lost(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """I do not have these staged extents: they were never here, or what they were for is executed."""

    blobs: list[bytes]


Message = Batch | Stage | Want | Lost
_encode = msgspec.msgpack.Encoder().encode
_decode_want = msgspec.msgpack.Decoder(Want).decode
_decode_lost = msgspec.msgpack.Decoder(Lost).decode
_decode_head = msgspec.msgpack.Decoder(tuple[bytes, int, int, int, bytes]).decode


def for_former(message: Message) -> Message:
    """What a master of a release without leases is told: not BUSY, which it does not know. To it, that is no answer."""
    if isinstance(message, Batch) and any(type(one) is Busy for one in message.messages):
        return msgspec.structs.replace(message, messages=[one for one in message.messages if type(one) is not Busy])
    return message


def encode(message: Message) -> tuple[bytes, ...]:
    """The message as parts to be sent one behind the other."""
    if isinstance(message, Batch):
        return _KINDS[BATCH], messages.encode(message)
    if isinstance(message, Stage):
        head = _encode((message.session, message.number, message.codec, message.length, message.sum))
        return _KINDS[STAGE] + len(head).to_bytes(2, "big") + head, message.data
    return _KINDS[WANT if isinstance(message, Want) else LOST], _encode(message)


def is_bulk(message: Message) -> bool:
    """Whether everything else may leave before it: file data, and pieces of catching up."""
    if isinstance(message, Batch):
        return len(message.messages) == 1 and type(message.messages[0]) is Piece
    return isinstance(message, Stage)


def decode(data: bytes | memoryview) -> Message:
    """The message in these bytes; raises BadPeer."""
    view = memoryview(data)
    kind = view[0] if view else -1
    try:
        if kind == BATCH:
            return messages.decode(bytes(view[1:]))
        if kind == WANT:
            return _decode_want(view[1:])
        if kind == LOST:
            return _decode_lost(view[1:])
        if kind == STAGE:
            size = int.from_bytes(view[1:3], "big")
            session, number, codec, length, total = _decode_head(view[3 : 3 + size])
            return Stage(session, number, codec, length, total, bytes(view[3 + size :]))
    except msgspec.MsgspecError as error:
        raise BadPeer("form of a message of a master", "as documented", str(error)) from None
    raise BadPeer("kind of a message of a master", "a known one", kind)
