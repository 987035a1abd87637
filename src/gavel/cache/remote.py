"""The deterministic whole of a client of a cluster: what it holds, and the operations it has under way.

What it is: operations in by start(), questions to masters out and their answers in by the Attempts that it makes; who
drives them is the shell's business (runtime/remote.py). The client of a group of one in the same process is Cache.

Invariants: one present for all operations, and each past state apart from it; an object id is used once, whatever
becomes of the operation that it was given to.
"""

from __future__ import annotations

from collections import OrderedDict

from gavel.cache.attempts import Attempt, Finished, Operation
from gavel.cache.held import Held
from gavel.cache.held_view import HeldView
from gavel.cache.naming import Naming
from gavel.cache.places import Places
from gavel.errors import TooLarge
from gavel.keys import records
from gavel.keys.ranges import RangeSet
from gavel.limits import HELD_BYTES, OBJECT_ID_BLOCK, OBJECT_ID_MAX, PASTS_MAX
from gavel.transaction.transaction import Transaction


class Remote:
    """A client's records, its name, and its object ids."""

    def __init__(self, name: bytes, pfs: int = 0, limit: int = HELD_BYTES) -> None:
        """`name`: 16 bytes that no other client has or will have."""
        self.pfs = pfs
        self.naming = Naming(name)
        self._places = Places()
        self._held = Held(limit // 2)
        self._pasts: OrderedDict[int, Held] = OrderedDict()
        self._past_limit = limit // 2 // PASTS_MAX
        self._ids: list[tuple[int, int]] = []  # reserved and not used yet: [first, end), the ones to use first last

    def start(self, operation: Operation, coord: int, at: int = 0) -> Attempt:
        """An operation on the present, or only reading on the state as of `at`. `coord`: whom it is asked of first."""
        if self._places.crowded:
            self._sweep()
        return Attempt(
            operation, self._state, self._places, self.naming, self._take_object, coord=coord, at=at, pfs=self.pfs
        )

    def freeze(self, at: int, now: int) -> Transaction:
        """A transaction on the state as of `at` that notes what it reads; see commit()."""
        view = HeldView(self._state, self._places, at, writable=True)
        return Transaction(view, now, self.pfs, self._take_reserved, RangeSet())

    def commit(self, tx: Transaction, coord: int) -> Attempt:
        """The operation that commits a transaction of freeze(), if nothing it has read has changed since."""
        assert isinstance(tx.view, HeldView)
        at = tx.view.at
        frozen = [(lo, hi, at) for lo, hi in tx.footprint or ()]
        return Attempt(
            lambda own: own.writes.update(tx.writes), self._state, self._places, self.naming, self._take_object,
            coord=coord, pfs=self.pfs, frozen=frozen,
        )  # fmt: skip

    def view(self, at: int) -> HeldView:
        """What is held of the state as of `at`."""
        return HeldView(self._state, self._places, at)

    def local(self, key: bytes, value: bytes, at: int) -> bytes:
        """A record that a master told of as of `at`, in the form that filesystem functions know."""
        return self._places.local(key, value, at) if records.is_data(key) else value

    @property
    def reserved(self) -> int:
        """How many object ids are reserved."""
        return sum(end - first for first, end in self._ids)

    def _take_reserved(self) -> int:
        if not self._ids:
            raise TooLarge("the number of objects made by one transaction", OBJECT_ID_BLOCK, OBJECT_ID_BLOCK)
        return self._pop_id()

    def _pop_id(self) -> int:
        first, end = self._ids.pop()
        if first + 1 < end:
            self._ids.append((first + 1, end))
        return first

    def ended(self, attempt: Attempt, outcome: Finished) -> None:
        """An operation has ended: ids that it reserved, and did not use, are for those to come."""
        if outcome.tid and attempt.block is not None:
            self._ids.append(attempt.block)

    def _state(self, at: int) -> Held:
        """What is held of the state as of `at`, of the present for 0."""
        if not at:
            return self._held
        held = self._pasts.get(at)
        if held is None:
            held = self._pasts[at] = Held(self._past_limit)
            if len(self._pasts) > PASTS_MAX:
                self._pasts.popitem(last=False)
        self._pasts.move_to_end(at)
        return held

    def _take_object(self, attempt: Attempt) -> int:
        """The id that the last run was given here, else one that is reserved, else one that this run reserves."""
        if attempt.taken == len(attempt.objects) and self._ids:
            attempt.objects.append(self._pop_id())
        if attempt.taken < len(attempt.objects):
            attempt.taken += 1
            return attempt.objects[attempt.taken - 1]
        if attempt.block is None:
            attempt.block = self._reserve(attempt.tx)
        first, end = attempt.block
        attempt.block = first + 1, end
        return first

    def _reserve(self, tx: Transaction) -> tuple[int, int]:
        """A block of ids, ours if this transaction is committed."""
        key = records.counter(self.pfs, records.OBJECTS)
        value = tx.get(key)
        first = int.from_bytes(value, "big") if value is not None else records.ROOT_OBJECT + 1
        end = first + OBJECT_ID_BLOCK
        if end > OBJECT_ID_MAX:
            raise TooLarge("the number of objects", first, OBJECT_ID_MAX)
        tx.put(key, end.to_bytes(8, "big"))
        return first, end

    def _sweep(self) -> None:
        self._places.sweep(
            value
            for held in (self._held, *self._pasts.values())
            for key, value in held.records()
            if records.is_data(key)
        )
