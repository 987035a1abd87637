"""Dirty records: what this client has changed and not yet flushed, in the order of whole operations.

Invariants:
- `records` maps a key to its newest value, None for a deletion;
- keys stay in `records` in the order in which they came; those that came before the last scan stand in the list of
  their object, so a scan sorts one object's keys, not all;
- records enter by whole groups (one POSIX operation each) and leave all together, so no flush shows half a group.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice

from gavel.transaction.merged import merged

_OBJECT = 11  # bytes of a record key that name the object: pfs, locality, object id
_FEW = 16  # below this many new keys inserting them one by one beats sorting the list


class _Keys:
    """The dirty keys of one object: sorted up to `ordered`, in order of arrival after it."""

    __slots__ = ("keys", "ordered")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.ordered = 0

    def between(self, lo: bytes, hi: bytes) -> list[bytes]:
        keys = self.keys
        if self.ordered < len(keys):
            if len(keys) - self.ordered <= _FEW:
                fresh = keys[self.ordered :]
                del keys[self.ordered :]
                for key in fresh:
                    insort(keys, key)
            else:
                keys.sort()
            self.ordered = len(keys)
        return keys[bisect_left(keys, lo) : bisect_left(keys, hi)]


class Overlay:
    """Dirty records with cheap lookup, insertion and scans within an object."""

    __slots__ = ("_listed", "_objects", "records")

    def __init__(self) -> None:
        self.records: dict[bytes, bytes | None] = {}
        self._objects: dict[bytes, _Keys] = {}
        self._listed = 0  # how many keys, the oldest ones, are in the lists; many overlays are never scanned

    def merge(self, writes: dict[bytes, bytes | None]) -> None:
        """Add the writes of one operation."""
        self.records.update(writes)

    def _list(self) -> None:
        objects = self._objects
        fresh = list(islice(reversed(self.records), len(self.records) - self._listed))
        for key in reversed(fresh):
            name = key[:_OBJECT]
            held = objects.get(name)
            if held is None:
                held = objects[name] = _Keys()
            held.keys.append(key)
        self._listed = len(self.records)

    def between(self, lo: bytes, hi: bytes) -> list[bytes]:
        """The dirty keys in [lo, hi), sorted."""
        if self._listed < len(self.records):
            self._list()
        if lo[:_OBJECT] == hi[:_OBJECT]:
            held = self._objects.get(lo[:_OBJECT])
            return held.between(lo, hi) if held is not None else []
        return sorted(key for key in self.records if lo <= key < hi)

    def over(self, lo: bytes, hi: bytes, beneath: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """The records beneath with the dirty ones laid over them, in key order, lazily."""
        dirty = self.between(lo, hi)
        return merged(dirty, self.records, beneath) if dirty else beneath
