"""File data that is here ahead of the transactions that will refer to it.

A client stages extents under its session and a number; the master it talks to passes them on to its peers. Each keeps
them in its own log: a data frame, and a STAGED frame that says where it is, which replay finds again. Among masters an
extent goes by its *id*: the session and the blob_name() by which transactions name it (transaction/requests.py).

Invariants:
- what is held here is in the log before anything that is appended later, so the sync that makes a promise durable has
  made durable what it promises;
- what is held is pinned: its big-block stays as it is until a record refers to it (live bytes) or it is dropped;
- every checkpoint writes the STAGED frames anew behind its MARK, so replay finds all of them, however old.

A STAGED frame is MessagePack [id, place, stored, codec].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from gavel.errors import BadRequest, Damaged
from gavel.keys.records import SESSION_SIZE
from gavel.limits import EXTENT_MAX, STAGED_LIFE_NS
from gavel.media.extents import RAW, Extent, restore
from gavel.media.volume import Volume
from gavel.replica.journal import STAGED
from gavel.transaction.requests import BLOB_NAME_SIZE, Stage, blob_name, blob_number

ID_SIZE = SESSION_SIZE + BLOB_NAME_SIZE

_Frame = tuple[bytes, int, int, int]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


class Held:
    """A staged extent: where it is, and since when (ns; None: since before this opening)."""

    __slots__ = ("extent", "since")

    def __init__(self, extent: Extent, since: int | None) -> None:
        self.extent = extent
        self.since = since


class Staging:
    """What is staged in one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._held: dict[bytes, Held] = {}  # by id, in order of arrival

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, blob: bytes) -> bool:
        return blob in self._held

    def take(self, blob: Stage, now: int) -> bytes | None:
        """Keep an extent; its id, None when it was held already. Durable with all that is appended later.

        Raises BadRequest for one that is not what it says, VolumeFull, DeviceFull, DeviceFailed.
        """
        name = _checked(blob)
        if name in self._held:
            return None
        stored = len(blob.data) + self._volume.overhead
        extent = Extent(0, stored, blob.length, blob.codec, blob.sum)
        place = self._volume.append_data(blob.data, blob.sum if blob.codec == RAW else None)
        extent = extent._replace(place=place)
        self._volume.append(STAGED, _frame(name, extent))
        self._volume.note_records(1)
        self._hold(name, extent, now)
        return name

    def _hold(self, name: bytes, extent: Extent, since: int | None) -> None:
        self._volume.pin(extent.place)
        self._held[name] = Held(extent, since)

    def find(self, blob: bytes) -> Extent | None:
        """Where a staged extent lies."""
        held = self._held.get(blob)
        return held.extent if held is not None else None

    def lacks(self, blobs: Iterable[bytes]) -> list[bytes]:
        """Which of these are not here."""
        held = self._held
        return [blob for blob in blobs if blob not in held]

    def load(self, blob: bytes) -> Stage | None:
        """A staged extent as it was staged, for a peer; None where it is not here. Raises Damaged, DeviceFailed."""
        held = self._held.get(blob)
        if held is None:
            return None
        place, stored, length, codec, total = held.extent
        data = self._volume.read(place, stored)
        return Stage(blob[:SESSION_SIZE], blob_number(blob[SESSION_SIZE:]), codec, length, total, data)

    def content(self, blob: bytes) -> bytes | memoryview:
        """The raw bytes of a staged extent that is here; raises Damaged, DeviceFailed."""
        extent = self._held[blob].extent
        return restore(extent, self._volume.read(extent.place, extent.stored))

    def drop(self, blobs: Iterable[bytes]) -> None:
        """The transaction that these were for is applied, or never will be."""
        for blob in blobs:
            held = self._held.pop(blob, None)
            if held is not None:
                self._volume.unpin(held.extent.place)

    def expire(self, now: int, needed: Iterable[bytes]) -> None:
        """Drop what came more than limits.STAGED_LIFE_NS ago and is not needed; what replay found comes now."""
        old = []
        for name, held in self._held.items():
            if held.since is None:
                held.since = now
            elif held.since + STAGED_LIFE_NS < now:
                old.append(name)
        if old:
            spared = frozenset(needed)
            self.drop([name for name in old if name not in spared])

    # Replay and checkpoints.

    def replay(self, sequence: int, body: bytes) -> None:
        """Take in a STAGED frame that was read from the log; raises Damaged."""
        try:
            name, place, stored, codec = _decode(body)
            length, total = described(name)
        except (msgspec.MsgspecError, BadRequest) as error:
            raise Damaged("log frame", sequence, "a staged extent", str(error)) from None
        if name not in self._held:
            self._hold(name, Extent(place, stored, length, codec, total), None)

    def snapshot(self) -> Iterator[bytes]:
        """The bodies of STAGED frames that say all that is held now."""
        for name, held in self._held.items():
            yield _frame(name, held.extent)


def _checked(blob: Stage) -> bytes:
    """The id of an extent that is what it says."""
    if (
        len(blob.session) != SESSION_SIZE
        or len(blob.sum) != 16
        or not 0 <= blob.number < 1 << 32
        or not 0 < blob.length <= EXTENT_MAX
    ):
        raise BadRequest("what is staged needs a session and a sum of 16 bytes, a number of 32 bits, at most 128 KiB")
    try:
        restore(Extent(0, len(blob.data), blob.length, blob.codec, blob.sum), blob.data)
    except Damaged as damage:
        raise BadRequest(f"what was staged is not what its sum says: {damage}") from None
    return blob.session + blob_name(blob.number, blob.length, blob.sum)


def described(blob: bytes) -> tuple[int, bytes]:
    """Length and sum of the extent with this id; raises BadRequest unless it is one."""
    if len(blob) != ID_SIZE:
        raise BadRequest(f"the id of a staged extent has {ID_SIZE} bytes, not {len(blob)}")
    return int.from_bytes(blob[-20:-16], "big"), blob[-16:]


def _frame(name: bytes, extent: Extent) -> bytes:
    return _encode((name, extent.place, extent.stored, extent.codec))
