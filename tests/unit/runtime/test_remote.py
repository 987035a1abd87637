"""A client of a cluster over real sockets: masters that answer exactly, are slow, go away, and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from gavel.errors import GavelError, QuorumLost
from gavel.keys import records
from gavel.limits import EXTENT_MAX
from gavel.media import extents
from gavel.runtime.exchange import Arrival
from gavel.runtime.remote import RemoteEngine
from gavel.transaction import requests
from gavel.transaction.transaction import Transaction
from gavel.wire import failures
from gavel.wire.connection import Asked, Party, Staged
from gavel.wire.messages import Role, Status
from tests.unit.cache.master import Master, k
from tests.unit.runtime.cluster import CLUSTER, Node


class Front:
    """A node in front of the one state that all of them share."""

    def __init__(self, number: int, master: Master) -> None:
        self.node, self.master = Node(number, None), master
        self.node.react = self.react
        self.silent = self.leaving = False
        self.submits = 0

    def react(self, arrival: Arrival) -> None:
        link, event = arrival
        if isinstance(event, Staged):
            self.master.answer(requests.from_blob(event.blob, event.data))
            link.took(len(event.data))
        elif isinstance(event, Asked):
            question = requests.decode_question(event.body)
            self.submits += isinstance(question, requests.Submit)
            if not self.silent:
                answer = self.master.answer(question)
                if isinstance(answer, GavelError):
                    link.respond(event.stream, Status.FAILED, failures.encode(answer))
                else:
                    link.respond(event.stream, Status.DONE, requests.encode(answer))
            if self.leaving:
                link.goaway("it is being stopped")


@asynccontextmanager
async def cluster(patience: float = 20.0) -> AsyncIterator[tuple[RemoteEngine, list[Front]]]:
    master = Master(100)
    fronts = [Front(number, master) for number in (1, 2, 3)]
    addresses = [await front.node.listen() for front in fronts]
    me = Party(CLUSTER, 0, b"client-number-01", Role.CLIENT)
    engine = RemoteEngine(addresses, [1, 2, 3], me, None, patience_seconds=patience)
    try:
        yield engine, fronts
    finally:
        await engine.close()
        for front in fronts:
            await front.node.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60):
            await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())


def increment(tx: Transaction) -> int:
    value = int(tx.get(k("n")) or b"0") + 1
    tx.put(k("n"), b"%d" % value)
    return value


def test_operations_at_once_collide_and_all_happen_once() -> None:
    async def test() -> None:
        async with cluster() as (engine, fronts):
            found = await asyncio.gather(*(engine.run(increment) for _ in range(20)))
            assert sorted(found) == list(range(1, 21))
            assert fronts[0].master.states[-1] == {k("n"): b"20"}

    run(test)


def test_a_client_that_knows_one_master_learns_the_others_and_goes_on_with_them() -> None:
    async def test() -> None:
        async with cluster() as (known, fronts):
            me = Party(CLUSTER, 0, b"client-number-02", Role.CLIENT)
            told: list[Any] = []
            engine = RemoteEngine(known.addresses[:1], [9], me, None)
            engine.on_members = told.append
            try:
                members = [
                    {"node": node, "url": f"gavel://{address}", "role": "witness" if node == 3 else "master"}
                    for node, address in enumerate(known.addresses, 1)
                ]
                fronts[0].master.status = {"members": members}
                assert await engine.run(increment) == 1
                assert engine._coord == 1, "who answers is who it says it is, not who was there before"
                await engine.measure()
                assert engine.addresses == known.addresses[:2] and told == [members]
                fronts[0].leaving = True
                assert await engine.run(increment) == 2
                assert await engine.run(increment) == 3
                assert engine.in_use == 1
            finally:
                await engine.close()

    run(test)


def test_another_thread_waits_for_its_result() -> None:
    async def test() -> None:
        async with cluster() as (engine, _):
            assert await asyncio.to_thread(engine.run_now, increment) == 1
            with pytest.raises(ZeroDivisionError):
                await asyncio.to_thread(engine.run_now, lambda tx: 1 // int(tx.get(k("none")) or 0))

    run(test)


def test_file_data_goes_ahead_and_comes_back() -> None:
    key = records.extent(0, 7, EXTENT_MAX)
    data = bytes(range(256)) * (EXTENT_MAX // 256)

    def write(tx: Transaction) -> None:
        tx.put(key, extents.encode_view(tx.stage(data), 0, len(data)))

    def read(tx: Transaction) -> bytes:
        shown = extents.decode(tx.get(key) or b"")
        assert shown.extent is not None
        return bytes(tx.load(shown.extent))

    async def test() -> None:
        async with cluster() as (engine, _):
            await engine.run(write)
            assert await engine.run(read) == data

    run(test)


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_when_its_master_fails_another_one_is_asked_and_nothing_happens_twice(how: str) -> None:
    async def test() -> None:
        async with cluster() as (engine, fronts):
            await engine.run(increment)
            (used,) = [front for front in fronts if front.submits]
            if how == "silent":
                used.silent = True  # it does what it is asked, and its answers are lost
            else:
                await used.node.close()
            assert await engine.run(increment) == 2
            assert sum(front.submits for front in fronts) == (3 if how == "silent" else 2)
            assert used.master.states[-1] == {k("n"): b"2"}

    run(test)


def test_a_master_that_says_goodbye_with_its_answer_is_asked_nothing_more() -> None:
    """Both arrive at once: what follows from the answer is asked before the session has heard the goodbye."""

    async def test() -> None:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        async with cluster() as (engine, fronts):
            await engine.run(increment)
            (used,) = [front for front in fronts if front.submits]
            used.leaving = True
            await engine.run(lambda tx: tx.put(k("m"), tx.get(k("m")) or b"first"))
            assert used.submits == 1 and used.master.states[-1] == {k("n"): b"1", k("m"): b"first"}
        assert problems == []

    run(test)


def test_without_an_answer_patience_ends() -> None:
    async def test() -> None:
        async with cluster(0.3) as (engine, fronts):
            await engine.run(increment)
            for front in fronts:
                front.silent = True
            with pytest.raises(QuorumLost):
                await engine.run(increment)

    run(test)


def test_closing_ends_what_is_under_way() -> None:
    async def test() -> None:
        async with cluster() as (engine, fronts):
            await engine.run(increment)
            for front in fronts:
                front.silent = True
            waiting: asyncio.Task[Any] = asyncio.ensure_future(engine.run(increment))
            await asyncio.sleep(0)
            await engine.close()
            with pytest.raises(GavelError):
                await waiting
            with pytest.raises(QuorumLost):
                await engine.run(increment)

    run(test)
