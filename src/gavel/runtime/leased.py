"""A client with leases in this process: operations done in memory, changes written back, over the links of a client.

What is pure is cache.Leased; here it meets clocks, links and threads. Links go to all masters: each is told of leases
for itself, and file data and transactions take the way of all questions (remote.py).

Invariants: each operation is told its end once; leases go by a clock that counts while the machine sleeps; what could
not be committed is saved before anybody is told.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gavel.cache.attempts import Finished
from gavel.cache.leased import Leased
from gavel.cache.under_way import Asking, Forget
from gavel.cache.writeback import Ahead, Behind
from gavel.coherency import messages
from gavel.coherency.holder import Holder
from gavel.coherency.messages import FromClient
from gavel.effects import Observe, Reply, Requested, Send
from gavel.errors import GavelError, QuorumLost
from gavel.keys.ranges import Range
from gavel.limits import PATIENCE_SECONDS
from gavel.runtime.exchange import Arrival
from gavel.runtime.link import Doubted, Sure
from gavel.runtime.lost_work import LostWorks
from gavel.runtime.remote import RemoteEngine
from gavel.runtime.steady import steady
from gavel.transaction import requests
from gavel.transaction.transaction import Transaction
from gavel.wire.connection import Ended, Opened, Party
from gavel.wire.connection import Leased as LeasedFrame
from gavel.wire.session import Unstage

Done = Callable[[Finished], None]

log = logging.getLogger("gavel.leases")

_TICK_SECONDS = 0.25  # at the latest: what an operation that was done at once made due is seen to by then
_LEAVE_SECONDS = 10.0  # how long closing waits for what is dirty to be durable


class LeasedEngine(RemoteEngine):
    """See the module. `lost` is the directory for what could not be committed.

    Not `cached`: nothing is kept under leases, every result is confirmed by a majority and durable; others are asked
    for what they have not flushed.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        nodes: Sequence[int],
        me: Party,
        context: ssl.SSLContext | None,
        *,
        lost: Path,
        cached: bool = True,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(addresses, nodes, me, context, patience_seconds=patience_seconds, clock=clock)
        self._lost = LostWorks(lost, clock)
        self.core = Leased(
            self._remote, Holder(me.incarnation), steady, clock, lambda: self._coord, self._save,
            patience_ns=int(patience_seconds * 1e9), cached=cached,
        )  # fmt: skip
        self.cached = cached
        self.on_forget: Callable[[list[Range], Callable[[], None]], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = 0
        self._carrying = False
        self._arm()

    def keeps(self, forget: Callable[[list[Range], Callable[[], None]], None]) -> None:
        """Somebody (a kernel) keeps what operations say; `forget` has him let go of lease ranges, then calls back."""
        self.on_forget = forget
        self.core.kernel = True

    # Operations.

    def at_once(self, operation: Callable[[Transaction], Any]) -> Finished | None:
        """The end of an operation that needs no question; None: nothing has happened, start() it."""
        if self._closed:
            return None
        return self.core.at_once(operation)

    def start(self, operation: Callable[[Transaction], Any], done: Done, at: int = 0) -> None:
        """See ClusterEngine."""
        if self._closed:
            done(Finished(None, QuorumLost(0)))
            return
        end = None if at else self.core.at_once(operation)
        if end is not None:
            done(end)
        else:
            self.core.start(done, operation, at)
            self._carry()

    def start_sync(self, done: Done) -> None:
        """Have all that is done by now made durable; `done` is told a tid that has it, or why it is not."""
        self.core.sync(done)
        self._carry()

    async def sync(self) -> int:
        """Return when all that is done by now is durable, with a tid that has it; raises LostWork, GavelError."""
        future: asyncio.Future[Finished] = self.loop.create_future()
        self.start_sync(lambda end: None if future.done() else future.set_result(end))
        end = await future
        if end.error is not None:
            raise end.error
        tid: int = end.result
        return tid

    async def point(self) -> int:
        """See ClusterEngine; what this client has done is made durable first."""
        await self.sync()
        return await super().point()

    async def commit(self, tx: Transaction) -> int:
        """See ClusterEngine."""
        if not tx.writes:
            return await super().commit(tx)
        future: asyncio.Future[Finished] = self.loop.create_future()
        self.core.commit(lambda end: None if future.done() else future.set_result(end), tx)
        self._carry()
        end = await future
        self.give_up(tx)
        if end.error is not None:
            raise end.error
        return end.tid

    async def close(self) -> None:
        """End the links. What is dirty is made durable first, if that can be in reasonable time."""
        if not self._closed:
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self.sync()
                self.core.leave()
                self._carry()
            except (GavelError, TimeoutError) as problem:
                log.error("what was changed last may be lost: %s", problem or "no majority answers")
        if self._timer is not None:
            self._timer.cancel()
        await super().close()

    # What the core wants done.

    def _carry(self) -> None:
        """Carry out what the core has to say, and what comes of it."""
        if self._carrying:
            return
        self._carrying = True
        try:
            said: dict[int, list[FromClient]] = {}
            while effects := self.core.drain():
                for effect in effects:
                    if isinstance(effect, Send):
                        said.setdefault(effect.peer, []).append(effect.message)
                    else:
                        self._do(effect)
            for node, words in said.items():
                self._say(node, words)
        finally:
            self._carrying = False
        self._arm()

    def _do(self, effect: object) -> None:
        match effect:
            case Asking(number, question):
                needs: tuple[bytes, ...] = ()
                if isinstance(question, requests.Submit):
                    numbers = map(requests.blob_number, question.blobs)
                    needs = tuple(requests.blob_id(question.session, one) for one in numbers)
                self._ask(question, partial(self._answered, number), needs)
            case Ahead(stage):
                self._put_ahead(requests.blob_id(stage.session, stage.number), stage)
            case Behind(numbers):
                blobs = tuple(requests.blob_id(self._name, number) for number in numbers)
                self._step(Requested(Unstage(blobs)))
            case Reply(done, end):
                done(end)
            case Forget(recall, ranges):
                told = partial(self._forgotten, recall)
                if self.on_forget is None:
                    told()
                else:
                    self.on_forget(ranges, told)
            case Observe(name, fields):
                log.warning("%s %s", name, fields)
            case _:
                raise AssertionError(f"no shell for {effect!r}")

    def _say(self, node: int, words: list[FromClient]) -> None:
        for dialler, at in zip(self._diallers, self._nodes, strict=True):
            if at == node and dialler.link is not None and dialler.link.connection.leasing:
                dialler.link.lease(messages.encode(words))

    def _answered(self, number: int, answer: requests.Answer | GavelError) -> None:
        self.core.answered(number, answer)
        self._carry()

    def _forgotten(self, recall: int) -> None:
        self.core.forgotten(recall)
        self._carry()

    def _save(self, why: str, writes: dict[bytes, bytes | None]) -> str:
        saved = self._lost.save(why, writes, self.core.contents(writes))
        log.error("what was changed here last is no part of the filesystem (%s): saved in %s", why, saved)
        return saved

    # What masters say.

    def _deliver(self, arrivals: list[Arrival]) -> None:
        others: list[Arrival] = []
        for arrival in arrivals:
            event, link = arrival.event, arrival.link
            if isinstance(event, LeasedFrame):
                self.core.hear(link.node, messages.from_master(bytes(event.body)))
                continue
            others.append(arrival)
            if isinstance(event, Opened) and event.peer.node:
                self.core.connected(event.peer.node)
            elif isinstance(event, Sure) and link.node:
                self.core.connected(link.node)
            elif isinstance(event, Ended | Doubted) and link.node:
                self.core.disconnected(link.node)
        super()._deliver(others)
        self._carry()

    # Time.

    def _arm(self) -> None:
        """Wake at the time that the core names, or a little later if it names one that is far away."""
        at = self.core.wake_at
        if self._timer is not None:
            if at >= self._wake_at:
                return
            self._timer.cancel()
        now = steady()
        self._wake_at = min(max(at, now + 1_000_000), now + int(_TICK_SECONDS * 1e9))
        self._timer = self.loop.call_later((self._wake_at - now) / 1e9, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if not self._closed:
            self.core.tick()
            self._carry()
            self._arm()
