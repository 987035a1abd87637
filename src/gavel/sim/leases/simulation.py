"""A whole run with leases: masters with grantors, clients with holders, what goes wrong, and the verdict.

First the faulty phase, as the plan has it. Then everything is healed, every client has a few operations more to do on
the same keys, and within a bounded time all must be answered and nothing be dirty.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gavel.coherency.messages import NONE, S, X, encode, from_master
from gavel.coherency.rules import ALL, Rules
from gavel.keys.ranges import just
from gavel.limits import LEASE_TERM_NS
from gavel.quorum.machine import Committed, Outcome
from gavel.quorum.messages import ABORT, Member, TxId
from gavel.quorum.votes import MASTER
from gavel.sim.cluster import Cluster
from gavel.sim.host import Host, Program
from gavel.sim.leases.client import LeaseClient
from gavel.sim.leases.history import History, check
from gavel.sim.leases.master import LeaseMaster, Said, Told
from gavel.sim.leases.plan import CLIENTS, LeasePlan, rate
from gavel.sim.master import Batches
from gavel.sim.network import Network
from gavel.sim.oracle import Oracle, Violation
from gavel.sim.plan import Fault
from gavel.sim.result import Result
from gavel.sim.scribe import Scribe
from gavel.sim.store import Log, Store
from gavel.sim.trace import Trace
from gavel.sim.world import MILLISECOND, World

CALM_NS: Final = 2 * LEASE_TERM_NS  # after the faults, until what was asked by then must be answered
LAST: Final = 5  # operations of each client after the faults


class LeaseSimulation:
    """One run of one plan."""

    def __init__(self, plan: LeasePlan, trace: Trace | None = None) -> None:
        self.plan = plan
        self.history = History()
        self.world = World(plan.seed, trace)
        self.oracle = Oracle(ABORT)
        self.rules: Rules = replace(ALL, **{r: False for r in sorted(plan.without) if hasattr(ALL, r)})
        self.cluster = Cluster(self.world, plan.weather, Batches(), self._boot, self._answer)
        self.links = Network(self.world, self._delivered, plan.weather)
        self.founding = [Member(node, MASTER) for node in range(1, plan.masters + 1)]
        self._parcels: dict[bytes, Any] = {}
        self._over = False
        self._committed: dict[TxId, int] = {}
        self._clocks = self.world.stream("clocks")
        self._struck = 0
        self._scribes: list[Scribe] = []
        for node in range(1, plan.masters + 1):
            log = Log(self.world.stream(f"log {node}"))
            host = self.cluster.add(node, log)
            self._scribes.append(Scribe(node, log, self.oracle, self.founding))
            host.stepped = self._stepped
            host.clock.set_rate(rate(self._clocks, plan.drift))
        keys = [_key(number) for number in range(plan.keys)]
        self.clients = {
            number: LeaseClient(self.world, number, plan, self.history, keys, self._send)
            for number in range(CLIENTS + 1, CLIENTS + plan.clients + 1)
        }
        for client in self.clients.values():
            client.clock.set_rate(rate(self._clocks, plan.drift))
            client.holds = self._holds

    # -- masters -----------------------------------------------------------------------------------------------

    def _boot(self, host: Host) -> Program:
        assert isinstance(host.disk, Log)
        executed = partial(self._executed, host.node)
        master = LeaseMaster(
            host.node, host.disk, executed, self.oracle, self.founding, self.rules, host.incarnation, host.clock.now()
        )
        self.oracle.restarted(host.node, master.store.applied_tid, master.quorum.stable)
        return master

    def _stepped(self, host: Host) -> None:
        assert isinstance(host.program, LeaseMaster)
        self.oracle.reached(host.node, host.program.quorum.stable)

    def _executed(self, node: int, tid: int, txid: TxId, outcome: Outcome) -> None:
        self.oracle.executed(node, tid, txid, outcome)
        if isinstance(outcome, Committed):
            self._committed[txid] = tid

    # -- the ways between clients and masters --------------------------------------------------------------------

    def _send(self, client: LeaseClient, node: int, what: Any) -> None:
        if isinstance(what, list):
            data = b"L" + client.session + encode(what)
        else:
            data = b"P" + len(self._parcels).to_bytes(8)
            self._parcels[data] = what
        if self.world.trace is not None:
            self.world.tell(client.name, f"-> n{node}  {what}")
        self.links.send(client.number, node, data)

    def _answer(self, host: Host, request: Any, result: Any) -> None:
        if isinstance(request, Told):
            number = next((c.number for c in self.clients.values() if c.session == request.session), 0)
            data = b"L" + request.session + result
        else:
            number = request.ticket >> 32
            data = b"P" + len(self._parcels).to_bytes(8)
            self._parcels[data] = (request.ticket, result)
        if number in self.clients:
            self.links.send(host.node, number, data)

    def _delivered(self, source: int, target: int, data: bytes) -> None:
        self.world.happened(b"%d>%d " % (source, target) + data)
        client = self.clients.get(target)
        if client is None:
            what = Said(data[1:17], data[17:]) if data[:1] == b"L" else self._parcels[data]
            self.cluster.hosts[target].request(what, type(what).__name__)
        elif data[:1] != b"L":
            client.receive(source, self._parcels[data])
        elif data[1:17] == client.session:
            messages = from_master(data[17:])
            if self.world.trace is not None:
                self.world.tell(client.name, f"<- n{source}  {messages}")
            client.receive(source, messages)

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        if not self._over:
            self._struck += 1
            self.world.happened(fault.kind.encode())
            self.world.tell("nemesis", str(fault))
            end: Callable[[], None] | None = getattr(self, f"_do_{fault.kind}")(fault)
            if end is not None:
                self.world.after(fault.lasts, end)

    def _do_crash(self, fault: Fault) -> Callable[[], None]:
        self.cluster.crash(fault.node)
        return lambda: self.cluster.start(fault.node)

    def _do_stop(self, fault: Fault) -> Callable[[], None]:
        client = self.clients.get(fault.node)
        if client is None:
            host = self.cluster.hosts[fault.node]
            host.stop()
            return host.resume
        client.stopped = True
        return client.resume

    def _do_cut(self, fault: Fault) -> Callable[[], None]:
        return self._cut([(fault.node, fault.other)])

    def _do_isolate(self, fault: Fault) -> Callable[[], None]:
        others = [node for node in (*self.cluster.hosts, *self.clients) if node != fault.node]
        return self._cut([(fault.node, other) for other in others] + [(other, fault.node) for other in others])

    def _cut(self, pairs: list[tuple[int, int]]) -> Callable[[], None]:
        for source, target in pairs:
            if max(source, target) > CLIENTS:
                self.links.cut(source, target)
            else:
                self.cluster.cut(source, target)

        def end() -> None:
            for source, target in pairs:
                if max(source, target) > CLIENTS:
                    self.links.mend(source, target)
                else:
                    self.cluster.mend(source, target)

        return end

    def _network(self, fault: Fault) -> Network:
        return self.links if max(fault.node, fault.other) > CLIENTS else self.cluster.network

    def _do_clog(self, fault: Fault) -> Callable[[], None]:
        self._network(fault).clog(fault.node, fault.other)
        return lambda: self._network(fault).unclog(fault.node, fault.other)

    def _do_lossy(self, fault: Fault) -> Callable[[], None]:
        network = self._network(fault)
        before = network.link(fault.node, fault.other).weather
        network.change(fault.node, fault.other, replace(before, loss=fault.amount / 100))
        return lambda: network.change(fault.node, fault.other, before)

    def _do_quit(self, fault: Fault) -> Callable[[], None]:
        client = self.clients[fault.node]
        client.stopped = False
        client.quit()
        return client.begin

    def _do_flap(self, fault: Fault) -> None:
        if not self.clients[fault.node].stopped:
            self.clients[fault.node].flap(fault.other)

    # -- what must hold at every moment -----------------------------------------------------------------------------

    def _holds(self, client: LeaseClient, key: bytes, mode: int) -> None:
        """A client uses a lease: nobody else believes to hold one against it."""
        for other in self.clients.values():
            believes = other is not client and other.clock.now() < other.holder.valid_until
            if believes and other.holder.covers(*just(key), S if mode == X else X):
                word = {NONE: "", S: "reads", X: "writes"}[mode]
                story = f"{client.name} {word} {key[-2:]!r} under a lease while {other.name} holds one against it"
                raise Violation("exclusive", story)
        for host in self.cluster.hosts.values():
            program = host.program
            believed = client.holder.believes(host.node, key, client.clock.now())
            if isinstance(program, LeaseMaster) and believed is not None:
                recorded = program.grantor.recorded(client.session, key)
                if recorded is not None and recorded[0] == believed[0] and recorded[1] < believed[1]:
                    raise Violation("subset", f"{client.name} believes n{host.node} to grant {key[-2:]!r}; it does not")

    # -- the run -----------------------------------------------------------------------------------------------

    def run(self) -> Result[LeasePlan]:
        """Run it all, and say what came of it."""
        try:
            self._faulty()
            self._calm_down()
            violations = check(self._close())
        except Violation as found:
            violations = [str(found)]
        except Exception as crash:
            where = traceback.extract_tb(crash.__traceback__)[-1]
            violations = [f"crash: {type(crash).__name__} {crash} in {where.name}, line {where.lineno}"]
            self.world.tell("crash", traceback.format_exc())
        world = self.world
        return Result(self.plan, violations, world.digest(), world.events, world.now, self._counts())

    def _faulty(self) -> None:
        for node in self.cluster.hosts:
            self.cluster.start(node)
        for client in self.clients.values():
            client.begin()
        for fault in self.plan.faults:
            self.world.at(fault.at, self._strike, fault)
        self.world.run(self.plan.duration)

    def _calm_down(self) -> None:
        self._over = True
        self.world.tell("nemesis", "all is healed")
        self.cluster.heal()
        self.links.heal()
        for node in self.cluster.hosts:
            self.cluster.start(node)
        for client in self.clients.values():
            client.over = True
            if client.stopped:
                client.resume()
        self._until_rest("was not answered after the faults")
        for client in self.clients.values():
            client.left = LAST
        self._until_rest("was not answered afterwards")

    def _until_rest(self, what: str) -> None:
        end = self.world.now + CALM_NS
        while self.world.now < end:
            self.world.run(self.world.now + 50 * MILLISECOND)
            for client in self.clients.values():
                client.flush()
            if not any(client.busy or client.left for client in self.clients.values()):
                return
        for client in self.clients.values():
            if client.busy or client.left:
                self.history.waiting.append(f"{client.waits_for()} {what}")

    def _close(self) -> History:
        for client in self.clients.values():
            for txid, group in client.flights.items():
                tid = self._committed.get(txid)
                if tid is not None:
                    for values in group.values.values():
                        for number, value in enumerate(values):
                            self.history.writes[value].version = tid, number
        stores: list[Store] = [
            h.program.store for h in self.cluster.hosts.values() if isinstance(h.program, LeaseMaster)
        ]
        store = max(stores, key=lambda one: one.applied_tid)
        self.history.final = {key: versions[-1][1] for key, versions in store.versions.items() if key}
        return self.history

    def _counts(self) -> dict[str, int]:
        writes = self.history.writes.values()
        grantors = [h.program.grantor for h in self.cluster.hosts.values() if isinstance(h.program, LeaseMaster)]
        return {
            "faults": self._struck,
            "reads": len(self.history.reads),
            "writes": len(writes),
            "lost": sum(write.reported for write in writes),
            "recalls": sum(grantor.status(0)["recalls"] for grantor in grantors),
        }


def _key(number: int) -> bytes:
    """Of lease keys: two of an object, some objects of a block, another block."""
    obj = 1 + number // 2 % 3 + (number // 6) * 300
    return b"\0\0" + obj.to_bytes(8, "big") + b"\1\1" + b"%02d" % number


def run(plan: LeasePlan, trace: Trace | None = None) -> Result[LeasePlan]:
    """Run a plan."""
    return LeaseSimulation(plan, trace).run()
