"""A simulated device: what it is told to write it may lose, tear or reorder until a sync returns, and rot at any time.

The fault model, at the grain of a sector:

- crash(): every sector written since the last sync is, independently, any of the contents it had since then, the one
  of the last sync included (so writes may be lost and reordered), or torn: a prefix of one of them before a suffix of
  another. A byte that all these contents agree on is never changed: devices do not harm what was not written.
- A sync that failed has made nothing durable, nor does a later one make it so: what was written before it and not
  again after may be lost at any time (as a kernel may do, which forgets dirty pages that it could not write).
- rot(): any byte changes at any time, also a durable one.
- Faults: the nth call of a device method fails, or a write finds no room, once or from then on; counted together for
  the devices that share them.
- thin(): the host under the device has room for so much more and no more.

Nothing is drawn from entropy: the same seed gives the same crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random

from gavel.errors import DeviceFailed, DeviceFull
from gavel.media.device import Buffer

SECTOR = 512
_CHUNK = 64 * 1024  # what a long read looks at: recovery reads whole big-blocks, and nearly all of them are empty


class Faults:
    """Which calls fail. Devices that share one are counted together, as the disks of one machine."""

    __slots__ = ("asleep", "calls", "fails", "fulls", "only", "struck")

    def __init__(self) -> None:
        self.calls = 0
        self.struck = 0  # how many calls have failed
        self.fails = range(0)  # numbers of the calls that fail, and of the writes that find no room
        self.fulls = range(0)
        self.only = ""  # the one action whose calls are counted; all, when empty
        self.asleep = False  # nothing is counted, nothing fails: a test looks

    def called(self, action: str, offset: int, length: int = 0) -> None:
        """Count a call; raises DeviceFailed or DeviceFull where it is to."""
        if self.asleep or (self.only and action != self.only):
            return
        self.calls += 1
        if self.calls in self.fails:
            self.struck += 1
            raise DeviceFailed(action, offset, "input/output error (simulated)")
        if action == "write" and self.calls in self.fulls:
            self.struck += 1
            raise DeviceFull(offset, length)


class SimDevice:
    """A device in memory; sparse, so its size costs nothing."""

    def __init__(self, size: int, seed: int = 0, sector: int = SECTOR, faults: Faults | None = None) -> None:
        assert size % sector == 0
        self._size = size
        self._sector = sector
        self._zero = bytes(sector)
        self._random = Random(seed)
        self._sectors: dict[int, bytes] = {}  # as a read sees them
        self._chunks: set[int] = set()  # those that may hold sectors
        self._unsynced: dict[int, list[bytes]] = {}  # sector -> the synced contents, then all later ones in order
        self._doubtful: dict[int, int] = {}  # sectors that a failed sync was to make durable -> how many contents then
        self._unit = 0  # of the host's allocation, where that is limited
        self._room = 0
        self._allocated: set[int] = set()
        self.faults = faults or Faults()
        self.writes = 0
        self.syncs = 0
        self.trims = 0
        self.on_write: Callable[[SimDevice], None] | None = None  # called after each write, to fork the device there
        self.on_sync: Callable[[SimDevice], None] | None = None  # the same after each sync

    def __str__(self) -> str:
        return "the simulated device"

    # -- the device seam ---------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """See media.device."""
        self.faults.called("read", offset)
        if offset < 0 or length < 0 or offset + length > self._size:
            raise DeviceFailed("read", offset, "past the end")
        if length < _CHUNK:
            return self._read(offset, length)
        held = self._chunks.intersection(range(offset // _CHUNK, -(-(offset + length) // _CHUNK)))
        if not held:
            return _zeros(length)
        parts: list[Buffer] = []
        at = offset
        for chunk in sorted(held):
            start, end = max(chunk * _CHUNK, offset), min((chunk + 1) * _CHUNK, offset + length)
            parts += [memoryview(_zeros(length))[: start - at], self._read(start, end - start)]
            at = end
        return b"".join([*parts, memoryview(_zeros(length))[: offset + length - at]])

    def _read(self, offset: int, length: int) -> bytes:
        first, last = offset // self._sector, -(-(offset + length) // self._sector)
        get, zero = self._sectors.get, self._zero
        whole = b"".join([get(sector, zero) for sector in range(first, last)])
        skip = offset - first * self._sector
        return whole[skip : skip + length]

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """See media.device."""
        data = b"".join(parts)
        self.faults.called("write", offset, len(data))
        if offset < 0 or offset + len(data) > self._size:
            raise DeviceFailed("write", offset, "past the end")
        if self._unit:
            self._allocate(offset, len(data))
        at, end = 0, len(data)
        self._chunks.update(range(offset // _CHUNK, -(-(offset + end) // _CHUNK)))
        while at < end:
            sector, skip = divmod(offset + at, self._sector)
            piece = data[at : at + self._sector - skip]
            before = self._sectors.get(sector, self._zero)
            after = before[:skip] + piece + before[skip + len(piece) :]
            self._unsynced.setdefault(sector, [before]).append(after)
            self._sectors[sector] = after
            at += len(piece)
        self.writes += 1
        if self.on_write is not None:
            self.on_write(self)

    def sync(self) -> None:
        """See media.device."""
        try:
            self.faults.called("sync", 0)
        except DeviceFailed:
            self._doubtful = {sector: len(contents) for sector, contents in self._unsynced.items()}
            raise
        self.syncs += 1
        doubtful, self._doubtful = self._doubtful, {}
        kept = {sector: self._unsynced[sector] for sector in doubtful}
        self._unsynced = {sector: held for sector, held in kept.items() if len(held) == doubtful[sector]}
        self._doubtful = {sector: len(held) for sector, held in self._unsynced.items()}
        if self.on_sync is not None:
            self.on_sync(self)

    def trim(self, offset: int, length: int) -> None:
        """See media.device.Sparse: zeros, which a crash may undo."""
        first, last = -(-offset // self._sector), (offset + length) // self._sector
        for sector in [sector for sector in self._sectors if first <= sector < last]:
            self._unsynced.setdefault(sector, [self._sectors[sector]]).append(self._zero)
            self._sectors[sector] = self._zero
        if self._unit:
            gone = range(-(-offset // self._unit), (offset + length) // self._unit)
            self._room += len(self._allocated.intersection(gone))
            self._allocated.difference_update(gone)
        self.trims += 1

    def size(self) -> int:
        """See media.device."""
        return self._size

    def resize(self, size: int) -> None:
        """See media.device."""
        self.faults.called("resize", size)
        for sector in [sector for sector in self._sectors if sector * self._sector >= size]:
            del self._sectors[sector]
            self._unsynced.pop(sector, None)
            self._doubtful.pop(sector, None)
        self._size = size

    # -- faults ------------------------------------------------------------------------------------------------

    def crash(self, random: Random | None = None, keep: float | None = None) -> SimDevice:
        """The device as it is found after a power cut now; this one is left as it was.

        `keep`: the share of unsynced sectors that made it whole (0.0: all lost, 1.0: all kept); None: anything.
        """
        random = random or self._random
        after = SimDevice(self._size, sector=self._sector)
        after._random = Random(random.getrandbits(32))
        after._sectors, after._chunks = dict(self._sectors), set(self._chunks)
        for sector, contents in self._unsynced.items():
            if keep is not None:
                after._sectors[sector] = contents[-1] if random.random() < keep else contents[0]
                continue
            left = random.choice(contents)
            if random.random() < 0.25:
                cut = random.randrange(self._sector + 1)
                left = left[:cut] + random.choice(contents)[cut:]
            after._sectors[sector] = left
        return after

    def unsynced(self) -> bool:
        """Whether anything was written since the last sync: without that a crash can leave one state only."""
        return bool(self._unsynced)

    def sectors(self) -> list[int]:
        """The byte offsets of all sectors that were ever written."""
        return [sector * self._sector for sector in sorted(self._sectors)]

    def rot(self, offset: int, flip: int = 0xFF) -> None:
        """Change the byte at `offset` in what is durable."""
        assert flip
        sector, at = divmod(offset, self._sector)
        data = bytearray(self._sectors.get(sector, self._zero))
        data[at] ^= flip
        self._sectors[sector] = bytes(data)
        self._chunks.add(offset // _CHUNK)

    def fail_at(self, call: int, lasting: bool = True) -> None:
        """Let the nth call from now on (1 is the next) fail, and all after it if `lasting`."""
        self.faults.fails = _calls(self.faults.calls + call, lasting)

    def full_at(self, call: int, lasting: bool = False) -> None:
        """Let the write that is the nth call from now on find no room, and all writes after it if `lasting`."""
        self.faults.fulls = _calls(self.faults.calls + call, lasting)

    def thin(self, units: int, unit: int) -> None:
        """The host has room for so many units more than hold something now; a write into one more is DeviceFull."""
        self._unit, self._room = unit, units
        self._allocated = {sector * self._sector // unit for sector in self._sectors}

    def heal(self) -> None:
        """No call fails any more, and there is room."""
        self.faults.fails = self.faults.fulls = range(0)
        self._unit = 0

    def _allocate(self, offset: int, length: int) -> None:
        """Take what the host has not given yet; a write that spans two units is refused as a whole."""
        fresh = set(range(offset // self._unit, -(-(offset + length) // self._unit))) - self._allocated
        if len(fresh) > self._room:
            self.faults.struck += 1
            raise DeviceFull(offset, length)
        self._room -= len(fresh)
        self._allocated |= fresh


def _calls(first: int, lasting: bool) -> range:
    return range(first, 1 << 62 if lasting else first + 1)


@lru_cache(maxsize=8)
def _zeros(length: int) -> bytes:
    return bytes(length)
