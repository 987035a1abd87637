"""The states that operations can look at: the present with this client's changes on top, and any past one.

The only client of a group of one reads its master's records by function call, so nothing is ever missing here; a
client elsewhere will hold records under leases and raise Miss for the rest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from xxhash import xxh3_128_digest

from gavel.cache.overlay import Overlay
from gavel.errors import ReadOnly
from gavel.history.history import History
from gavel.limits import EXTENT_CACHE_BYTES
from gavel.media.extents import RAW, Extent, restore
from gavel.media.volume import Volume
from gavel.transaction.view import Buffer


class Extents:
    """Verified file data of late, least recently used dropped first; and the way to stage more.

    Data is kept under its sum, so what is kept is never stale, wherever it lies. `staged` counts bytes since the
    last flush.
    """

    def __init__(self, volume: Volume) -> None:
        self.staged = 0
        self._volume = volume
        self._overhead = volume.overhead
        self._kept: OrderedDict[bytes, Buffer] = OrderedDict()
        self._size = 0

    def load(self, extent: Extent) -> Buffer:
        """The verified raw bytes of an extent; raises Damaged, DeviceFailed."""
        kept = self._kept
        data = kept.get(extent.sum)
        if data is not None:
            kept.move_to_end(extent.sum)
            return data
        data = restore(extent, self._volume.read(extent.place, extent.stored))
        kept[extent.sum] = data
        self._size += len(data)
        while self._size > EXTENT_CACHE_BYTES:
            _, dropped = kept.popitem(last=False)
            self._size -= len(dropped)
        return data

    def stage(self, data: Buffer) -> Extent:
        """Append file data to the log; raises VolumeFull, DeviceFull, DeviceFailed."""
        size = len(data)
        total = xxh3_128_digest(data)
        place = self._volume.append_data(data, total)
        self.staged += size
        return Extent(place, size + self._overhead, size, RAW, total)


class CurrentView:
    """The present: the master's records, under what is being flushed, under what is dirty."""

    __slots__ = ("_base", "_extents", "dirty", "in_flight")

    def __init__(self, base: History, extents: Extents) -> None:
        self._base = base
        self._extents = extents
        self.dirty = Overlay()
        self.in_flight: Overlay | None = None

    def get(self, key: bytes) -> bytes | None:
        """See View.get."""
        records = self.dirty.records
        if key in records:
            return records[key]
        if self.in_flight is not None and key in self.in_flight.records:
            return self.in_flight.records[key]
        return self._base.get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See View.scan."""
        beneath = self._base.scan(lo, hi)
        if self.in_flight is not None:
            beneath = self.in_flight.over(lo, hi, beneath)
        return self.dirty.over(lo, hi, beneath)

    def load(self, extent: Extent) -> Buffer:
        """See View.load."""
        return self._extents.load(extent)

    def stage(self, data: Buffer) -> Extent:
        """See View.stage."""
        return self._extents.stage(data)


class FrozenView:
    """Everything as of one tid. `writable` allows staging, for a transaction that works on top of it."""

    __slots__ = ("_base", "_extents", "at", "writable")

    def __init__(self, base: History, extents: Extents, at: int, writable: bool = False) -> None:
        self._base = base
        self._extents = extents
        self.at = at
        self.writable = writable

    def get(self, key: bytes) -> bytes | None:
        """See View.get; raises HistoryPruned."""
        return self._base.get_at(key, self.at)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See View.scan; raises HistoryPruned."""
        return self._base.scan_at(lo, hi, self.at)

    def load(self, extent: Extent) -> Buffer:
        """See View.load."""
        return self._extents.load(extent)

    def stage(self, data: Buffer) -> Extent:
        """See View.stage; raises ReadOnly for a view of the past."""
        if not self.writable:
            raise ReadOnly("the past cannot be changed; `gavel undo` brings it back")
        return self._extents.stage(data)
