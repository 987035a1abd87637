"""Links over real sockets and TLS: both sides proved, arrivals in batches, bulk behind votes, doubt and its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gavel.errors import BadPeer, DoubleIdentity, GavelError, Unreachable, Untrusted, WrongCluster
from gavel.limits import EXTENT_MAX, LINK_DEAD_MS, LINK_DOUBT_MS, WIRE_WINDOW
from gavel.node import authority
from gavel.runtime import tls
from gavel.runtime.dialler import Dialler, address_of
from gavel.runtime.exchange import Arrival
from gavel.runtime.link import Doubted, Link, Sure
from gavel.wire.connection import Answered, Asked, Carried, Ended, Opened, Staged
from gavel.wire.messages import Role, Status
from tests.unit.runtime.cluster import CLUSTER, Node, material

SESSION = b"s" * 16
_DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """However slow the machine is, no link is doubted or given up, but in tests that ask for it."""

    def after(doubt_ms: int, dead_ms: int) -> None:
        monkeypatch.setattr("gavel.wire.pulse.LINK_DOUBT_MS", doubt_ms)
        monkeypatch.setattr("gavel.wire.pulse.LINK_DEAD_MS", dead_ms)

    after(_DAY_MS, _DAY_MS)
    return after


def run(test: Callable[[AsyncExitStack], Awaitable[None]], loops: Callable[[], Any] = uvloop.new_event_loop) -> None:
    async def whole() -> None:
        async with AsyncExitStack() as stack:
            await test(stack)

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(whole())


class Pair:
    """A master that listens, and somebody who dials it."""

    def __init__(self, stack: AsyncExitStack, listener: Node, dialling: Node, address: str) -> None:
        self.listener, self.dialling, self.address = listener, dialling, address
        context = None if dialling.files is None else tls.dialling(dialling.files)
        self.dialler = Dialler(dialling.exchange, address, context, lambda: 0.0)
        stack.push_async_callback(listener.close)
        stack.push_async_callback(dialling.close)
        stack.push_async_callback(self.dialler.close)

    async def problem(self) -> GavelError:
        while self.dialler.problem is None:  # noqa: ASYNC110 it is a fact to look at, not an event
            await asyncio.sleep(0.002)
        return self.dialler.problem


async def joined(
    stack: AsyncExitStack, folder: Path, role: Role = Role.MASTER, claim: dict[str, object] | None = None
) -> Pair:
    """A pair; `claim`: what the dialler says of itself, whatever its certificate says."""
    ca = authority.found(CLUSTER)
    number = 0 if role is Role.CLIENT else 1
    listener = Node(2, material(folder / "2", ca, tls.Proven(CLUSTER, Role.MASTER, 2)))
    dialling = Node(number, material(folder / "1", ca, tls.Proven(CLUSTER, role, number)), role)
    dialling.party = dialling.party._replace(**(claim or {}))
    return Pair(stack, listener, dialling, await listener.listen())


def test_both_sides_prove_who_they_are_by_tls_of_version_1_3(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path)
        one, other = await pair.dialling.link(), await pair.listener.link()
        assert one.proven == tls.Proven(CLUSTER, Role.MASTER, 2)
        assert other.proven == tls.Proven(CLUSTER, Role.MASTER, 1)
        assert one._transport is not None
        assert one._transport.get_extra_info("ssl_object").version() == "TLSv1.3"

    run(test)


def test_what_came_in_one_turn_is_handed_on_at_once_and_answered_in_one_write(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path, Role.CLIENT)

        def answer(arrival: Arrival) -> None:
            if isinstance(arrival.event, Asked):
                arrival.link.respond(arrival.event.stream, Status.DONE, arrival.event.body)

        pair.listener.react = answer
        link = await pair.dialling.link()
        for number in range(50):
            link.request(number, SESSION, number, b"%d" % number)
        answers = await pair.dialling.until(Answered, 50)
        assert [bytes(arrival.event.body) for arrival in answers] == [b"%d" % number for number in range(50)]
        assert max(sum(isinstance(one.event, Asked) for one in batch) for batch in pair.listener.batches) == 50
        assert max(sum(isinstance(one.event, Answered) for one in batch) for batch in pair.dialling.batches) == 50

    run(test)


def test_file_data_goes_as_far_as_it_is_granted_and_votes_pass_it(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path)
        link = await pair.dialling.link()
        count = WIRE_WINDOW // EXTENT_MAX + 10
        for number in range(count):
            link.blob(SESSION + number.to_bytes(8, "little"), bytes(EXTENT_MAX))
        link.carry(0, b"vote")
        await pair.listener.until(Carried)
        assert len(pair.listener.seen(Staged)) < count
        staged = await pair.listener.until(Staged, count - 10)
        assert link.waiting_bytes == 10 * EXTENT_MAX  # beyond the window
        staged[0].link.took(WIRE_WINDOW)
        await pair.listener.until(Staged, count)

    run(test)


def test_bulk_waits_for_a_peer_that_reads_slowly_while_votes_go_on(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path)
        link = await pair.dialling.link()
        for _ in range(100):
            link.carry(9, bytes(200_000), bulk=True)
        link.carry(0, b"vote")
        arrivals = await pair.listener.until(Carried, 101)
        assert [one.event.channel for one in arrivals].index(0) < 20

    run(test)


def test_bulk_for_a_peer_that_does_not_keep_pace_is_bounded_and_the_newest_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gavel.runtime.link.LINK_QUEUE_MAX", 1000)

    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path)
        link = await pair.dialling.link()
        for number in range(50):
            link.carry(number, bytes(90), b"0123456789", bulk=True)
            link.blob(SESSION + bytes(8), bytes(100))
        assert link.dropped == 80
        assert link.waiting_bytes == 2000
        arrivals = await pair.listener.until(Carried, 10)
        assert [one.event.channel for one in arrivals] == list(range(40, 50))
        await pair.listener.until(Staged, 10)
        assert link.waiting_bytes == 0

    run(test)


def test_a_lost_link_is_told_after_what_came_before_and_dialled_again(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path)
        (await pair.dialling.link()).carry(0, b"last words")
        other = await pair.listener.link()
        await pair.listener.until(Carried)
        other.end(DoubleIdentity(1, b"", b""))
        (ended,) = await pair.dialling.until(Ended)
        assert isinstance(ended.event.error, DoubleIdentity)
        await pair.listener.until(Opened, 2)
        kinds = [type(arrival.event) for batch in pair.listener.batches for arrival in batch]
        assert kinds == [Opened, Carried, Ended, Opened]

    run(test)


@pytest.mark.parametrize("loops", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_the_last_words_are_heard_and_nothing_is_left_of_any_link(tmp_path: Path, loops: Callable[[], Any]) -> None:
    """Also on asyncio's own loop, whose transports are of no use any more once they are closed."""

    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path)
        one, other = await pair.dialling.link(), await pair.listener.link()
        for _ in range(2):
            one.end()
        one.flush()
        assert one.waiting_bytes == 0
        await other.ended
        await pair.dialling.until(Opened, 2)
        (again,) = pair.dialling.exchange.links
        again.carry(0, b"last words")
        await pair.dialling.exchange.finish()
        assert not pair.dialling.exchange.links
        await pair.listener.until(Carried)

    run(test, loops)


class Cut:
    """A relay between two nodes that can be cut without either hearing of it, one way or both."""

    def __init__(self, target: str) -> None:
        self.target = address_of(target)
        self.cut_to = self.cut_back = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, stack: AsyncExitStack) -> str:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)

        async def stop() -> None:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        stack.push_async_callback(stop)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self.target)
        loop = asyncio.get_running_loop()
        self._tasks += [
            loop.create_task(self._pass(reader, back, lambda: self.cut_to)),
            loop.create_task(self._pass(there, writer, lambda: self.cut_back)),
        ]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Callable[[], bool]) -> None:
        try:
            while data := await reader.read(65536):
                while cut():  # noqa: ASYNC110 the test turns it on and off
                    await asyncio.sleep(0.005)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


async def behind_a_cut(stack: AsyncExitStack, folder: Path) -> tuple[Pair, Cut]:
    ca = authority.found(CLUSTER)
    listener = Node(2, material(folder / "2", ca, tls.Proven(CLUSTER, Role.MASTER, 2)))
    dialling = Node(1, material(folder / "1", ca, tls.Proven(CLUSTER, Role.MASTER, 1)))
    listener.busy = dialling.busy = True
    cut = Cut(await listener.listen())
    return Pair(stack, listener, dialling, await cut.start(stack)), cut


@pytest.mark.parametrize("way", ["to", "back", "both"])
def test_a_link_cut_in_either_direction_is_in_doubt_on_both_sides_and_sure_again_when_mended(
    tmp_path: Path, way: str, patience: Callable[[int, int], None]
) -> None:
    """Each side hears the other's pings in one of the cases, and must not take that for a sign of life."""
    patience(LINK_DOUBT_MS, _DAY_MS)

    async def test(stack: AsyncExitStack) -> None:
        pair, cut = await behind_a_cut(stack, tmp_path)
        for node in (pair.dialling, pair.listener):
            await node.link()
        cut.cut_to, cut.cut_back = way != "back", way != "to"
        for node in (pair.dialling, pair.listener):
            await node.until(Doubted)
        cut.cut_to = cut.cut_back = False
        for node in (pair.dialling, pair.listener):
            await node.until(Sure)
            assert not node.seen(Ended)
        assert LINK_DOUBT_MS < 1000

    run(test)


def test_a_link_that_stays_cut_is_given_up_and_dialled_anew(
    tmp_path: Path, patience: Callable[[int, int], None]
) -> None:
    patience(LINK_DOUBT_MS, LINK_DEAD_MS)

    async def test(stack: AsyncExitStack) -> None:
        pair, cut = await behind_a_cut(stack, tmp_path)
        for node in (pair.dialling, pair.listener):
            await node.link()
        cut.cut_to = True
        await pair.dialling.until(Ended)
        await pair.listener.until(Ended)
        cut.cut_to = False
        await pair.dialling.until(Opened, 2)

    run(test)


def test_nobody_there_is_tried_again_until_somebody_is(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        ca = authority.found(CLUSTER)
        listener = Node(2, material(tmp_path / "2", ca, tls.Proven(CLUSTER, Role.MASTER, 2)))
        dialling = Node(1, material(tmp_path / "1", ca, tls.Proven(CLUSTER, Role.MASTER, 1)))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
        pair = Pair(stack, listener, dialling, address)
        assert isinstance(await pair.problem(), Unreachable)
        from gavel.runtime.listener import Listener

        assert listener.files is not None
        listener.listener = Listener(listener.exchange, address, tls.listening(listener.files), None)
        await listener.listener.start()
        await dialling.link()

    run(test)


def test_certificates_of_another_cluster_are_refused_on_both_sides(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        ours, theirs = authority.found(CLUSTER), authority.found(CLUSTER)
        listener = Node(2, material(tmp_path / "2", ours, tls.Proven(CLUSTER, Role.MASTER, 2)))
        dialling = Node(1, material(tmp_path / "1", theirs, tls.Proven(CLUSTER, Role.MASTER, 1)))
        pair = Pair(stack, listener, dialling, await listener.listen())
        problem = await pair.problem()
        assert isinstance(problem, Untrusted)
        assert "not issued by this cluster" in str(problem)
        # One that believes everybody is not believed either.
        assert dialling.files is not None
        dialling.files.authorities.write_bytes(ours.certificate + theirs.certificate)
        again = Pair(stack, listener, dialling, pair.address)
        problem = await again.problem()
        assert isinstance(problem, Untrusted)
        assert "for a certificate it refuses" in str(problem)
        assert not listener.batches

    run(test)


@pytest.mark.parametrize(
    ("claim", "error"),
    [
        ({"node": 7}, Untrusted),
        ({"role": Role.CLIENT, "node": 0}, Untrusted),
        ({"cluster": b"another cluster."}, WrongCluster),
        ({"node": 2}, DoubleIdentity),
    ],
)
def test_who_says_something_else_than_the_certificate_is_refused(
    tmp_path: Path, claim: dict[str, object], error: type[GavelError]
) -> None:
    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path, claim=claim)
        assert isinstance(await pair.problem(), error)
        assert not pair.listener.batches

    run(test)


def test_without_a_certificate_one_gets_no_further_than_the_handshake(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path)
        host, port = address_of(pair.address)
        assert pair.dialling.files is not None
        context = tls.ssl.SSLContext(tls.ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(pair.dialling.files.authorities)
        context.set_alpn_protocols([tls.WIRE])
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        assert b"Untrusted" in await reader.read()
        writer.close()
        reader, writer = await asyncio.open_connection(host, port)  # and without TLS not even so far
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
        assert b"GVW" not in await reader.read()
        writer.close()
        assert all(link.proven is not None for link in pair.listener.exchange.links)

    run(test)


def test_a_judge_of_the_node_is_heard(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        ca = authority.found(CLUSTER)
        listener = Node(2, material(tmp_path / "2", ca, tls.Proven(CLUSTER, Role.MASTER, 2)))
        listener.refusal = Untrusted("node 1", "it was removed")
        dialling = Node(1, material(tmp_path / "1", ca, tls.Proven(CLUSTER, Role.MASTER, 1)))
        pair = Pair(stack, listener, dialling, await listener.listen())
        assert "it was removed" in str(await pair.problem())

    run(test)


def test_garbage_on_an_open_link_ends_it_and_says_why(tmp_path: Path) -> None:
    async def test(stack: AsyncExitStack) -> None:
        pair = await joined(stack, tmp_path)
        link = await pair.dialling.link()
        assert link._transport is not None
        link._transport.write(b"x" * 100)
        (ended,) = await pair.dialling.until(Ended)
        assert isinstance(ended.event.error, BadPeer)
        assert "beginning of a frame" in str(ended.event.error)
        await pair.dialling.until(Opened, 2)

    run(test)


def test_who_connects_and_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gavel.runtime.link.HANDSHAKE_SECONDS", 0)

    async def test(stack: AsyncExitStack) -> None:
        node = Node(1, None)
        stack.push_async_callback(node.close)
        host, port = address_of(await node.listen())
        reader, writer = await asyncio.open_connection(host, port)
        assert b"BadPeer" in await reader.read()
        writer.close()
        assert not node.batches

    run(test)


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:x", "host:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(GavelError, match="not an address"):
        address_of(text)
    assert address_of("[::1]:5") == ("::1", 5)


def test_a_link_alone_takes_what_is_said_before_it_is_open() -> None:
    async def test(stack: AsyncExitStack) -> None:
        node = Node(1, None)
        stack.push_async_callback(node.close)
        link = Link(node.exchange, dialled=True)
        link.carry(0, b"lost")
        link.blob(bytes(24), b"lost")
        link.end()
        assert not node.batches

    run(test)
