"""The receiving side of catching up: pieces of another master's history become transactions of this one.

Invariants:
- a transaction is logged and applied when all of it is here, at its own tid, in order; so whatever the last piece was,
  the state is one that was once true;
- a version of the teller's is a version here, also one that says what the version before it said;
- file data of a transaction that is not whole yet is pinned.
"""

from __future__ import annotations

from collections import OrderedDict

from gavel.errors import BadRequest, Damaged
from gavel.history.history import History
from gavel.keys.records import is_data
from gavel.limits import DEDUP_LATELY
from gavel.media.extents import RAW, Extent, restore
from gavel.media.volume import Volume
from gavel.replica.catch_up import Blob, Told, read_piece
from gavel.replica.log import Log
from gavel.transaction import portable


class Taker:
    """Takes in what this master lacks."""

    def __init__(self, volume: Volume, history: History, log: Log) -> None:
        self._volume = volume
        self._history = history
        self._log = log
        self._tid = 0  # the transaction of which a part is here
        self._keys: list[bytes] = []
        self._values: list[bytes | None] = []
        self._pinned: list[int] = []
        self._lately: OrderedDict[bytes, Extent] = OrderedDict()  # by sum; where nothing was dropped since
        self._drops = volume.drops

    def install(self, hi: int, data: bytes, last: bool) -> bool:
        """Take in a piece, in order; what was taken in before is passed over. After the last the tid is `hi`.

        False when it ends within a transaction: that part is in memory only.

        Raises Damaged for what is no piece or does not fit, VolumeFull, DeviceFull, DeviceFailed.
        """
        piece = read_piece(data)
        blobs = {blob.sum: blob for blob in piece.blobs}
        if self._volume.drops != self._drops:  # what was dropped or moved may be used anew
            self._drops = self._volume.drops
            self._lately.clear()
        for told in piece.told:
            if told.tid > self._history.last_tid:
                self._take(told, blobs)
        if last:
            if self._keys:
                raise Damaged("a piece of catching up", 0, "the rest of a transaction", "the end")
            if hi > self._history.last_tid:
                self._log.commit(hi, [], [])
        return not self._keys

    def _take(self, told: Told, blobs: dict[bytes, Blob]) -> None:
        keys, values = told.keys, told.values
        if len(keys) != len(values) or not all(map(bytes.__lt__, keys, keys[1:])):
            raise Damaged("a piece of catching up", 0, "ascending keys with a value each", "others")
        if told.tid != self._tid:
            self._forget()
            self._tid = told.tid
        for key, value in zip(keys, values, strict=True):
            if not self._keys or key > self._keys[-1]:
                local = self._local(key, value, blobs) if value is not None and is_data(key) else value
                self._keys.append(key)
                self._values.append(local)
        if told.whole:
            self._log.commit(self._tid, self._keys, self._values)
            self._forget()

    def _forget(self) -> None:
        """Nothing of an unfinished transaction is here any more."""
        for place in self._pinned:
            self._volume.unpin(place)
        self._tid, self._keys, self._values, self._pinned = 0, [], [], []

    def _local(self, key: bytes, value: bytes, blobs: dict[bytes, Blob]) -> bytes:
        """A data record in the form of this volume."""
        try:
            named = portable.parse(value)
            if named is None:
                return value
            if named.form != portable.OWN:
                raise BadRequest("a record of a master's history says where its data is from")
            found = portable.localise(named, self._extent(named.sum, blobs))
            if found == self._history.get(key):  # another version, so it lies elsewhere
                self._lately.pop(named.sum)
                found = portable.localise(named, self._extent(named.sum, blobs))
        except BadRequest as error:
            raise Damaged("a piece of catching up", 0, "a data record", str(error)) from None
        return found

    def _extent(self, total: bytes, blobs: dict[bytes, Blob]) -> Extent:
        """File data with this sum: that of late, else appended."""
        found = self._lately.get(total)
        if found is None:
            found = self._append(total, blobs)
            self._lately[total] = found
            if len(self._lately) > DEDUP_LATELY:
                self._lately.popitem(last=False)
        self._volume.pin(found.place)
        self._pinned.append(found.place)
        return found

    def _append(self, total: bytes, blobs: dict[bytes, Blob]) -> Extent:
        blob = blobs.get(total)
        if blob is None:
            raise Damaged("a piece of catching up", 0, f"the file data {total.hex()}", "nothing")
        data = blob.data
        extent = Extent(0, len(data) + self._volume.overhead, blob.length, blob.codec, total)
        restore(extent, data)
        return extent._replace(place=self._volume.append_data(data, total if blob.codec == RAW else None))
