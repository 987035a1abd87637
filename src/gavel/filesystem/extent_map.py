"""The map from offsets of one file to its data records. POSIX meaning is in data.py; this is arithmetic on records.

Invariants of a file's records, kept by every function here and tested by check.py:
- a record is keyed by the offset just past its last byte and shows at least one byte;
- records do not overlap; what lies between them is a hole and reads as zeros;
- a record is cut by narrowing its view, never by rewriting the bytes it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gavel.keys import records
from gavel.limits import EXTENT_MAX, INLINE_MAX
from gavel.media import extents
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Buffer


class Piece(NamedTuple):
    """A data record in its place: it shows the bytes [start, end) of the file."""

    start: int
    end: int
    value: bytes


def pieces(tx: Transaction, obj: int, lo: int, hi: int) -> Iterator[Piece]:
    """The records that show anything of [lo, hi), in order, whole (they may begin before lo and end after hi)."""
    for key, value in tx.scan(*records.extents(tx.pfs, obj, lo)):
        end = records.extent_end(key)
        start = end - extents.view_size(value)
        if start >= hi:
            return
        yield Piece(start, end, value)


def narrow(piece: Piece, lo: int, hi: int) -> Piece:
    """The part of a record that lies in [lo, hi); the two must overlap."""
    start, end = max(piece.start, lo), min(piece.end, hi)
    assert start < end
    if start == piece.start and end == piece.end:
        return piece
    shown = extents.decode(piece.value)
    cut = start - piece.start
    if shown.extent is None:
        return Piece(start, end, extents.encode_inline(shown.inline[cut : cut + end - start]))
    return Piece(start, end, extents.encode_view(shown.extent, shown.skip + cut, end - start))


def clear(tx: Transaction, obj: int, lo: int, hi: int) -> int:
    """Make [lo, hi) a hole; returns how many bytes of data went away.

    Costs one scan of the records it meets, or but a get where one record shows exactly this: a page written again, a
    small file emptied.
    """
    pfs = tx.pfs
    key = records.extent(pfs, obj, hi)
    value = tx.get(key)
    if value is not None and extents.view_size(value) == hi - lo:
        tx.delete(key)
        return hi - lo
    gone = 0
    for piece in list(pieces(tx, obj, lo, hi)):
        start, end, _ = piece
        if end > hi:  # what is left behind the hole keeps its end, therefore its key
            tail = narrow(piece, hi, end)
            tx.put(records.extent(pfs, obj, end), tail.value)
        else:
            tx.delete(records.extent(pfs, obj, end))
        if start < lo:
            tx.put(records.extent(pfs, obj, lo), narrow(piece, start, lo).value)
        gone += min(end, hi) - max(start, lo)
    return gone


def fill(tx: Transaction, obj: int, offset: int, data: Buffer, codec: int = extents.RAW) -> None:
    """Put bytes where there is a hole; short ones go inline, others are staged in extents of at most EXTENT_MAX."""
    pfs, size = tx.pfs, len(data)
    if size <= INLINE_MAX:
        tx.put(records.extent(pfs, obj, offset + size), extents.encode_inline(bytes(data)))
        return
    if size <= EXTENT_MAX:
        tx.put(records.extent(pfs, obj, offset + size), extents.encode_view(tx.stage(data, codec), 0, size))
        return
    view = memoryview(data)
    done = 0
    while done < size:
        # Cut at multiples of EXTENT_MAX of the file, so that writing the same range again meets the same borders.
        length = min(EXTENT_MAX - (offset + done) % EXTENT_MAX, size - done)
        part = view[done : done + length]
        done += length
        if length <= INLINE_MAX:
            value = extents.encode_inline(bytes(part))
        else:
            value = extents.encode_view(tx.stage(part, codec), 0, length)
        tx.put(records.extent(pfs, obj, offset + done), value)
