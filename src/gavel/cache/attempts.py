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

from collections.abc import Callable
from typing import Any, NamedTuple

from gavel.cache.held import OPEN, Held
from gavel.cache.held_view import HeldView, States, past_of
from gavel.cache.naming import Naming
from gavel.cache.places import Places
from gavel.cache.submission import pack, staging
from gavel.errors import BadRequest, Collision, FreezePruned, GavelError, HistoryPruned
from gavel.keys import records
from gavel.keys.ranges import RangeSet, just
from gavel.limits import ATTEMPTS_MAX
from gavel.media.extents import Extent
from gavel.transaction import requests
from gavel.transaction.requests import (
    Answer,
    Committed,
    Data,
    Fetch,
    Found,
    Look,
    Looked,
    Question,
    Read,
    Stage,
    Submit,
)
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss

Operation = Callable[[Transaction], Any]


class Finished(NamedTuple):
    """The operation has ended: with a result, or by raising. `tid` is that of its commit, 0 if it wrote nothing."""

    result: Any
    error: BaseException | None = None
    tid: int = 0


class Attempt:
    """An operation under way; see the module. The driver calls run() and, when all it asked for has come, again.

    With `at` it reads the state as of that tid. With `frozen`, what a transaction at a freeze point of its own has
    read, a collision is the end.
    """

    def __init__(
        self,
        operation: Operation,
        states: States,
        places: Places,
        naming: Naming,
        take_object: Callable[[Attempt], int],
        *,
        coord: int,
        at: int = 0,
        pfs: int = 0,
        frozen: list[Read] | None = None,
    ) -> None:
        self.operation = operation
        self.at = at
        self._frozen = frozen
        self._states, self._places, self._naming = states, places, naming
        self._held = states(0)
        self._coord = coord
        self._view = HeldView(states, places)
        self.tx = Transaction(self._view, 0, pfs, lambda: take_object(self), RangeSet())
        self.objects: list[int] = []  # reserved ids given to it; a later run gets the same ones again
        self.taken = 0  # how many of them this run has
        self.block: tuple[int, int] | None = None  # what is left of the ids that this run's transaction reserves
        self.submitted: Submit | None = None
        self.busy = False  # somebody's leases were in the way of it: let some time pass before it is run again
        self.current = 0  # a tid as of which all is true of which a lease says that it is true now
        self.writes: dict[bytes, bytes | None] = {}
        self._floor = 2**64 - 1  # a state at or above this has all that was acknowledged before the beginning
        self._runs = 0
        self._ended: Finished | None = None
        self._extents: dict[bytes, Extent] = {}  # asked for by the key that names them
        self._wanted: dict[int, None] = {}  # places of all it has lacked: a later run must find them together

    # Running.

    def run(self, now: int) -> Finished | list[Question]:
        """Run the operation on what is held: it has ended, or these have to be answered first."""
        assert self.submitted is None, "what it asked for has not come"
        self._view.unstage()
        self.busy = False
        if self._ended is not None:
            return self._ended
        self._runs += 1
        if self._runs > ATTEMPTS_MAX:
            return Finished(None, Collision(b"", 0, 0))
        tx = self.tx
        if not tx.now:
            tx.now = now  # of all runs: what an operation finds must not depend on how often it was run
        tx.writes, tx.footprint, self.taken, self.block = {}, RangeSet(), 0, None
        try:
            done = Finished(self.operation(past_of(tx, self.at) if self.at else tx))
        except Miss as miss:
            return self._lacking(miss)
        except Exception as error:
            tx.writes = {}
            done = Finished(None, error)
        if self.at:
            return done
        if tx.writes and not self._naming.knows_time:
            return [Look([])]  # what time is it? The name of a transaction says when it was born
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
        if miss.extents:
            self._runs -= 1  # it gets further each time
        for extent in miss.extents:
            if extent.place not in self._wanted:
                self._wanted[extent.place] = None
                self._places.want(extent.place)
            source = self._places.source(extent)
            self._extents[source.key] = extent
            wanted.setdefault(source.at, []).append(source.key)
        asked += [Data(keys, at) for at, keys in wanted.items()]
        if miss.ranges and miss.at:
            asked.append(Fetch(list(miss.ranges), miss.at))
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
        tx, naming = self.tx, self._naming
        self.writes = tx.writes
        packed = pack(tx.writes, self._places, naming.settled, self._view.stage)
        reads = self._frozen
        if reads is None:
            known = [one for lo, hi in tx.footprint or () for one in self._held.known(lo, hi)]
            reads = [(lo, hi, upto if upto < OPEN else self.current) for lo, hi, _, upto in known]
        self.submitted = Submit(
            naming.name, naming.name_next(), naming.born(now), self._coord, reads, packed.names, packed.body,
            packed.spilled, fresh=self._frozen is None,
        )  # fmt: skip
        return [*(staging(naming.name, blob) for blob in packed.blobs), self.submitted]

    def close(self) -> None:
        """It has ended, in whatever way: what it has fetched is kept for its own sake no more."""
        for place in self._wanted:
            self._places.unwant(place)
        self._wanted.clear()

    # Hearing.

    def heard(self, question: Question, answer: Answer | GavelError, now: int) -> None:
        """What a master answered, or the error for which there is no answer; which ends the operation."""
        match question, answer:
            case Look(), Looked():
                self._looked(question, answer, now)
            case Fetch(), requests.Fetched():
                for (lo, hi), part in zip(question.ranges, answer.parts, strict=False):
                    self._take(self._states(question.at), lo, hi, question.at, part)
            case Data(), Found():
                self._found(question, answer)
            case Stage(), requests.Done():
                pass
            case Submit(), _ if isinstance(answer, requests.Outcome):
                self._outcome(answer)
            case Submit(), requests.Overtaken():
                self._outcome(answer.outcome)
                self._compare(question.reads, answer.now)
            case _, GavelError():
                self._failed(question, answer)
            case _:
                wrong = f"a {type(answer).__name__} is no answer to a {type(question).__name__}"
                self._failed(question, BadRequest(wrong))

    def _looked(self, question: Look, answer: Looked, now: int) -> None:
        self._naming.heard(answer.clock or answer.at, now)
        self._floor = min(self._floor, answer.at)
        self._compare(question.ranges, answer)

    def _compare(self, ranges: list[Read], answer: Looked) -> None:
        """Take in what has changed of these ranges."""
        for (lo, hi, version), part in zip(ranges, answer.parts, strict=False):
            if part is None:
                self._held.confirm(lo, hi, version, answer.at)
            else:
                self._take(self._held, lo, hi, answer.at, part)

    def _take(self, held: Held, lo: bytes, hi: bytes, at: int, part: requests.Records) -> None:
        if part.end is not None:
            hi = part.end
        local = self._places.local
        found = [
            (key, local(key, value, at) if records.is_data(key) else value)
            for key, value in zip(part.keys, part.values, strict=True)
        ]
        held.take(lo, hi, at, found)

    def _found(self, question: Data, answer: Found) -> None:
        for key, part in zip(question.keys, answer.extents, strict=False):
            extent = self._extents.pop(key)
            if part is None:
                self._held.drop(*just(key))
            else:
                try:
                    self._places.fetched(extent, *part)
                except GavelError as error:
                    self._ended = Finished(None, error)

    def _outcome(self, answer: requests.Outcome) -> None:
        assert self.submitted is not None and self._ended is not None
        self._naming.settle(self.submitted.sequence)
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
        elif isinstance(answer, requests.Fenced):
            self._ended = Finished(None, BadRequest("it was not made under leases, so none can have ended"))
        elif isinstance(answer, requests.Busy):
            self.busy = True
        elif self._frozen is not None and not isinstance(answer, requests.Dropped):
            self._ended = Finished(None, _collision(answer))
        elif isinstance(answer, requests.Collided):
            self._held.drop(*just(answer.key))
        elif isinstance(answer, requests.TooOld):
            for lo, hi in tx.footprint:
                self._held.drop(lo, hi)

    def _failed(self, question: Question, error: GavelError) -> None:
        """There is no answer: the end. Unless what was held refers to file data of a past that is pruned by now."""
        if isinstance(question, Data) and isinstance(error, HistoryPruned):
            for key in question.keys:
                self._extents.pop(key, None)
                self._held.drop(*just(key))
                if self.at:
                    self._states(self.at).drop(*just(key))
            return
        if isinstance(question, Submit) and self.submitted is not None:
            self._naming.settle(self.submitted.sequence)
            self.submitted = None
        self._ended = Finished(None, error)


def _collision(answer: requests.Collided | requests.TooOld) -> Collision:
    """What one who began at a freeze point of his own is told; he has to begin again."""
    if isinstance(answer, requests.TooOld):
        return FreezePruned(b"", answer.horizon, answer.at)
    return Collision(answer.key, answer.tid, answer.freeze)
