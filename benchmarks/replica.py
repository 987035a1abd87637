"""What whole masters cost, on devices in memory: transactions in a group of three and of one, catching up.

CPU time, so that a crowded machine blurs it less: there is no network and no disk in it.
"""

from __future__ import annotations

import time
from collections import deque
from random import Random
from typing import Any

from benchmarks.measure import Row
from gavel.effects import Arm, PeerUp, Received, Reply, Requested, Send, Sync, Synced, Ticked
from gavel.keys import records
from gavel.limits import BIG_BLOCK, PIECE_AIM
from gavel.media.extents import describe, encode_view
from gavel.media.volume import Volume
from gavel.quorum.messages import Member
from gavel.quorum.votes import MASTER
from gavel.replica import peers
from gavel.replica.replica import Replica
from gavel.sim.device import SimDevice
from gavel.transaction.requests import Asked, Commit, Committed, Submit, pack

BEGIN = 1_750_000_000 * 10**9
CLIENTS = 64


def fresh(number: int, size: int = 64 * BIG_BLOCK) -> Volume:
    """An empty volume."""
    device = SimDevice(size, number)
    Volume.format(device, identity=bytes([number]) * 16, salt=number, label="", created_tid=1)
    return Volume.open(device)


class Masters:
    """A group joined by function calls: messages are bytes, everything that came together is one drain."""

    def __init__(self, count: int) -> None:
        self.now = BEGIN
        members = [Member(number + 1, MASTER) for number in range(count)]
        self.all = [Replica(fresh(n + 1), self.now, n + 1, members, resident=False) for n in range(count)]
        self.posted: deque[tuple[int, Any]] = deque()
        self.armed: list[tuple[int, int]] = []
        self.answered: list[Any] = []
        for number in range(count):
            for other in range(count):
                if other != number:
                    self.all[number].step(PeerUp(other + 1), self.now)
        self.run(500)

    def drain(self, number: int) -> None:
        """Carry out what a master wants."""
        for effect in self.all[number].drain():
            match effect:
                case Send(peer, message):
                    self.posted.append((peer - 1, (number + 1, b"".join(peers.encode(message)))))
                case Sync(ticket):
                    self.posted.append((number, Synced(ticket)))
                case Arm(at):
                    self.armed.append((at, number))
                case Reply(_, result):
                    self.answered.append(result)

    def run(self, milliseconds: int) -> None:
        """Until nothing is on its way, for so much virtual time."""
        until = self.now + milliseconds * 1_000_000
        for number in range(len(self.all)):
            self.drain(number)
        while True:
            while self.posted:
                came, self.posted = self.posted, deque()
                for target, event in came:
                    if isinstance(event, tuple) and not isinstance(event, Synced):
                        event = Received(event[0], peers.decode(event[1]))
                    self.all[target].step(event, self.now)
                for number in sorted({target for target, _ in came}):
                    self.drain(number)
            due = min(self.armed, default=(until + 1, 0))
            if due[0] > until:
                break
            self.armed.remove(due)
            self.now = max(self.now, due[0])
            self.all[due[1]].step(Ticked(), self.now)
            self.drain(due[1])
        self.now = until


def transactions(rounds: int) -> float:
    """Microseconds of CPU a transaction and master, 64 in flight: one record read, two written, no collisions."""
    group = Masters(3)
    keys = [records.config(0, b"%05d" % number) for number in range(CLIENTS * 80)]
    begin = time.process_time()
    for turn in range(rounds):
        for client in range(CLIENTS):
            key = keys[(turn * CLIENTS + client) % len(keys)]
            master = group.all[client % 3]
            reads = [(key, key + b"\0", master.last_tid)]
            body = pack({key: b"%d" % turn, key[:-1] + b"x\0": b"y" * 60}, turn + 1)
            born = group.now // 1000 << 8
            submit = Submit(bytes([client + 1]) * 16, turn + 1, born, client % 3 + 1, reads, [], body)
            master.step(Requested(Asked(client, submit)), group.now)
        group.run(2)
    spent = time.process_time() - begin
    committed = sum(isinstance(answer, Committed) for answer in group.answered)
    assert committed > rounds * CLIENTS * 0.9, f"{committed} of {rounds * CLIENTS} were committed"
    return spent / committed / 3 * 1e6


def commits(count: int) -> float:
    """Microseconds of CPU a Commit of the client in the process of a group of one."""
    master = Replica(fresh(9), BEGIN)
    begin = time.process_time()
    for number in range(count):
        master.step(Requested(Commit(number, [records.config(0, b"%04d" % (number % 5000))], [b"v"])), BEGIN + number)
        master.drain()
    return (time.process_time() - begin) / count * 1e6


def catching_up(files: int) -> float:
    """MB/s of CPU, both sides together: files of 10 KiB with inode and entry, a transaction each."""
    teller, taker = Replica(fresh(1), BEGIN), Replica(fresh(2), BEGIN)
    content = memoryview(Random(1).randbytes(1 << 20))
    for number in range(files):
        data = content[number * 997 % 1_000_000 :][:10_240]
        view = encode_view(describe(data, teller.volume.append_data(data)), 0, len(data))
        entry = records.entry(0, 1, b"f%d" % number)
        keys = [records.inode(0, number + 2), entry, records.extent(0, number + 2, len(data))]
        teller.log.commit(1000 + number, keys, [b"i" * 60, b"e" * 9, view])
    hi, cursor = teller.last_tid, None
    begin = time.process_time()
    while True:
        piece, cursor, _, total = teller.machine.changes(0, hi, cursor, PIECE_AIM)
        taker.machine.install(0, hi, piece, cursor is None)
        if cursor is None:
            break
    spent = time.process_time() - begin
    assert taker.last_tid == hi
    return total / spent / 1e6


def run(large: bool) -> list[Row]:
    """All rows."""
    return [
        Row("transaction in a group of three, a master", "us of CPU", transactions(300 if large else 20), "", 0, 0),
        Row("Commit in a group of one", "us of CPU", commits(20_000 if large else 1000), "", 0, 0),
        Row("catching up, teller and taker", "MB/s of CPU", catching_up(20_000 if large else 1000), "", 0, 0, ">= 80"),
    ]
