"""A stage for directed schedules: real cores over toy stores, and nothing moves unless the script says so.

Messages wait on their link until `deliver`, syncs until `sync` (or happen by themselves, `syncs=True`), time until
`advance`. The oracle watches: whoever breaks agreement, stability or prefix raises Violation at that step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any

from gavel.effects import Arm, Observe, PeerDown, PeerUp, Received, Reply, Requested, Send, Sync, Synced, Ticked
from gavel.quorum.machine import Admission
from gavel.quorum.messages import ABORT, Batch, Body, Member, TxId
from gavel.quorum.requests import Arrived, Propose, ReadPoint, Reconfigure
from gavel.quorum.rules import ALL
from gavel.quorum.votes import MASTER
from gavel.sim.client import WALL_US
from gavel.sim.master import Batches, Master
from gavel.sim.oracle import Oracle
from gavel.sim.scribe import Scribe
from gavel.sim.store import Log, Store, Writes, payload

MS = 1_000_000
WIRE = Batches()


class Actor:
    """One master: its process (or none), its log, what it has asked for."""

    def __init__(self, node: int, log: Log) -> None:
        self.node = node
        self.log = log
        self.master: Master | None = None
        self.store: Store | None = None
        self.tickets: list[int] = []
        self.mark: Any = None
        self.armed: int | None = None
        self.skew = 0


class Stage:
    """`masters` vote from the beginning; `spares` are there and know nothing."""

    def __init__(self, masters: int = 3, spares: int = 0, without: Iterable[str] = (), syncs: bool = True) -> None:
        self.now = WALL_US * 1000
        self.syncs = syncs
        self.oracle = Oracle(ABORT)
        self.founding = [Member(node, MASTER) for node in range(1, masters + 1)]
        self.rules = replace(ALL, **dict.fromkeys(without, False))
        self.links: dict[tuple[int, int], list[bytes]] = {}
        self.results: dict[int, Any] = {}  # ticket -> answer
        self.refusing: dict[int, Admission] = {}  # node -> what its machine says about every proposal
        self.script: list[str] = []
        self._random = Random(1)
        self._tickets = 0
        self._actors: dict[int, Actor] = {}
        for node in range(1, masters + spares + 1):
            log = Log(Random(f"stage {node}"))
            Scribe(node, log, self.oracle, self.founding if node <= masters else [])
            self._actors[node] = Actor(node, log)
        for node in self._actors:
            self.start(node)
        for node in self._actors:
            self.connect(node)
        self.settle()

    # -- processes ---------------------------------------------------------------------------------------------

    def master(self, node: int) -> Master:
        """The process on a node."""
        master = self._actors[node].master
        assert master is not None, f"n{node} is down"
        return master

    def start(self, node: int) -> None:
        """Start a process from what its log holds."""
        actor = self._actors[node]
        founding = self.founding if node <= len(self.founding) else []
        actor.store = Store(
            actor.log,
            lambda tid, txid, outcome: self.oracle.executed(node, tid, txid, outcome),
            lambda blob: None,
            lambda txid: self._admits(node, txid),
            lambda txid: self.oracle.ended(node, txid),
        )
        actor.master = Master(node, actor.log, actor.store, founding, self.rules, self.now + actor.skew)
        self.oracle.restarted(node, actor.store.applied_tid, actor.master.quorum.stable)
        self._carry_out(actor)

    def _admits(self, node: int, txid: TxId) -> Admission:
        found = self.refusing.get(node, Admission.GO)
        if found is Admission.GO:
            self.oracle.admitted(node, txid)
        return found

    def connect(self, node: int) -> None:
        """Let a node and all others that run see each other."""
        for other in self._actors:
            if other != node and self._actors[other].master is not None:
                self.step(node, PeerUp(other))
                self.step(other, PeerUp(node))

    def part(self, node: int, *others: int) -> None:
        """Let a node and others lose sight of each other, and what is under way between them."""
        for other in others:
            for one, peer in ((node, other), (other, node)):
                self.drop(one, peer)
                self.step(one, PeerDown(peer))

    def crash(self, node: int, notice: bool = True, keep: bool = False) -> None:
        """End a process; what it has not synced is lost (`keep`: survives by luck)."""
        actor = self._actors[node]
        if keep:
            actor.log.end_sync(actor.log.begin_sync())
        del actor.log.entries[actor.log.durable :]
        actor.master, actor.tickets, actor.mark, actor.armed = None, [], None, None
        for other in self._actors:
            if notice and other != node and self._actors[other].master is not None:
                self.step(other, PeerDown(node))

    def restart(self, node: int, notice: bool = True) -> None:
        """Crash, start, connect."""
        if self._actors[node].master is not None:
            self.crash(node, notice)
        self.start(node)
        self.connect(node)

    def copy(self, node: int) -> list[Any]:
        """A copy of a volume, as it is durable now."""
        log = self._actors[node].log
        return list(log.entries[: log.durable])

    def put_back(self, node: int, copy: list[Any]) -> None:
        """Put an old copy in the place of a volume."""
        log = self._actors[node].log
        log.entries[:] = copy
        log.durable = len(copy)

    def skew(self, node: int, milliseconds: float) -> None:
        """Let a node's clock be off by so much."""
        self._actors[node].skew = int(milliseconds * MS)

    # -- steps -------------------------------------------------------------------------------------------------

    def step(self, node: int, event: Any) -> None:
        """Step one core, and carry out what comes of it."""
        actor = self._actors[node]
        if actor.master is not None:
            actor.master.step(event, self.now + actor.skew)
            self._carry_out(actor)

    def _carry_out(self, actor: Actor) -> None:
        assert actor.master is not None
        for effect in actor.master.drain():
            if isinstance(effect, Send):
                self.links.setdefault((actor.node, effect.peer), []).append(WIRE.encode(effect.message))
            elif isinstance(effect, Sync):
                actor.tickets.append(effect.ticket)
                actor.mark = actor.log.begin_sync()
            elif isinstance(effect, Arm):
                actor.armed = effect.at - actor.skew  # a clock that is set moves no timer
            elif isinstance(effect, Reply):
                self.results[effect.request.ticket] = effect.result
            else:
                assert isinstance(effect, Observe)
        self.oracle.reached(actor.node, actor.master.quorum.stable)
        if self.syncs and actor.tickets:
            self.sync(actor.node)

    def sync(self, node: int) -> None:
        """Let the syncs that a node waits for be done."""
        actor = self._actors[node]
        tickets, actor.tickets = actor.tickets, []
        if tickets:
            actor.log.end_sync(actor.mark)
        for ticket in tickets:
            self.step(node, Synced(ticket))

    def advance(self, milliseconds: int, nodes: Iterable[int] | None = None, step: int = 1) -> None:
        """Let time pass, step by step, with a Ticked for everybody (or these) whose timer is due."""
        among = list(self._actors) if nodes is None else list(nodes)
        for _ in range(max(1, milliseconds // step)):
            self.now += step * MS
            for node in among:
                actor = self._actors[node]
                if actor.master is not None and actor.armed is not None and actor.armed <= self.now:
                    actor.armed = None
                    self.step(node, Ticked())

    # -- messages ----------------------------------------------------------------------------------------------

    def waiting(self, source: int, target: int) -> list[Batch]:
        """What is under way on a link."""
        return [WIRE.decode(data) for data in self.links.get((source, target), [])]

    def deliver(self, source: int, target: int, having: type | None = None) -> int:
        """Deliver what is under way (only batches with such a message, if `having`); how many batches."""
        taken = self._take(source, target, having)
        for data in taken:
            self.step(target, Received(source, WIRE.decode(data)))
        return len(taken)

    def drop(self, source: int, target: int, having: type | None = None) -> int:
        """Lose what is under way."""
        return len(self._take(source, target, having))

    def without(self, source: int, data: bytes, kind: type | None = None) -> Received:
        """The arrival of a batch that has lost its vouch and all messages of a kind (all of them)."""
        batch = WIRE.decode(data)
        left = [message for message in batch.messages if kind is not None and not isinstance(message, kind)]
        return Received(source, Batch(batch.incarnation, batch.position, batch.wall, batch.epoch, None, left))

    def repeat(self, source: int, target: int, having: type | None = None) -> None:
        """Double what is under way."""
        queue = self.links.get((source, target), [])
        self.links[source, target] = queue + [data for data in queue if having is None or _has(data, having)]

    def _take(self, source: int, target: int, having: type | None) -> list[bytes]:
        queue = self.links.get((source, target), [])
        taken = [data for data in queue if having is None or _has(data, having)]
        self.links[source, target] = [data for data in queue if data not in taken]
        return taken

    def settle(self, nodes: Iterable[int] | None = None, milliseconds: int = 0, step: int = 1) -> None:
        """Deliver everything among these nodes (all) and what comes of it, while so much time passes; keep the rest."""
        among = sorted(self._actors if nodes is None else nodes)
        for _ in range(milliseconds // step + 1):
            for _ in range(1000):
                if not sum(self.deliver(a, b) for a in among for b in among if a != b):
                    break
            else:
                raise AssertionError("messages without end")
            if milliseconds:
                self.advance(step, among, step)

    # -- requests ----------------------------------------------------------------------------------------------

    def ask(self, node: int, request: Callable[[int], Any]) -> int:
        """Ask a node; the ticket, under which `results` will hold the answer."""
        self._tickets += 1
        self.step(node, Requested(request(self._tickets)))
        return self._tickets

    def txid(self, node: int, number: int) -> TxId:
        """A transaction's id, born now."""
        return TxId(self.now // 1000 << 8, b"%016d" % number, number, node)

    def propose(
        self, node: int, txid: TxId, writes: Writes, reads: list[tuple[bytes, bytes, int]] | None = None,
        blobs: list[bytes] | None = None,
    ) -> int:  # fmt: skip
        """Propose a transaction at a node; the ticket."""
        body = Body(reads or [], sorted(writes), blobs or [], payload(writes))
        return self.ask(node, lambda ticket: Propose(ticket, txid, body))

    def read_point(self, node: int) -> int:
        """Ask for a strict read's tid."""
        return self.ask(node, ReadPoint)

    def reconfigure(self, node: int, members: Iterable[int]) -> int:
        """Ask for other members."""
        wanted = [Member(member, MASTER) for member in sorted(members)]
        return self.ask(node, lambda ticket: Reconfigure(ticket, wanted))

    def arrive(self, node: int, blob: bytes) -> None:
        """A blob has come to a node."""
        self.step(node, Requested(Arrived(blob)))

    def held(self, node: int) -> list[tuple[int, TxId, Any]]:
        """What a node has executed: (tid, txid, outcome)."""
        store = self._actors[node].store
        assert store is not None
        return [(tid, txid, outcome) for tid, txid, outcome, _ in store.events]


def _has(data: bytes, kind: type) -> bool:
    return any(isinstance(message, kind) for message in WIRE.decode(data).messages)
