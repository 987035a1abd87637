"""What a client has changed under its leases, on its way to the masters: whole operations, in order, one transaction
at a time.

An operation is done once it lies here. Batches of them are sealed (when somebody wants it durable, on a recall, when
enough is dirty) and submitted one after the other, with the tokens of the leases that they were made under; file data
goes ahead while a batch grows. Outcomes:

    Committed              the records are held, as of its tid
    Busy, Dropped          nothing has happened: again, under a new name
    no answer              it may have happened: again, under the same name
    Fenced, Collided, ...  never: it is lost, with everything that was built on it; `save` is told what it was

Invariants: batches are submitted in the order of their operations, one at a time; what lies here is seen by the view
until it has its outcome; a batch whose leases are gone is in limbo, and what it has touched is not to be looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gavel.cache.batch import Batch
from gavel.cache.ground import Ground
from gavel.cache.leased_view import LeasedView
from gavel.cache.naming import Naming
from gavel.cache.overlay import Overlay
from gavel.cache.places import Places
from gavel.cache.submission import pack, staging
from gavel.coherency.holder import Tokens
from gavel.coherency.space import record_ranges
from gavel.errors import GavelError, LostWork
from gavel.keys import records
from gavel.keys.ranges import Range, RangeSet, just
from gavel.limits import (
    AHEAD_BYTES,
    BUSY_PAUSE_NS,
    CLIENT_DIRTY_BYTES,
    FLUSH_SECONDS,
    OVERLAY_RECORDS,
    UNKNOWN_PAUSE_NS,
)
from gavel.media.extents import Extent
from gavel.transaction import requests
from gavel.transaction.requests import Stage, Submit

_FLUSH_NS = FLUSH_SECONDS * 10**9


class Ahead(NamedTuple):
    """Keep file data at the masters for a transaction to come; never answered."""

    stage: Stage


class Behind(NamedTuple):
    """The file data of these numbers is not needed there any more."""

    numbers: list[int]


class Put(NamedTuple):
    """Submit this, after the file data it needs; answered to WriteBack.answered()."""

    submit: Submit


class WriteBack:
    """See the module. `now` is ns of the clock that leases go by, `wall` ns since 1970."""

    def __init__(
        self,
        view: LeasedView,
        ground: Ground,
        places: Places,
        naming: Naming,
        coord: Callable[[], int],
        save: Callable[[str, dict[bytes, bytes | None]], str],
    ) -> None:
        """`save` keeps changes that will never be (why, and what, the later ones winning), and returns where."""
        self._view, self._ground, self._held = view, ground, ground.held
        self._places, self._naming, self._coord = places, naming, coord
        self._save = save
        self._count = 1
        self._current = Batch(1, view.dirty)
        self._sealed: deque[Batch] = deque()
        self._flying = False
        self._again_at = 0
        self.paused = 0  # others of this client submit something: nothing is begun meanwhile
        self.last = 0  # tid of the newest own transaction
        self.settled = 0  # number of the newest batch with an outcome
        self.trouble: GavelError | None = None  # why what is dirty stays so; it is tried again
        self.lost: GavelError | None = None  # work was lost, and nobody who wanted it durable has heard of it
        self.out: list[Ahead | Behind | Put] = []

    # What is dirty.

    def add(
        self, writes: dict[bytes, bytes | None], reads: Iterable[Range], staged: list[Extent], tokens: Tokens, now: int
    ) -> None:
        """Take in one operation, made under these tokens."""
        batch = self._current
        if batch and batch.tokens != tokens:
            self.seal(now)
            batch = self._current
        if not batch:
            batch.began, batch.tokens = now, tokens
        batch.add(writes, reads, staged)
        if batch.waiting >= AHEAD_BYTES:
            self._send_ahead(batch)
        if batch.size >= CLIENT_DIRTY_BYTES or len(batch.overlay.records) >= OVERLAY_RECORDS:
            self.seal(now)

    @property
    def eager(self) -> bool:
        """Whether pump() has something to do at once, or something is to be sent ahead."""
        return bool(self.out) or bool(self._sealed and not self._flying)

    @property
    def full(self) -> bool:
        """Whether writers should wait until something is flushed."""
        return len(self._sealed) > 1

    @property
    def dirty(self) -> bool:
        """Whether anything has no outcome yet."""
        return bool(self._current or self._sealed)

    @property
    def flying(self) -> bool:
        """Whether a transaction has been submitted and has no outcome."""
        return self._flying

    def touches(self, ranges: Iterable[Range], writes_only: bool = False, limbo: bool = False) -> bool:
        """Whether what is here has read or written something in these lease ranges; of what is in `limbo` only."""
        batches = [one for one in (*self._sealed, self._current) if one and (one.limbo or not limbo)]
        return any(one.touches(lo, hi, writes_only) for one in batches for lo, hi in ranges)

    @property
    def limbo(self) -> bool:
        """Whether anything is here whose leases are gone."""
        return any(one.limbo for one in self._sealed)

    def written(self, lo: bytes, hi: bytes) -> list[bytes]:
        """The keys in [lo, hi) that are written here."""
        return [key for overlay in (self._view.dirty, *self._view.sealed) for key in overlay.between(lo, hi)]

    def values(self) -> list[bytes]:
        """All that is written and not deleted."""
        overlays = [self._view.dirty, *self._view.sealed]
        return [value for overlay in overlays for value in overlay.records.values() if value is not None]

    def seal(self, now: int) -> int:
        """Let what is dirty be committed as it is; the number of the batch whose outcome tells of all that came."""
        batch = self._current
        if not batch:
            return self._count - 1
        batch.version, reads = self._footing(batch)
        batch.reads = RangeSet(reads)
        self._sealed.append(batch)
        self._view.sealed.insert(0, batch.overlay)
        self._view.dirty = Overlay()
        self._count += 1
        self._current = Batch(self._count, self._view.dirty)
        return batch.number

    def _footing(self, batch: Batch) -> tuple[int, list[Range]]:
        """The newest tid as of which all is known to be as a batch saw it, and the lease ranges this is said of."""
        name = next(iter(batch.overlay.records))[:2]
        pieces = self._ground.leases.pieces(name, records.after(name))
        return max([self.last, *(piece.tid for piece in pieces)]), batch.within([piece[:2] for piece in pieces])

    def disown(self, ranges: Iterable[Range], now: int) -> bool:
        """The leases on these are gone: what was changed there is in limbo. Whether anything was."""
        ranges = list(ranges)
        self.seal(now)
        for batch in self._sealed:
            batch.limbo = batch.limbo or any(batch.touches(lo, hi) for lo, hi in ranges)
        return self.limbo

    def forgo(self, ranges: Iterable[Range]) -> None:
        """These lease ranges, in which nothing is touched, are given up: nothing is known of them any more."""
        for lo, hi in ranges:
            for batch in self._sealed:
                batch.reads.remove(lo, hi)

    # On its way.

    @property
    def wake_at(self) -> int | None:
        """When pump() may have something to do though nothing has happened."""
        if self._sealed and not self._flying and not self.paused:
            return self._again_at
        return self._current.began + _FLUSH_NS if self._current else None

    def pump(self, now: int, wall: int) -> None:
        """Submit the oldest batch if none is on its way."""
        if self._current and now >= self._current.began + _FLUSH_NS:
            self.seal(now)
        if self._flying or self.paused or not self._sealed or now < self._again_at:
            return
        batch = self._sealed[0]
        if batch.submit is None:
            self._prepare(batch, wall)
        if batch.submit is not None:
            self._send_ahead(batch)
            self._flying = True
            self.out.append(Put(batch.submit))

    def _prepare(self, batch: Batch, wall: int) -> None:
        naming = self._naming

        def stage(data: memoryview) -> Extent:
            batch.staged.append(self._places.stage(data, 0))
            return batch.staged[-1]

        try:
            packed = pack(batch.overlay.records, self._places, naming.settled, stage)
        except GavelError as error:
            self._lose(batch, str(error))
            return
        version = max(batch.version, self.last)
        reads = [(lo, hi, version) for part in batch.reads for lo, hi in record_ranges(*part)]
        batch.submit = Submit(
            naming.name, naming.name_next(), naming.born(wall), self._coord(), reads, packed.names, packed.body,
            packed.spilled, list(batch.tokens),
        )  # fmt: skip

    def _send_ahead(self, batch: Batch) -> None:
        for extent in batch.staged[batch.ahead :]:
            self.out.append(Ahead(staging(self._naming.name, self._places.blob(extent))))
        batch.ahead, batch.waiting = len(batch.staged), 0

    def answered(self, answer: requests.Answer | GavelError, now: int) -> None:
        """What became of the batch that was submitted last; or the error for which nobody knows."""
        assert self._flying and self._sealed
        self._flying = False
        batch = self._sealed[0]
        assert batch.submit is not None
        batch.ahead = 0  # with an answer, whatever it is, what went ahead is let go of
        if isinstance(answer, GavelError):
            self.trouble, self._again_at = answer, now + UNKNOWN_PAUSE_NS
            return
        self._naming.settle(batch.submit.sequence)
        self.trouble = None
        if isinstance(answer, requests.Committed):
            self._committed(batch, answer.tid)
        elif isinstance(answer, requests.Busy | requests.Dropped):
            batch.submit = None
            self._again_at = now + (BUSY_PAUSE_NS if isinstance(answer, requests.Busy) else 0)
        elif isinstance(answer, requests.Outcome):
            self._lose(batch, _why(answer))
        else:
            self._lose(batch, f"a {type(answer).__name__} is no answer to a transaction")

    def _committed(self, batch: Batch, tid: int) -> None:
        writes = batch.overlay.records
        for key, value in writes.items():
            if value is not None and records.is_data(key):
                self._places.committed(key, value, tid)
        elsewhere = self._held.written(tid, writes)
        for key in elsewhere:
            self._ground.open(*just(key))
        self.last = max(self.last, tid)
        self._remove(batch)

    def _remove(self, batch: Batch) -> None:
        """A batch has its outcome: file data of it that nothing refers to is let go of."""
        self._sealed.remove(batch)
        self._view.sealed.remove(batch.overlay)
        self.settled = max(self.settled, batch.number)
        numbers = [self._places.number(extent) for extent in batch.staged]
        for extent in batch.staged:
            self._places.unstage(extent)
        unused = [number for number in numbers if number is not None]
        if unused:
            self.out.append(Behind(unused))

    def _lose(self, batch: Batch, why: str) -> None:
        """A batch will never be committed, nor what was built on it: all that came after it under the same leases."""
        self.seal(0)
        gone = [one for one in self._sealed if one is batch or one.limbo or not batch.limbo]
        writes: dict[bytes, bytes | None] = {}
        for one in gone:
            for key, value in one.overlay.records.items():
                writes.pop(key, None)
                writes[key] = value
        self.lost = LostWork(why, self._save(why, writes))
        for one in gone:
            self._remove(one)
        self._held.drop(b"", b"\xff\xff\xff")


def _why(answer: requests.Outcome) -> str:
    match answer:
        case requests.Fenced():
            return "its leases had ended, and others may have changed the same since"
        case requests.Collided(key, tid):
            return f"0x{tid:016x} changed {key.hex()}"
        case requests.TooOld(at, horizon):
            return f"it was built on 0x{at:016x}, and history before 0x{horizon:016x} has been pruned"
        case requests.Refused(why):
            return why
    return type(answer).__name__
