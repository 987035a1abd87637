"""One connection, without the connection: bytes in, events and bytes out.

    connection.receive(data, now) -> events        the peer sent these bytes
    connection.peer / request / respond / blob ...  this side wants to say something
    connection.outgoing() -> buffers               what has to be sent now, in order

The shell owes it: every byte that arrives, in order; every buffer of outgoing() sent, in order; receive_eof() when no
more will come; after an Ended event it sends what is left in outgoing() and closes. It judges a Greeted event (is the
certificate that of this node?) and then says welcome() or refuse(). docs/internals/wire.md has an example shell.

Invariants:
- what states.TABLE does not allow raises Misuse if this side would do it, and ends the connection with BadPeer (told
  in Ended, and to the peer in an ERROR) if the other side does it; receive() itself raises nothing;
- no more blobs are under way than the receiver granted, no more requests than it takes, each answered at most once;
- payloads are views of the buffer they were received into: whoever keeps a small one for long copies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from gavel.errors import BadPeer, DoubleIdentity, GavelError, NoCommonVersion, WrongCluster
from gavel.limits import WIRE_REQUESTS, WIRE_WINDOW
from gavel.wire import failures, frames, messages
from gavel.wire.frames import BLOB_ID_SIZE, GREETING, Buffer, Frame, Kind, Parser
from gavel.wire.messages import REQUEST_HEAD, Credit, Farewell, Greeting, Ping, Pong, Refusal, Role, Status
from gavel.wire.states import TABLE, TALKING, Misuse, State, Way

OLDEST: Final = 1
NEWEST: Final = 3  # 2: a PONG carries the clock of who answers; 3: there are LEASE frames
CLOCKS_SINCE: Final = 2
LEASES_SINCE: Final = 3


class Party(NamedTuple):
    """Who this side is. `oldest` and `newest` are the wire versions it speaks."""

    cluster: bytes
    node: int
    incarnation: bytes
    role: Role
    name: str = ""
    oldest: int = OLDEST
    newest: int = NEWEST
    epoch: bytes = b""  # of the quorum, opaque here


class Greeted(NamedTuple):
    """Somebody connected and said who he is; answer with welcome() or refuse()."""

    peer: Greeting


class Opened(NamedTuple):
    """Both sides are welcome; from now on everything may be sent."""

    peer: Greeting


class Carried(NamedTuple):
    """Bytes of the protocol between members; `channel` tells whose."""

    channel: int
    body: memoryview


class Asked(NamedTuple):
    """A request, to be answered with respond(stream, ...)."""

    stream: int
    session: bytes
    seq: int
    body: memoryview


class Answered(NamedTuple):
    """The answer to a request of ours."""

    stream: int
    status: Status
    body: memoryview


class Staged(NamedTuple):
    """File data sent ahead; say took(len(data)) when there is room for more."""

    blob: bytes
    data: memoryview


class Leased(NamedTuple):
    """Bytes of the protocol of leases, between a client and a master, unasked."""

    body: memoryview


class Credited(NamedTuple):
    """So many bytes of blobs may be sent now."""

    room: int


class Ponged(NamedTuple):
    """A round trip is complete. `clock` is the peer's, in ns since 1970, or 0 if it does not say."""

    number: int
    clock: int


class Farewelled(NamedTuple):
    """The peer takes no new requests; what it has it still answers."""

    reason: str


class Ended(NamedTuple):
    """The connection is over. `error` says why: of the peer (BadPeer), or what the peer told; None for a plain end."""

    error: GavelError | None


Event = Greeted | Opened | Carried | Asked | Answered | Staged | Leased | Credited | Ponged | Farewelled | Ended


class Connection:
    """One side of one connection; `dialled` if this side opened it (its hello is the first thing in outgoing())."""

    def __init__(self, me: Party, *, dialled: bool, window: int = WIRE_WINDOW, requests: int = WIRE_REQUESTS) -> None:
        self.me = me
        self.state = State.DIALLED if dialled else State.ACCEPTED
        self.version = GREETING
        self.peer: Greeting | None = None
        self._window, self._requests = window, requests
        self._parser = Parser()
        self._out: list[Buffer] = []
        self._asked: set[int] = set()  # streams of requests that we wait for
        self._owed: set[int] = set()  # streams of requests that we have to answer
        self._room = 0  # bytes of blobs that we may send
        self._credited = 0  # all told that the peer granted
        self._granted = self._announced = window  # what we granted, and what of it the peer has heard
        self._taken_in = 0
        if dialled:
            self._say(Kind.HELLO, self._greeting(0))

    # What goes out.

    def outgoing(self) -> list[Buffer]:
        """What has to be sent now; each buffer is handed out once."""
        out, self._out = self._out, []
        return out

    @property
    def speaks(self) -> bool:
        """Whether there is anything to be sent now."""
        return bool(self._out)

    @property
    def opened(self) -> bool:
        """Whether both sides are welcome and neither has ended it."""
        return self.state in TALKING

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self.state is State.CLOSED

    @property
    def blob_room(self) -> int:
        """Bytes of blobs that may be sent now."""
        return self._room

    @property
    def request_room(self) -> int:
        """Requests that may be sent now; 0 when the peer takes none any more."""
        if self.peer is None or (Way.SEND, Kind.REQUEST) not in TABLE[self.state]:
            return 0
        return max(0, self.peer.requests - len(self._asked))

    @property
    def owing(self) -> int:
        """Requests that the peer waits for."""
        return len(self._owed)

    @property
    def waiting(self) -> int:
        """Requests that this side waits for."""
        return len(self._asked)

    def welcome(self) -> Opened:
        """Open the connection to who has said hello."""
        assert self.peer is not None
        version = min(self.me.newest, self.peer.newest)
        self._say(Kind.WELCOME, self._greeting(version))
        return self._open(version)

    def refuse(self, problem: GavelError) -> None:
        """Say why, and end the connection; at any time before it has ended."""
        self._say(Kind.ERROR, failures.refusal(problem))

    def carry(self, channel: int, *parts: Buffer) -> None:
        """Send bytes of the protocol between members, in parts that are not copied together."""
        self._send(Kind.PEER, channel, parts)

    def request(self, stream: int, session: bytes, seq: int, body: Buffer) -> None:
        """Ask; `stream` must not be that of another request under way. There must be request_room."""
        if stream in self._asked or not self.request_room:
            raise Misuse(f"request {stream}: {len(self._asked)} under way, room for {self.request_room}")
        self._send(Kind.REQUEST, stream, (REQUEST_HEAD.pack(session, seq), body))
        self._asked.add(stream)

    def respond(self, stream: int, status: Status, body: Buffer) -> None:
        """Answer a request, once."""
        if stream not in self._owed:
            raise Misuse(f"an answer to {stream}, which nobody asked")
        self._send(Kind.RESPONSE, stream, (bytes((status,)), body))
        self._owed.discard(stream)

    def blob(self, blob: bytes, data: Buffer) -> None:
        """Send file data ahead of what refers to it; at most limits.WIRE_BLOB_MAX, and at most blob_room."""
        if len(blob) != BLOB_ID_SIZE or len(data) > self._room:
            raise Misuse(f"a blob of {len(data)} bytes, with room for {self._room}")
        self._send(Kind.BLOB, 0, (blob, data))
        self._room -= len(data)

    @property
    def leasing(self) -> bool:
        """Whether lease() may be called: this is between a client and a member, and both know of leases."""
        clients = (self.me.role == Role.CLIENT) + (self.peer is not None and self.peer.role == Role.CLIENT)
        return self.opened and clients == 1 and self.version >= LEASES_SINCE

    def lease(self, body: Buffer) -> None:
        """Send bytes of the protocol of leases; only when `leasing`."""
        if not self.leasing:
            raise Misuse("messages about leases go between clients and members that know of them")
        self._send(Kind.LEASE, 0, (body,))

    def took(self, size: int) -> None:
        """So many bytes of blobs are no longer in this side's way; the peer may send as many more."""
        self._granted += size
        assert self._granted <= self._taken_in + self._window, "more was taken than came"
        if self._granted - self._announced >= self._window // 4 and self.opened:
            self._say(Kind.CREDIT, Credit(self._granted))
            self._announced = self._granted

    def ping(self, number: int) -> None:
        """Ask for a PONG with this number."""
        self._say(Kind.PING, Ping(number))

    def goaway(self, reason: str) -> None:
        """Take no new requests from now on; see whether `owing` is 0, then close."""
        self._say(Kind.GOAWAY, Farewell(reason))

    def _greeting(self, version: int) -> Greeting:
        me = self.me
        return Greeting(
            me.oldest, me.newest, version, me.cluster, me.node, me.incarnation, me.role, self._window, self._requests,
            me.name, me.epoch,
        )  # fmt: skip

    def _say(self, kind: Kind, message: Greeting | Refusal | Farewell | Ping | Pong | Credit) -> None:
        self._send(kind, 0, (messages.encode(message),))

    def _send(self, kind: Kind, stream: int, parts: tuple[Buffer, ...]) -> None:
        after = TABLE[self.state].get((Way.SEND, kind))
        if after is None:
            raise Misuse(f"{kind.name} cannot be sent when {self.state.value}")
        self._out += frames.encode(self.version, kind, stream, parts)
        self.state = after

    # What comes in.

    def receive(self, data: Buffer, now: int) -> list[Event]:
        """What these bytes of the peer mean; `now` is told in answers to pings (ns since 1970)."""
        return [] if self.closed else self._events(self._parser.feed(data), now)

    def buffer(self) -> memoryview:
        """Where a shell that can receives bytes of the peer; then it says received()."""
        return self._parser.buffer()

    def received(self, count: int, now: int) -> list[Event]:
        """Like receive, of so many bytes that were put into buffer()."""
        return [] if self.closed else self._events(self._parser.filled(count), now)

    def _events(self, found: Iterator[Frame], now: int) -> list[Event]:
        events: list[Event] = []
        try:
            for frame in found:
                event = self._take(frame, now)
                if event is not None:
                    events.append(event)
                if self.closed:
                    break
        except GavelError as problem:  # of the peer's making: BadPeer, or a greeting that cannot be
            if not self.closed:
                self.refuse(problem)
            events.append(Ended(problem))
        return events

    def receive_eof(self) -> list[Event]:
        """The peer sends no more."""
        if self.closed:
            return []
        self.state = State.CLOSED
        return [Ended(BadPeer("it ended in the middle of a message") if self._parser.holding else None)]

    def _take(self, frame: Frame, now: int) -> Event | None:
        kind = frame.kind
        after = TABLE[self.state].get((Way.RECEIVE, kind))
        if after is None:
            raise BadPeer("order of messages", f"one that is allowed when {self.state.value}", kind.name)
        if frame.version != self.version and not (kind is Kind.ERROR and frame.version == GREETING):
            raise BadPeer("version of a frame", self.version, frame.version)
        self.state = after
        match kind:
            case Kind.PEER:
                if self.peer is not None and self.peer.role == Role.CLIENT:
                    raise BadPeer("sender of a message between members", "a member", "a client")
                return Carried(frame.stream, frame.payload)
            case Kind.REQUEST:
                return self._take_request(frame)
            case Kind.RESPONSE:
                return self._take_response(frame)
            case Kind.BLOB:
                return self._take_blob(frame)
            case Kind.LEASE:
                if not self.leasing:
                    raise BadPeer(
                        "message about leases", "one between a client and a member that know of them", kind.name
                    )
                return Leased(frame.payload)
            case Kind.PING:
                clock = now if self.version >= CLOCKS_SINCE else 0
                self._say(Kind.PONG, Pong(messages.decode(Ping, frame.payload).number, clock))
                return None
            case Kind.PONG:
                pong = messages.decode(Pong, frame.payload)
                return Ponged(pong.number, pong.clock)
            case Kind.CREDIT:
                return self._take_credit(messages.decode(Credit, frame.payload))
            case Kind.HELLO:
                return self._take_hello(messages.decode(Greeting, frame.payload))
            case Kind.WELCOME:
                return self._take_welcome(messages.decode(Greeting, frame.payload))
            case Kind.GOAWAY:
                return Farewelled(messages.decode(Farewell, frame.payload).reason)
            case Kind.ERROR:
                return Ended(failures.raised(messages.decode(Refusal, frame.payload)))

    def _take_request(self, frame: Frame) -> Asked:
        if len(frame.payload) < REQUEST_HEAD.size:
            raise BadPeer("length of a request", f"at least {REQUEST_HEAD.size}", len(frame.payload))
        if frame.stream in self._owed or len(self._owed) >= self._requests:
            raise BadPeer("requests under way", f"at most {self._requests}, each once", frame.stream)
        self._owed.add(frame.stream)
        session, seq = REQUEST_HEAD.unpack_from(frame.payload)
        return Asked(frame.stream, session, seq, frame.payload[REQUEST_HEAD.size :])

    def _take_response(self, frame: Frame) -> Answered:
        if frame.stream not in self._asked:
            raise BadPeer("answer", "one to a request under way", frame.stream)
        if not frame.payload or frame.payload[0] > max(Status):
            raise BadPeer("status of an answer", "a known one", bytes(frame.payload[:1]))
        self._asked.discard(frame.stream)
        return Answered(frame.stream, Status(frame.payload[0]), frame.payload[1:])

    def _take_blob(self, frame: Frame) -> Staged:
        size = len(frame.payload) - BLOB_ID_SIZE
        self._taken_in += size
        if size < 0 or self._taken_in > self._announced:
            raise BadPeer("blobs sent ahead", f"at most {self._announced} bytes", self._taken_in)
        return Staged(bytes(frame.payload[:BLOB_ID_SIZE]), frame.payload[BLOB_ID_SIZE:])

    def _take_credit(self, credit: Credit) -> Credited:
        if credit.granted < self._credited:
            raise BadPeer("credit", f"at least {self._credited}", credit.granted)
        self._room += credit.granted - self._credited
        self._credited = credit.granted
        return Credited(self._room)

    def _take_hello(self, peer: Greeting) -> Greeted:
        self._judge(peer)
        self.peer = peer
        return Greeted(peer)

    def _take_welcome(self, peer: Greeting) -> Opened:
        self._judge(peer)
        self.peer = peer
        if peer.version != min(self.me.newest, peer.newest):
            raise BadPeer("version of a welcome", min(self.me.newest, peer.newest), peer.version)
        return self._open(peer.version)

    def _judge(self, peer: Greeting) -> None:
        """Raise what keeps the two sides apart."""
        me = self.me
        if peer.oldest > peer.newest or peer.role not in tuple(Role) or (peer.node == 0) != (peer.role == Role.CLIENT):
            raise BadPeer("greeting", "an identity that can be", peer)
        if max(me.oldest, peer.oldest) > min(me.newest, peer.newest):
            raise NoCommonVersion((me.oldest, me.newest), (peer.oldest, peer.newest))
        if peer.cluster != me.cluster:
            raise WrongCluster(me.cluster, peer.cluster)
        if peer.node and peer.node == me.node:
            raise DoubleIdentity(me.node, me.incarnation, peer.incarnation)

    def _open(self, version: int) -> Opened:
        assert self.peer is not None
        self.version = version
        self._room = self._credited = self.peer.window
        return Opened(self.peer)
