"""A whole run: a cluster of masters, its clients, its nemesis, and the verdict.

First the faulty phase, as the plan has it; then everything is healed, all machines are started, and within a bounded
time everybody must be answered, everything decided, and every member know all of it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

from gavel.quorum.messages import ABORT, Member
from gavel.quorum.requests import Arrived, GetStatus, Reconfigure, Status
from gavel.quorum.rules import ALL, Rules
from gavel.quorum.votes import MASTER
from gavel.sim.account import Account, Final
from gavel.sim.checkers import check
from gavel.sim.client import Client
from gavel.sim.cluster import Cluster
from gavel.sim.host import Host, Program
from gavel.sim.master import Batches, Master
from gavel.sim.nemesis import Nemesis
from gavel.sim.network import Weather
from gavel.sim.oracle import Oracle, Violation
from gavel.sim.plan import Plan
from gavel.sim.scribe import Scribe
from gavel.sim.store import Log, Store
from gavel.sim.trace import Trace
from gavel.sim.world import MILLISECOND, SECOND, World

CALM = 60 * SECOND  # after the faults, until all must be well; twice the life of a transaction


@dataclass(slots=True)
class Result:
    """What came of a run."""

    plan: Plan
    violations: list[str]
    digest: str
    events: int
    virtual: int
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def property(self) -> str:
        """The name of the property that the first violation is of; empty without one."""
        return self.violations[0].split(":")[0] if self.violations else ""


class Simulation:
    """One run of one plan."""

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self.plan = plan
        self.account = Account()
        self.world = World(plan.seed, trace)
        self.oracle = Oracle(ABORT)
        self.cluster = Cluster(self.world, plan.weather, Batches(), self._boot, self._answer)
        self.nemesis = Nemesis(self.cluster, self._wipe, self._change_members)
        self.rules: Rules = replace(ALL, **dict.fromkeys(sorted(plan.without), False))
        self.founding = [Member(node, MASTER) for node in range(1, plan.masters + 1)]
        self._random = self.world.stream("simulation")
        self._stores: dict[int, Store] = {}
        self._fetching: set[tuple[int, int, bytes]] = set()
        self._told: dict[int, Callable[[Status], None]] = {}
        self._tickets = 0
        self._calm = False
        for node in range(1, plan.masters + plan.spares + 1):
            log = Log(self.world.stream(f"log {node}"))
            host = self.cluster.add(node, log)
            Scribe(node, log, self.oracle, self.founding if node <= plan.masters else [])
            host.sync_ns = plan.sync_ns
            host.stepped = self._stepped
            host.clock.step(self._random.choice((0, 0, 0, 1, -1)) * self._random.randrange(200 * MILLISECOND))
        self.clients = [
            Client(self.world, number, plan, self.account, self._send, self._masters)
            for number in range(1, plan.clients + 1)
        ]

    # -- masters -----------------------------------------------------------------------------------------------

    def _boot(self, host: Host) -> Program:
        log, node = host.disk, host.node
        assert isinstance(log, Log)
        store = Store(log, partial(self.oracle.executed, node), partial(self._fetch, host, host.incarnation))
        self.oracle.restarted(node, store.applied_tid)
        self._stores[node] = store
        founding = self.founding if node <= self.plan.masters else []
        return Master(node, log, store, founding, self.rules, host.clock.now())

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
        assert isinstance(master, Master)
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
            self._operator_told(request, result)
            return
        way = self._way()
        if way is not None:
            self.world.after(way, self.clients[number - 1].answered, request.ticket, result)

    # -- the operator ------------------------------------------------------------------------------------------

    def _operator_ask(self, then: Callable[[Status], None]) -> None:
        """Ask any master that is up how things stand."""
        up = self.cluster.up()
        if up:
            self._tickets += 1
            self._told[self._tickets] = then
            self._random.choice(up).request(GetStatus(self._tickets), "status")

    def _operator_told(self, request: Any, result: Any) -> None:
        then = self._told.pop(request.ticket, None)
        if then is not None and isinstance(result, Status):
            then(result)

    def _change_members(self, number: int) -> None:
        random = Random(f"{self.plan.seed}/members/{number}")

        def change(status: Status) -> None:
            now = [member.node for member in status.members]
            others = [node for node in self.cluster.left() if node not in now]
            wanted = list(now)
            draw = random.random()
            if draw < 0.5 and others and wanted:
                wanted[random.randrange(len(wanted))] = random.choice(others)
            elif draw < 0.7 and others:
                wanted.append(random.choice(others))
            elif draw < 0.9 and len(wanted) > 1:
                wanted.pop(random.randrange(len(wanted)))
            else:
                wanted = random.sample(self.cluster.left(), min(len(wanted), len(self.cluster.left())))
            self._reconfigure(status, wanted)

        self._operator_ask(change)

    def _reconfigure(self, status: Status, wanted: list[int]) -> None:
        self._tickets += 1
        if self.world.trace is not None:
            self.world.tell("operator", f"asks n{status.node} for the members {sorted(wanted)}")
        members = [Member(node, MASTER) for node in sorted(set(wanted))]
        self.cluster.hosts[status.node].request(Reconfigure(self._tickets, members), "reconfigure")

    def _wipe(self, node: int) -> None:
        """A disk is lost, if the others can bear it: a majority of the members' disks must be left."""
        master = next((host.program for host in self.cluster.up()), None)
        if not isinstance(master, Master) or self.plan.masters < 3 or self.cluster.gone():
            return
        self.cluster.lose(node)
        self.oracle.forgotten(node)

    def _replace_lost(self) -> None:
        """After the faults: whoever is gone for good is no member any more."""
        gone = self.cluster.gone()

        def change(status: Status) -> None:
            left = [member.node for member in status.members if member.node not in gone]
            if left and len(left) < len(status.members):
                self._reconfigure(status, left)

        if gone:
            self._operator_ask(change)
            self.world.after(2 * SECOND, self._replace_lost)

    # -- the run -----------------------------------------------------------------------------------------------

    def run(self) -> Result:
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
        self.nemesis.schedule(self.plan.faults)
        self.world.run(self.plan.duration)

    def _calm_down(self) -> bool:
        self.nemesis.heal()
        self._calm = True
        self.world.tell("nemesis", "all is healed")
        for client in self.clients:
            client.over = True
        for node in self.cluster.left():
            self.cluster.start(node)
        self._replace_lost()
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
            master.quorum.stable >= last and not master.quorum.undecided() for master in masters.values()
        )

    def _members(self) -> dict[int, Master]:
        """The masters that are members of the latest epoch that any of them knows."""
        masters = {node: host.program for node, host in self.cluster.hosts.items() if isinstance(host.program, Master)}
        latest = max(masters.values(), key=lambda master: master.quorum.epoch, default=None)
        if latest is None:
            return {}
        nodes = [member.node for member in latest.quorum.members]
        return {node: masters[node] for node in nodes if node in masters}

    def _close(self) -> Account:
        self.account.order = self.oracle.order()
        for node, master in self._members().items():
            open_ = [str(txid) for txid in master.quorum.undecided()]
            self.account.finals.append(Final(node, master.quorum.stable, master.store.versions, open_))
        return self.account

    def _counts(self) -> dict[str, int]:
        told = [type(operation.told).__name__ for operation in self.account.operations]
        return {
            "faults": self.nemesis.struck,
            "messages": self.cluster.network.sent,
            "looks": len(self.account.looks),
            **{kind: told.count(kind) for kind in sorted(set(told))},
        }


def run(plan: Plan, trace: Trace | None = None) -> Result:
    """Run a plan."""
    return Simulation(plan, trace).run()
