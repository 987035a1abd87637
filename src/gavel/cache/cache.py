"""The deterministic whole of a client: its views, its dirty records, and their flush.

Invariants:
- an operation's writes enter together (`stage`) and leave together (`flush`), in order;
- at most one flush is in flight; while it is, its records lie between the dirty ones and the base;
- a flush that failed is taken back: nothing dirty is dropped before a master has committed it;
- the reservation of an object id is in the overlay before anything that uses the id.
"""

from __future__ import annotations

from gavel.cache.overlay import Overlay
from gavel.cache.views import CurrentView, Extents, FreezeView, FrozenView
from gavel.errors import TooLarge
from gavel.history.history import History
from gavel.keys import records
from gavel.keys.ranges import RangeSet
from gavel.limits import OBJECT_ID_BLOCK, OBJECT_ID_MAX, OVERLAY_BYTES, OVERLAY_RECORDS
from gavel.media.volume import Volume
from gavel.transaction.requests import Commit
from gavel.transaction.transaction import Transaction, sorted_writes


class Cache:
    """A client of the master in the same process."""

    def __init__(self, volume: Volume, history: History, pfs: int = 0) -> None:
        self.pfs = pfs
        self._volume = volume
        self._history = history
        self._extents = Extents(volume)
        self.current = CurrentView(history, self._extents)
        self._next_object = self._reserved = 0
        self._ticket = 0
        self._flushed_to = 0  # last log frame that the flush in flight may refer to
        self._flushing: tuple[list[bytes], list[bytes | None]] = [], []  # its records
        self._optimistic: dict[int, int] = {}  # transaction number -> last log frame before it began to stage
        self._transactions = 0

    # Transactions.

    def reader(self, now: int) -> Transaction:
        """A transaction that only reads the present."""
        return Transaction(self.current, now, self.pfs)

    def writer(self, now: int) -> Transaction:
        """A transaction for one operation on the present; its writes are handed back to `stage`."""
        return Transaction(self.current, now, self.pfs, self.take_object)

    def frozen(self, at: int, now: int) -> Transaction:
        """A transaction that only reads the past as of `at`."""
        return Transaction(FrozenView(self._history, self._extents, at), now, self.pfs)

    def optimistic(self, freeze: int, now: int) -> tuple[int, Transaction]:
        """A transaction on the state at `freeze` that notes what it reads, and its number for `optimistic_done`."""
        self._transactions += 1
        self._optimistic[self._transactions] = self._volume.written
        view = FreezeView(self._history, self._extents, freeze)
        return self._transactions, Transaction(view, now, self.pfs, self.take_object, RangeSet())

    def optimistic_done(self, number: int) -> None:
        """The transaction has committed or was given up: what it staged is referred to by now, or never will be."""
        del self._optimistic[number]

    @property
    def open_transactions(self) -> bool:
        """Whether there are any that may commit later what they have read by now."""
        return bool(self._optimistic)

    def take_object(self) -> int:
        """An object id that was never used and never will be again; raises VolumeFull when there is room for none."""
        self._volume.require_room()
        if self._next_object == self._reserved:
            self._reserve_objects()
        obj = self._next_object
        self._next_object += 1
        return obj

    def _reserve_objects(self) -> None:
        key = records.counter(self.pfs, records.OBJECTS)
        held = self.current.get(key)
        first = int.from_bytes(held, "big") if held is not None else records.ROOT_OBJECT + 1
        if first + OBJECT_ID_BLOCK > OBJECT_ID_MAX:
            raise TooLarge("the number of objects", first, OBJECT_ID_MAX)
        self._next_object, self._reserved = first, first + OBJECT_ID_BLOCK
        self.current.dirty.merge({key: self._reserved.to_bytes(8, "big")})

    # Dirty records.

    def stage(self, writes: dict[bytes, bytes | None]) -> bool:
        """Take in the writes of one operation, as one atomic group; tells whether a flush should wait no longer."""
        dirty = self.current.dirty
        dirty.merge(writes)
        return len(dirty.records) >= OVERLAY_RECORDS or self._extents.staged >= OVERLAY_BYTES

    @property
    def dirty(self) -> bool:
        """Whether there is anything to flush."""
        return bool(self.current.dirty.records)

    @property
    def backlog(self) -> int:
        """How many records there are to flush."""
        return len(self.current.dirty.records)

    def flush(self) -> Commit:
        """Everything dirty as one commit request. Answer it by `flushed` or `flush_failed` before the next."""
        view = self.current
        assert view.in_flight is None, "a flush is in flight already"
        view.in_flight, view.dirty = view.dirty, Overlay()
        self._flushed_to = self._volume.written
        self._extents.lately.flush_begins()
        self._ticket += 1
        self._flushing = sorted_writes(view.in_flight.records)
        return Commit(self._ticket, *self._flushing)

    def flushed(self) -> None:
        """The flush in flight was committed and can be read from the base."""
        self.current.in_flight = None
        self._extents.staged = 0
        self._extents.lately.flushed(*self._flushing)
        self._flushing = [], []
        self._volume.settle(min([self._flushed_to, *self._optimistic.values()]))

    def flush_failed(self) -> None:
        """The flush in flight was not committed: its records are dirty again, beneath what came since."""
        taken_back, since = self.current.in_flight, self.current.dirty
        assert taken_back is not None
        taken_back.merge(since.records)
        self.current.dirty, self.current.in_flight = taken_back, None
