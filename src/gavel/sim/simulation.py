"""A whole run: a cluster of masters, its clients, its nemesis, and the verdict.

First the faulty phase, as the plan has it; then everything is healed, all machines are started, and within a bounded
time everybody must be answered, everything decided, and every member know all of it.
"""

from __future__ import annotations

import traceback
from dataclasses import replace
from functools import partial
from typing import Any

from gavel.coherency.messages import encode, from_client, from_master
from gavel.effects import Tell
from gavel.limits import LEASE_DRIFT, REGISTERS_KEPT
from gavel.quorum.machine import Admission
from gavel.quorum.messages import ABORT, Member, TxId
from gavel.quorum.requests import Arrived
from gavel.quorum.rules import ALL, Rules
from gavel.quorum.votes import MASTER
from gavel.sim.account import Account, Final
from gavel.sim.administrator import Administrator
from gavel.sim.checkers import check
from gavel.sim.client import Client
from gavel.sim.clock import PARTS
from gavel.sim.cluster import Cluster
from gavel.sim.host import Host, Program
from gavel.sim.master import Batches, Master
from gavel.sim.nemesis import Nemesis
from gavel.sim.network import Weather
from gavel.sim.oracle import Oracle, Violation
from gavel.sim.plan import Fault, Plan
from gavel.sim.reader import Reader
from gavel.sim.result import Result
from gavel.sim.scribe import Scribe
from gavel.sim.store import Log, Store
from gavel.sim.trace import Trace
from gavel.sim.whole import Messages, VolumeDisk, WholeMaster
from gavel.sim.world import MILLISECOND, SECOND, World

CALM = 60 * SECOND  # after the faults, until all must be well; twice the life of a transaction


class Simulation:
    """One run of one plan."""

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self.plan = plan
        self.account = Account()
        self.world = World(plan.seed, trace)
        self.oracle = Oracle(ABORT)
        self.cluster = Cluster(
            self.world, plan.weather, Messages() if plan.whole else Batches(), self._boot, self._answer
        )
        self.administrator = Administrator(self.cluster, plan.masters, self.oracle.forgotten)
        self.nemesis = Nemesis(self.cluster, self.administrator)
        self.rules: Rules = replace(ALL, **dict.fromkeys(sorted(plan.without), False))
        self.founding = [Member(node, MASTER) for node in range(1, plan.masters + 1)]
        self._random = self.world.stream("simulation")
        self._scribes: dict[int, Scribe] = {}
        self._fetching: set[tuple[int, int, bytes]] = set()
        self._kept = self.world.stream("kept").choice((REGISTERS_KEPT, 3, 10))  # registers, for those who are away
        self._refusals = self.world.stream("refusals")
        self._calm = False
        for node in range(1, plan.masters + plan.spares + 1):
            random = self.world.stream(f"log {node}")
            log = VolumeDisk(node, random) if plan.whole else Log(random)
            host = self.cluster.add(node, log)
            founding = self.founding if node <= plan.masters else []
            self._scribes[node] = Scribe(node, log, self.oracle, founding)
            host.sync_ns = plan.sync_ns
            host.stepped = self._stepped
            host.told = self._tell
            host.clock.step(self._random.choice((0, 0, 0, 1, -1)) * self._random.randrange(200 * MILLISECOND))
        self.clients = [
            Client(self.world, number, plan, self.account, self._send, self._masters)
            for number in range(1, plan.clients + 1)
        ]
        nodes = list(self.cluster.hosts)
        self.readers = [
            Reader(self.world, number, plan, self.account, self._say, nodes)
            for number in range(1, plan.readers + 1 if plan.whole else 1)
        ]

    # -- masters -----------------------------------------------------------------------------------------------

    def _boot(self, host: Host) -> Program:
        log, node = host.disk, host.node
        founding = self.founding if node <= self.plan.masters else []
        if isinstance(log, VolumeDisk):
            clock = host.clock
            whole = WholeMaster(node, log, founding, self.oracle, self._scribes[node], clock.now(), clock.steady)
            whole.quorum.forgetting.most = self._kept
            return whole
        assert isinstance(log, Log)
        store = Store(
            log,
            partial(self.oracle.executed, node),
            partial(self._fetch, host, host.incarnation),
            partial(self._admits, node),
            partial(self.oracle.ended, node),
        )
        master = Master(node, log, store, founding, self.rules, host.clock.now())
        master.quorum.forgetting.most = self._kept
        self.oracle.restarted(node, store.applied_tid, master.quorum.stable)
        return master

    def _admits(self, node: int, txid: TxId) -> Admission:
        """Whether a master may propose: something stands against it for a while, or for good."""
        if not self._calm and self._refusals.randrange(100) < self.plan.refusing:
            return self._refusals.choice((Admission.BUSY, Admission.BUSY, Admission.FENCED))
        self.oracle.admitted(node, txid)
        return Admission.GO

    def _fetch(self, host: Host, incarnation: int, blob: bytes) -> None:
        """A master lacks a blob: it comes from somewhere, in a while."""
        if (host.node, incarnation, blob) not in self._fetching:
            self._fetching.add((host.node, incarnation, blob))
            self.world.after(self._random.randrange(20 * MILLISECOND), self._fetched, host, incarnation, blob)

    def _fetched(self, host: Host, incarnation: int, blob: bytes) -> None:
        if host.incarnation == incarnation:
            host.request(Arrived(blob), "arrived")

    def _stepped(self, host: Host) -> None:
        master = host.program
        assert isinstance(master, Master | WholeMaster)
        self.oracle.reached(host.node, master.quorum.stable)

    # -- clients and their way to the masters ------------------------------------------------------------------------

    def _masters(self) -> list[int]:
        return [node for node in self.cluster.left() if node <= self.plan.masters + self.plan.spares]

    def _way(self) -> int | None:
        """How long a request or an answer takes; None: it is lost."""
        if not self._calm and self._random.random() < 0.03:
            return None
        weather = self.plan.weather if not self._calm else Weather()
        return weather.delay + int(weather.jitter * self._random.random())

    def _send(self, client: Client, node: int, request: Any) -> None:
        way = self._way()
        if way is not None:
            self.world.after(way, self._ask, node, request)

    def _ask(self, node: int, request: Any) -> None:
        if self.world.trace is not None:
            self.world.tell(f"n{node}", f"c{request.ticket >> 32} asks {request}")
        self.cluster.hosts[node].request(request, type(request).__name__)

    def _answer(self, host: Host, request: Any, result: Any) -> None:
        number = request.ticket >> 32
        if number == 0:
            self.administrator.answered(request, result)
            return
        way = self._way()
        if way is not None:
            self.world.after(way, self.clients[number - 1].answered, request.ticket, result)

    def _say(self, node: int, session: bytes, messages: list[Any]) -> None:
        """A reader says something to a master."""
        way = self._way()
        if way is not None:
            self.world.after(way, self.cluster.hosts[node].hear, session, from_client(encode(messages)))

    def _tell(self, host: Host, tell: Tell) -> None:
        way = self._way()
        for reader in self.readers:
            if reader.session == tell.session and way is not None:
                self.world.after(way, reader.told, host.node, from_master(encode(tell.messages)))

    # -- the run -----------------------------------------------------------------------------------------------

    def run(self) -> Result[Plan]:
        """Run it all, and say what came of it."""
        violations: list[str] = []
        try:
            self._faulty()
            calm = self._calm_down()
            violations = check(self._close())
            if not calm and not violations:
                violations = ["live: not at rest after the faults, and no checker knows why"]
        except Violation as found:
            violations = [str(found)]
        except Exception as crash:
            where = traceback.extract_tb(crash.__traceback__)[-1]
            violations = [f"crash: {type(crash).__name__} {crash} in {where.name}, line {where.lineno}"]
            self.world.tell("crash", traceback.format_exc())
        return Result(self.plan, violations, self.world.digest(), self.world.events, self.world.now, self._counts())

    def _faulty(self) -> None:
        for node in self.cluster.hosts:
            self.cluster.start(node)
        for client in self.clients:
            client.begin()
        for reader in self.readers:
            reader.begin()
        self.nemesis.schedule(tuple(map(self._bounded, self.plan.faults)))
        self.world.run(self.plan.duration)

    def _bounded(self, fault: Fault) -> Fault:
        """The same, with clocks whose rates are no further off than leases can bear, if there are any."""
        if not self.readers or fault.kind != "rate":
            return fault
        most = PARTS // LEASE_DRIFT
        return fault._replace(amount=PARTS + max(-most, min(most, fault.amount - PARTS)))

    def _calm_down(self) -> bool:
        self.nemesis.heal()
        self._calm = True
        self.world.tell("nemesis", "all is healed")
        for client in self.clients:
            client.over = True
        for reader in self.readers:
            reader.end()
        for node in self.cluster.left():
            self.cluster.start(node)
        self.administrator.replace_lost()
        end = self.world.now + CALM
        while self.world.now < end:
            self.world.run(self.world.now + 100 * MILLISECOND)
            if self._at_rest():
                return True
        return False

    def _at_rest(self) -> bool:
        if any(client.busy for client in self.clients):
            return False
        last = self.oracle.last()
        masters = self._members()
        return bool(masters) and all(
            master.quorum.stable >= last and not master.quorum.registers.undecided for master in masters.values()
        )

    def _members(self) -> dict[int, Master | WholeMaster]:
        """The masters that are members of the latest epoch that any of them knows."""
        masters = {
            node: host.program
            for node, host in self.cluster.hosts.items()
            if isinstance(host.program, Master | WholeMaster)
        }
        latest = max(masters.values(), key=lambda master: master.quorum.desk.epoch, default=None)
        if latest is None:
            return {}
        nodes = [member.node for member in latest.quorum.desk.electorate.members]
        return {node: masters[node] for node in nodes if node in masters}

    def _close(self) -> Account:
        self.account.order = self.oracle.order()
        keys = sorted({key for operation in self.account.operations for key in operation.writes})
        for node, master in self._members().items():
            open_ = [str(txid) for txid in master.quorum.registers.undecided]
            if isinstance(master, Master):
                versions = master.store.versions
            else:
                versions = master.versions(keys, [decided.tid for decided in self.account.order])
            self.account.finals.append(Final(node, master.quorum.stable, versions, open_))
        return self.account

    def _counts(self) -> dict[str, int]:
        told = [type(operation.told).__name__ for operation in self.account.operations]
        return {
            "faults": self.nemesis.struck,
            "messages": self.cluster.network.sent,
            "looks": len(self.account.looks),
            "readings": len(self.account.readings),
            **{kind: told.count(kind) for kind in sorted(set(told))},
        }


def run(plan: Plan, trace: Trace | None = None) -> Result[Plan]:
    """Run a plan."""
    return Simulation(plan, trace).run()
