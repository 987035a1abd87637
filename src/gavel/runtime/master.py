"""One master at work: its volume, its replica, and the links to other masters and to clients, on one event loop.

The way of a request: Link -> Asked -> Replica.step ... drain -> Send to peers, Sync of the device, Reply -> Link.
What arrived in one turn of the loop is one step for the replica's drain: it shares batches and syncs.

Invariants:
- everything here happens on the loop's thread, but for the sync of the device;
- of each member at most one link is in use, the one that was opened last; its Doubted and Ended are PeerDown, its
  Sure and Opened PeerUp;
- a request is answered on the link it came by, if that is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from gavel.coherency.messages import encode as encode_leases
from gavel.coherency.messages import from_client
from gavel.effects import (
    Arm,
    Effect,
    Event,
    Heard,
    Observe,
    PeerDown,
    PeerUp,
    Received,
    Reply,
    Requested,
    Send,
    Sync,
    Synced,
    SyncFailed,
    Tell,
    Ticked,
)
from gavel.errors import (
    BadPeer,
    BadRequest,
    DeviceFailed,
    DeviceFull,
    DoubleIdentity,
    GavelError,
    NotAMember,
    QuorumLost,
    VolumeFull,
)
from gavel.media.cipher import SEED_SIZE, Key
from gavel.media.device import Device
from gavel.media.volume import Volume
from gavel.quorum.messages import Member
from gavel.replica import peers
from gavel.replica.replica import Replica
from gavel.runtime.exchange import Arrival, Exchange
from gavel.runtime.link import Doubted, Link, Sure
from gavel.runtime.shells import LoopShell
from gavel.runtime.steady import steady
from gavel.transaction import requests
from gavel.transaction.requests import Checkpoint, Stage
from gavel.wire import failures
from gavel.wire.connection import LEASES_SINCE, Answered, Asked, Carried, Ended, Leased, Opened, Party, Staged
from gavel.wire.messages import Greeting, Role, Status

log = logging.getLogger("gavel.master")

REPLICA: Final = 0  # channels of PEER messages
BOOK: Final = 1
TRUST: Final = 2

LATELY_SECONDS: Final = 0.1  # after something has arrived, more of the same is likely: upkeep is slow for so long

# What another master may well be able to do: the client asks it instead.
_ELSEWHERE: Final = (NotAMember, QuorumLost, VolumeFull, DeviceFull, DeviceFailed)


class Master:
    """See the module.

    `party` says who this node is, `judge` who else is not welcome (and why), `told` and `trusted` take what comes on
    the channels BOOK and TRUST, `asked_status` answers a client's question after the cluster instead of the replica.
    `founding` as in Replica.
    """

    def __init__(
        self,
        device: Device,
        party: Party,
        *,
        key: Key | None = None,
        founding: Iterable[Member] | None = None,
        judge: Callable[[Greeting], GavelError | None] = lambda peer: None,
        told: Callable[[int, memoryview], None] = lambda node, body: None,
        trusted: Callable[[int, memoryview], None] = lambda node, body: None,
        linked: Callable[[Link], None] = lambda link: None,
        asked_status: Callable[[requests.Status, Callable[[requests.Answer], None]], None] | None = None,
        clock: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = steady,
    ) -> None:
        """Open the volume on a device; raises NotAVolume, NewerFormat, KeyNeeded, WrongKey, Damaged, DeviceFailed."""
        self._loop = asyncio.get_running_loop()
        self.clock = clock
        self.party = party
        self.volume = Volume.open(device, key=key, seed=secrets.token_bytes(SEED_SIZE))
        self.steady = steady
        self.replica = Replica(self.volume, clock(), party.node, founding, resident=False, steady=steady())
        self.exchange = Exchange(lambda: self.party, self._deliver, judge=self._judge, busy=self._awaited, clock=clock)
        self.peers: dict[int, Link] = {}
        self.draining = False
        self.observed: Callable[[str, dict[str, Any]], None] = lambda name, fields: log.info("%s %s", name, fields)
        self._judged, self._told, self._linked, self._asked_status = judge, told, linked, asked_status
        self._trusted = trusted
        self.device = device
        self.shell = LoopShell(device, self._loop)
        self._ticket = 0
        self._stepped = True  # since the last drain
        self._sessions: dict[bytes, Link] = {}  # of clients that know of leases: the last link each came over
        self._asked: dict[int, tuple[Link, int]] = {}  # by ticket: where the answer goes
        self._inquiries: dict[tuple[Link, int], asyncio.Future[requests.Answer | None]] = {}
        self._waiters: dict[int, Callable[[Any], None]] = {}
        self._heard_at = 0.0  # when something arrived last
        self._armed: list[float] = []  # times of the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._carry_out()

    # What the node uses.

    def ask(self, request: Callable[[int], Any], done: Callable[[Any], None]) -> None:
        """Step a request that is made of a ticket; `done` gets its result, a value or an error."""
        self._ticket += 1
        self._waiters[self._ticket] = done
        self._step(Requested(request(self._ticket)))
        self._carry_out()

    async def answer(self, request: Callable[[int], Any]) -> Any:
        """Like ask, and wait for it; raises the error."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        self.ask(request, done)
        result = await future
        if isinstance(result, GavelError):
            raise result
        return result

    async def status(self) -> dict[str, Any]:
        """How this master is, as its replica tells it."""
        try:
            told = await self.answer(lambda ticket: requests.Asked(ticket, requests.Status()))
        except GavelError as problem:
            return {"failure": str(problem)}
        return dict(told.fields)

    async def inquire(self, node: int, seconds: float) -> dict[str, Any]:
        """How another master is, as it tells itself; empty if it does not, or not in time."""
        told = await self.ask_peer(node, requests.Status(), self.party.incarnation, seconds)
        return dict(told.fields) if isinstance(told, requests.Told) else {}

    async def ask_peer(
        self, node: int, question: requests.Question, session: bytes, seconds: float
    ) -> requests.Answer | None:
        """What another node answers; None if it cannot, or not in time. It may have happened all the same."""
        link = self.peers.get(node)
        if link is None or not link.opened or not link.connection.request_room:
            return None
        self._ticket += 1
        stream = self._ticket & 0xFFFFFFFF
        future: asyncio.Future[requests.Answer | None] = self._loop.create_future()
        self._inquiries[link, stream] = future
        link.request(stream, session, self._ticket, requests.encode(question))
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            self._inquiries.pop((link, stream), None)

    @property
    def busy(self) -> bool:
        """Whether clients or other masters wanted something of late."""
        return bool(self._asked) or self._loop.time() < self._heard_at + LATELY_SECONDS

    def client(self, session: bytes) -> tuple[str, str]:
        """Name and address of the client whose session this is; empty if it is not there."""
        link = self._sessions.get(session)
        return ("", "") if link is None or link.peer is None else (link.peer.name, link.where)

    def forget(self, node: int, why: GavelError) -> None:
        """End the link to a node."""
        link = self.peers.get(node)
        if link is not None:
            link.end(why)

    async def close(self, seconds: float = 5) -> None:
        """Drain: take nothing new, answer what is under way, write a checkpoint, let go. The device is the caller's."""
        self.draining = True
        for link in list(self.exchange.links):
            link.goaway("it is being stopped")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        try:
            if self.replica.failure is None:
                await self.answer(lambda ticket: Checkpoint(ticket, clean=True))
        finally:
            await self.exchange.finish()
            if self._timer is not None:
                self._timer.cancel()
            self.shell.close()

    def _awaited(self) -> list[Link]:
        """The links to members, when a client waits for an answer; nobody waits for clients."""
        return list(self.peers.values()) if self._asked else []

    # What arrives.

    def _judge(self, link: Link, peer: Greeting) -> GavelError | None:
        problem = self._judged(peer)
        if problem is not None or peer.role == Role.CLIENT:
            return problem
        known = self.peers.get(peer.node)
        if known is None or known is link or known.peer is None or known.doubted:
            return None
        if known.peer.incarnation != peer.incarnation and not known.ended.done():
            return DoubleIdentity(peer.node, known.peer.incarnation, peer.incarnation)
        return None

    def _deliver(self, arrivals: list[Arrival]) -> None:
        self._heard_at = self._loop.time()
        for arrival in arrivals:
            try:
                self._arrived(arrival.link, arrival.event)
            except (BadPeer, BadRequest) as problem:
                log.warning("%s: %s", arrival.link.where, problem)
                arrival.link.end(problem)
        self._carry_out()

    def _arrived(self, link: Link, event: Any) -> None:
        node = link.node
        match event:
            case Carried(channel, body) if self.peers.get(node) is link:
                if channel == REPLICA:
                    self._step(Received(node, peers.decode(body)))
                elif channel == BOOK:
                    self._told(node, body)
                elif channel == TRUST:
                    self._trusted(node, body)
            case Asked(stream, _, _, body):
                self._request(link, stream, body)
            case Answered(stream, status, body):
                inquiry = self._inquiries.get((link, stream))
                if inquiry is not None and not inquiry.done():
                    inquiry.set_result(requests.decode_answer(body) if status == Status.DONE else None)
            case Staged(blob, data):
                link.took(len(data))
                self._ticket += 1
                self._step(Requested(requests.Asked(self._ticket, requests.from_blob(blob, data))))
            case Leased(body):
                self._heard(link, body)
            case Opened(peer) if peer.role == Role.CLIENT:
                self._sessions[peer.incarnation] = link
            case Opened(peer):
                known = self.peers.get(node)
                self.peers[node] = link
                if known is not None:
                    known.end()
                self._step(PeerUp(node))
                self._linked(link)
            case Doubted() if self.peers.get(node) is link:
                self._step(PeerDown(node))
            case Sure() if self.peers.get(node) is link:
                self._step(PeerUp(node))
            case Ended(problem):
                if problem is not None:
                    log.info("the link with %s is over: %s", f"node {node}" if node else link.where, problem)
                self._ended(link, node)

    def _ended(self, link: Link, node: int) -> None:
        for ticket in [ticket for ticket, (other, _) in self._asked.items() if other is link]:
            del self._asked[ticket]
        if not self._asked:
            self._idle.set()
        if self.peers.get(node) is link:
            del self.peers[node]
            self._step(PeerDown(node))
        session = b"" if link.peer is None else link.peer.incarnation
        if self._sessions.get(session) is link:
            del self._sessions[session]

    def _heard(self, link: Link, body: memoryview) -> None:
        """A client's session says something about leases; too much of it is not listened to."""
        if link.lease_meter.take(time.monotonic_ns()):
            assert link.peer is not None
            self._step(Heard(link.peer.incarnation, from_client(bytes(body))))
        elif link.lease_meter.refused.bit_count() == 1:  # a flood is a few lines
            log.warning("%s: %d messages about leases too many", link.where, link.lease_meter.refused)

    def _request(self, link: Link, stream: int, body: memoryview) -> None:
        if self.draining:
            link.respond(stream, Status.ELSEWHERE, failures.encode(NotAMember(self.party.node, "it is being stopped")))
            return
        question = requests.decode_question(body)
        self._ticket += 1
        self._asked[self._ticket] = link, stream
        self._idle.clear()
        ticket = self._ticket
        client = link.peer is not None and link.peer.role == Role.CLIENT
        if client and isinstance(question, requests.Status) and self._asked_status is not None:
            self._asked_status(question, lambda answer: self._reply(ticket, answer))
        elif isinstance(question, Stage):
            raise BadRequest("file data goes ahead as blobs, not as a request")
        else:
            self._step(Requested(requests.Asked(ticket, question)))

    def _step(self, event: Event) -> None:
        self._stepped = True
        self.replica.step(event, self.clock(), self.steady())

    # What is to be done.

    def _carry_out(self) -> None:
        while self._stepped:
            self._stepped = False
            for effect in self.replica.drain():
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send(peer, message):
                link = self.peers.get(peer)
                if link is not None:
                    if link.connection.version < LEASES_SINCE:
                        message = peers.for_former(message)
                    link.carry(REPLICA, *peers.encode(message), bulk=peers.is_bulk(message))
            case Tell(session, messages):
                link = self._sessions.get(session)
                if link is not None:
                    link.lease(encode_leases(messages))
            case Reply(request, result):
                self._reply(request.ticket, result)
            case Sync(ticket):
                self.shell.sync(lambda error, ticket=ticket: self._synced(ticket, error))  # type: ignore[misc]
            case Arm(at):
                self._arm(at)
            case Observe(name, fields):
                self.observed(name, fields)

    def _reply(self, ticket: int, result: Any) -> None:
        waiter = self._waiters.pop(ticket, None)
        if waiter is not None:
            waiter(result)
            return
        asker = self._asked.pop(ticket, None)
        if asker is None:
            return  # nobody waits: file data that went ahead, or a link that is gone
        link, stream = asker
        if not self._asked:
            self._idle.set()
        if isinstance(result, GavelError):
            status = Status.ELSEWHERE if isinstance(result, _ELSEWHERE) else Status.FAILED
            link.respond(stream, status, failures.encode(result))
        else:
            known = result if link.connection.version >= LEASES_SINCE else requests.for_former(result)
            link.respond(stream, Status.DONE, requests.encode(known))

    def _synced(self, ticket: int, error: DeviceFailed | None) -> None:
        self._step(Synced(ticket) if error is None else SyncFailed(ticket, error.reason))
        self._carry_out()

    # Time.

    def _arm(self, at: int) -> None:
        """Have Ticked stepped at this time; also when the host's clock is set meanwhile."""
        when = self._loop.time() + max(0, at - self.clock()) / 1e9
        heapq.heappush(self._armed, when)
        if self._timer is None or when < self._timer_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._armed[0]
        self._timer = self._loop.call_at(self._timer_at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        heapq.heappop(self._armed)
        now = self._loop.time()
        while self._armed and self._armed[0] <= now:
            heapq.heappop(self._armed)
        self._step(Ticked())
        self._carry_out()
        if self._armed and self._timer is None:
            self._set_timer()
