"""Whole operations that are dirty together, and will be committed as one transaction.

Invariants: operations enter whole, and none enters once the batch is sealed; a batch is committed under the tokens
that all its operations were made under.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from gavel.cache.overlay import Overlay
from gavel.coherency.holder import Tokens
from gavel.coherency.space import lease_range
from gavel.keys import records
from gavel.keys.ranges import Range, RangeSet
from gavel.media.extents import Extent
from gavel.transaction.requests import Submit

_NAME = 10  # bytes of a lease key that name an object
_RECORD = 64  # bytes that a dirty record costs besides key and value


class Batch:
    """See the module. `began`: ns of the clock that leases go by; `number`: batches of a client count up."""

    def __init__(self, number: int, overlay: Overlay) -> None:
        self.number = number
        self.overlay = overlay
        self.began = 0
        self.tokens: Tokens = ()
        self.staged: list[Extent] = []  # file data of its operations, and what its own body spilled into
        self.ahead = 0  # how many of `staged` are on their way
        self.waiting = 0  # bytes of those that are not
        self.size = 0
        self.version = 0  # nobody else has changed what it read or wrote between this tid, at least, and its sealing
        self.reads = RangeSet()  # lease keys where that is so; fewer once leases are given up
        self.limbo = False  # its leases are gone: nobody knows what it will come to
        self.submit: Submit | None = None
        self._written: dict[bytes, None] = {}
        self._read: dict[bytes, None] = {}
        self._wide: list[Range] = []  # reads across objects, as lease keys

    def __bool__(self) -> bool:
        return bool(self.overlay.records)

    def add(self, writes: dict[bytes, bytes | None], reads: Iterable[Range], staged: list[Extent]) -> None:
        """Take in one operation."""
        self.overlay.merge(writes)
        written, read = self._written, self._read
        for key, value in writes.items():
            written[key[:2] + key[3:11]] = None
            self.size += _RECORD + len(key) + (0 if value is None else len(value))
        for lo, hi in reads:
            if lo[:11] == hi[:11]:
                read[lo[:2] + lo[3:11]] = None
            else:
                self._wide.append(lease_range(lo, hi))
        if staged:
            self.staged += staged
            size = sum(extent.stored for extent in staged)
            self.size += size
            self.waiting += size

    def touches(self, lo: bytes, hi: bytes, writes_only: bool = False) -> bool:
        """Whether it has read or written anything in a range of lease keys; perhaps, where it was near."""
        if _any_in(self._written, lo, hi):
            return True
        if writes_only:
            return False
        return _any_in(self._read, lo, hi) or any(start < hi and lo < stop for start, stop in self._wide)

    def within(self, pieces: Iterable[Range]) -> list[Range]:
        """Those of these disjoint ranges of lease keys in which it has read or written something; perhaps more."""
        if self._wide:
            return list(pieces)
        objects = sorted({**self._written, **self._read})
        found: list[Range] = []
        for lo, hi in pieces:
            at = bisect_left(objects, lo[:_NAME])
            if at < len(objects) and objects[at] < hi:
                found.append((lo, hi))
        return found


def _any_in(objects: dict[bytes, None], lo: bytes, hi: bytes) -> bool:
    return any(name < hi and records.after(name) > lo for name in objects)
