"""A simulated device: what it is told to write it may lose, tear or reorder until a sync returns, and rot at any time.

The fault model, at the grain of a sector:

- crash(): every sector written since the last sync is, independently, any of the contents it had since then, the one
  of the last sync included (so writes may be lost and reordered), or torn: a prefix of one of them before a suffix of
  another. A byte that all these contents agree on is never changed: devices do not harm what was not written.
- rot(): any byte changes at any time, also a durable one.
- fail_at(), full_at(): the nth call of a device method fails, once or from then on.

Nothing is drawn from entropy: the same seed gives the same crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from gavel.errors import DeviceFailed, DeviceFull
from gavel.media.device import Buffer

SECTOR = 512


class SimDevice:
    """A device in memory; sparse, so its size costs nothing."""

    def __init__(self, size: int, seed: int = 0, sector: int = SECTOR) -> None:
        assert size % sector == 0
        self._size = size
        self._sector = sector
        self._zero = bytes(sector)
        self._random = Random(seed)
        self._sectors: dict[int, bytes] = {}  # as a read sees them
        self._unsynced: dict[int, list[bytes]] = {}  # sector -> the synced contents, then all later ones in order
        self._fails = range(0)  # numbers of the calls that fail, and of the writes that find no room
        self._fulls = range(0)
        self.calls = 0
        self.writes = 0
        self.syncs = 0
        self.trims = 0
        self.on_write: Callable[[SimDevice], None] | None = None  # called after each write, to fork the device there

    def __str__(self) -> str:
        return "the simulated device"

    # -- the device seam ---------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """See media.device."""
        self._call("read", offset)
        if offset < 0 or length < 0 or offset + length > self._size:
            raise DeviceFailed("read", offset, "past the end")
        first, last = offset // self._sector, -(-(offset + length) // self._sector)
        get, zero = self._sectors.get, self._zero
        whole = b"".join([get(sector, zero) for sector in range(first, last)])
        skip = offset - first * self._sector
        return whole[skip : skip + length]

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """See media.device."""
        self._call("write", offset)
        data = b"".join(parts)
        if offset < 0 or offset + len(data) > self._size:
            raise DeviceFailed("write", offset, "past the end")
        if self.calls in self._fulls:
            raise DeviceFull(offset, len(data))
        at, end = 0, len(data)
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
        self._call("sync", 0)
        self.syncs += 1
        self._unsynced.clear()

    def trim(self, offset: int, length: int) -> None:
        """See media.device.Sparse: zeros, which a crash may undo."""
        first, last = -(-offset // self._sector), (offset + length) // self._sector
        for sector in [sector for sector in self._sectors if first <= sector < last]:
            self._unsynced.setdefault(sector, [self._sectors[sector]]).append(self._zero)
            self._sectors[sector] = self._zero
        self.trims += 1

    def size(self) -> int:
        """See media.device."""
        return self._size

    def resize(self, size: int) -> None:
        """See media.device."""
        self._call("resize", size)
        for sector in [sector for sector in self._sectors if sector * self._sector >= size]:
            del self._sectors[sector]
            self._unsynced.pop(sector, None)
        self._size = size

    # -- faults ------------------------------------------------------------------------------------------------

    def crash(self, random: Random | None = None, keep: float | None = None) -> SimDevice:
        """The device as it is found after a power cut now; this one is left as it was.

        `keep`: the share of unsynced sectors that made it whole (0.0: all lost, 1.0: all kept); None: anything.
        """
        random = random or self._random
        after = SimDevice(self._size, sector=self._sector)
        after._random = Random(random.getrandbits(32))
        after._sectors = dict(self._sectors)
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

    def rot(self, offset: int, flip: int = 0xFF) -> None:
        """Change the byte at `offset` in what is durable."""
        assert flip
        sector, at = divmod(offset, self._sector)
        data = bytearray(self._sectors.get(sector, self._zero))
        data[at] ^= flip
        self._sectors[sector] = bytes(data)

    def fail_at(self, call: int, lasting: bool = True) -> None:
        """Let the nth call from now on (1 is the next) fail, and all after it if `lasting`."""
        self._fails = _calls(self.calls + call, lasting)

    def full_at(self, call: int, lasting: bool = False) -> None:
        """Let the write that is the nth call from now on find no room, and all writes after it if `lasting`."""
        self._fulls = _calls(self.calls + call, lasting)

    def heal(self) -> None:
        """No call fails any more."""
        self._fails = self._fulls = range(0)

    def _call(self, action: str, offset: int) -> None:
        self.calls += 1
        if self.calls in self._fails:
            raise DeviceFailed(action, offset, "input/output error (simulated)")


def _calls(first: int, lasting: bool) -> range:
    return range(first, 1 << 62 if lasting else first + 1)
