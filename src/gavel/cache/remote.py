"""The deterministic whole of a client of a cluster: what it holds, and the operations it has under way.

What it is: operations in by start(), questions to masters out and their answers in by the Attempts that it makes; who
drives them is the shell's business (runtime/remote.py). The client of a group of one in the same process is Cache.

Invariants: one present for all operations, and each past state apart from it; an object id is used once, whatever
becomes of the operation that it was given to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from gavel.cache.attempts import Attempt, Finished, Operation
from gavel.cache.held import Held
from gavel.cache.held_view import HeldView
from gavel.cache.naming import Naming
from gavel.cache.places import Places
from gavel.errors import BadRequest, GavelError, HistoryPruned, TooLarge
from gavel.keys import records
from gavel.keys.ranges import RangeSet, just
from gavel.limits import HELD_BYTES, OBJECT_ID_BLOCK, OBJECT_ID_MAX, PASTS_MAX
from gavel.media.extents import Extent
from gavel.transaction import requests
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss


class Remote:
    """A client's records, its name, and its object ids."""

    def __init__(self, name: bytes, pfs: int = 0, limit: int = HELD_BYTES) -> None:
        """`name`: 16 bytes that no other client has or will have."""
        self.pfs = pfs
        self.naming = Naming(name)
        self.places = Places()
        self.present = Held(limit // 2)
        self._pasts: OrderedDict[int, Held] = OrderedDict()
        self._past_limit = limit // 2 // PASTS_MAX
        self._extents: dict[bytes, Extent] = {}  # asked for by the key that names them
        self.more_values: Callable[[], Iterable[bytes]] = lambda: ()  # of records that are nowhere here, but in use
        self.ids: list[tuple[int, int]] = []  # reserved and not used yet: [first, end), the ones to use first last

    def start(self, operation: Operation, coord: int, at: int = 0) -> Attempt:
        """An operation on the present, or only reading on the state as of `at`. `coord`: whom it is asked of first."""
        self.tidy()
        return Attempt(
            operation, self.state, self.places, self.naming, self._take_object, coord=coord, at=at, pfs=self.pfs
        )

    def freeze(self, at: int, now: int) -> Transaction:
        """A transaction on the state as of `at` that notes what it reads; see commit()."""
        view = HeldView(self.state, self.places, at, writable=True)
        return Transaction(view, now, self.pfs, self._take_reserved, RangeSet())

    def commit(self, tx: Transaction, coord: int) -> Attempt:
        """The operation that commits a transaction of freeze(), if nothing it has read has changed since."""
        assert isinstance(tx.view, HeldView)
        at = tx.view.at
        frozen = [(lo, hi, at) for lo, hi in tx.footprint or ()]
        return Attempt(
            lambda own: own.writes.update(tx.writes), self.state, self.places, self.naming, self._take_object,
            coord=coord, pfs=self.pfs, frozen=frozen,
        )  # fmt: skip

    def view(self, at: int) -> HeldView:
        """What is held of the state as of `at`."""
        return HeldView(self.state, self.places, at)

    def local(self, key: bytes, value: bytes, at: int) -> bytes:
        """A record that a master told of as of `at`, in the form that filesystem functions know."""
        return self.places.local(key, value, at) if records.is_data(key) else value

    @property
    def reserved(self) -> int:
        """How many object ids are reserved."""
        return sum(end - first for first, end in self.ids)

    def _take_reserved(self) -> int:
        if not self.ids:
            raise TooLarge("the number of objects made by one transaction", OBJECT_ID_BLOCK, OBJECT_ID_BLOCK)
        return self.pop_id()

    def pop_id(self) -> int:
        """The next of the reserved ids, of which there are some."""
        first, end = self.ids.pop()
        if first + 1 < end:
            self.ids.append((first + 1, end))
        return first

    def ended(self, attempt: Attempt, outcome: Finished) -> None:
        """An operation has ended: ids that it reserved, and did not use, are for those to come."""
        attempt.close()
        if outcome.tid and attempt.block is not None:
            self.ids.append(attempt.block)

    def state(self, at: int) -> Held:
        """What is held of the state as of `at`, of the present for 0."""
        if not at:
            return self.present
        held = self._pasts.get(at)
        if held is None:
            held = self._pasts[at] = Held(self._past_limit)
            if len(self._pasts) > PASTS_MAX:
                self._pasts.popitem(last=False)
        self._pasts.move_to_end(at)
        return held

    def _take_object(self, attempt: Attempt) -> int:
        """The id that the last run was given here, else one that is reserved, else one that this run reserves."""
        if attempt.taken == len(attempt.objects) and self.ids:
            attempt.objects.append(self.pop_id())
        if attempt.taken < len(attempt.objects):
            attempt.taken += 1
            return attempt.objects[attempt.taken - 1]
        if attempt.block is None:
            attempt.block = self.reserve(attempt.tx)
        first, end = attempt.block
        attempt.block = first + 1, end
        return first

    def reserve(self, tx: Transaction) -> tuple[int, int]:
        """A block of ids, ours if this transaction is committed."""
        key = records.counter(self.pfs, records.OBJECTS)
        value = tx.get(key)
        first = int.from_bytes(value, "big") if value is not None else records.ROOT_OBJECT + 1
        end = first + OBJECT_ID_BLOCK
        if end > OBJECT_ID_MAX:
            raise TooLarge("the number of objects", first, OBJECT_ID_MAX)
        tx.put(key, end.to_bytes(8, "big"))
        return first, end

    def forget_ids(self) -> None:
        """Reserved ids may be somebody else's: what reserved them may never be committed."""
        self.ids.clear()

    # What masters say of the present, to operations that are no Attempts.

    def learn(
        self, question: requests.Question, answer: requests.Answer | GavelError, now: int
    ) -> list[tuple[bytes, bytes]]:
        """Take in what a master said; the ranges of the present of which more is known. Raises what it said instead."""
        match question, answer:
            case requests.Data(), HistoryPruned():
                self.pruned(question)
            case _, GavelError():
                raise answer
            case requests.Look(), requests.Looked():
                self.naming.heard(answer.clock or answer.at, now)
                known = []
                for (lo, hi, version), part in zip(question.ranges, answer.parts, strict=False):
                    if part is None:
                        self.present.confirm(lo, hi, version, answer.at)
                    else:
                        hi = self.take(lo, hi, answer.at, part)
                    known.append((lo, hi))
                return known
            case requests.Fetch(), requests.Fetched():
                for (lo, hi), part in zip(question.ranges, answer.parts, strict=False):
                    self.take(lo, hi, question.at, part, self.state(question.at))
            case requests.Data(), requests.Found():
                self.found(question, answer)
            case _:
                raise BadRequest(f"a {type(answer).__name__} is no answer to a {type(question).__name__}")
        return []

    def take(self, lo: bytes, hi: bytes, at: int, part: requests.Records, held: Held | None = None) -> bytes:
        """These are the records of [lo, hi) as of `at`, or as far as they go; up to where. `held`: of that past."""
        if part.end is not None:
            hi = part.end
        found = [(key, self.local(key, value, at)) for key, value in zip(part.keys, part.values, strict=True)]
        (held or self.present).take(lo, hi, at, found)
        return hi

    def lacking(self, miss: Miss) -> list[requests.Question]:
        """How the extents that an operation lacks are asked for."""
        wanted: dict[int, list[bytes]] = {}
        for extent in miss.extents:
            source = self.places.source(extent)
            self._extents[source.key] = extent
            wanted.setdefault(source.at, []).append(source.key)
        return [requests.Data(keys, at) for at, keys in wanted.items()]

    def found(self, question: requests.Data, answer: requests.Found) -> None:
        """The extents that were lacking have come; raises Damaged."""
        for key, part in zip(question.keys, answer.extents, strict=False):
            extent = self._extents.pop(key, None)
            if part is None:
                self.present.drop(*just(key))
            elif extent is not None:
                self.places.fetched(extent, *part)

    def pruned(self, question: requests.Data) -> None:
        """What was held refers to extents as of a tid that cannot be read any more: it is to be looked at again."""
        for key in question.keys:
            self._extents.pop(key, None)
            self.present.drop(*just(key))

    def tidy(self) -> None:
        """Give memory back if much of it is not needed; between operations."""
        if self.places.crowded:
            self._sweep()

    def _sweep(self) -> None:
        self.places.sweep(
            [
                value
                for held in (self.present, *self._pasts.values())
                for key, value in held.records()
                if records.is_data(key)
            ]
            + list(self.more_values())
        )
