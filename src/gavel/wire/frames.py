"""Frames: how messages lie in the bytes of a connection, and the parser that finds them there.

    offset  size
         0     3  magic, "GVW"
         3     1  version of the wire; 0 in a greeting, which never changes its form
         4     1  kind
         5     1  flags; 1: more of this message follows in a frame of the same kind and stream
         6     2  zero
         8     4  stream, little-endian like all numbers here
        12     4  length of the payload
        16     4  CRC-32C of the sixteen bytes before and of the payload

Invariants (docs/internals/wire.md):
- a header is judged as soon as it is complete: nothing waits for the payload of a frame that will be refused;
- a payload that came in one piece is handed on as a view of that piece; one that came in several is joined once;
- what the parser holds is bounded by one frame and limits.WIRE_MESSAGE_MAX.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from crc32c import crc32c

from gavel.errors import BadPeer
from gavel.limits import KIB, WIRE_BLOB_MAX, WIRE_FRAME_MAX, WIRE_GREETING_MAX, WIRE_MESSAGE_MAX

Buffer = bytes | bytearray | memoryview

MAGIC: Final = b"GVW"
GREETING: Final = 0  # the version of frames before a version is agreed on
MORE: Final = 1
HEAD: Final = Struct("<3sBBBHII")
SUM: Final = Struct("<I")
HEAD_SIZE: Final = HEAD.size + SUM.size
BLOB_ID_SIZE: Final = 24  # the session that staged it (16), a number (8)


class Kind(IntEnum):
    """What a message is. Numbers are never used again for anything else."""

    HELLO = 1
    WELCOME = 2
    ERROR = 3
    GOAWAY = 4
    PING = 5
    PONG = 6
    CREDIT = 7
    PEER = 16
    REQUEST = 17
    RESPONSE = 18
    BLOB = 19


FRAME_MAX: Final[dict[Kind, int]] = {
    Kind.HELLO: WIRE_GREETING_MAX,
    Kind.WELCOME: WIRE_GREETING_MAX,
    Kind.ERROR: WIRE_GREETING_MAX,
    Kind.GOAWAY: WIRE_GREETING_MAX,
    Kind.PING: 64,
    Kind.PONG: 64,
    Kind.CREDIT: 64,
    Kind.PEER: WIRE_FRAME_MAX,
    Kind.REQUEST: WIRE_FRAME_MAX,
    Kind.RESPONSE: WIRE_FRAME_MAX,
    Kind.BLOB: BLOB_ID_SIZE + WIRE_BLOB_MAX,
}
DIVISIBLE: Final = frozenset((Kind.PEER, Kind.REQUEST, Kind.RESPONSE))

_KINDS: Final = {int(kind): kind for kind in Kind}
_JOINED_MAX: Final = 4 * KIB  # a payload up to this is copied next to its header: one buffer is cheaper than two


class Frame(NamedTuple):
    """A whole message: its frames put together. The payload is valid as long as somebody holds it."""

    version: int
    kind: Kind
    stream: int
    payload: memoryview


def encode(version: int, kind: Kind, stream: int, parts: Sequence[Buffer]) -> list[Buffer]:
    """The buffers of a message, to be sent one after the other; `parts` make up its payload.

    Large parts are not copied, so they must not change before they are sent. Asserts the bound of the whole.
    """
    size = sum(map(len, parts))
    bound = FRAME_MAX[kind]
    if size <= bound:
        return _frame(version, kind, 0, stream, size, parts)
    assert kind in DIVISIBLE and size <= WIRE_MESSAGE_MAX, f"{kind.name} of {size} bytes is over its bound"
    view = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
    buffers: list[Buffer] = []
    for at in range(0, size, bound):
        piece = view[at : at + bound]
        more = MORE if at + bound < size else 0
        buffers += _frame(version, kind, more, stream, len(piece), (piece,))
    return buffers


def _frame(version: int, kind: Kind, flags: int, stream: int, size: int, parts: Sequence[Buffer]) -> list[Buffer]:
    head = HEAD.pack(MAGIC, version, kind, flags, 0, stream, size)
    total = crc32c(head)
    for part in parts:
        total = crc32c(part, total)
    if size <= _JOINED_MAX:
        return [b"".join((head, SUM.pack(total), *parts))]
    return [head + SUM.pack(total), *parts]


class Parser:
    """Finds frames in what arrives. After it has raised it must not be fed again."""

    __slots__ = ("_held", "_partial", "_partial_size", "_pieces", "_wanted")

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []  # of a frame that is not whole yet
        self._held = 0
        self._wanted = 0
        self._partial: dict[tuple[Kind, int], list[memoryview]] = {}  # messages of which more frames follow
        self._partial_size = 0

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """The messages that are whole with these bytes, which must not change afterwards; exhaust it before the next.

        Raises BadPeer, after those that came before it, at the first frame that is none.
        """
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if self._pieces:
                taken = view[at : at + self._wanted - self._held]
                at += len(taken)
                whole = self._completed(taken)
                if whole is None:
                    continue
            else:
                left = end - at
                size = HEAD_SIZE + _payload_size(view, at) if left >= HEAD_SIZE else HEAD_SIZE
                if size > left:
                    self._pieces, self._held, self._wanted = [view[at:]], left, size
                    return
                whole = view[at : at + size]
                at += size
            frame = self._message(whole)
            if frame is not None:
                yield frame

    @property
    def holding(self) -> bool:
        """Whether an end of the connection now would cut a message off."""
        return bool(self._pieces or self._partial)

    def _completed(self, piece: memoryview) -> memoryview | None:
        """The frame that is whole with this piece of it; None if more is wanted."""
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held < self._wanted:
            return None
        whole = memoryview(b"".join(self._pieces))
        if self._wanted == HEAD_SIZE and (size := _payload_size(whole, 0)):
            self._pieces, self._wanted = [whole], HEAD_SIZE + size
            return None
        self._pieces = []
        return whole

    def _message(self, whole: memoryview) -> Frame | None:
        """Verify a frame; the message that it completes, if it does."""
        _, version, number, flags, _, stream, _ = HEAD.unpack_from(whole)
        payload = whole[HEAD_SIZE:]
        found = crc32c(payload, crc32c(whole[: HEAD.size]))
        (expected,) = SUM.unpack_from(whole, HEAD.size)
        if found != expected:
            raise BadPeer("checksum of a frame", expected, found)
        kind = _KINDS[number]
        if not flags and not self._partial:
            return Frame(version, kind, stream, payload)
        return self._joined(version, kind, flags, stream, payload)

    def _joined(self, version: int, kind: Kind, flags: int, stream: int, payload: memoryview) -> Frame | None:
        parts = self._partial.get((kind, stream))
        if parts is None:
            if not flags:
                return Frame(version, kind, stream, payload)
            parts = self._partial[kind, stream] = []
        parts.append(payload)
        self._partial_size += len(payload)
        if self._partial_size > WIRE_MESSAGE_MAX:
            raise BadPeer("size of messages in parts", f"at most {WIRE_MESSAGE_MAX}", self._partial_size)
        if flags:
            if not len(payload):
                raise BadPeer("part of a message", "bytes", "none")
            return None
        del self._partial[kind, stream]
        self._partial_size -= sum(map(len, parts))
        return Frame(version, kind, stream, memoryview(b"".join(parts)))


def _payload_size(view: memoryview, at: int) -> int:
    """The length in a header; raises BadPeer for one that no frame can have."""
    magic, _, number, flags, zero, _, length = HEAD.unpack_from(view, at)
    if magic != MAGIC:
        raise BadPeer("beginning of a frame", MAGIC, magic)
    kind = _KINDS.get(number)
    if kind is None:
        raise BadPeer("kind of a frame", "a known one", number)
    if zero or flags & ~MORE or (flags and kind not in DIVISIBLE):
        raise BadPeer("flags of a frame", 0, (flags, zero))
    if length > FRAME_MAX[kind]:
        raise BadPeer(f"length of a frame of kind {kind.name}", f"at most {FRAME_MAX[kind]}", length)
    size: int = length
    return size
