"""A master over real sockets: what it raises arrives as it was raised, and says whether another one is to be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from unittest.mock import patch

import uvloop

from gavel.coherency.messages import (
    Age,
    Alive,
    Ask,
    FromMaster,
    Grant,
    Recall,
    Renewed,
    Want,
    X,
    encode,
    from_master,
)
from gavel.coherency.space import EVERYTHING
from gavel.errors import BadRequest, DeviceFailed, HistoryPruned
from gavel.keys.records import config
from gavel.limits import VOLUME_MIN
from gavel.media.volume import Volume
from gavel.quorum.messages import Member
from gavel.quorum.votes import MASTER
from gavel.replica import reading
from gavel.runtime.dialler import Dialler
from gavel.runtime.exchange import Arrival
from gavel.runtime.listener import Listener
from gavel.runtime.master import Master
from gavel.runtime.steady import Meter, steady
from gavel.sim.device import SimDevice
from gavel.transaction import requests
from gavel.transaction.requests import Busy, Fetch, Look, Question, Submit
from gavel.wire import failures
from gavel.wire.connection import Answered, Asked, Ended, Leased, Opened, Party
from gavel.wire.messages import Role, Status
from tests.unit.runtime.cluster import CLUSTER, Node

SESSION = b"s" * 16


class Asker:
    """A node with a link to a master, and what it is answered."""

    def __init__(self, node: Node, master: Master) -> None:
        self.node, self.master = node, master
        self.asked = 0

    async def ask(self, question: Question) -> Answered:
        self.asked += 1
        (await self.node.link()).request(self.asked, SESSION, self.asked, requests.encode(question))
        found: Answered = (await self.node.until(Answered, self.asked))[-1].event
        return found


@asynccontextmanager
async def asking(role: Role) -> AsyncIterator[Asker]:
    """A master alone in its group, and a node of this role that has dialled it."""
    device = SimDevice(VOLUME_MIN)
    Volume.format(device, identity=bytes(16), salt=1, label="", created_tid=1 << 8)
    party = Party(CLUSTER, 1, b"master-number-01", Role.MASTER)
    master = Master(device, party, founding=[Member(1, MASTER)])
    listener = Listener(master.exchange, "127.0.0.1:0", None, None)
    await listener.start()
    node = Node(0 if role is Role.CLIENT else 2, None, role)
    dialler = Dialler(node.exchange, f"127.0.0.1:{listener.port}", None, lambda: 0.0)
    try:
        await node.until(Opened)
        yield Asker(node, master)
    finally:
        await dialler.close()
        await node.close()
        await listener.close()
        await master.exchange.finish()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60):
            await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())


def test_what_is_wrong_for_good_arrives_with_its_evidence() -> None:
    async def test() -> None:
        async with asking(Role.CLIENT) as client:
            nameless = await client.ask(Submit(b"", 1, 1, 1, [], [], requests.pack({})))
            assert nameless.status == Status.FAILED
            assert isinstance(failures.decode(nameless.body), BadRequest)
            with patch.object(reading, "fetch", side_effect=HistoryPruned(1, 512, (256, 1024))):
                early = await client.ask(Fetch([(b"a", b"b")], 0))
            problem = failures.decode(early.body)
            assert early.status == Status.FAILED and isinstance(problem, HistoryPruned)
            assert (problem.at, problem.horizon, problem.nearest) == (1, 512, (256, 1024))

    run(test)


def test_what_another_master_may_be_able_to_do_is_sent_to_another_master() -> None:
    async def test() -> None:
        async with asking(Role.CLIENT) as client:
            assert (await client.ask(Look([]))).status == Status.DONE
            client.master.replica.log.failure = DeviceFailed("sync", 512, "worn out")
            refused = await client.ask(Look([]))
            problem = failures.decode(refused.body)
            assert refused.status == Status.ELSEWHERE and isinstance(problem, DeviceFailed)
            assert (problem.action, problem.offset, problem.reason) == ("sync", 512, "worn out")
            assert "worn out" in (await client.master.status())["failure"]

    run(test)


def told(client: Asker) -> list[FromMaster]:
    return [one for arrival in client.node.seen(Leased) for one in from_master(bytes(arrival.event.body))]


async def hears(client: Asker, kind: type[FromMaster]) -> FromMaster:
    """What the client is told of this kind, unasked."""
    while True:
        for one in told(client):
            if isinstance(one, kind):
                return one
        await asyncio.sleep(0.002)


def test_a_client_is_granted_leases_over_its_link_and_told_of_recalls_unasked() -> None:
    async def test() -> None:
        async with asking(Role.CLIENT) as client:
            link, session = await client.node.link(), client.node.party.incarnation
            link.lease(encode([Alive(5, 0, [])]))
            renewed = await hears(client, Renewed)
            assert isinstance(renewed, Renewed) and (renewed.sent, renewed.voters) == (5, [1])
            link.lease(encode([Ask(1, Age(1, session), [Want(*EVERYTHING, X)], True, True, 0)]))
            grant = await hears(client, Grant)
            assert isinstance(grant, Grant) and grant.held and grant.token == renewed.token
            written = requests.pack({config(0, b"x"): b"1"})
            answer = await client.ask(Submit(SESSION, 1, 1, 1, [], [], written))
            assert requests.decode_answer(answer.body) == Busy()
            recall = await hears(client, Recall)
            assert isinstance(recall, Recall) and recall.age.session == SESSION

    run(test)


def test_a_client_that_says_too_much_is_not_listened_to_and_keeps_its_link() -> None:
    async def test() -> None:
        async with asking(Role.CLIENT) as client:
            link = await client.node.link()
            (there,) = client.master.exchange.links
            there.lease_meter = Meter(1)
            for sent in range(1000):
                link.lease(encode([Alive(sent, 0, [])]))
            assert (await client.ask(Look([]))).status == Status.DONE
            assert there.lease_meter.refused > 0
            await hears(client, Renewed)
            assert len(told(client)) <= 1000 - there.lease_meter.refused

    run(test)


def test_what_is_no_message_about_leases_ends_the_link() -> None:
    async def test() -> None:
        async with asking(Role.CLIENT) as client:
            (await client.node.link()).lease(b"\xc1")
            ended = (await client.node.until(Ended))[-1].event
            assert ended.error is not None

    run(test)


def test_a_meter_takes_so_many_a_second() -> None:
    meter, now = Meter(10), 5 * 10**9
    assert sum(meter.take(now) for _ in range(100)) == 11
    assert meter.refused == 89
    assert sum(meter.take(now + 300_000_000) for _ in range(100)) == 3
    assert sum(meter.take(now + 10**12) for _ in range(100)) == 11
    assert steady() <= steady()


def test_a_client_of_a_former_release_is_told_to_try_again() -> None:
    assert requests.for_former(Busy()) == requests.Dropped() == requests.for_former(requests.Fenced())
    assert requests.for_former(requests.Committed(7)) == requests.Committed(7)


def test_a_master_that_cannot_say_how_it_is_keeps_its_link() -> None:
    async def test() -> None:
        async with asking(Role.MASTER) as peer:

            def refuse(arrival: Arrival) -> None:
                if isinstance(arrival.event, Asked):
                    why = DeviceFailed("read", 0, "gone")
                    arrival.link.respond(arrival.event.stream, Status.ELSEWHERE, failures.encode(why))

            peer.node.react = refuse
            while 2 not in peer.master.peers:  # noqa: ASYNC110 it is a fact to look at, not an event
                await asyncio.sleep(0.002)
            assert await peer.master.inquire(2, 30) == {}
            assert not peer.node.seen(Ended)
            assert 2 in peer.master.peers

    run(test)
