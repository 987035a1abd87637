"""What the kernel was told lately, and may believe still: so that it can be made to forget just that.

What it was told longer ago than its leases last it has to ask about again in any case.

Invariant: whatever was told with a lifetime that is not over is found by within().
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from gavel.keys import records
from gavel.keys.ranges import Range
from gavel.mount import abi

_ENTRY = abi.DIRENTPLUS.size - abi.DIRENT.size
_object_of = abi.ENTRY_OUT.unpack_from


class Told:
    """Names and objects by the time until which they may be believed (ns); the mount's are all of one `pfs`."""

    def __init__(self, pfs: int = 0) -> None:
        self._pfs = pfs.to_bytes(2, "big")
        self._told: deque[tuple[int, int, bytes, bytes]] = deque()  # until, object, name in it, a listing of it

    def __len__(self) -> int:
        return len(self._told)

    def add(self, now: int, until: int, obj: int, name: bytes = b"", listing: bytes = b"") -> None:
        """Something about an object, a name in it, or what the READDIRPLUS reply `listing` has of it."""
        told = self._told
        while told and told[0][0] < now:
            told.popleft()
        told.append((until, obj, name, listing))

    def within(self, ranges: Iterable[Range], now: int) -> tuple[list[int], list[tuple[int, bytes]]]:
        """The objects, and the names with their directories, that lie in ranges of lease keys."""
        wanted = list(ranges)
        objects: dict[int, None] = {}
        names: dict[tuple[int, bytes], None] = {}
        for until, obj, name, listing in self._told:
            if until < now:
                continue
            inside = self._in(obj, wanted)
            if inside:
                objects[obj] = None
                if name:
                    names[obj, name] = None
            for other, entry in _entries(listing):
                if inside:
                    names[obj, entry] = None
                if self._in(other, wanted):
                    objects[other] = None
        return list(objects), list(names)

    def _in(self, obj: int, ranges: list[Range]) -> bool:
        mark = self._pfs + obj.to_bytes(8, "big")
        return any(mark < hi and lo < records.after(mark) for lo, hi in ranges)


def _entries(listing: bytes) -> list[tuple[int, bytes]]:
    """The objects and names in a READDIRPLUS reply."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(listing):
        (obj, *_) = _object_of(listing, at)
        _, _, length, _ = abi.DIRENT.unpack_from(listing, at + _ENTRY)
        start = at + abi.DIRENTPLUS.size
        if obj:
            found.append((obj, listing[start : start + length]))
        at = start + (length + 7 & -8)
    return found
