"""What a transaction costs in the quorum's core and its codec: three cores joined by function calls, nothing else.

Microseconds of CPU time a transaction and master; once with batches that fill (64 in flight), once one at a time.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import Row
from gavel.effects import PeerUp, Received, Reply, Requested, Send, Sync, Synced, Ticked
from gavel.quorum import messages
from gavel.quorum.machine import Admission, Committed, Outcome
from gavel.quorum.messages import Body, Member, TxId
from gavel.quorum.quorum import Quorum
from gavel.quorum.requests import Propose
from gavel.quorum.votes import MASTER

MASTERS = 3
BEGIN = 10**18
BODY = Body([(b"a" * 20, b"b" * 20, 5)] * 2, [b"k" * 20, b"l" * 20], [], bytes(300))


class Nowhere:
    """Ledger and machine of a core that is only measured."""

    applied_tid = 0

    def __init__(self) -> None:
        self.written = 0

    def write(self, record: bytes) -> None:
        self.written += len(record)

    def lacks(self, body: Body) -> list[bytes]:
        return []

    def admit(self, txid: TxId, body: Body) -> Admission:
        return Admission.GO

    def ended(self, txid: TxId) -> None:
        pass

    def execute(self, txid: TxId, tid: int, body: Body) -> Outcome:
        return Committed(tid)

    def outcome(self, txid: TxId) -> Outcome | None:
        return None


class Trio:
    """Three cores, driven in rounds: everybody drains, everything arrives, everything is synced."""

    def __init__(self) -> None:
        members = [Member(number + 1, MASTER) for number in range(MASTERS)]
        self.places: list[Any] = [Nowhere() for _ in members]
        self.cores = [Quorum(n + 1, self.places[n], self.places[n], members) for n in range(MASTERS)]
        self.now = BEGIN
        self.net: list[tuple[int, int, bytes]] = []
        self.syncs: list[tuple[int, int]] = []
        self.answered = self.frames = 0
        self.in_codec = 0.0
        for core in self.cores:
            core.start(self.now)
        for number in range(MASTERS):
            for other in range(MASTERS):
                if other != number:
                    self.cores[number].step(PeerUp(other + 1), self.now)
        self.round()

    def drain(self) -> None:
        for number, core in enumerate(self.cores):
            for effect in core.drain():
                match effect:
                    case Send(peer, batch):
                        begun = time.process_time()
                        data = messages.encode(batch)
                        self.in_codec += time.process_time() - begun
                        self.net.append((number, peer - 1, data))
                        self.frames += 1
                    case Sync(ticket):
                        self.syncs.append((number, ticket))
                    case Reply():
                        self.answered += 1

    def round(self) -> None:
        self.now += 1_000_000
        self.drain()
        while self.net or self.syncs:
            net, self.net = self.net, []
            for sender, receiver, data in net:
                begun = time.process_time()
                batch = messages.decode(data)
                self.in_codec += time.process_time() - begun
                self.cores[receiver].step(Received(sender + 1, batch), self.now)
            self.drain()
            syncs, self.syncs = self.syncs, []
            for number, ticket in syncs:
                self.cores[number].step(Synced(ticket), self.now)
            self.drain()
        for core in self.cores:
            core.step(Ticked(), self.now)

    def commit(self, total: int, in_flight: int) -> None:
        """So many transactions, so many of them at once, begun at every master in turn."""
        begun = self.answered
        sent = 0
        while self.answered - begun < total:
            while sent < total and sent - (self.answered - begun) < in_flight:
                number = sent % MASTERS
                tx = TxId(self.cores[number].clock_tid, bytes([number]) * 16, sent, number + 1)
                self.cores[number].step(Requested(Propose(sent, tx, BODY)), self.now)
                sent += 1
            self.round()


def run(large: bool) -> list[Row]:
    """The rows."""
    total = 20_000 if large else 1500
    rows = []
    for in_flight in (64, 1):
        trio = Trio()
        trio.commit(total // 10, in_flight)
        trio.in_codec = 0.0
        begun = time.process_time()
        trio.commit(total, in_flight)
        spent = time.process_time() - begun
        each = 1e6 / total / MASTERS
        work = f"quorum: a transaction, {in_flight} in flight"
        rows.append(
            Row(work, "us of a master", (spent - trio.in_codec) * each, "codec", trio.in_codec * each, 0.0, "150")
        )
    return rows
