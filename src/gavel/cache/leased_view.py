"""The present as a client with leases sees it: what is held, beneath what it has changed and not yet flushed.

Invariant: whatever is in an overlay was written under a lease, and lies there until its transaction has an outcome.
"""

from __future__ import annotations

from collections.abc import Iterator

from gavel.cache.held_view import HeldView, States
from gavel.cache.overlay import Overlay
from gavel.cache.places import Places
from gavel.keys.ranges import Range, RangeSet


class LeasedView(HeldView):
    """`dirty` takes in what is written; `sealed` are overlays that are being flushed or wait for it, newest first."""

    __slots__ = ("dirty", "sealed")

    def __init__(self, states: States, places: Places) -> None:
        super().__init__(states, places)
        self.dirty = Overlay()
        self.sealed: list[Overlay] = []

    def get(self, key: bytes) -> bytes | None:
        """See View.get."""
        records = self.dirty.records
        if key in records:
            return records[key]
        for overlay in self.sealed:
            if key in overlay.records:
                return overlay.records[key]
        return self._held.get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See View.scan."""
        beneath = self._held.scan(lo, hi)
        for overlay in reversed(self.sealed):
            beneath = overlay.over(lo, hi, beneath)
        return self.dirty.over(lo, hi, beneath)


class Notes(RangeSet):
    """A footprint that is only noted, in order: most are looked at no further."""

    __slots__ = ("noted",)

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Range] = []

    def add(self, lo: bytes, hi: bytes) -> None:
        """See RangeSet.add; a scan that goes on takes the place of what it was before."""
        noted = self.noted
        if noted and noted[-1][0] == lo and noted[-1][1] <= hi:
            noted[-1] = lo, hi
        else:
            noted.append((lo, hi))
