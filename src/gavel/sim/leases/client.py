"""A simulated client with leases: the real holder, and the smallest cache that can sit on it.

It reads and writes single keys: from what it holds when a lease covers it, else it asks; writes gather as dirty groups,
which are flushed as transactions that name the tokens they were written under. Beside that it reads and writes without
leases. What is drawn: what to do next, and when to flush.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from gavel.coherency.holder import Answered, Denied, Established, Holder, Lapsed, Recalled, Tokens, ToMaster
from gavel.coherency.messages import NONE, FromClient, FromMaster, S, Want, X
from gavel.coherency.rules import ALL, Rules
from gavel.errors import Forgotten, GavelError
from gavel.keys.ranges import just
from gavel.keys.tid import make
from gavel.quorum.machine import Aborted, Admission, Committed
from gavel.quorum.messages import Body, TxId
from gavel.quorum.requests import Propose
from gavel.sim.client import WALL_US, Shown, View
from gavel.sim.clock import HostClock
from gavel.sim.leases.history import History, Read, Write
from gavel.sim.leases.master import TOKENS
from gavel.sim.leases.plan import Habits, LeasePlan
from gavel.sim.oracle import Violation
from gavel.sim.store import payload
from gavel.sim.world import MILLISECOND, World

OPEN: Final = 2**64 - 1
ASK_AGAIN: Final = 400 * MILLISECOND
AGAIN: Final = 10 * MILLISECOND  # before something refused for a while is tried again, twice that at most

Send = Callable[["LeaseClient", int, Any], None]


@dataclass(slots=True)
class Record:
    """A key's value, which was true from one tid to another; OPEN: as long as a lease stands."""

    value: bytes | None
    since: int
    upto: int


@dataclass(slots=True)
class Group:
    """Writes under the same tokens; the values of each key in order, of which the last counts."""

    tokens: Tokens | None
    values: dict[bytes, list[bytes]] = field(default_factory=dict)
    known: int = 0  # as of when what it wrote over was current
    limbo: bool = False  # the lease lapsed under it
    txid: TxId | None = None  # under way
    done: Callable[[bool], None] | None = None


class Operation:
    """What the client is at."""

    def __init__(self, kind: str, key: bytes, began: int) -> None:
        self.kind, self.key, self.began = kind, key, began
        self.asked: int | None = None  # number of its last ask
        self.open = False  # which is not answered
        self.looking = False


class LeaseClient:
    """One client; `send(client, node, what)` puts lease messages or a request on its way to a master."""

    def __init__(self, world: World, number: int, plan: LeasePlan, history: History, keys: list[bytes], send: Send):
        self.name = f"c{number}"
        self.number = number
        self.over = False  # begin nothing more of its own accord
        self.left = 0  # operations to do yet when it is over
        self.stopped = False
        self.clock = HostClock(world)
        self.flights: dict[TxId, Group] = {}  # all there ever were
        self.holds: Callable[[LeaseClient, bytes, int], None] = lambda client, key, mode: None
        self._world, self._plan, self._history, self._keys, self._send = world, plan, history, keys, send
        self._random = world.stream(f"client {number}")
        self._rules: Rules = replace(ALL, **{r: False for r in sorted(plan.without) if hasattr(ALL, r)})
        usual = Habits()
        self._habits = replace(usual, **{r: False for r in sorted(plan.without) if hasattr(usual, r)})
        self._inbox: list[tuple[int, Any]] = []
        self._tickets = 0
        self._written = 0
        self._life = 0
        self.start()

    # -- the process -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with nothing, as a new session."""
        self._life += 1
        self.session = self._random.randbytes(16)
        self.holder = Holder(self.session, self._rules)
        self.operation: Operation | None = None
        self.groups: list[Group] = []  # dirty, the oldest first
        self._data: dict[bytes, Record] = {}
        self._newest: dict[bytes, int] = {}  # a tid that what is held of a key must be as new as
        self._turn: dict[bytes, int] = {}  # counts what ends, or begins, the currency of a key
        self._owed: dict[int, tuple[bytes, bytes]] = {}  # recalls that wait for a flush
        self._calls: dict[int, tuple[Any, Callable[[Any], None]]] = {}
        self._direct: dict[bytes, int] = {}  # own transactions without a lease that are under way, by key
        self._seq = 0
        self._ticking = -1
        self._highest = 0  # tid that was seen or written

    def quit(self) -> None:
        """The process ends. What was dirty dies with it; what is under way may still happen."""
        for group in self.groups:
            for values in group.values.values():
                for value in values:
                    write = self._history.writes[value]
                    write.reported = group.txid is None
                    write.died = group.txid is not None
        self._world.tell(self.name, "quits")
        self.start()

    def begin(self) -> None:
        """Connect, and begin to work."""
        for node in range(1, self._plan.masters + 1):
            self.holder.connected(node, self.clock.now())
        self._settle()
        self._world.after(1 + self._random.randrange(2 * self._plan.think), self._next, self._life)

    def flap(self, node: int) -> None:
        """A connection is closed, and opened again."""
        self.holder.disconnected(node)
        self.holder.connected(node, self.clock.now())
        self._settle()

    def resume(self) -> None:
        """Go on after a stop; what waited comes at once."""
        self.stopped = False
        inbox, self._inbox = self._inbox, []
        for node, what in inbox:
            self.receive(node, what)
        self._tick(self._life, self._ticking)

    def receive(self, node: int, what: Any) -> None:
        """Lease messages (a list) or an answer (ticket, result) of a master."""
        if self.stopped:
            self._inbox.append((node, what))
        elif isinstance(what, list):
            message: FromMaster
            for message in what:
                self.holder.hear(node, message, self.clock.now())
            self._settle()
        else:
            ticket, result = what
            call = self._calls.pop(ticket, None)
            if call is not None:
                if isinstance(result, GavelError) and not isinstance(result, Forgotten):
                    self._ask(*call)
                else:
                    call[1](result)
                self._settle()

    def _tick(self, life: int, due: int) -> None:
        if life == self._life and due == self._ticking and not self.stopped:
            self._ticking = -1
            self._world.happened(b"%d tick" % self.number)
            self.holder.tick(self.clock.now())
            self._settle()

    def _settle(self) -> None:
        """Carry out what the holder wants, and go on with what can go on."""
        while events := self.holder.drain():
            said: dict[int, list[FromClient]] = {}
            for event in events:
                if isinstance(event, ToMaster):
                    said.setdefault(event.master, []).append(event.message)
                else:
                    self._world.tell(self.name, str(event))
                    self._event(event)
            for node, messages in said.items():
                self._send(self, node, messages)
        self._run()
        if self.holder.wake_at is not None:
            when = self._world.now + self.clock.true_delay(self.holder.wake_at - self.clock.now())
            if self._ticking < 0 or when < self._ticking:
                self._ticking = when
                self._world.at(when, self._tick, self._life, when)

    # -- what the holder says ----------------------------------------------------------------------------------

    def _event(self, event: Any) -> None:
        now = self.clock.now()
        operation = self.operation
        if isinstance(event, Established):
            if operation is not None and operation.asked == event.number:
                operation.open = False
            for lo, hi, _, tid in event.ranges:
                for key in self._within(lo, hi):
                    self._gain(key, tid)
        elif isinstance(event, Recalled):
            for lo, hi in event.ranges:
                for key in self._within(lo, hi):
                    if event.to == NONE:
                        self._cap(key, self.holder.known)
                if self._dirty_in(lo, hi) and self._habits.flush_first:
                    self._owed[event.recall] = lo, hi
                    self._flush()
                else:
                    self.holder.released(event.recall, self._highest, now)
        elif isinstance(event, Lapsed):
            for lo, hi, mode in event.ranges:
                for key in self._within(lo, hi):
                    if mode == NONE:
                        self._cap(key, event.tid)
                    for group in self.groups:
                        group.limbo |= key in group.values
        elif isinstance(event, Answered):
            if operation is not None and operation.asked == event.number:
                operation.open = False
                self._answered(operation, event.tid)
        else:
            assert isinstance(event, Denied)
            raise Violation("denied", f"{self.name} was refused an ask that makes sense ({event.why})")

    def _within(self, lo: bytes, hi: bytes) -> list[bytes]:
        return [key for key in self._keys if lo <= key < hi]

    def _gain(self, key: bytes, tid: int) -> None:
        self._turn[key] = self._turn.get(key, 0) + 1
        record = self._data.get(key)
        if record is not None and record.upto >= tid:
            record.upto = OPEN
        self._newest[key] = max(self._newest.get(key, 0), tid)

    def _cap(self, key: bytes, tid: int) -> None:
        self._turn[key] = self._turn.get(key, 0) + 1
        record = self._data.get(key)
        if record is not None and record.upto == OPEN and self._habits.cap:
            record.upto = max(record.since, tid)

    @property
    def busy(self) -> bool:
        """Whether something is under way, or dirty."""
        return bool(self.operation or self.groups or self._owed or any(self._direct.values()))

    def waits_for(self) -> str:
        """What, for people."""
        at = self.operation
        what = "" if at is None else f" {at.kind} {at.key[-2:]!r} since {at.began / 1e6:.0f} ms"
        return f"{self.name}:{what}, {len(self.groups)} dirty, {len(self._owed)} recalls, direct {self._direct}"

    def _dirty_in(self, lo: bytes, hi: bytes) -> bool:
        return any(lo <= key < hi for group in self.groups for key in group.values)

    # -- operations --------------------------------------------------------------------------------------------

    def _next(self, life: int) -> None:
        if life != self._life:
            return
        self._world.after(1 + self._random.randrange(2 * self._plan.think), self._next, life)
        if self.stopped or self.operation is not None:
            return
        if self.over:
            if not self.left:
                return
            self.left -= 1
        random, plan = self._random.randrange, self._plan
        key = self._random.choice(self._keys)
        kind = "write" if random(100) < plan.writes else "read"
        if random(100) < plan.direct:
            kind = "direct " + kind
        elif random(100) < plan.fsyncs:
            kind = "fsync"
        self.operation = Operation(kind, key, self._world.now)
        if random(100) < 5:
            self._flush()
        self._settle()

    def _blocked(self, key: bytes) -> bool:
        """Whether what is there cannot be known at the moment."""
        if self._direct.get(key) and self._habits.own_blocked:
            return True
        return self._habits.limbo and any(group.limbo and key in group.values for group in self.groups)

    def _run(self) -> None:
        """Go on with the operation, if there is one and nothing it waits for is missing."""
        operation = self.operation
        if operation is None or operation.looking or operation.open:
            return
        if operation.kind == "fsync":
            if self.groups:
                self._flush()
            else:
                self._over(operation)
        elif not self._blocked(operation.key):
            getattr(self, "_" + operation.kind.replace(" ", "_"))(operation)

    def _over(self, operation: Operation) -> None:
        self.operation = None
        if operation.asked is not None:
            self.holder.done(operation.asked, self.clock.now())

    def _need(self, operation: Operation, mode: int, hold: bool = True) -> None:
        want = Want(*just(operation.key), mode)
        former, now = operation.asked, self.clock.now()
        operation.asked = self.holder.need([want], now, after=former, hold=hold)
        operation.open = True
        if former is not None:
            self.holder.done(former, now)
        self._world.at(self._world.now, self._later, self._life)

    def _later(self, life: int) -> None:
        if life == self._life and not self.stopped:
            self._settle()

    def _valid(self) -> bool:
        return self.clock.now() < self.holder.valid_until

    def _read(self, operation: Operation) -> None:
        key = operation.key
        seen = [group for group in self.groups if self._habits.limbo or not group.limbo]
        dirty = [group.values[key][-1] for group in seen if key in group.values]
        record = self._data.get(key)
        if dirty and self.holder.covers(*just(key), S):
            self._take(operation, dirty[-1])
        elif record is not None and record.upto == OPEN:
            self._take(operation, record.value)
        elif self.holder.covers(*just(key), S):
            self._look(operation, self._newest.get(key, 0), lease=True)
        else:
            self._need(operation, S)

    def _take(self, operation: Operation, value: bytes | None) -> None:
        """A value under a lease: it counts if the lease still does now."""
        if not self._valid():
            self.holder.tick(self.clock.now())
            self._world.after(MILLISECOND, self._later, self._life)
            return
        self.holds(self, operation.key, S)
        self._seen(operation, value)

    def _seen(self, operation: Operation, value: bytes | None) -> None:
        now = self._world.now
        self._history.reads.append(Read(operation.key, value, self.name, operation.began, now))
        self._world.tell(self.name, f"reads {operation.key[-2:]!r} {value!r}")
        self._over(operation)

    def _write(self, operation: Operation) -> None:
        tokens = self.holder.tokens([just(operation.key)])
        if tokens is None or not self._valid():
            if tokens is None:
                self._need(operation, X)
            else:
                self.holder.tick(self.clock.now())
                self._world.after(MILLISECOND, self._later, self._life)
            return
        self.holds(self, operation.key, X)
        value = self._value()
        self._history.writes[value] = Write(operation.key, self.name, operation.began, self._world.now)
        if not self.groups or self.groups[-1].tokens != tokens or self.groups[-1].txid or self.groups[-1].limbo:
            self.groups.append(Group(tokens))
        group = self.groups[-1]
        group.values.setdefault(operation.key, []).append(value)
        group.known = max(self.holder.known, self._highest)
        self._world.tell(self.name, f"writes {operation.key[-2:]!r} {value!r}")
        self._over(operation)

    def _value(self) -> bytes:
        self._written += 1
        return b"%s.%d" % (self.name.encode(), self._written)

    def _direct_read(self, operation: Operation) -> None:
        if any(operation.key in group.values for group in self.groups):
            self._flush()
        else:
            self._need(operation, S, hold=False)

    def _answered(self, operation: Operation, tid: int) -> None:
        if operation.kind.endswith("read"):
            self._look(operation, tid, lease=False)
        else:
            self._direct_write(operation)

    def _direct_write(self, operation: Operation) -> None:
        if any(operation.key in group.values for group in self.groups):
            self._flush()
            return
        value, key = self._value(), operation.key
        self._history.writes[value] = Write(key, self.name, operation.began)
        self._direct[key] = self._direct.get(key, 0) + 1

        def done(committed: bool) -> None:
            self._direct[key] -= 1
            if committed:
                self._history.writes[value].ended = self._world.now

        self._commit(Group(None, {key: [value]}, done=done))
        self._over(operation)

    def _look(self, operation: Operation, tid: int, lease: bool) -> None:
        """Have a master tell the value, as of this tid; current as long as the lease stands, if there is one."""
        key, turn = operation.key, self._turn.get(operation.key, 0)
        tid = max(tid, self._highest)
        operation.looking = True

        def took(shown: Shown) -> None:
            operation.looking = False
            value = shown.rows[0][0][1] if shown.rows[0] else None
            self._highest = max(self._highest, shown.tid)
            if not lease:
                self._seen(operation, value)
                return
            known = self._data.get(key)
            if known is None or known.upto <= shown.tid:
                still = turn == self._turn.get(key, 0) and self.holder.covers(*just(key), S)
                self._data[key] = Record(value, shown.tid, OPEN if still else shown.tid)

        self._ask(lambda ticket: View(ticket, (just(key),), False, tid), took)

    # -- flushing ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Have everything flushed that is dirty, step by step."""
        if not self.stopped:
            self._flush()

    def _flush(self) -> None:
        """Have the oldest group committed, unless one is under way."""
        if self.groups and self.groups[0].txid is None and not self.groups[0].done:
            self.groups[0].done = lambda committed: None
            self._commit(self.groups[0])

    def _commit(self, group: Group) -> None:
        self._seq += 1
        born = make(WALL_US + self._world.now // 1000)
        txid = TxId(born, self.session, self._seq, 1 + self._random.randrange(self._plan.masters))
        writes: dict[bytes, bytes | None] = {key: values[-1] for key, values in group.values.items()}
        keys = sorted(writes)
        if group.tokens is not None:
            writes[TOKENS] = msgspec.msgpack.encode(group.tokens)
        reads = [(*just(key), group.known) for key in keys] if self._plan.certify and group.tokens is not None else []
        body = Body(reads, keys, [], payload(writes))
        group.txid = txid
        self.flights[txid] = group
        self._ask(lambda ticket: Propose(ticket, txid, body), lambda result: self._ended(group, result))

    def _ended(self, group: Group, result: Any) -> None:
        self._world.tell(self.name, f"{group.values} {result}")
        if isinstance(result, Aborted) and result.cause is not Admission.FENCED:
            self._world.after(AGAIN + self._random.randrange(AGAIN), self._commit_again, self._life, group)
            return
        committed = isinstance(result, Committed)
        if isinstance(result, Committed):
            self._highest = max(self._highest, result.tid)
        for key, values in group.values.items():
            if isinstance(result, Committed):
                self._wrote(key, values[-1], result.tid)
            else:
                for value in values:
                    self._history.writes[value].reported = not isinstance(result, Forgotten)
                    self._history.writes[value].died = isinstance(result, Forgotten)
                self._data.pop(key, None)
        if group in self.groups:
            self.groups.remove(group)
        if group.done is not None:
            group.done(committed)
        for recall, (lo, hi) in list(self._owed.items()):
            if not self._dirty_in(lo, hi):
                del self._owed[recall]
                self.holder.released(recall, self._highest, self.clock.now())
        if self._owed:
            self._flush()

    def _wrote(self, key: bytes, value: bytes, tid: int) -> None:
        """An own transaction is in the masters: so is what is held of the key, if a lease says that it is current."""
        record = self._data.get(key)
        current = self.holder.covers(*just(key), S) and self._newest.get(key, 0) <= tid
        if record is None or record.since < tid:
            self._data[key] = Record(value, tid, OPEN if current else tid)
        self._newest[key] = max(self._newest.get(key, 0), tid)

    def _commit_again(self, life: int, group: Group) -> None:
        if life == self._life and self.stopped:
            self._world.after(AGAIN, self._commit_again, life, group)
        elif life == self._life:
            self._commit(group)

    def _ask(self, request: Callable[[int], Any], took: Callable[[Any], None]) -> None:
        """Ask some master, and another one if there is no answer."""
        self._tickets += 1
        ticket = self.number << 32 | self._tickets
        self._calls[ticket] = request, took
        self._send(self, 1 + self._random.randrange(self._plan.masters), request(ticket))
        self._world.after(ASK_AGAIN, self._give_up, self._life, ticket)

    def _give_up(self, life: int, ticket: int) -> None:
        if life == self._life and self.stopped:
            self._world.after(ASK_AGAIN, self._give_up, life, ticket)
            return
        call = self._calls.pop(ticket, None) if life == self._life else None
        if call is not None:
            self._ask(*call)
