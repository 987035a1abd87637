"""A random walk over real cores: loss, doubling, reordering, crashes with amnesia, cuts, and changes of the members.

    .venv/bin/python -m tests.unit.quorum.walk --seeds 500 [--first 0] [--without RULE] [--nodes 3]

What must hold is checked on the way and at the end, after everything is healed: one decision a transaction; the same
history up to the lower of two watermarks, outcomes included; acknowledged before another was proposed means a lower
tid; read points at or above what was acknowledged; in the end everybody knows everything.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from typing import Any

from gavel.effects import Effect, PeerDown, PeerUp, Received, Reply
from gavel.errors import GavelError
from gavel.quorum.machine import Aborted, Collided, Committed
from gavel.quorum.messages import UNDECIDED, Member, TxId
from gavel.quorum.requests import Arrived, Propose, ReadPoint, Reconfigure
from gavel.quorum.rules import ALL, Rules
from gavel.quorum.votes import MASTER, SLAVE
from tests.transcripts.masters import Masters, body

KEYS = [b"a", b"b", b"c"]


class Wrong(AssertionError):
    """Something that must hold does not."""


class Walk:
    """One seed."""

    def __init__(self, seed: int, nodes: int = 3, rules: Rules = ALL, changes: bool = True) -> None:
        self.random = random.Random(seed)
        chance = self.random.random
        self.lose = self.random.choice((0.0, 0.05, 0.3))
        self.double = self.random.choice((0.0, 0.05, 0.2))
        self.reorder = self.random.choice((0.0, 0.1, 1.0))
        self.sync_chance = self.random.choice((0.1, 0.5))
        self.crashes = self.random.choice((0, 2, 4))
        self.changes = self.random.choice((0, 0, 1, 2)) if changes else 0
        self.lazy = chance() < 0.3  # long waits, so that lives end
        numbers = list(range(1, nodes + 1))
        self.group = Masters(numbers, rules, auto_sync=False, coded=False, outsiders=[nodes + 1, nodes + 2])
        for node in self.group.nodes.values():
            node.skew = self.random.choice((0, 0, 5_000_000, -5_000_000, 100_000_000))
        self.group.seen = self.saw
        self.decided: dict[TxId, int] = {}
        self.outcome: dict[TxId, Any] = {}
        self.history: dict[int, TxId] = {}
        self.floor: dict[TxId, int] = {}  # the highest tid acknowledged before it was proposed
        self.acknowledged = 0
        self.read_floor: dict[int, int] = {}
        self.ticket = 0
        self.bodies: dict[TxId, Any] = {}
        self.count = {"committed": 0, "collided": 0, "aborted": 0, "read": 0, "error": 0, "epochs": 0, "proposed": 0}

    # What is seen.

    def saw(self, number: int, effect: Effect) -> None:
        if not isinstance(effect, Reply):
            return
        request, result = effect.request, effect.result
        match request, result:
            case Propose(), Committed(tid):
                self.count["committed"] += 1
                if tid <= self.floor[request.txid]:
                    raise Wrong(f"real time: {request.txid} at {tid}, proposed after {self.floor[request.txid]}")
                self.acknowledged = max(self.acknowledged, tid)
                self.agree(request.txid, result)
            case Propose(), Collided() | Aborted():
                self.count["aborted" if isinstance(result, Aborted) else "collided"] += 1
                self.agree(request.txid, result)
            case ReadPoint(), int():
                self.count["read"] += 1
                if result < self.read_floor[request.ticket]:
                    raise Wrong(f"a read point of {result} below {self.read_floor[request.ticket]}")
            case Reconfigure(), list():
                self.count["epochs"] += 1
            case _, GavelError():
                self.count["error"] += 1

    def agree(self, tx: TxId, outcome: Any) -> None:
        if self.outcome.setdefault(tx, outcome) != outcome:
            raise Wrong(f"two outcomes of {tx}: {self.outcome[tx]} and {outcome}")

    def check(self) -> None:
        """Decisions and histories of all nodes agree."""
        for node in self.group.nodes.values():
            if node.core is None or node.machine is None:
                continue
            for tx, register in node.core.registers.table.items():
                if register.decided != UNDECIDED and self.decided.setdefault(tx, register.decided) != register.decided:
                    raise Wrong(f"two decisions about {tx}: {self.decided[tx]} and {register.decided}")
            for tx, outcome in node.machine.outcomes.items():
                self.agree(tx, outcome)
            for tid, (tx, _) in node.machine.history.items():
                if self.history.setdefault(tid, tx) != tx:
                    raise Wrong(f"two transactions at {tid}: {self.history[tid]} and {tx}")
        for node in self.group.nodes.values():
            if node.core is not None and node.machine is not None and not node.core.watermark.frozen:
                if node.core.me not in node.core.desk.electorate.masters:
                    continue
                stable = node.core.stable
                missing = [tid for tid in self.history if tid <= stable and tid not in node.machine.history]
                if missing:
                    raise Wrong(f"prefix: {node.number} is at {stable} without {missing}")

    # What is done.

    def act(self) -> None:
        group, pick = self.group, self.random
        up = [node for node in group.nodes.values() if node.core is not None]
        chance = pick.random()
        if chance < 0.55 and group.net:
            at = pick.randrange(len(group.net)) if pick.random() < self.reorder else 0
            self.deliver(at)
        elif chance < 0.55 + 0.15 * self.sync_chance * 4 and up:
            group.sync(pick.choice(up).number)
        elif chance < 0.86 and up:
            self.propose(self.asked(up))
        elif chance < 0.88 and up:
            self.read(self.asked(up))
        elif chance < 0.89 and up:
            self.arrive_somewhere(up)
        elif chance < 0.91:
            self.life(up)
        elif chance < 0.92 and self.changes:
            self.change(up)
        elif chance < 0.94:
            self.cut()
        elif self.lazy and chance < 0.945:
            group.wait(pick.choice((3000, 20_000)), run=False)
        else:
            group.wait(pick.choice((1, 5, 20, 150)), run=False)
        del group.net[:-200]

    def asked(self, up: list[Any]) -> int:
        """Whom a client asks: a master, as a rule."""
        masters = [node for node in up if node.number in node.core.desk.electorate.masters]
        return int(self.random.choice(masters if masters and self.random.random() < 0.97 else up).number)

    def deliver(self, at: int) -> None:
        flight = self.group.net.pop(at)
        if self.random.random() < self.double:
            self.group.net.append(flight)
        if self.random.random() >= self.lose:
            self.group.step(flight[1], Received(flight[0], flight[2]))

    def propose(self, number: int) -> None:
        pick = self.random
        if pick.random() < 0.5 and len(self.floor) > 30:
            return
        core = self.group.core(number)
        if self.floor and pick.random() < 0.15:
            tx = pick.choice(list(self.floor)[-5:])
        else:
            tx = self.group.tx(number)
            self.floor[tx] = self.acknowledged
            self.count["proposed"] += 1
        lo = pick.choice(KEYS)
        seeded = random.Random(tx.seq)
        reads = [(lo, lo + b"~", core.stable)] if seeded.random() < 0.6 else []
        blobs = [b"%d" % tx.seq] if seeded.random() < 0.3 else []
        what = self.bodies.setdefault(tx, body(seeded.choice(KEYS), reads=reads, blobs=blobs))
        for blob in what.blobs:
            self.arrive(number, blob)
        self.ticket += 1
        self.group.request(number, Propose(self.ticket, tx, what))

    def arrive(self, number: int, blob: bytes) -> None:
        """Data comes to a node, if it is not there."""
        if blob not in self.group.machine(number).blobs:
            self.group.machine(number).arrive(blob)
            self.group.request(number, Arrived(blob))

    def arrive_somewhere(self, up: list[Any]) -> None:
        node = self.random.choice(up)
        if node.machine.wanted:
            self.arrive(node.number, self.random.choice(node.machine.wanted))

    def read(self, number: int) -> None:
        self.ticket += 1
        self.read_floor[self.ticket] = self.acknowledged
        self.group.request(number, ReadPoint(self.ticket))

    def life(self, up: list[Any]) -> None:
        pick, group = self.random, self.group
        down = [node for node in group.nodes.values() if node.core is None]
        if down and pick.random() < 0.7:
            group.start(pick.choice(down).number)
        elif self.crashes and up:
            self.crashes -= 1
            node = pick.choice(up)
            if node.core.desk.alone:
                return
            group.crash(node.number, pick.choice((0, 1, 1000)) if pick.random() < 0.5 else 0, pick.random() < 0.7)

    def change(self, up: list[Any]) -> None:
        pick, group = self.random, self.group
        node = pick.choice(up)
        members = list(node.core.desk.electorate.members)
        if not members:
            return
        self.changes -= 1
        # A group of one acknowledges before it syncs, so a crash may take back what it said: no crashes there.
        sizes = (
            (2, 3, 3, 3) if self.crashes or any(node.core is None for node in group.nodes.values()) else (1, 2, 3, 3)
        )
        numbers = sorted(pick.sample(sorted(group.nodes), pick.choice(sizes)))
        wanted = [Member(number, MASTER) for number in numbers]
        for number in group.nodes:
            if number not in numbers and pick.random() < 0.3:
                wanted.append(Member(number, SLAVE))
        self.ticket += 1
        group.request(node.number, Reconfigure(self.ticket, sorted(wanted)))

    def cut(self) -> None:
        pick, group = self.random, self.group
        one, other = pick.sample(sorted(group.nodes), 2)
        if (one, other) in group.cuts:
            group.cuts.discard((one, other))
            group.step(one, PeerUp(other))
        else:
            group.cuts.add((one, other))
            if pick.random() < 0.7:
                group.step(one, PeerDown(other))
                group.step(other, PeerDown(one))

    # From beginning to end.

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.act()
            self.check()
        self.heal()
        self.check()

    def heal(self) -> None:
        """Nothing is lost any more: everything must end, and all must meet."""
        group = self.group
        group.cuts.clear()
        group.auto_sync = True
        for node in group.nodes.values():
            if node.core is None:
                group.start(node.number)
        for one in group.nodes:
            group.sync(one)
            for other in group.nodes:
                if one != other:
                    group.step(one, PeerUp(other))
        group.run()
        for _ in range(60):
            group.wait(1000)
            for node in group.nodes.values():
                for blob in list(node.machine.wanted if node.machine is not None else ()):
                    self.arrive(node.number, blob)
            self.check()
            if self.at_rest():
                return
        raise Wrong("it does not come to rest: " + str([self.group.core(n).status() for n in group.nodes]))

    def at_rest(self) -> bool:
        cores = [self.group.core(number) for number in self.group.nodes]
        epoch = max(core.desk.epoch for core in cores)
        newest = next(core for core in cores if core.desk.epoch == epoch)
        members = newest.desk.electorate.members
        last = max(self.history, default=0)
        for core in cores:
            role = dict(members).get(core.me)
            if role is None:
                continue
            if core.desk.epoch != epoch or core.stable < last or core.registers.undecided:
                return False
            if role == MASTER and (not core.desk.acting or core.asking.pending):
                return False
        return True


def one(seed: int, nodes: int, without: str, steps: int, changes: bool) -> Walk:
    rules = replace(ALL, **{without: False}) if without else ALL
    walk = Walk(seed, nodes, rules, changes)
    walk.run(steps)
    return walk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--without", default="")
    parser.add_argument("--still", action="store_true", help="no changes of the members")
    parser.add_argument("--raise", dest="raises", action="store_true")
    given = parser.parse_args()
    begun = time.process_time()
    total: dict[str, int] = {}
    bad = []
    for seed in range(given.first, given.first + given.seeds):
        try:
            walk = one(seed, given.nodes, given.without, given.steps, not given.still)
        except (AssertionError, KeyError, RuntimeError, IndexError) as error:
            if given.raises:
                raise
            bad.append(seed)
            print(seed, type(error).__name__, str(error)[:600])
            if len(bad) >= 5:
                break
            continue
        for name, count in walk.count.items():
            total[name] = total.get(name, 0) + count
    print(f"without={given.without or 'nothing'} bad={bad} {total} {time.process_time() - begun:.1f} s")


if __name__ == "__main__":
    main()
