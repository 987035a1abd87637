"""A client of a cluster on an event loop: operations in, their results out, and somebody who puts questions to masters.

The way of an operation: start() -> cache.Attempt runs it on what is held -> questions ... answers -> the attempt runs
it again, or ends. How questions reach a master is for a subclass to say: over links (remote.py), or within the
process of a master (inside.py). Everything here happens on one event loop; other threads use run_now().

Invariant: each operation is told its end exactly once, also when the engine is closed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from gavel.cache.attempts import Attempt, Finished
from gavel.cache.held_view import HeldView
from gavel.cache.remote import Remote
from gavel.errors import GavelError, QuorumLost
from gavel.history.versions import Change, Version
from gavel.limits import OBJECT_ID_BLOCK, SPACE_SECONDS
from gavel.media.room import Space
from gavel.transaction import requests
from gavel.transaction.requests import Stage
from gavel.transaction.transaction import Transaction

T = TypeVar("T")
Done = Callable[[Finished], None]
Heard = Callable[[requests.Answer | GavelError], None]


class _Work:
    """An operation under way, and how many of its questions have no answer yet."""

    __slots__ = ("attempt", "done", "waiting")

    def __init__(self, attempt: Attempt, done: Done) -> None:
        self.attempt, self.done = attempt, done
        self.waiting = 0


class ClusterEngine(ABC):
    """See the module. `name`: 16 bytes that no other client has or will have."""

    def __init__(self, name: bytes, clock: Callable[[], int] = time.time_ns) -> None:
        """Made on the event loop that it works on."""
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._remote = Remote(name)
        self._live: dict[_Work, None] = {}
        self._closed = False
        self._space = Space(0, 0, 0, 0, 0, 0, 0, 0)
        self._space_asked = -SPACE_SECONDS

    # What a subclass says.

    @property
    @abstractmethod
    def _coord(self) -> int:
        """The node that is asked first."""

    @abstractmethod
    def _ask(self, question: requests.Question, heard: Heard, needs: tuple[bytes, ...] = ()) -> None:
        """Put a question to a master; `heard` gets the answer once. `needs`: file data that was put ahead."""

    @abstractmethod
    def _put_ahead(self, blob: bytes, stage: Stage) -> None:
        """Have file data go ahead of the question that needs it."""

    # Operations.

    def start(self, operation: Callable[[Transaction], Any], done: Done, at: int = 0) -> None:
        """Run an operation on the present, or only reading as of `at`; `done` is called with its end, later or now."""
        if self._closed:
            done(Finished(None, QuorumLost(0)))
            return
        self._begin(self._remote.start(operation, self._coord, at), done)

    def _begin(self, attempt: Attempt, done: Done) -> None:
        work = _Work(attempt, done)
        self._live[work] = None
        self._go_on(work)

    async def run(self, operation: Callable[[Transaction], T], at: int = 0) -> T:
        """The result of an operation, once what it wrote is durable on a majority; raises as the operation does.

        Raises QuorumLost when no majority could be reached in time; what it wrote may still come to be.
        """
        future: asyncio.Future[Finished] = self.loop.create_future()
        self.start(operation, lambda end: None if future.done() else future.set_result(end), at)
        end = await future
        if end.error is not None:
            raise end.error
        result: T = end.result
        return result

    def run_now(self, operation: Callable[[Transaction], T], at: int = 0) -> T:
        """Like run, for other threads than the loop's; waits."""
        return self.wait(self.run(operation, at))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs on the loop, for other threads; waits."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    @property
    def on_loop(self) -> bool:
        """Whether this is called on the loop's own thread, as by an operation that is being run."""
        return threading.get_ident() == self._thread

    # The past beyond what an operation reads.

    def view(self, at: int) -> HeldView:
        """What is held of a past state; for use on the loop, where it raises Miss."""
        return self._remote.view(at)

    async def versions(self, key: bytes, until: int) -> list[Version]:
        """Every version of a key that began by a tid, oldest first."""
        answer = await self.ask(requests.Trace(key, until))
        assert isinstance(answer, requests.Traced)
        local = self._remote.local
        return [Version(key, began, ended, local(key, value, began)) for began, ended, value in answer.versions]

    async def changes(self, t0: int, t1: int, lo: bytes, hi: bytes, skip: int) -> tuple[list[Change], bool]:
        """Some of what changed in (t0, t1] to keys in [lo, hi), less the first `skip` of `lo`; and whether more."""
        answer = await self.ask(requests.Changes(t0, t1, lo, hi, skip))
        assert isinstance(answer, requests.Changed)
        local = self._remote.local
        found = [
            Change(
                key,
                tid,
                None if old is None else local(key, old, tid - 1),
                None if new is None else local(key, new, tid),
            )
            for key, tid, old, new in answer.changes
        ]
        return found, answer.more

    def space(self) -> Space:
        """Sizes of the volume of the master in use, as it last said; zero until it has."""
        if time.monotonic() > self._space_asked + SPACE_SECONDS:
            self._space_asked = time.monotonic()
            self._ask(requests.Status(), self._told)
        return self._space

    async def ask(self, question: requests.Question) -> requests.Answer:
        """What a master answers; raises what it says went wrong, QuorumLost when none could be asked in time."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self._ask(question, lambda answer: None if future.done() else future.set_result(answer))
        answer: requests.Answer | GavelError = await future
        if isinstance(answer, GavelError):
            raise answer
        return answer

    async def point(self) -> int:
        """A tid whose state has all that was acknowledged before this was asked."""
        answer = await self.ask(requests.Look([]))
        assert isinstance(answer, requests.Looked)
        return answer.at

    async def reached(self) -> int:
        """The newest state of the master in use. No majority is asked: of what is later it may know nothing."""
        answer = await self.ask(requests.Horizon(current=False))
        assert isinstance(answer, requests.Reaches)
        return answer.last

    # Transactions at a freeze point of their own.

    async def begin(self) -> Transaction:
        """A transaction on the state of this moment, whatever others do; run operations on it by run_in()."""
        if self._remote.reserved < OBJECT_ID_BLOCK // 2:
            await self.run(lambda tx: tx.new_object())
        return self._remote.freeze(await self.point(), self.clock())

    async def run_in(self, tx: Transaction, operation: Callable[[Transaction], T]) -> T:
        """The result of an operation on such a transaction."""
        assert isinstance(tx.view, HeldView)
        return await self.run(lambda _: operation(tx), tx.view.at)

    async def commit(self, tx: Transaction) -> int:
        """Commit it; the tid, of its state when it wrote nothing. Raises Collision when it has to begin anew."""
        assert isinstance(tx.view, HeldView)
        if not tx.writes:
            return tx.view.at
        future: asyncio.Future[Finished] = self.loop.create_future()
        self._begin(self._remote.commit(tx, self._coord), future.set_result)
        end = await future
        self.give_up(tx)
        if end.error is not None:
            raise end.error
        return end.tid

    def give_up(self, tx: Transaction) -> None:
        """Nothing of it has happened, or all of it has: what it staged is not needed any more."""
        assert isinstance(tx.view, HeldView)
        tx.view.unstage()

    # Inside.

    def _give_up(self) -> None:
        """End everything that is under way; nothing is begun any more."""
        self._closed = True
        for work in list(self._live):
            self._end(work, Finished(None, QuorumLost(0)))

    def _go_on(self, work: _Work) -> None:
        """Run it; ask what it lacks, or tell its end."""
        step = work.attempt.run(self.clock())
        if isinstance(step, Finished):
            self._end(work, step)
            return
        needs: list[bytes] = []
        for question in step:
            if isinstance(question, Stage):
                blob = requests.blob_id(question.session, question.number)
                needs.append(blob)
                self._put_ahead(blob, question)
            else:
                work.waiting += 1
                self._ask(question, partial(self._heard, work, question), tuple(needs))

    def _end(self, work: _Work, end: Finished) -> None:
        if work in self._live:
            del self._live[work]
            self._remote.ended(work.attempt, end)
            work.done(end)

    def _heard(self, work: _Work, question: requests.Question, answer: requests.Answer | GavelError) -> None:
        work.attempt.heard(question, answer, self.clock())
        work.waiting -= 1
        if not work.waiting and work in self._live:
            self._go_on(work)

    async def measure(self) -> None:
        """Have space() say what is so."""
        self._told(await self.ask(requests.Status()))

    def _told(self, answer: requests.Answer | GavelError) -> None:
        """A master has said how it is."""
        if isinstance(answer, requests.Told):
            self._space = Space(*[answer.fields.get(name, 0) for name in Space._fields])
