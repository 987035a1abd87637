"""What a transaction reads from: a frozen or a current state of the records.

A view answers at once or raises Miss. A cache that lacks records names all it lacks; the shell fetches them and runs
the operation again from the start. Operations are pure, so running them again costs nothing but time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from gavel.keys.ranges import Range
from gavel.media.extents import RAW, Extent

Buffer = bytes | bytearray | memoryview


class Miss(Exception):  # not an error: a request to fetch
    """The view does not hold these key ranges (or extents); fetch them and run the operation again.

    `at` is the tid of the view, 0 of the present.
    """

    def __init__(self, ranges: tuple[Range, ...] = (), extents: tuple[Extent, ...] = (), at: int = 0) -> None:
        super().__init__(ranges, extents, at)
        self.ranges, self.extents, self.at = ranges, extents, at


class View(Protocol):
    """A state of the records, at one tid or with the latest changes of this client on top."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None where there is none; raises Miss."""

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in [lo, hi), in key order, lazily; raises Miss.

        The iterator is used up or dropped before anything is written to what lies beneath the view.
        """

    def load(self, extent: Extent) -> Buffer:
        """The verified raw bytes of an extent; raises Miss, Damaged."""

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        """Hand file data over ahead of the commit that will refer to it; at most limits.EXTENT_MAX bytes.

        `codec` is how the data should be kept where that is worth it; the extent tells how it is. It may be an
        extent that had the same content already.
        The bytes are not durable before that commit is; the buffer may be reused once this returns.
        Raises VolumeFull; ReadOnly where nothing can be written.
        """

    def share(self, extent: Extent) -> None:
        """A record that is about to be written will refer to an extent of which perhaps the past alone knows.

        It was read in the same turn, from a state that can be read. From now on its place stays what it is until that
        record is applied or dropped, whatever is pruned or moved meanwhile. What the present refers to, and what was
        staged, needs no sharing. Raises ReadOnly where nothing can be written.
        """
