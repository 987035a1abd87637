"""Views over plain dicts, for tests of everything that works on transactions.

`DictView` keeps records and staged extents in memory. `MissingView` answers every first question with a Miss, to
prove that operations can be run again from their start. `Store` runs operations and applies what they wrote.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from gavel.filesystem import superblock
from gavel.filesystem.caller import Caller
from gavel.keys.ranges import RangeSet, just
from gavel.keys.records import ROOT_OBJECT
from gavel.media import extents
from gavel.media.extents import RAW, Extent
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Buffer, Miss, View

START = 1_700_000_000_000_000_000  # ns; every operation of a Store happens a microsecond later than the one before
STEP = 1_000


class DictView:
    """A View of records kept in a dict, beside a sorted list of its keys."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.order: list[bytes] = []
        self.staged: dict[int, bytes] = {}
        self.end = 4096  # where the next staged bytes are said to lie

    def get(self, key: bytes) -> bytes | None:
        return self.records.get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key in self.order[bisect_left(self.order, lo) : bisect_left(self.order, hi)]:
            yield key, self.records[key]

    def load(self, extent: Extent) -> Buffer:
        return extents.restore(extent, self.staged[extent.place])

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        extent = extents.describe(data, self.end)
        self.staged[extent.place] = bytes(data)
        self.end += len(data)
        return extent

    def share(self, extent: Extent) -> None:
        assert extent.place in self.staged

    def apply(self, writes: dict[bytes, bytes | None]) -> None:
        for key, value in writes.items():
            if value is None:
                if self.records.pop(key, None) is not None:
                    del self.order[bisect_left(self.order, key)]
            else:
                if key not in self.records:
                    insort(self.order, key)
                self.records[key] = value


class MissingView:
    """Raises Miss on the first touch of each key, range and extent, then lets it through until told to forget."""

    def __init__(self, inner: View) -> None:
        self.inner = inner
        self.forget()

    def forget(self) -> None:
        self.known = RangeSet()
        self.loaded: set[int] = set()
        self.misses = 0

    def _need(self, lo: bytes, hi: bytes) -> None:
        if not self.known.covers(lo, hi):
            self.misses += 1
            raise Miss(((lo, hi),))

    def supply(self, miss: Miss) -> None:
        """What a shell does about a Miss: fetch all that it names."""
        assert miss.ranges or miss.extents
        for lo, hi in miss.ranges:
            assert lo < hi and not self.known.covers(lo, hi), "a Miss names what is lacking"
            self.known.add(lo, hi)
        for extent in miss.extents:
            self.loaded.add(extent.place)

    def get(self, key: bytes) -> bytes | None:
        self._need(*just(key))
        return self.inner.get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._need(lo, hi)
        return self.inner.scan(lo, hi)

    def load(self, extent: Extent) -> Buffer:
        if extent.place not in self.loaded:
            self.misses += 1
            raise Miss((), (extent,))
        return self.inner.load(extent)

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        return self.inner.stage(data, codec)

    def share(self, extent: Extent) -> None:
        self.inner.share(extent)


class Store:
    """Runs operations one by one over a DictView, each at a later time than the one before; one that raises writes
    nothing. With `missing`, each operation meets a Miss for everything it reads and is run again."""

    def __init__(self, missing: bool = False, pfs: int = 0) -> None:
        self.records = DictView()
        self.missing = MissingView(self.records) if missing else None
        self.now = START
        self.pfs = pfs
        self.objects = count(ROOT_OBJECT + 1)
        self.run(superblock.make_root, Caller(0, 0))

    def tick(self) -> None:
        """Let some time pass."""
        self.now += STEP

    def run(self, op: Callable[..., Any], *args: Any) -> Any:
        """Run op(tx, *args) and apply what it wrote."""
        self.tick()
        tx, result = self._attempt(op, args)
        self.records.apply(tx.writes)
        return result

    def _attempt(self, op: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Transaction, Any]:
        if self.missing is None:
            tx = Transaction(self.records, self.now, self.pfs, self.objects.__next__)
            return tx, op(tx, *args)
        self.missing.forget()
        while True:
            tx = Transaction(self.missing, self.now, self.pfs, self.objects.__next__)
            try:
                return tx, op(tx, *args)
            except Miss as miss:
                self.missing.supply(miss)
