"""The log: frames appended to LOG big-blocks, each chained to the one before it.

Invariants:

- sequences are consecutive; a frame's `previous` is the checksum of the frame before it, and its own checksum covers
  that, so a frame of another life of the same space never continues the chain;
- a data frame's checksum covers its header and the XXH3-128 of its payload, which is also the extent's sum, so large
  payloads are summed once;
- a big-block always has room for a LINK frame, which says where the log goes on;
- an append either is taken whole or raises with nothing taken;
- `last_of[block]` is the highest sequence in every LOG big-block that holds frames after the newest checkpoint, and
  `data_of[block]` is at least that of its last data frame, if known.
"""

from __future__ import annotations

from crc32c import crc32c
from xxhash import xxh3_128_digest

from gavel.errors import DeviceFailed, ReadOnly
from gavel.limits import BIG_BLOCK, FRAME_MAX, LOG_PENDING_MAX, RESERVE_BIG_BLOCKS
from gavel.media import layout
from gavel.media.blockmap import BlockMap
from gavel.media.cipher import Cipher
from gavel.media.device import Buffer, Device
from gavel.media.layout import (
    BODY_MAX,
    DATA,
    DATA_AT,
    DIGEST_SIZE,
    FRAME_HEAD,
    FRAME_MAGIC,
    FRAME_SIZE,
    KIND_MAX,
    LINK,
    LINK_SIZE,
    LOG,
    SEAL_SIZE,
)
from gavel.media.stream import Stream

_DIRECT = 64 * 1024  # payloads from here on go to the device without a copy
_PAD = [bytes(-n % 8) for n in range(8)]  # by length modulo 8


class Log(Stream):
    """The open end of the log. Until start() has been called it takes nothing."""

    __slots__ = (
        "_checkpoint", "_data", "_full_at", "_map", "_salt", "_sum", "appended", "data_of", "durable", "failed",
        "keep_append", "keep_data", "last_of", "writable", "written",
    )  # fmt: skip

    def __init__(self, device: Device, blockmap: BlockMap, salt: int, keep_data: int, keep_append: int) -> None:
        super().__init__(device)
        self._map = blockmap
        self._salt = salt
        self.keep_data, self.keep_append = keep_data, keep_append  # big-blocks left free
        self._checkpoint = 0
        self._sum = 0
        self._full_at = 0  # the cursor may go so far; 0 sends every append through _make_room, which knows why
        self.written = 0
        self.durable = 0
        self.appended = 0  # bytes of all frames since the volume was opened
        self.failed: DeviceFailed | None = None
        self.writable = False
        self.last_of: dict[int, int] = {}
        self.data_of: dict[int, int] = {}
        self._data = 0  # the sequence of the last data frame

    @property
    def sum(self) -> int:
        """The checksum of the last frame, which the next one will carry on."""
        return self._sum

    def start(self, offset: int, sequence: int, total: int, checkpoint: int, writable: bool = True) -> None:
        """Go on after the frame with this sequence and checksum, at this byte offset."""
        self.move(offset // BIG_BLOCK, offset % BIG_BLOCK)
        self.written, self._sum, self._checkpoint = sequence, total, checkpoint
        self.writable = writable
        self._full_at = self.end - LINK_SIZE if writable else 0

    def checkpointed(self, generation: int) -> None:
        """From now on frames say that this generation's header is durable."""
        self._checkpoint = generation

    def fail(self, error: DeviceFailed) -> None:
        """Take nothing more: the device has failed."""
        self.failed = self.failed or error
        self._full_at = 0

    def append(self, kind: int, body: Buffer, keep: int | None = None) -> int:
        """Take a frame; its sequence. `keep`: big-blocks to leave free when a fresh one is opened."""
        assert len(body) <= FRAME_MAX, f"a frame of {len(body)} bytes"
        size = (FRAME_SIZE + len(body) + 7) & -8
        if self.cursor + size > self._full_at or self.waiting > LOG_PENDING_MAX:
            self._make_room(size, self.keep_append if keep is None else keep)
        return self._put(kind, body)

    def _put(self, kind: int, body: Buffer) -> int:
        sequence = self.written + 1
        head = FRAME_HEAD.pack(
            FRAME_MAGIC, kind, len(body), self._sum, sequence, self.durable, self._salt ^ self.cursor, self._checkpoint
        )
        self._sum = total = crc32c(body, crc32c(head))
        frame = b"".join((head, total.to_bytes(4, "little"), body, _PAD[len(body) & 7]))
        self.runs[-1].starts.append(self.cursor)
        self.runs[-1].parts.append(frame)
        size = len(frame)
        self.cursor += size
        self.waiting += size
        self.appended += size
        self.written = sequence
        return sequence

    def append_data(self, data: Buffer, digest: bytes | None = None, reserve: bool = False) -> int:
        """Take file bytes as a data frame; the byte offset at which they will lie. Keeps no reference to them.

        `reserve`: as much of the reserve may be used for them as for transactions.
        """
        length = len(data)
        assert length <= BODY_MAX - DIGEST_SIZE, f"a data frame of {length} bytes"
        size = (DATA_AT + length + 7) & -8
        if self.cursor + size > self._full_at or self.waiting > LOG_PENDING_MAX:
            self._make_room(size, self.keep_append if reserve else self.keep_data)
        cursor = self.cursor
        if digest is None:
            digest = xxh3_128_digest(data)
        head = FRAME_HEAD.pack(
            FRAME_MAGIC, DATA, length + DIGEST_SIZE, self._sum, self.written + 1, self.durable, self._salt ^ cursor,
            self._checkpoint,
        )  # fmt: skip
        total = crc32c(head + digest)
        if length >= _DIRECT:
            self._direct([head + total.to_bytes(4, "little") + digest, data, _PAD[length & 7]], size)
        else:
            run = self.runs[-1]
            run.starts.append(cursor)
            run.parts.append(b"".join((head, total.to_bytes(4, "little"), digest, data, _PAD[length & 7])))
            self.cursor = cursor + size
            self.waiting += size
        self.appended += size
        self._sum = total
        self.written = self._data = self.written + 1
        return cursor + DATA_AT

    def _direct(self, parts: list[Buffer], size: int) -> None:
        try:
            self.put_through(parts, size)
        except DeviceFailed as error:
            self.fail(error)
            raise

    def write_out(self) -> None:
        """Hand all that waits to the device; raises DeviceFull (go on later) or DeviceFailed (never again)."""
        if self.failed:
            raise self.failed
        try:
            self.flush()
        except DeviceFailed as error:
            self.fail(error)
            raise

    def _make_room(self, size: int, keep: int) -> None:
        if self.failed:
            raise self.failed
        if not self.writable:
            raise ReadOnly("the volume was opened for reading only, or its log has not been replayed yet")
        if self.waiting > LOG_PENDING_MAX:
            self.write_out()
        if self.cursor + size > self._full_at:
            self._roll(keep)

    def leave(self) -> None:
        """Go on in another big-block; raises VolumeFull."""
        self._roll(0)

    def _roll(self, keep: int) -> None:
        """Close the open big-block with a LINK and go on in a fresh one; raises VolumeFull with nothing changed."""
        block = self._map.take(LOG, keep)
        self._put(LINK, layout.LINK_BODY.pack(block))
        self._map.fill(self.block, self.cursor - self.block * BIG_BLOCK)
        self.last_of[self.block] = self.written
        self.data_of[self.block] = max(self.data_of.get(self.block, 0), self._data)
        self.move(block)
        self._full_at = self.end - LINK_SIZE


class SealedLog(Log):
    """The log of an encrypted volume: bodies and file bytes are sealed, the sums are of what was sealed.

    LINK and MARK stay in clear: they are written before a life has a key of its own, and tell nothing.
    """

    __slots__ = ("_cipher",)

    def __init__(
        self, device: Device, blockmap: BlockMap, salt: int, keep_data: int, keep_append: int, cipher: Cipher
    ) -> None:
        super().__init__(device, blockmap, salt, keep_data, keep_append)
        self._cipher = cipher

    def append(self, kind: int, body: Buffer, keep: int | None = None) -> int:
        """See Log.append."""
        if kind > KIND_MAX:
            return super().append(kind, body, keep)
        assert len(body) <= FRAME_MAX, f"a frame of {len(body)} bytes"
        size = layout.frame_size(len(body) + SEAL_SIZE)
        if self.cursor + size > self._full_at or self.waiting > LOG_PENDING_MAX:
            self._make_room(size, self.keep_append if keep is None else keep)
        return self._put(kind, self._cipher.seal(FRAME_MAGIC, kind, self.cursor, body))

    def append_data(self, data: Buffer, digest: bytes | None = None, reserve: bool = False) -> int:
        """See Log.append_data; `digest`, being of the plain bytes, is not for the frame."""
        assert len(data) <= FRAME_MAX, f"a data frame of {len(data)} bytes"
        size = layout.frame_size(len(data) + SEAL_SIZE + DIGEST_SIZE)
        if self.cursor + size > self._full_at or self.waiting > LOG_PENDING_MAX:
            self._make_room(size, self.keep_append if reserve else self.keep_data)
        sealed = self._cipher.seal(FRAME_MAGIC, DATA, self.cursor + DATA_AT, data)
        return super().append_data(sealed, None, reserve)


def keeps(big_blocks: int) -> tuple[int, int]:
    """How many big-blocks stay free of file data, and of transactions, in a volume of this many."""
    reserve = max(RESERVE_BIG_BLOCKS, min(big_blocks // 64, 32 * RESERVE_BIG_BLOCKS))
    return reserve, reserve // 2
