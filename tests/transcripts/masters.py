"""Real cores on toy disks and toy machines, and a network that is moved by hand.

Everything that survives a crash of a toy master is one list, its log, as on a volume; a crash cuts it anywhere after
what was synced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gavel.effects import Arm, Effect, Observe, PeerDown, PeerUp, Received, Reply, Requested, Send, Sync, Synced, Ticked
from gavel.quorum import messages
from gavel.quorum.machine import Admission, Collided, Committed, Outcome
from gavel.quorum.messages import Batch, Body, Member, TxId
from gavel.quorum.quorum import Quorum
from gavel.quorum.rules import ALL, Rules
from gavel.quorum.votes import MASTER

START = 1_700_000_000 * 10**9  # ns; when every scripted world begins


class Disk:
    """A log, of which a prefix is durable."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.durable = 0

    def write(self, record: bytes) -> None:
        self.log.append(("quorum", record))

    def crash(self, keep: int | None = None) -> None:
        """Lose what was not synced, but for the first `keep` of it."""
        self.durable = min(len(self.log), self.durable + (keep or 0))
        del self.log[self.durable :]


class ToyMachine:
    """A dict with history: reads are ranges, writes are the body's keys."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.history: dict[int, tuple[TxId, list[bytes]]] = {}  # committed, by tid
        self.outcomes: dict[TxId, Outcome] = {}
        self.executed: list[int] = []
        self.applied_tid = 0
        self.blobs: set[bytes] = set()
        self.wanted: list[bytes] = []
        self.against: dict[bytes, Admission] = {}  # keys that something stands against
        self.standing: list[TxId] = []  # admitted and not ended
        for kind, what in disk.log:
            if kind == "commit":
                self._commit(*what)
            elif kind == "blob":
                self.blobs.add(what)

    def lacks(self, body: Body) -> list[bytes]:
        lacking = [blob for blob in body.blobs if blob not in self.blobs]
        self.wanted += lacking
        return lacking

    def admit(self, txid: TxId, body: Body) -> Admission:
        found = max((self.against.get(key, Admission.GO) for key in body.keys), default=Admission.GO)
        if found is Admission.GO:
            self.standing.append(txid)
        return found

    def ended(self, txid: TxId) -> None:
        if txid in self.standing:
            self.standing.remove(txid)

    def arrive(self, blob: bytes) -> None:
        self.blobs.add(blob)
        self._disk.log.append(("blob", blob))

    def execute(self, txid: TxId, tid: int, body: Body) -> Outcome:
        assert tid > self.applied_tid and (not self.executed or tid > self.executed[-1]), "not in order"
        assert txid not in self.outcomes, "twice"
        self.executed.append(tid)
        for lo, hi, freeze in body.reads:
            for at, (_, keys) in self.history.items():
                for key in keys:
                    if lo <= key < hi and freeze < at < tid:
                        self.outcomes[txid] = Collided(key, at)
                        return self.outcomes[txid]
        self._commit(tid, txid, body.keys)
        self._disk.log.append(("commit", (tid, txid, body.keys)))
        return self.outcomes[txid]

    def _commit(self, tid: int, txid: TxId, keys: list[bytes]) -> None:
        self.history[tid] = txid, keys
        self.outcomes[txid] = Committed(tid)
        self.applied_tid = max(self.applied_tid, tid)

    def outcome(self, txid: TxId) -> Outcome | None:
        return self.outcomes.get(txid)

    def changes(self, lo: int, hi: int, cursor: bytes | None, limit: int) -> tuple[bytes, bytes | None, int, int]:
        tids = sorted(tid for tid in self.history if lo < tid <= hi)
        begin = int(cursor or b"0")
        lot = [
            (tid, [*self.history[tid][0]], [k.decode() for k in self.history[tid][1]])
            for tid in tids[begin : begin + 2]
        ]
        following = str(begin + 2).encode() if begin + 2 < len(tids) else None
        data = json.dumps(lot, default=lambda session: session.hex()).encode()
        return data, following, min(begin + 2, len(tids)), len(tids)

    def install(self, lo: int, hi: int, piece: bytes, last: bool) -> bool:
        for tid, (born, session, seq, coord), keys in json.loads(piece):
            if tid not in self.history:
                entry = tid, TxId(born, bytes.fromhex(session), seq, coord), [key.encode() for key in keys]
                self._commit(*entry)
                self._disk.log.append(("commit", entry))
        if last:
            self.applied_tid = max(self.applied_tid, hi)
        return True


@dataclass
class Node:
    """One master: what survives, and what does not."""

    number: int
    disk: Disk = field(default_factory=Disk)
    core: Quorum | None = None
    machine: ToyMachine | None = None
    syncing: tuple[int, int] | None = None  # ticket, length of the log
    armed: int | None = None
    skew: int = 0


class Masters:
    """Some nodes and the batches between them."""

    def __init__(
        self,
        members: Iterable[int | Member],
        rules: Rules = ALL,
        auto_sync: bool = True,
        coded: bool = True,
        outsiders: Iterable[int] = (),
    ) -> None:
        self.founding = [Member(m, MASTER) if isinstance(m, int) else m for m in members]
        numbers = [member.node for member in self.founding]
        self.rules, self.auto_sync, self.coded = rules, auto_sync, coded
        self.now = START
        self.nodes = {number: Node(number) for number in [*numbers, *outsiders]}
        self.net: list[tuple[int, int, Batch]] = []
        self.cuts: set[tuple[int, int]] = set()
        self.replies: list[tuple[int, Any, Any]] = []
        self.seen: Callable[[int, Effect], None] = lambda number, effect: None
        self.seq = 0
        for number in self.nodes:
            self.start(number)

    # Lives.

    def start(self, number: int) -> None:
        node = self.nodes[number]
        node.machine = ToyMachine(node.disk)
        founding = self.founding if number in [m.node for m in self.founding] else []
        node.core = Quorum(number, node.disk, node.machine, founding, rules=self.rules)
        node.syncing = node.armed = None
        for kind, what in node.disk.log:
            if kind == "quorum":
                node.core.replay(what)
        node.core.start(self.now + node.skew)
        self.drain(node)
        for other in self.nodes.values():
            if other is not node and other.core is not None:
                self.link(number, other.number)

    def link(self, one: int, other: int) -> None:
        self.step(one, PeerUp(other))
        self.step(other, PeerUp(one))

    def crash(self, number: int, keep: int | None = None, tell: bool = True) -> None:
        node = self.nodes[number]
        node.core = node.machine = node.syncing = node.armed = None
        node.disk.crash(keep)
        self.net = [flight for flight in self.net if number not in flight[:2]]
        if tell:
            for other in self.nodes.values():
                if other.core is not None:
                    self.step(other.number, PeerDown(number))

    def core(self, number: int) -> Quorum:
        core = self.nodes[number].core
        assert core is not None
        return core

    def machine(self, number: int) -> ToyMachine:
        machine = self.nodes[number].machine
        assert machine is not None
        return machine

    # Events and effects.

    def step(self, number: int, event: Any) -> None:
        node = self.nodes[number]
        if node.core is not None:
            node.core.step(event, self.now + node.skew)
            self.drain(node)

    def drain(self, node: Node) -> None:
        assert node.core is not None
        for effect in node.core.drain():
            self.seen(node.number, effect)
            match effect:
                case Send(peer, batch):
                    if peer in self.nodes and (node.number, peer) not in self.cuts:
                        whole = messages.decode(messages.encode(batch)) if self.coded else batch
                        self.net.append((node.number, peer, whole))
                case Reply(request, result):
                    self.replies.append((node.number, request, result))
                case Sync(ticket):
                    node.syncing = ticket, len(node.disk.log)
                case Arm(at):
                    node.armed = at if node.armed is None else min(at, node.armed)
                case Observe():
                    pass
        if self.auto_sync and node.syncing is not None:
            self.sync(node.number)

    def sync(self, number: int) -> None:
        node = self.nodes[number]
        if node.syncing is not None:
            ticket, length = node.syncing
            node.syncing, node.disk.durable = None, max(node.disk.durable, length)
            self.step(number, Synced(ticket))

    def deliver(self, at: int = 0) -> None:
        sender, receiver, batch = self.net.pop(at)
        self.step(receiver, Received(sender, batch))

    def run(self, limit: int = 10_000) -> None:
        """Deliver everything that is on its way, and what that causes."""
        while self.net and limit:
            limit -= 1
            self.deliver()
        assert limit, "it does not come to rest"

    def wait(self, ms: int, run: bool = True) -> None:
        """Let time pass, ticking whoever wants to be."""
        until = self.now + ms * 1_000_000
        while True:
            due = [n for n in self.nodes.values() if n.core is not None and n.armed is not None]
            node = min(due, key=lambda n: (n.armed or 0) - n.skew, default=None)
            if node is None or node.armed is None or node.armed - node.skew > until:
                break
            self.now = max(self.now, node.armed - node.skew)
            node.armed = None
            self.step(node.number, Ticked())
            if run:
                self.run()
        self.now = until

    def request(self, number: int, request: Any) -> None:
        self.step(number, Requested(request))

    def tx(self, number: int, seq: int | None = None) -> TxId:
        """A new transaction id."""
        self.seq += 1
        return TxId(self.core(number).clock_tid, bytes(15) + bytes([number]), self.seq if seq is None else seq, number)

    def answers(self, ticket: int) -> list[Any]:
        return [result for _, request, result in self.replies if request.ticket == ticket]


def body(*keys: bytes, reads: list[tuple[bytes, bytes, int]] | None = None, blobs: list[bytes] | None = None) -> Body:
    """A body that writes these keys."""
    return Body(reads or [], sorted(keys), blobs or [], b"")
