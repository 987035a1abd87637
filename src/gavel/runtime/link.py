"""One connection of this process: a transport of the event loop around a wire.Connection.

Invariants:
- what arrives is handed to the exchange, which hands everything of one turn of the loop on at once;
- what is said during a turn leaves in one write at its end; votes leave before file data and other bulk that waits;
- bulk is handed to the transport only LINK_BUFFER ahead, file data only as far as the peer has granted; a peer that
  does not read costs at most LINK_BUFFER_MAX and LINK_QUEUE_MAX.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, cast

from gavel.errors import BadPeer, GavelError, Unreachable, Untrusted
from gavel.limits import HANDSHAKE_SECONDS, LEASE_FRAMES_SECOND, LINK_BUFFER, LINK_BUFFER_MAX, LINK_QUEUE_MAX
from gavel.runtime import tls
from gavel.runtime.steady import Meter
from gavel.wire.connection import Answered, Connection, Ended, Event, Greeted, Opened, Ponged
from gavel.wire.frames import Buffer
from gavel.wire.messages import Greeting, Status
from gavel.wire.pulse import Health, Pulse

if TYPE_CHECKING:
    from gavel.runtime.exchange import Exchange


class Doubted(NamedTuple):
    """No round trip was completed lately: somebody else should be asked."""


class Sure(NamedTuple):
    """A round trip was completed again."""


class Link(asyncio.BufferedProtocol):
    """See the module. `where` names the other end for people; `ended` is done when the link is over."""

    def __init__(self, exchange: Exchange, *, dialled: bool, where: str = "") -> None:
        self.connection = Connection(exchange.me(), dialled=dialled)
        self.dialled, self.where = dialled, where
        self.proven: tls.Proven | None = None  # who the certificate says it is; None on a socket without TLS
        self.certificate_ends = 0  # seconds since 1970
        self.pulse = Pulse(time.monotonic_ns())
        self.doubted = False
        self.since = time.monotonic_ns()
        self.ended: asyncio.Future[GavelError | None] = asyncio.get_running_loop().create_future()
        self.lease_meter = Meter(LEASE_FRAMES_SECOND)  # of what the peer says about leases
        self.dropped = 0  # blobs and bulk given up since the peer does not keep pace
        self._exchange = exchange
        self._transport: asyncio.Transport | None = None
        self._blobs: deque[tuple[bytes, Buffer]] = deque()
        self._blob_bytes = 0
        self._bulk: deque[tuple[int, tuple[Buffer, ...]]] = deque()
        self._bulk_bytes = 0
        self._paused = False
        self._events: list[Event | Doubted | Sure] = []

    # What others use.

    @property
    def peer(self) -> Greeting | None:
        """Who the other side says it is, once it has."""
        return self.connection.peer

    @property
    def node(self) -> int:
        """The node id of the other side; 0 for a client, or before it has said who it is."""
        return 0 if self.connection.peer is None else self.connection.peer.node

    @property
    def opened(self) -> bool:
        """Whether both sides are welcome and neither has ended it."""
        return self.connection.opened

    def carry(self, channel: int, *parts: Buffer, bulk: bool = False) -> None:
        """Send bytes of the protocol between members. Lost if the link is over.

        `bulk` waits for everything else; the oldest of it is dropped when there is too much.
        """
        if not self.connection.opened:
            return
        if bulk:
            self._bulk.append((channel, parts))
            self._bulk_bytes += sum(map(len, parts))
            while self._bulk_bytes > LINK_QUEUE_MAX:
                _, lost = self._bulk.popleft()
                self._bulk_bytes -= sum(map(len, lost))
                self.dropped += 1
        else:
            self.connection.carry(channel, *parts)
        self._exchange.dirty(self)

    def request(self, stream: int, session: bytes, seq: int, body: Buffer) -> None:
        """See Connection.request. It follows all file data that went before and that the peer has granted."""
        while self._blobs and len(self._blobs[0][1]) <= self.connection.blob_room:
            self._send_blob()
        self.connection.request(stream, session, seq, body)
        self._exchange.dirty(self)

    def respond(self, stream: int, status: Status, body: Buffer) -> None:
        """Answer a request; lost if the link is over."""
        if self.connection.opened:
            self.connection.respond(stream, status, body)
            self._exchange.dirty(self)

    def lease(self, body: Buffer) -> None:
        """Send bytes of the protocol of leases. Lost if the link is over, or the peer knows of none."""
        if self.connection.leasing:
            self.connection.lease(body)
            self._exchange.dirty(self)

    def blob(self, blob: bytes, data: Buffer) -> None:
        """Send file data as soon as the peer grants it; the oldest that waits is dropped when there is too much."""
        if not self.connection.opened:
            return
        self._blobs.append((blob, data))
        self._blob_bytes += len(data)
        while self._blob_bytes > LINK_QUEUE_MAX:
            _, lost = self._blobs.popleft()
            self._blob_bytes -= len(lost)
            self.dropped += 1
        self._exchange.dirty(self)

    def took(self, size: int) -> None:
        """So many bytes of blobs are out of the way; lost if the link is over."""
        if self.connection.opened:
            self.connection.took(size)
            self._exchange.dirty(self)

    def goaway(self, reason: str) -> None:
        """Take no new requests."""
        if self.connection.opened:
            self.connection.goaway(reason)
            self._exchange.dirty(self)

    def end(self, problem: GavelError | None = None) -> None:
        """End the link, telling the peer why if there is a reason."""
        if problem is not None and not self.connection.closed:
            self.connection.refuse(problem)
        self._over(problem)
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the link without waiting for anything to be sent."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def waiting_bytes(self) -> int:
        """What waits to be sent."""
        transport = self._transport
        held = 0 if transport is None or transport.is_closing() else transport.get_write_buffer_size()
        return self._blob_bytes + self._bulk_bytes + held

    # What the exchange uses.

    @property
    def speaks(self) -> bool:
        """Whether flush() has anything to do."""
        return bool(self.connection.speaks or self._blobs or self._bulk)

    def flush(self) -> None:
        """Send what was said in this turn."""
        more = (self._bulk or self._blobs) and self._push()
        self._flush()
        if more and not self._paused:
            self._exchange.dirty(self)  # in the next turn: what was handed over may be gone by then
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # asyncio's has no buffer any more then
        if transport.get_write_buffer_size() > LINK_BUFFER_MAX:
            self._over(Unreachable(self.where, f"it takes nothing it is sent, {LINK_BUFFER_MAX} bytes wait for it"))
            transport.abort()

    def beat_at(self, now: int, busy: bool) -> int:
        """When beat() may have something to do next, monotonic ns."""
        return self.pulse.next(now, busy) if self.connection.opened else self.since + HANDSHAKE_SECONDS * 1_000_000_000

    def beat(self, now: int, busy: bool) -> None:
        """Ping if it is time to; put the link in doubt, or give it up. `now` is monotonic ns."""
        if not self.connection.opened:
            if now >= self.beat_at(now, busy) and not self.ended.done():
                self.end(BadPeer("greeting", f"one within {HANDSHAKE_SECONDS} s", "none"))
            return
        number = self.pulse.due(now, busy)
        if number is not None:
            self.connection.ping(number)
            self._exchange.dirty(self)
            return
        health = self.pulse.health(now)
        if health is Health.DEAD:
            self._over(Unreachable(self.where, "it answers no more"))
            assert self._transport is not None
            self._transport.abort()
        elif health is Health.DOUBT and not self.doubted:
            self.doubted = True
            self._events.append(Doubted())
            self._hand_on()

    def _push(self) -> bool:
        """Hand bulk over as far as the peer and the transport take it; whether only the transport is in the way."""
        connection, transport = self.connection, self._transport
        if transport is None or transport.is_closing() or not connection.opened:
            self._blobs.clear()
            self._bulk.clear()
            self._blob_bytes = self._bulk_bytes = 0
            return False
        room = 0 if self._paused else LINK_BUFFER - transport.get_write_buffer_size()
        while self._blobs and room > 0 and len(self._blobs[0][1]) <= connection.blob_room:
            room -= self._send_blob()
        while self._bulk and room > 0:
            channel, parts = self._bulk.popleft()
            size = sum(map(len, parts))
            self._bulk_bytes -= size
            connection.carry(channel, *parts)
            room -= size
        return bool(self._bulk or (self._blobs and len(self._blobs[0][1]) <= connection.blob_room))

    def _send_blob(self) -> int:
        blob, data = self._blobs.popleft()
        self._blob_bytes -= len(data)
        self.connection.blob(blob, data)
        return len(data)

    def _flush(self) -> None:
        out = self.connection.outgoing()
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(out)

    def _over(self, problem: GavelError | None) -> None:
        """The link is over, told once, after everything that came before."""
        if self.ended.done():
            return
        if not self.connection.closed:
            self.connection.receive_eof()
        self.ended.set_result(problem)
        self._events.append(Ended(problem))
        self._hand_on()

    def _hand_on(self) -> None:
        events, self._events = self._events, []
        self._exchange.arrived(self, events)

    def _take(self, event: Event) -> None:
        """Note what of an event concerns others."""
        match event:
            case Greeted(peer):
                if self._welcome(peer):
                    self.connection.welcome()
                    self._events.append(Opened(peer))
            case Opened(peer):
                if self._welcome(peer):
                    self._events.append(event)
            case Ponged(number, clock):
                self.pulse.ponged(number, time.monotonic_ns(), self._exchange.clock(), clock)
                if self.doubted:
                    self.doubted = False
                    self._events.append(Sure())
            case Ended(error):
                self.end(error)
            case Answered():
                self.pulse.answered(time.monotonic_ns())
                self._events.append(event)
            case _:
                self._events.append(event)

    def _unheard(self) -> GavelError | None:
        """Why a link may have ended without a word: TLS 1.3 does not tell that a certificate was refused."""
        if self.dialled and self.proven is not None and self.connection.peer is None:
            return Untrusted(self.where, "it ended the connection after the handshake, as for a certificate it refuses")
        return None

    def _welcome(self, peer: Greeting) -> bool:
        problem = tls.mismatch(self.where, self.proven, peer) or self._exchange.judge(self, peer)
        if problem is not None:
            self.end(problem)
            return False
        self.pulse = Pulse(time.monotonic_ns())
        return True

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BufferedProtocol."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        transport.set_write_buffer_limits(high=LINK_BUFFER, low=LINK_BUFFER // 4)
        self.since = time.monotonic_ns()
        try:
            self.proven = tls.proven(transport.get_extra_info("ssl_object"))
            self.certificate_ends = tls.ends(transport.get_extra_info("ssl_object"))
        except Untrusted as problem:
            self.end(problem)
            return
        self._exchange.joined(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        return self.connection.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        for event in self.connection.received(nbytes, self._exchange.clock()):
            self._take(event)
        self._hand_on()

    def eof_received(self) -> bool:
        """See asyncio.BufferedProtocol."""
        for event in self.connection.receive_eof():
            assert isinstance(event, Ended)
            self._over(event.error or self._unheard())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BufferedProtocol."""
        self._transport = None
        self._over(self._unheard() if exc is None else tls.explained(self.where, exc))
        self._exchange.left(self)

    def pause_writing(self) -> None:
        """See asyncio.BufferedProtocol."""
        self._paused = True

    def resume_writing(self) -> None:
        """See asyncio.BufferedProtocol."""
        self._paused = False
        self._exchange.dirty(self)
