"""The value of a data record: file bytes held in the value itself, or a view of an extent in the log.

    inline   0x00 | the bytes
    extent   0x01 | place u64 | stored u32 | length u32 | skip u32 | view u32 | codec u8 | sum 16 bytes

Numbers are little-endian. `place` is the byte offset in this volume where `stored` bytes lie; decoded by `codec`
they are `length` raw bytes, whose XXH3-128 is `sum`. The record shows `view` of them, beginning at `skip`. `place`
is local to the volume; all else is the same on every master. Extents are written once and never change.

Codecs: 0 the raw bytes; 1 one Zstandard frame, of at most limits.EXTENT_MAX raw bytes. What is stored may be longer
than what the codec made by the seal of an encrypted volume, which is put on and taken off in Volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_128_digest
from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError, frame_content_size

from gavel.errors import Damaged
from gavel.limits import COMPRESS_MIN, EXTENT_MAX

INLINE, EXTENT = 0, 1
RAW, ZSTD = 0, 1  # codecs
_LEVEL = 1  # 3 saves another 3 % of a source tree and takes a third longer; both far slower than the log

_RECORD = Struct("<BQIIIIB16s")
_REFERENCE = Struct("<QI")
_STORED = Struct("<9xI29x")
RECORD_SIZE = _RECORD.size
assert _STORED.size == RECORD_SIZE


class Extent(NamedTuple):
    """Where bytes of a file lie and how to know that they are the right ones."""

    place: int
    stored: int
    length: int
    codec: int
    sum: bytes


class DataView(NamedTuple):
    """What a data record shows: `inline` bytes, or `view` bytes from `skip` on of an extent."""

    extent: Extent | None
    skip: int
    view: int
    inline: bytes


def describe(data: bytes | bytearray | memoryview, place: int) -> Extent:
    """The extent of raw bytes that lie at `place`."""
    size = len(data)
    return Extent(place, size, size, RAW, xxh3_128_digest(data))


def encode_inline(data: bytes) -> bytes:
    """The record value that holds these bytes itself."""
    return b"\0" + data


def encode_view(extent: Extent, skip: int, view: int) -> bytes:
    """The record value that shows `view` bytes of the extent, from `skip` on."""
    assert view > 0 and skip + view <= extent.length
    return _RECORD.pack(EXTENT, extent.place, extent.stored, extent.length, skip, view, extent.codec, extent.sum)


def decode(value: bytes) -> DataView:
    """What a data record shows; raises Damaged for a value of no known form."""
    if value[:1] == b"\0":
        return DataView(None, 0, len(value) - 1, value[1:])
    if len(value) != RECORD_SIZE or value[0] != EXTENT:
        raise Damaged("data record", 0, "a known form", value[:1].hex())
    _, place, stored, length, skip, view, codec, total = _RECORD.unpack(value)
    return DataView(Extent(place, stored, length, codec, total), skip, view, b"")


def view_size(value: bytes) -> int:
    """How many bytes of the file a data record shows."""
    if value[0] == INLINE:
        return len(value) - 1
    return int.from_bytes(value[21:25], "little")


def reference(value: bytes) -> tuple[int, int] | None:
    """(place, stored) of the log bytes that a data record keeps alive; None for inline bytes."""
    if value[0] == INLINE:
        return None
    place, stored = _REFERENCE.unpack_from(value, 1)
    return place, stored


def stored_bytes(values: Iterable[bytes | None]) -> int:
    """How many bytes of the log many data records keep alive together."""
    views = [value for value in values if value is not None and len(value) == RECORD_SIZE and value[0] == EXTENT]
    return sum(stored for (stored,) in _STORED.iter_unpack(b"".join(views)))


class Compressor:
    """Compresses extents; keeps its working memory, so it is for one thread at a time."""

    __slots__ = ("_compress",)

    def __init__(self) -> None:
        self._compress = ZstdCompressor(level=_LEVEL).compress

    def compress(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """The bytes by codec ZSTD; None where that is not worth it: they are few, or do not shrink by an eighth.

        Incompressible bytes need no trial of their own: zstd passes over them at several GB/s.
        """
        size = len(data)
        if not COMPRESS_MIN <= size <= EXTENT_MAX:
            return None
        packed = self._compress(data)
        return packed if len(packed) <= size - size // 8 else None


def restore(extent: Extent, stored: bytes | memoryview) -> bytes | memoryview:
    """The raw bytes of an extent from what the volume holds at its place; raises Damaged unless they verify.

    Takes no more memory than limits.EXTENT_MAX, whatever the record or the medium says.
    """
    raw = stored if extent.codec == RAW else _decompressed(extent, stored)
    if len(raw) != extent.length or xxh3_128_digest(raw) != extent.sum:
        raise Damaged("file data", extent.place, extent.sum.hex(), xxh3_128_digest(raw).hex())
    return raw


def _decompressed(extent: Extent, stored: bytes | memoryview) -> bytes:
    if extent.codec != ZSTD or not 0 < extent.length <= EXTENT_MAX:
        raise Damaged("file data", extent.place, "a known codec", (extent.codec, extent.length))
    try:
        # The library makes room for what the frame says, so that is not believed before it equals what we know.
        if frame_content_size(stored) != extent.length:
            raise Damaged("file data", extent.place, f"{extent.length} bytes", "a frame of another size")
        return ZstdDecompressor().decompress(stored, max_output_size=extent.length)
    except ZstdError as error:
        raise Damaged("file data", extent.place, "a Zstandard frame", str(error)) from None
