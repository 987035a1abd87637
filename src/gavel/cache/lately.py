"""Extents of late by their sums, so that the same content written again is stored once.

An extent may be shared only while nothing can free the space it lies in. Two kinds are known here:

- *fresh*: staged since the last flush began. Its data frame is not settled (Volume.settle), so its big-block stays;
  what shares it now is dirty, and goes into the next flush, before whose end nothing settles the frame.
- *committed*: a version that the last flushes put into the history refers to it, so it counts as live. That ends only
  by dropping versions (prune, reblock, dedup): `Volume.drops` counts each of these, and when it has moved, all that
  is known here is forgotten. Between sharing it and the end of the flush that commits it, the version that kept it
  may go as well; so Volume.borrow() keeps the big-block meanwhile, as if a frame had just been written there.

After that the new record counts as live itself. A crash before makes it never have been; a crash after replays it on
the durable image, and big-blocks are freed only when all is replayed. Transactions that commit late (optimistic ones)
neither share nor are shared: what they stage may wait for any number of flushes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from gavel.history.accounting import data_runs
from gavel.limits import DEDUP_LATELY
from gavel.media.extents import RECORD_SIZE, Extent, decode
from gavel.media.volume import Volume


class Lately:
    """At most DEDUP_LATELY extents, those committed longest ago forgotten first."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._drops = volume.drops
        self._fresh: dict[bytes, Extent] = {}
        self._committed: OrderedDict[bytes, bytes] = OrderedDict()  # values of records, which are smaller

    def find(self, total: bytes, size: int) -> Extent | None:
        """An extent with this sum and length that can be shared at this moment; its bytes are to be compared."""
        extent = self._fresh.get(total)
        if extent is None:
            value = self._committed.get(total)
            if value is None or not self._still_live():
                return None
            extent = decode(value).extent
        return extent if extent is not None and extent.length == size else None

    def share(self, extent: Extent) -> None:
        """A record that the next flush commits will refer to what find() gave."""
        self._volume.borrow(extent.place)

    def forget(self, total: bytes) -> None:
        """What find() gave cannot be read."""
        self._fresh.pop(total, None)
        self._committed.pop(total, None)

    def staged(self, extent: Extent) -> None:
        """An extent was staged for the next flush."""
        if len(self._fresh) < DEDUP_LATELY:
            self._fresh[extent.sum] = extent

    def flush_begins(self) -> None:
        """What was staged so far is settled when this flush ends, referred to or not."""
        self._fresh = {}

    def flushed(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """These sorted records have just been applied."""
        self._still_live()
        committed = self._committed
        for first, last in data_runs(keys):
            for value in values[first:last]:
                if value is not None and len(value) == RECORD_SIZE and value[0]:
                    committed[value[-16:]] = value
        while len(committed) > DEDUP_LATELY:
            committed.popitem(last=False)

    def _still_live(self) -> bool:
        """Whether no version was dropped since the committed ones came; if any was, they are forgotten."""
        if self._volume.drops != self._drops:
            self._drops = self._volume.drops
            self._committed.clear()
        return bool(self._committed)
