"""One operation on the way to its result, on a client that can ask masters but holds no leases.

An operation is a plain function of a transaction. It is run on what is held, optimistically, and again from its start
whenever that was not enough:

    lacks something             -> Look (or Fetch, for the past), Data; run again
    has read, and wants to end  -> true at one tid, not older than its beginning? else Look at what it read; the same
                                   records: it may end; others: run again
    has written                 -> Stage its file data, Submit; Committed: it may end; Collided: look, run again

So every result, errors included, is that of a state in which all that was acknowledged before the operation began is
present: strict serializability for the price of one round trip, and of two where records are lacking.

Invariants: what one run wrote is dropped before the next; a transaction is submitted under one name until it has an
outcome; nothing is returned that a master has not confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gavel.cache.held import Held
from gavel.cache.places import Blob, Places
from gavel.errors import BadRequest, Collision, GavelError, HistoryPruned, ReadOnly
from gavel.keys import records
from gavel.keys.ranges import RangeSet, just
from gavel.limits import ATTEMPTS_MAX, BODY_INLINE_MAX, EXTENT_MAX
from gavel.media.extents import RAW, Extent
from gavel.transaction import requests
from gavel.transaction.requests import Answer, Committed, Data, Fetch, Found, Look, Looked, Question, Stage, Submit
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Buffer, Miss

Operation = Callable[[Transaction], Any]


class Finished(NamedTuple):
    """The operation has ended: with a result, or by raising. `tid` is that of its commit, 0 if it wrote nothing."""

    result: Any
    error: BaseException | None = None
    tid: int = 0


class HeldView:
    """What is held, as a View. `at` of 0 is the present; only there something can be staged."""

    __slots__ = ("_held", "_places", "at", "staged")

    def __init__(self, held: Held, places: Places, at: int = 0) -> None:
        self._held, self._places, self.at = held, places, at
        self.staged: list[Extent] = []

    def get(self, key: bytes) -> bytes | None:
        """See View.get."""
        return self._held.get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See View.scan."""
        return self._held.scan(lo, hi)

    def load(self, extent: Extent) -> Buffer:
        """See View.load."""
        return self._places.load(extent)

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        """See View.stage; raises ReadOnly for a view of the past."""
        if self.at:
            raise ReadOnly("the past cannot be changed; `gavel undo` brings it back")
        self.staged.append(self._places.stage(data, codec))
        return self.staged[-1]

    def share(self, extent: Extent) -> None:
        """See View.share: masters find what a record refers to by the tid it was read at, or say that it is gone."""
        if self.at:
            raise ReadOnly("the past cannot be changed; `gavel undo` brings it back")

    def unstage(self) -> None:
        """Forget what was staged and is not committed."""
        for extent in self.staged:
            self._places.unstage(extent)
        self.staged.clear()


class Session:
    """What is the client's own: its name, how it numbers transactions, and what it knows of the masters' time."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self._sequence = 0
        self._open: set[int] = set()
        self._clock, self._heard = 0, 0  # a master's clock (a tid) and when we heard it (ns)

    def heard(self, clock: int, now: int) -> None:
        """A master's clock is at least there."""
        if clock > self._clock:
            self._clock, self._heard = clock, now

    @property
    def knows_time(self) -> bool:
        """Whether any master has said what time it is."""
        return bool(self._clock)

    def born(self, now: int) -> int:
        """A tid for a transaction that is born now: the masters' time, as far as is known."""
        return self._clock + (max(0, now - self._heard) // 1000 << 8)

    def name_next(self) -> int:
        """The sequence of a new transaction."""
        self._sequence += 1
        self._open.add(self._sequence)
        return self._sequence

    def settle(self, sequence: int) -> None:
        """The outcome of a transaction has come."""
        self._open.discard(sequence)

    @property
    def settled(self) -> int:
        """All transactions below this have their outcomes."""
        return min(self._open, default=self._sequence + 1)


class Attempt:
    """An operation under way; see the module. The driver calls run() and, when all it asked for has come, again."""

    def __init__(
        self,
        operation: Operation,
        held: Held,
        places: Places,
        session: Session,
        take_object: Callable[[Attempt], int],
        *,
        coord: int,
        at: int = 0,
        pfs: int = 0,
    ) -> None:
        self.operation = operation
        self.at = at
        self._held, self._places, self._session = held, places, session
        self._coord = coord
        self._view = HeldView(held, places, at)
        self.tx = Transaction(self._view, 0, pfs, lambda: take_object(self), RangeSet())
        self.objects: list[int] = []  # reserved ids given to it; a later run gets the same ones again
        self.taken = 0  # how many of them this run has
        self.block: tuple[int, int] | None = None  # what is left of the ids that this run's transaction reserves
        self.submitted: Submit | None = None
        self.writes: dict[bytes, bytes | None] = {}
        self._floor = 2**64 - 1  # a state at or above this has all that was acknowledged before the beginning
        self._runs = 0
        self._ended: Finished | None = None
        self._extents: dict[bytes, Extent] = {}  # asked for by the key that names them

    # Running.

    def run(self, now: int) -> Finished | list[Question]:
        """Run the operation on what is held: it has ended, or these have to be answered first."""
        assert self.submitted is None, "what it asked for has not come"
        self._view.unstage()
        if self._ended is not None:
            return self._ended
        if not self._session.knows_time and not self.at:
            return [Look([])]
        self._runs += 1
        if self._runs > ATTEMPTS_MAX:
            return Finished(None, Collision(b"", 0, 0))
        tx = self.tx
        tx.now, tx.writes, tx.footprint, self.taken, self.block = now, {}, RangeSet(), 0, None
        try:
            done = Finished(self.operation(tx))
        except Miss as miss:
            return self._lacking(miss)
        except Exception as error:
            tx.writes = {}
            done = Finished(None, error)
        if self.at:
            return done
        if tx.writes:
            self._ended = done
            try:
                return self._submission(now)
            except GavelError as error:
                self._ended = None
                return Finished(None, error)
        first, last = self._held.window(tx.footprint)
        if first <= last and last >= self._floor:
            return done
        return [self._look()] if tx.footprint else done

    def _lacking(self, miss: Miss) -> list[Question]:
        asked: list[Question] = []
        wanted: dict[int, list[bytes]] = {}
        for extent in miss.extents:
            source = self._places.source(extent)
            self._extents[source.key] = extent
            wanted.setdefault(source.at, []).append(source.key)
        asked += [Data(keys, at) for at, keys in wanted.items()]
        if miss.ranges and self.at:
            asked.append(Fetch(list(miss.ranges), self.at))
        elif miss.ranges:
            asked.append(self._look(miss.ranges))
        assert asked, "an operation that lacks nothing says Miss"
        return asked

    def _look(self, more: tuple[tuple[bytes, bytes], ...] = ()) -> Look:
        """Ask about all that this run has read, and about these ranges."""
        ranges = RangeSet([*self.tx.footprint, *more])  # type: ignore[misc]
        return Look([(lo, hi, upto) for one in ranges for lo, hi, _, upto in self._held.known(*one)])

    def _submission(self, now: int) -> list[Question]:
        """File data and transaction, in this order; the same name whoever gets it in the end."""
        tx, used = self.tx, dict[int, Blob]()
        self.writes = tx.writes
        outgoing = {
            key: value if value is None or not records.is_data(key) else self._places.portable(value, used)
            for key, value in tx.writes.items()
        }
        body = requests.pack(outgoing, self._session.settled)
        spilled: list[int] = []
        if len(body) > BODY_INLINE_MAX:
            for start in range(0, len(body), EXTENT_MAX):
                blob = self._places.blob(self._view.stage(memoryview(body)[start : start + EXTENT_MAX]))
                used[blob.number] = blob
                spilled.append(blob.number)
            body = b""
        assert tx.footprint is not None
        reads = [(lo, hi, upto) for one in tx.footprint for lo, hi, _, upto in self._held.known(*one)]
        names = [requests.blob_name(blob.number, blob.length, blob.sum) for blob in used.values()]
        session = self._session
        self.submitted = Submit(
            session.name, session.name_next(), session.born(now), self._coord, reads, names, body, spilled
        )
        stages = [
            Stage(session.name, blob.number, blob.codec, blob.length, blob.sum, blob.data) for blob in used.values()
        ]
        return [*stages, self.submitted]

    # Hearing.

    def heard(self, question: Question, answer: Answer | GavelError, now: int) -> None:
        """What a master answered, or the error for which there is no answer; which ends the operation."""
        match question, answer:
            case Look(), Looked():
                self._looked(question, answer, now)
            case Fetch(), requests.Fetched():
                for (lo, hi), part in zip(question.ranges, answer.parts, strict=False):
                    self._take(lo, hi, question.at, part)
            case Data(), Found():
                self._found(question, answer)
            case Stage(), requests.Done():
                pass
            case (
                Submit(),
                Committed() | requests.Collided() | requests.TooOld() | requests.Refused() | requests.Dropped(),
            ):
                self._outcome(answer)
            case _, requests.Failed():
                self._failed(requests.error_of(answer))
            case _, GavelError():
                self._failed(answer)
            case _:
                self._failed(BadRequest(f"a {type(answer).__name__} is no answer to a {type(question).__name__}"))

    def _looked(self, question: Look, answer: Looked, now: int) -> None:
        self._session.heard(answer.clock or answer.at, now)
        self._floor = min(self._floor, answer.at)
        for (lo, hi, version), part in zip(question.ranges, answer.parts, strict=False):
            if part is None:
                self._held.confirm(lo, hi, version, answer.at)
            else:
                self._take(lo, hi, answer.at, part)

    def _take(self, lo: bytes, hi: bytes, at: int, part: requests.Records) -> None:
        if part.end is not None:
            hi = part.end
        local = self._places.local
        found = [
            (key, local(key, value, at) if records.is_data(key) else value)
            for key, value in zip(part.keys, part.values, strict=True)
        ]
        self._held.take(lo, hi, at, found)

    def _found(self, question: Data, answer: Found) -> None:
        for key, part in zip(question.keys, answer.extents, strict=False):
            extent = self._extents.pop(key)
            if part is None:
                self._held.drop(*just(key))
            else:
                try:
                    self._places.fetched(extent, *part)
                except GavelError as error:
                    self._failed(error)

    def _outcome(
        self, answer: requests.Outcome
    ) -> None:
        assert self.submitted is not None and self._ended is not None
        self._session.settle(self.submitted.sequence)
        tx, self.submitted = self.tx, None
        assert tx.footprint is not None
        if isinstance(answer, Committed):
            for key, value in self.writes.items():
                if value is not None and records.is_data(key):
                    self._places.committed(key, value, answer.tid)
            self._held.committed(answer.tid, tx.footprint, self.writes)
            self._ended = self._ended._replace(tid=answer.tid)
            return
        self._ended = None
        if isinstance(answer, requests.Refused):
            self._ended = Finished(None, BadRequest(answer.why))
        elif isinstance(answer, requests.Collided):
            self._held.drop(*just(answer.key))
        elif isinstance(answer, requests.TooOld):
            for lo, hi in tx.footprint:
                self._held.drop(lo, hi)

    def _failed(self, error: GavelError) -> None:
        """No answer: the end, unless it is only that what was held refers to a past that is pruned by now."""
        if self.submitted is not None:
            self._session.settle(self.submitted.sequence)
            self.submitted = None
        if isinstance(error, HistoryPruned) and not self.at:
            for lo, hi in self.tx.footprint or ():
                self._held.drop(lo, hi)
            self._extents.clear()
            self._ended = None
        else:
            self._ended = Finished(None, error)
