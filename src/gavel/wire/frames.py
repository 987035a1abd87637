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
- a payload is a view of the buffer that it was received into, at whatever pieces; messages in parts are joined once;
- bytes that somebody has a view of never change;
- what the parser holds is bounded by one buffer and limits.WIRE_MESSAGE_MAX.
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
    LEASE = 20


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
    Kind.LEASE: WIRE_FRAME_MAX,
}
DIVISIBLE: Final = frozenset((Kind.PEER, Kind.REQUEST, Kind.RESPONSE, Kind.LEASE))

_KINDS: Final = {int(kind): kind for kind in Kind}
CHUNK_MIN: Final = 16 * KIB  # of the buffer of a connection on which little comes
CHUNK_MAX: Final = 1024 * KIB  # and of one whose buffer was full
_ROOM_MIN: Final = 4 * KIB  # less is not worth a read
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
    """Finds frames in what arrives, in place. After it has raised it must not be given anything more.

    What arrives is put into buffer(), and filled() told how much it was. A buffer that somebody still has a view of is
    left to him; one that nobody has is used again.
    """

    __slots__ = ("_chunk", "_end", "_partial", "_partial_size", "_space", "_start", "_wanted")

    def __init__(self) -> None:
        self._chunk = CHUNK_MIN
        self._space = bytearray()
        self._start = self._end = 0  # of what arrived and is not taken yet
        self._wanted = HEAD_SIZE  # bytes from _start on that must be there before there is anything to take
        self._partial: dict[tuple[Kind, int], list[bytes]] = {}  # messages of which more frames follow
        self._partial_size = 0

    def buffer(self) -> memoryview:
        """Where to put what arrives next; let go of it before the next call."""
        if self._start == self._end and self._end and self._unseen():
            self._start = self._end = 0
        if len(self._space) - self._start < self._wanted or len(self._space) - self._end < _ROOM_MIN:
            fresh = bytearray(max(self._chunk, self._wanted + _ROOM_MIN))
            rest = self._end - self._start
            fresh[:rest] = memoryview(self._space)[self._start : self._end]
            self._space, self._start, self._end = fresh, 0, rest
        return memoryview(self._space)[self._end :]

    def filled(self, count: int) -> Iterator[Frame]:
        """The messages that are whole with so many bytes more; exhaust it before anything else.

        Raises BadPeer, after those that came before it, at the first frame that is none.
        """
        self._end += count
        if self._end == len(self._space):
            self._chunk = min(4 * self._chunk, CHUNK_MAX)
        view = memoryview(self._space)
        while self._end - self._start >= self._wanted:
            if self._wanted == HEAD_SIZE and (size := _payload_size(view, self._start)):
                self._wanted += size
                continue
            whole = view[self._start : self._start + self._wanted]
            self._start += self._wanted
            self._wanted = HEAD_SIZE
            frame = self._message(whole)
            if frame is not None:
                yield frame

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """Like filled, for what is somewhere else already; it is copied."""
        rest = memoryview(data)
        while rest:
            room = self.buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            room.release()
            rest = rest[count:]
            yield from self.filled(count)

    @property
    def holding(self) -> bool:
        """Whether an end of the connection now would cut a message off."""
        return bool(self._end > self._start or self._partial)

    def _unseen(self) -> bool:
        """Whether nobody has a view of the buffer: only then could its length be changed."""
        try:
            self._space.append(0)
        except BufferError:
            return False
        self._space.pop()
        return True

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
        if flags and len(payload) != FRAME_MAX[kind]:
            raise BadPeer("part of a message", f"{FRAME_MAX[kind]} bytes", len(payload))
        parts.append(bytes(payload))  # a view would keep the whole buffer for as long as the rest takes
        self._partial_size += len(payload)
        if self._partial_size > WIRE_MESSAGE_MAX:
            raise BadPeer("size of messages in parts", f"at most {WIRE_MESSAGE_MAX}", self._partial_size)
        if flags:
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
