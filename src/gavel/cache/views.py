"""The states that operations can look at: the present with this client's changes on top, and any past one.

The only client of a group of one reads its master's records by function call, so nothing is ever missing here; a
client elsewhere will hold records under leases and raise Miss for the rest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from xxhash import xxh3_128_digest

from gavel.cache.lately import Lately
from gavel.cache.overlay import Overlay
from gavel.errors import Damaged, DeviceFailed, FreezePruned, HistoryPruned, ReadOnly
from gavel.history.history import History
from gavel.history.horizon import KEY
from gavel.limits import EXTENT_CACHE_BYTES
from gavel.media.extents import RAW, ZSTD, Compressor, Extent, restore
from gavel.media.volume import Volume
from gavel.transaction.view import Buffer

_PAST = "the past cannot be changed; `gavel undo` brings it back"


class Extents:
    """Verified file data of late, least recently used dropped first; and the way to stage more.

    Data is kept with its sum, so what is kept is never stale when its place is used anew; and under its place, so
    that two extents whose sums collide are never taken for each other. `staged` counts bytes since the last flush.
    """

    def __init__(self, volume: Volume) -> None:
        self.staged = 0
        self._volume = volume
        self._overhead = volume.overhead
        self._kept: OrderedDict[int, tuple[bytes, Buffer]] = OrderedDict()
        self._size = 0
        self._compress = Compressor().compress
        self.lately = Lately(volume)

    def load(self, extent: Extent) -> Buffer:
        """The verified raw bytes of an extent; raises Damaged, DeviceFailed."""
        kept = self._kept
        place = extent.place
        found = kept.get(place)
        if found is not None and found[0] == extent.sum:
            kept.move_to_end(place)
            return found[1]
        data = restore(extent, self._volume.read(place, extent.stored))
        if found is not None:
            self._size -= len(found[1])
        kept[place] = extent.sum, data
        self._size += len(data)
        while self._size > EXTENT_CACHE_BYTES:
            _, (_, dropped) = kept.popitem(last=False)
            self._size -= len(dropped)
        return data

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        """An extent with this content, for a record that the next flush will commit: one of late that has it, or new.

        Raises VolumeFull, DeviceFull, DeviceFailed.
        """
        total = xxh3_128_digest(data)
        extent = self.lately.find(total, len(data))
        if extent is not None and self._holds(extent, data):
            self.lately.share(extent)
            return extent
        extent = self.append(data, codec, total)
        self.lately.staged(extent)
        return extent

    def append(self, data: Buffer, codec: int = RAW, total: bytes | None = None) -> Extent:
        """Append file data to the log, compressed if that is wanted and worth it. Raises as stage()."""
        size = len(data)
        if total is None:
            total = xxh3_128_digest(data)
        packed = self._compress(data) if codec == ZSTD else None
        if packed is None:
            stored, codec = size + self._overhead, RAW
            place = self._volume.append_data(data, total)
        else:
            stored = len(packed) + self._overhead
            place = self._volume.append_data(packed)
        self.staged += stored
        return Extent(place, stored, size, codec, total)

    def _holds(self, extent: Extent, data: Buffer) -> bool:
        """Whether an extent has these bytes, compared one by one; one that cannot be read is not shared again."""
        try:
            held = self.load(extent)
        except (Damaged, DeviceFailed):
            self.lately.forget(extent.sum)
            return False
        return held == data


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

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        """See View.stage."""
        return self._extents.stage(data, codec)

    def share(self, extent: Extent) -> None:
        """See View.share."""
        self._extents.lately.share(extent)


class FrozenView:
    """Everything as of one tid; nothing can be written."""

    __slots__ = ("_base", "_extents", "at")

    def __init__(self, base: History, extents: Extents, at: int) -> None:
        self._base = base
        self._extents = extents
        self.at = at

    def get(self, key: bytes) -> bytes | None:
        """See View.get; raises HistoryPruned."""
        return self._base.get_at(key, self.at)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See View.scan; raises HistoryPruned."""
        return self._base.scan_at(lo, hi, self.at)

    def load(self, extent: Extent) -> Buffer:
        """See View.load."""
        return self._extents.load(extent)

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        """Raises ReadOnly."""
        raise ReadOnly(_PAST)

    def share(self, extent: Extent) -> None:
        """Raises ReadOnly."""
        raise ReadOnly(_PAST)


class FreezeView(FrozenView):
    """The state that a transaction began with, on which it works.

    When a prune has taken that away, the transaction has met with the prune: Collision, as for any other change.
    """

    __slots__ = ()

    def get(self, key: bytes) -> bytes | None:
        """See View.get; raises FreezePruned."""
        try:
            return self._base.get_at(key, self.at)
        except HistoryPruned as gone:
            raise FreezePruned(KEY, gone.horizon, self.at) from None

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See View.scan; raises FreezePruned."""
        try:
            yield from self._base.scan_at(lo, hi, self.at)
        except HistoryPruned as gone:
            raise FreezePruned(KEY, gone.horizon, self.at) from None

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        """See View.stage."""
        return self._extents.append(data, codec)

    def share(self, extent: Extent) -> None:
        """See View.share."""
        self._extents.lately.share(extent)
