"""What the places in a client's data records mean, where there is no volume: file data fetched, or staged to be sent.

Filesystem functions know data records as media/extents.py has them, with the place where an extent lies. On a client
of a cluster a place is a number that this table explains: another record, on every master, that refers to the extent;
or bytes that are on their way to the masters. Going out and coming in, records are translated (portable.py).

Invariants: a place never means two extents; what was staged stays here until its transaction has an outcome, and is
fetched data like any other from then on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from xxhash import xxh3_128_digest

from gavel.limits import EXTENT_CACHE_BYTES, PLACES_LEAST
from gavel.media import extents
from gavel.media.extents import RAW, ZSTD, Compressor, Extent
from gavel.transaction import portable
from gavel.transaction.view import Buffer, Miss


class Source(NamedTuple):
    """The data record `key`, as of `at`, refers to the extent."""

    key: bytes
    at: int


class Blob(NamedTuple):
    """File data of a transaction under way: `data` by `codec` is `length` bytes with this sum."""

    number: int
    codec: int
    length: int
    sum: bytes
    data: bytes


class Places:
    """The table, and the file data of late."""

    def __init__(self, limit: int = EXTENT_CACHE_BYTES) -> None:
        self._limit = limit
        self._known: dict[int, Source | Blob] = {}
        self._next = 1
        self._blobs = 0
        self._sweep_at = PLACES_LEAST
        self._data: OrderedDict[int, Buffer] = OrderedDict()
        self._size = 0
        self._wanted: dict[int, int] = {}  # by how many operations under way
        self._pinned: dict[int, Buffer] = {}  # of these, what has come
        self._compress = Compressor().compress

    def __len__(self) -> int:
        return len(self._known)

    def _add(self, means: Source | Blob) -> int:
        place, self._next = self._next, self._next + 1
        self._known[place] = means
        return place

    @property
    def kept(self) -> int:
        """Bytes of file data that are at hand."""
        return self._size + sum(map(len, self._pinned.values()))

    # Records that come and go.

    def local(self, key: bytes, value: bytes, at: int) -> bytes:
        """A portable data record that a master told of as of `at`, for filesystem functions; raises BadRequest."""
        named = portable.parse(value)
        if named is None:
            return value
        extent = Extent(self._add(Source(key, at)), named.length, named.length, RAW, named.sum)
        return extents.encode_view(extent, named.skip, named.view)

    def portable(self, value: bytes, used: dict[int, Blob]) -> bytes:
        """A data record to be written, for the masters; the blob that it shows a part of is added to `used`."""
        shown = extents.decode(value)
        if shown.extent is None:
            return value
        extent, means = shown.extent, self._known[shown.extent.place]
        if isinstance(means, Source):
            return portable.kept(means.key, means.at, extent.length, shown.skip, shown.view, extent.sum)
        used[means.number] = means
        return portable.staged(means.number, extent.length, shown.skip, shown.view, extent.sum)

    def committed(self, key: bytes, value: bytes, tid: int) -> None:
        """A data record was written by the transaction `tid`: what was staged for it can be had by it from now on."""
        shown = extents.decode(value)
        if shown.extent is None:
            return
        place = shown.extent.place
        staged = self._known.get(place)
        if isinstance(staged, Blob):
            self._known[place] = Source(key, tid)
            self._keep(place, staged.data if staged.codec == RAW else self._raw(place, staged))

    # File data.

    def load(self, extent: Extent) -> Buffer:
        """The raw bytes of an extent; raises Miss for one that has to be fetched."""
        place = extent.place
        found = self._data.get(place)
        if found is not None:
            self._data.move_to_end(place)
            return found
        if place in self._pinned:
            return self._pinned[place]
        means = self._known[place]
        if isinstance(means, Source):
            raise Miss((), (extent,))
        return self._raw(place, means)

    @staticmethod
    def _raw(place: int, blob: Blob) -> Buffer:
        return extents.restore(Extent(place, len(blob.data), blob.length, blob.codec, blob.sum), blob.data)

    def source(self, extent: Extent) -> Source:
        """How a fetched extent is asked for."""
        means = self._known[extent.place]
        assert isinstance(means, Source), "what was staged is here"
        return means

    def fetched(self, extent: Extent, codec: int, data: bytes) -> None:
        """The stored bytes of an extent have come; raises Damaged unless they verify."""
        self._keep(extent.place, extents.restore(extent._replace(stored=len(data), codec=codec), data))

    def want(self, place: int) -> None:
        """An operation lacks an extent: once its bytes have come they stay until unwant(), however many there are."""
        self._wanted[place] = self._wanted.get(place, 0) + 1

    def unwant(self, place: int) -> None:
        """The operation has ended."""
        self._wanted[place] -= 1
        if not self._wanted[place]:
            del self._wanted[place]
            raw = self._pinned.pop(place, None)
            if raw is not None:
                self._keep(place, raw)

    def _keep(self, place: int, raw: Buffer) -> None:
        """Have the bytes of an extent at hand, in place of those that were longest not asked for."""
        if place in self._wanted:
            self._pinned[place] = raw
            return
        if place not in self._data:
            self._data[place] = raw
            self._size += len(raw)
        while self._size > self._limit and len(self._data) > 1:
            _, dropped = self._data.popitem(last=False)
            self._size -= len(dropped)

    def stage(self, data: Buffer, codec: int) -> Extent:
        """Keep a copy of file data for a transaction under way; compressed if that is wanted and worth it."""
        total, size = xxh3_128_digest(data), len(data)
        packed = self._compress(data) if codec == ZSTD else None
        stored = bytes(data) if packed is None else packed
        self._blobs += 1
        blob = Blob(self._blobs, RAW if packed is None else ZSTD, size, total, stored)
        return Extent(self._add(blob), len(stored), size, blob.codec, total)

    def blob(self, extent: Extent) -> Blob:
        """What was staged as this extent."""
        means = self._known[extent.place]
        assert isinstance(means, Blob), "it was fetched, or has its outcome"
        return means

    def number(self, extent: Extent) -> int | None:
        """The number under which an extent was staged, until its transaction is committed."""
        means = self._known.get(extent.place)
        return means.number if isinstance(means, Blob) else None

    def unstage(self, extent: Extent) -> None:
        """Nothing will refer to what was staged as this extent any more, unless its transaction was committed."""
        if isinstance(self._known.get(extent.place), Blob):
            del self._known[extent.place]

    # Memory.

    @property
    def crowded(self) -> bool:
        """Whether it is time for sweep()."""
        return len(self._known) > self._sweep_at

    def sweep(self, values: Iterable[bytes]) -> None:
        """Forget what was fetched, but for what these data records refer to."""
        live: dict[int, Source | Blob] = {
            place: means for place, means in self._known.items() if isinstance(means, Blob)
        }
        for value in values:
            lies = extents.reference(value)
            if lies is not None:
                live[lies[0]] = self._known[lies[0]]
        self._known = live
        self._sweep_at = max(2 * len(live), PLACES_LEAST)
        for place in [place for place in self._data if place not in live]:
            self._size -= len(self._data.pop(place))
