"""Every schedule of a small configuration, over the real cores: explicit-state search.

A global state is what each master is, which messages are under way, and how many proposals, timers and crashes are
left. Every message may be delivered next, or never (it stays under way for ever: loss); in any order; every sync may
end now or later; every master may crash between any two steps. The oracle's properties are looked at in every state.

What makes it quick: masters are deterministic, so (state of a master, event) -> (state, messages) is computed once by
the real code and looked up ever after. Masters' states and messages are numbers, a global state a tuple of them.

Invariant: states of a master are merged only if they are equal in everything a core can see. Global states are told
apart by a 61-bit hash of them: of a million, two are taken for one with a probability of less than one in a million.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

import msgspec

from gavel.effects import Arm, Event, PeerUp, Received, Reply, Requested, Send, Sync, Synced, Ticked
from gavel.quorum.entries import Voted, decode
from gavel.quorum.machine import Committed
from gavel.quorum.messages import ABORT, Body, Member, TxId
from gavel.quorum.quorum import Quorum
from gavel.quorum.requests import Propose
from gavel.quorum.rules import ALL
from gavel.quorum.votes import MASTER
from gavel.sim.client import WALL_US
from gavel.sim.master import Batches, Master
from gavel.sim.oracle import Oracle, Violation
from gavel.sim.store import Log, Store, payload
from gavel.sim.world import MILLISECOND

BEGIN = WALL_US * 1000
WIRE = Batches()
HANDLERS = ("_facts", "_votes")


@dataclass(frozen=True, slots=True)
class Scope:
    """How much may happen. `proposals`: at which master each transaction is proposed; all write one key."""

    masters: int = 3
    proposals: tuple[int, ...] = (1,)
    ticks: int = 0  # timers that fire, each `tick_ms` later than the last at that master; this is what takes over
    tick_ms: int = 200
    crashes: int = 0
    skews: tuple[int, ...] = ()  # by how many ms each master's clock is off
    ticking: tuple[int, ...] = ()  # only these (all if none are named)
    crashing: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()  # masters that hear and say nothing, once greetings are over
    lazy_syncs: bool = False  # syncs end when they like, not at once
    reads: bool = False  # the transactions read the key as well, as of 0
    without: tuple[str, ...] = ()


@dataclass(slots=True)
class Found:
    """What came of a search."""

    states: int
    masters: int  # distinct states of masters
    complete: bool
    violation: str = ""
    schedule: list[str] = field(default_factory=list)


class Local(NamedTuple):
    """A master in one state: how to make it again, and what everybody may know of it."""

    blob: bytes
    ticks: int
    tickets: tuple[int, ...]
    armed: bool
    facts: int  # number of its facts


class Step(NamedTuple):
    """What an event makes of a master."""

    local: int
    sent: tuple[int, ...]
    answered: tuple[int, ...]  # transactions that were acknowledged


class State(NamedTuple):
    """Everything, as numbers."""

    locals: tuple[int, ...]
    flying: frozenset[int]
    proposed: int  # bits: which transactions were begun
    acknowledged: int
    before: tuple[int, ...]  # for each transaction: what was acknowledged when it was begun
    ticks: int
    crashes: int


Way = tuple[str, int, int]  # what happened, at which master, with which message


def _nothing(*_: Any) -> None:
    """Nobody wants to know."""


class _Pickler(pickle.Pickler):
    """Leaves out the tables of handlers, which a core makes anew; they hold functions without a name."""

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is not Quorum:
            return NotImplemented
        state = {name: value for name, value in vars(thing).items() if name not in HANDLERS}
        return object.__new__, (Quorum,), state, None, None, _restore


def _restore(core: Quorum, state: dict[str, Any]) -> None:
    vars(core).update(state)
    core._handlers()


def _dump(master: Master) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, 5).dump(master)
    return buffer.getvalue()


class Explorer:
    """One search."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._rules = replace(ALL, **dict.fromkeys(scope.without, False))
        self._founding = [Member(node, MASTER) for node in range(1, scope.masters + 1)]
        self._locals: list[Local] = []
        self._local_of: dict[Any, int] = {}
        self._messages: list[tuple[int, int, bytes]] = []
        self._wordless: list[bool] = []  # batches that only vouch; they arrive at once
        self._message_of: dict[tuple[int, int, bytes], int] = {}
        self._facts: list[tuple[Any, ...]] = []
        self._facts_of: dict[tuple[Any, ...], int] = {}
        self._steps: dict[tuple[int, Any], Step] = {}
        self._judged: dict[tuple[int, ...], dict[int, int]] = {}
        self.txids = [TxId(BEGIN // 1000 << 8, b"%016d" % n, n, node) for n, node in enumerate(scope.proposals)]

    # -- one master --------------------------------------------------------------------------------------------

    def _intern(self, master: Master, node: int, ticks: int, tickets: list[int], armed: bool) -> int:
        seen: dict[int, int] = {}
        key = (node, ticks, tuple(tickets), armed, freeze(master, seen))
        number = self._local_of.get(key)
        if number is None:
            number = self._local_of[key] = len(self._locals)
            facts = self._intern_facts(master)
            self._locals.append(Local(_dump(master), ticks, tuple(tickets), armed, facts))
        return number

    def _intern_facts(self, master: Master) -> int:
        votes = []
        for kind, what in master.log.entries[: master.log.durable]:
            if kind == "quorum":
                votes += [(e.ballot, e.tx, e.value) for e in decode(what).entries if type(e) is Voted]
        done = tuple((tid, txid, outcome) for tid, txid, outcome, _ in master.store.events)
        facts = (tuple(sorted(set(votes))), done, master.quorum.stable)
        number = self._facts_of.get(facts)
        if number is None:
            number = self._facts_of[facts] = len(self._facts)
            self._facts.append(facts)
        return number

    def _now(self, node: int, ticks: int) -> int:
        skew = self.scope.skews[node - 1] if self.scope.skews else 0
        return BEGIN + (skew + ticks * self.scope.tick_ms) * MILLISECOND

    def _carry_out(self, master: Master, node: int, ticks: int, tickets: list[int], armed: bool) -> Step:
        sent: list[int] = []
        answered: list[int] = []
        now = self._now(node, ticks)
        while True:
            for effect in master.drain():
                if type(effect) is Send:
                    letter = (node, effect.peer, WIRE.encode(effect.message))
                    if letter not in self._message_of:
                        self._message_of[letter] = len(self._messages)
                        self._messages.append(letter)
                        self._wordless.append(not effect.message.messages)
                    sent.append(self._message_of[letter])
                elif type(effect) is Sync:
                    tickets.append(effect.ticket)
                elif type(effect) is Arm:
                    armed = True
                elif type(effect) is Reply and isinstance(effect.result, Committed):
                    answered.append(effect.request.ticket)
            if self.scope.lazy_syncs or not tickets:
                break
            master.log.end_sync(master.log.begin_sync())
            master.step(Synced(tickets.pop(0)), now)
        return Step(self._intern(master, node, ticks, tickets, armed), tuple(sent), tuple(answered))

    def _boot(self, node: int, log: Log, ticks: int) -> Step:
        store = Store(log, _nothing, _nothing)
        master = Master(node, log, store, self._founding, self._rules, self._now(node, ticks))
        others = [member.node for member in self._founding if member.node != node]
        tickets: list[int] = []
        step = self._carry_out(master, node, ticks, tickets, False)
        sent = list(step.sent)
        for other in others:
            master.step(PeerUp(other), self._now(node, ticks))
            step = self._carry_out(master, node, ticks, tickets, self._locals[step.local].armed)
            sent += step.sent
        return Step(step.local, tuple(sent), ())

    def _crash(self, local: int, node: int) -> Step:
        known = self._steps.get((local, "crash"))
        if known is None:
            was = self._locals[local]
            master: Master = pickle.loads(was.blob)
            log = Log(Random(0))
            log.entries = master.log.entries[: master.log.durable]
            log.durable = len(log.entries)
            known = self._steps[local, "crash"] = self._boot(node, log, was.ticks)
        return known

    def _step(self, local: int, node: int, label: Any, event: Event, ticks: int = 0) -> Step:
        known = self._steps.get((local, label))
        if known is None:
            was = self._locals[local]
            master: Master = pickle.loads(was.blob)
            tickets = list(was.tickets)
            if type(event) is Synced:
                tickets.remove(event.ticket)
                master.log.end_sync(master.log.begin_sync())
            ticks += was.ticks
            master.step(event, self._now(node, ticks))
            armed = was.armed and type(event) is not Ticked
            known = self._steps[local, label] = self._carry_out(master, node, ticks, tickets, armed)
        return known

    # -- all of them -------------------------------------------------------------------------------------------

    def _beginning(self) -> State:
        """All masters started, connected, and at rest: what they have to say to each other at first is said."""
        locals_: list[int] = []
        flying: list[int] = []
        for member in self._founding:
            step = self._boot(member.node, Log(Random(0)), 0)
            locals_.append(step.local)
            flying += step.sent
        lazy, self.scope = self.scope.lazy_syncs, replace(self.scope, lazy_syncs=False)
        rounds = 0
        while flying and rounds < 200:
            source, target, data = self._messages[flying.pop(0)]
            event = Received(source, WIRE.decode(data))
            step = self._step(locals_[target - 1], target, ("beginning", source, data), event)
            locals_[target - 1] = step.local
            flying += step.sent
            rounds += 1
        self.scope = replace(self.scope, lazy_syncs=lazy)
        self._steps.clear()
        count = len(self.scope.proposals)
        return State(tuple(locals_), frozenset(flying), 0, 0, (0,) * count, self.scope.ticks, self.scope.crashes)

    def _after(self, state: State, node: int, step: Step, taken: int | None = None) -> State:
        locals_ = (*state.locals[: node - 1], step.local, *state.locals[node:])
        flying = state.flying
        if taken is not None:
            flying = flying - {taken}
        sent = step.sent
        if self.scope.silent:
            sent = tuple([letter for letter in sent if self._messages[letter][1] not in self.scope.silent])
        if sent:
            flying = flying.union(sent)
        acknowledged = state.acknowledged
        for ticket in step.answered:
            acknowledged |= 1 << ticket - 1
        _, _, proposed, _, before, ticks, crashes = state
        after = State(locals_, flying, proposed, acknowledged, before, ticks, crashes)
        for letter in sent:
            if self._wordless[letter]:
                target = self._messages[letter][1]
                after = self._after(after, target, self._receive(after.locals[target - 1], letter), letter)
        return after

    def _receive(self, local: int, letter: int) -> Step:
        known = self._steps.get((local, letter))
        if known is None:
            source, target, data = self._messages[letter]
            known = self._step(local, target, letter, Received(source, WIRE.decode(data)))
        return known

    def _successors(self, state: State) -> Iterator[tuple[Way, State]]:
        for number, node in enumerate(self.scope.proposals):
            if not state.proposed >> number & 1:
                step = self._step(state.locals[node - 1], node, ("propose", number), self._proposal(number))
                before = (*state.before[:number], state.acknowledged, *state.before[number + 1 :])
                after = self._after(state, node, step)
                yield ("proposes", node, number), after._replace(proposed=state.proposed | 1 << number, before=before)
        for letter in state.flying:
            target = self._messages[letter][1]
            step = self._receive(state.locals[target - 1], letter)
            yield ("receives", target, letter), self._after(state, target, step, letter)
        for index, local in enumerate(state.locals):
            node, was = index + 1, self._locals[local]
            for ticket in was.tickets:
                step = self._step(local, node, ("synced", ticket), Synced(ticket))
                yield ("has synced", node, -1), self._after(state, node, step)
            if state.ticks and was.armed and (not self.scope.ticking or node in self.scope.ticking):
                step = self._step(local, node, "tick", Ticked(), ticks=1)
                yield ("ticks", node, -1), self._after(state, node, step)._replace(ticks=state.ticks - 1)
            if state.crashes and (not self.scope.crashing or node in self.scope.crashing):
                after = self._greeted(self._after(state, node, step := self._crash(local, node)), step.sent)
                yield ("crashes", node, -1), after._replace(crashes=state.crashes - 1)

    def _greeted(self, state: State, letters: tuple[int, ...]) -> State:
        """What a restarted master and its peers have to say at first is said at once: new streams of vouches."""
        queue = list(letters)
        while queue:
            letter = queue.pop(0)
            if letter not in state.flying:
                continue
            target = self._messages[letter][1]
            step = self._receive(state.locals[target - 1], letter)
            state = self._after(state, target, step, letter)
            queue += step.sent
        return state

    def _proposal(self, number: int) -> Requested:
        reads = [(b"k", b"k\0", 0)] if self.scope.reads else []
        body = Body(reads, [b"k"], [], payload({b"k": b"%d" % number}))
        return Requested(Propose(number + 1, self.txids[number], body))

    # -- judging -----------------------------------------------------------------------------------------------

    def _judge(self, state: State) -> None:
        """Raise Violation if the state breaks a property."""
        facts = tuple(self._locals[local].facts for local in state.locals)
        chosen = self._judged.get(facts)
        if chosen is None:
            chosen = self._judged[facts] = self._chosen(facts)
        for number, before in enumerate(state.before):
            tid = chosen.get(number, ABORT)
            if tid != ABORT and before:
                for other, its in chosen.items():
                    if before >> other & 1 and its >= tid:
                        raise Violation("real time", f"{other} at {its:x} was acknowledged before {number} at {tid:x}")

    def _chosen(self, facts: tuple[int, ...]) -> dict[int, int]:
        oracle = Oracle(ABORT)
        voters = range(1, self.scope.masters + 1)
        for node, number in zip(voters, facts, strict=True):
            for ballot, txid, value in self._facts[number][0]:
                oracle.voted(node, 0, voters, ballot, txid, value)
        for node, number in zip(voters, facts, strict=True):
            _, done, stable = self._facts[number]
            for tid, txid, outcome in done:
                oracle.executed(node, tid, txid, outcome)
            oracle.reached(node, stable)
        return {self.txids.index(txid): value for txid, value in oracle.chosen.items()}

    # -- the search --------------------------------------------------------------------------------------------

    def run(self, most: int = 10_000_000) -> Found:
        """Search all of it, or `most` states."""
        first = self._beginning()
        came: dict[int, tuple[int, Way]] = {}  # by the hash of a state: from which it was reached, and how
        stack = [first]
        while stack:
            if len(came) >= most:
                return Found(len(came), len(self._locals), False)
            state = stack.pop()
            origin = hash(state)
            for way, after in self._successors(state):
                number = hash(after)
                if number in came:
                    continue
                came[number] = (origin, way)
                try:
                    self._judge(after)
                except Violation as found:
                    schedule = self._schedule(came, number, hash(first))
                    return Found(len(came), len(self._locals), True, str(found), schedule)
                stack.append(after)
        return Found(len(came), len(self._locals), True)

    def _schedule(self, came: dict[int, tuple[int, Way]], number: int, first: int) -> list[str]:
        lines: list[str] = []
        while number != first:
            number, (what, node, letter) = came[number]
            told = ""
            if what == "receives":
                source, _, data = self._messages[letter]
                told = f" from n{source}  {WIRE.describe(WIRE.decode(data))}"
            lines.append(f"n{node} {what}{told}")
        return lines[::-1]


def freeze(thing: Any, seen: dict[int, int]) -> Any:
    """A value that is equal for equal states: objects as their class and fields, containers in their order."""
    kind = type(thing)
    if kind in (int, bytes, str, bool, type(None), float) or callable(thing):
        return thing if not callable(thing) else None
    if isinstance(thing, msgspec.Struct):
        return kind.__name__, msgspec.msgpack.encode(thing)
    if isinstance(thing, tuple | list):
        return tuple([freeze(one, seen) for one in thing])
    if isinstance(thing, dict):
        return "dict", tuple([(freeze(key, seen), freeze(value, seen)) for key, value in thing.items()])
    if isinstance(thing, set | frozenset):
        return "set", tuple(sorted(freeze(one, seen) for one in thing))
    if isinstance(thing, Random):
        return None
    if id(thing) in seen:
        return "again", seen[id(thing)]
    seen[id(thing)] = len(seen)
    names = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
    names += list(getattr(thing, "__dict__", ()))
    return kind.__name__, tuple([(name, freeze(getattr(thing, name, None), seen)) for name in names])
