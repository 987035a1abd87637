"""A transaction: reads from a view, its own writes on top, and what it read for the certification at commit.

Invariants:
- a read after a write of the same key sees the write;
- nothing leaves the transaction before it is committed; one that raised is dropped and has changed nothing;
- when `footprint` is kept, every key range on which a result depends is in it, absent keys included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gavel.keys.ranges import RangeSet, just
from gavel.media.extents import RAW, Extent
from gavel.transaction.merged import merged
from gavel.transaction.view import Buffer, View


class Transaction:
    """Optimistic work on a view.

    `now` is the time (ns since 1970) that all of it happens at, `pfs` the pseudo-filesystem it works in.
    `writes` maps keys to new values, None for a deletion.
    """

    __slots__ = ("_take_object", "footprint", "now", "pfs", "view", "writes")

    def __init__(
        self,
        view: View,
        now: int,
        pfs: int = 0,
        take_object: Callable[[], int] | None = None,
        footprint: RangeSet | None = None,
    ) -> None:
        self.view = view
        self.now = now
        self.pfs = pfs
        self._take_object = take_object  # None where no objects may be made
        self.footprint = footprint
        self.writes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key as this transaction sees it."""
        writes = self.writes
        if key in writes:
            return writes[key]
        if self.footprint is not None:
            self.footprint.add(*just(key))
        return self.view.get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in [lo, hi) in key order, own writes included.

        Writes made while the iterator is in use may or may not be seen; collect first where that matters.
        The footprint grows with what is really taken, so stopping early reads less.
        """
        if self.footprint is None and not self.writes:
            return self.view.scan(lo, hi)
        own = sorted(key for key in self.writes if lo <= key < hi)
        records = merged(own, self.writes, self.view.scan(lo, hi))
        return records if self.footprint is None else self._noted(lo, hi, records, self.footprint)

    @staticmethod
    def _noted(
        lo: bytes, hi: bytes, records: Iterator[tuple[bytes, bytes]], footprint: RangeSet
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in records:
            footprint.add(lo, key + b"\0")
            yield key, value
        footprint.add(lo, hi)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        self.writes[key] = None

    def load(self, extent: Extent) -> Buffer:
        """The verified raw bytes of an extent. They never change, so this leaves no footprint."""
        return self.view.load(extent)

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        """Hand file data over ahead of the commit; see View.stage."""
        return self.view.stage(data, codec)

    def share(self, extent: Extent) -> None:
        """Keep an extent that only the past may refer to, for a record that is about to be put; see View.share."""
        self.view.share(extent)

    def new_object(self) -> int:
        """An object id that was never used before and never will be again."""
        assert self._take_object is not None, "this transaction was given no object ids"
        return self._take_object()


def sorted_writes(writes: dict[bytes, bytes | None]) -> tuple[list[bytes], list[bytes | None]]:
    """Keys in order and their values: the form in which history applies them."""
    keys = sorted(writes)
    return keys, list(map(writes.__getitem__, keys))
