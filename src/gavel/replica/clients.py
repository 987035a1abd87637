"""What clients elsewhere ask of a master (transaction/requests.py), and how they are answered.

Invariants:
- every question is answered once, by a Reply with the same Asked and an Answer or a GavelError;
- an outcome is answered when it is decided and executed here, and durable: by a majority, or in a group of one by a
  sync of its own; but what the history shows to have collided is said to have, wherever it might come to lie;
- a Look is answered from a history that has come to a read point taken after it was asked; so it misses nothing that
  was acknowledged before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gavel.effects import Effect, Reply
from gavel.errors import BadRequest, GavelError
from gavel.history.history import History
from gavel.keys.records import SESSION_SIZE
from gavel.keys.tid import end_of, micros
from gavel.limits import OVERTAKEN_BYTES, TRANSACTION_LIFE_US
from gavel.media.volume import Volume
from gavel.quorum.machine import Aborted, Admission
from gavel.quorum.messages import Body, TxId
from gavel.quorum.requests import GetStatus, Propose, ReadPoint
from gavel.replica import reading
from gavel.replica.execution import NO_SESSION, certify, payload, remembered
from gavel.replica.turns import Turns
from gavel.transaction.requests import (
    BLOB_NAME_SIZE,
    Answer,
    Asked,
    Busy,
    Changes,
    Collided,
    Data,
    Done,
    Dropped,
    Fenced,
    Fetch,
    Horizon,
    Look,
    Outcome,
    Overtaken,
    Stage,
    Status,
    Submit,
    Trace,
)

_NOT_DONE: Final[dict[Admission, Outcome]] = {
    Admission.GO: Dropped(),
    Admission.BUSY: Busy(),
    Admission.FENCED: Fenced(),
}
QuorumRequest = Propose | ReadPoint | GetStatus


class Clients:
    """Questions under way. `ask_quorum` steps the quorum; `durable` calls back when all that is written is durable;
    `acting`: whether this master votes and has all that it should."""

    def __init__(
        self,
        history: History,
        volume: Volume,
        effects: list[Effect],
        ask_quorum: Callable[[QuorumRequest], None],
        stage: Callable[[Stage], None],
        durable: Callable[[Callable[[GavelError | None], None]], None],
        status: Callable[[Any], Answer],
        clock: Callable[[], int],
        acting: Callable[[], bool],
    ) -> None:
        self._history = history
        self._volume = volume
        self._effects = effects
        self._ask_quorum = ask_quorum
        self._stage = stage
        self._durable = durable
        self._status = status
        self._open: dict[int, tuple[QuorumRequest, Asked]] = {}  # by the ticket of what the quorum was asked
        self._ticket = 0
        self._clock = clock
        self._acting = acting
        self._turns = Turns()

    def ask(self, asked: Asked) -> None:
        """Take in a question."""
        question = asked.question
        try:
            match question:
                case Stage():
                    self._stage(question)
                    self._reply(asked, Done())
                case Submit():
                    self._submit(asked, question)
                case Horizon(current=False):
                    self._read(asked)
                case Look() | Horizon():
                    self._through_quorum(asked, ReadPoint(self._next()))
                case Trace(until=at) | Changes(until=at) if at <= self._history.last_tid:
                    self._read(asked)
                case Trace() | Changes():
                    self._through_quorum(asked, ReadPoint(self._next()))
                case Fetch(at=at) | Data(at=at) if at <= self._history.last_tid:
                    self._read(asked)
                case Fetch() | Data():
                    self._through_quorum(asked, ReadPoint(self._next()))
                case Status():
                    self._through_quorum(asked, GetStatus(self._next()))
        except GavelError as error:
            self._reply(asked, error)

    def _next(self) -> int:
        self._ticket += 1
        return self._ticket

    def _through_quorum(self, asked: Asked, request: QuorumRequest) -> None:
        self._open[request.ticket] = request, asked
        self._ask_quorum(request)

    def _submit(self, asked: Asked, submit: Submit) -> None:
        if len(submit.session) != SESSION_SIZE or submit.session == NO_SESSION or not 0 <= submit.sequence < 1 << 64:
            raise BadRequest("a transaction needs the name of its session, 16 bytes, and a sequence of 64 bits")
        if any(len(name) != BLOB_NAME_SIZE for name in submit.blobs):
            raise BadRequest(f"what is staged for a transaction is named by {BLOB_NAME_SIZE} bytes")
        if submit.tokens or not self._turns.waits(asked, submit):
            self._propose(asked, submit)

    def _propose(self, asked: Asked, submit: Submit) -> None:
        if self._turns.wary() and (verdict := self._verdict(submit)) is not None:
            self._reply(asked, self._overtaken(submit, verdict))
            if self._turns.waiting:
                self._turns.told(submit)
            return
        self._turns.begins(submit)
        txid = TxId(submit.born, submit.session, submit.sequence, submit.coord)
        blobs = [submit.session + name for name in submit.blobs]
        body = Body(submit.reads, [], blobs, payload(submit.body, submit.spilled), submit.tokens)
        self._through_quorum(asked, Propose(self._next(), txid, body))

    def _verdict(self, submit: Submit) -> Collided | None:
        """That it has collided, if the history shows it: whatever it comes to is at a tid above all that is here.

        Unless it is here already: then its outcome is remembered, if its life is not over.
        """
        history = self._history
        if (
            submit.tokens
            or not self._acting()
            or end_of(micros(submit.born) + TRANSACTION_LIFE_US) <= history.last_tid
            or remembered(history, submit.session, submit.sequence) is not None
        ):
            return None
        found = certify(history, submit.reads)
        return found if isinstance(found, Collided) else None

    def _overtaken(self, submit: Submit, outcome: Collided) -> Answer:
        """The answer about one that has collided."""
        self._turns.collided()
        if not submit.fresh:
            return outcome
        return Overtaken(outcome, reading.look(self._history, Look(submit.reads), self._clock(), OVERTAKEN_BYTES))

    def look(self) -> None:
        """Time has passed: see to those who wait for one that did not come again."""
        if self._turns.waiting:
            self._go_on()

    def _go_on(self) -> None:
        """Let the next one have its turn."""
        asked = self._turns.next()
        if asked is not None:
            assert isinstance(asked.question, Submit)
            try:
                self._propose(asked, asked.question)
            except GavelError as error:
                self._reply(asked, error)

    def answered(self, request: Any, result: Any, alone: bool) -> bool:
        """The quorum has answered; whether that was asked here.

        `alone`: there are no other masters, so what was done is not durable yet.
        """
        found = self._open.get(request.ticket)
        if found is None or found[0] is not request:
            return False
        del self._open[request.ticket]
        question = found[1].question
        if isinstance(question, Submit):
            self._turns.ends(question)
        self._answer(found[1], request, result, alone)
        if self._turns.waiting:
            self._go_on()
        return True

    def _answer(self, asked: Asked, request: QuorumRequest, result: Any, alone: bool) -> None:
        if isinstance(result, GavelError):
            self._reply(asked, result)
        elif isinstance(request, Propose):
            outcome = _NOT_DONE[result.cause] if isinstance(result, Aborted) else result
            if isinstance(outcome, Collided) and isinstance(asked.question, Submit):
                outcome = self._overtaken(asked.question, outcome)
            if alone:
                self._durable(lambda error: self._reply(asked, error or outcome))
            else:
                self._reply(asked, outcome)
        elif isinstance(request, ReadPoint):
            self._read(asked)
        else:
            self._reply(asked, self._status(result))

    def _read(self, asked: Asked) -> None:
        """Answer from the history as it is."""
        question = asked.question
        answer: Answer | GavelError
        try:
            if isinstance(question, Look):
                answer = reading.look(self._history, question, self._clock())
            elif isinstance(question, Fetch):
                answer = reading.fetch(self._history, question)
            elif isinstance(question, Horizon):
                answer = reading.reaches(self._history)
            elif isinstance(question, Trace):
                answer = reading.trace(self._history, question)
            elif isinstance(question, Changes):
                answer = reading.changes(self._history, question)
            else:
                assert isinstance(question, Data)
                answer = reading.data(self._history, self._volume, question)
        except GavelError as error:
            answer = error
        self._reply(asked, answer)

    def _reply(self, asked: Asked, answer: Answer | GavelError) -> None:
        self._effects.append(Reply(asked, answer))

    def fail(self, error: GavelError) -> None:
        """This master does nothing any more: answer everything that is open."""
        under_way, self._open = list(self._open.values()), {}
        for asked in [*(asked for _, asked in under_way), *self._turns.clear()]:
            self._reply(asked, error)
