"""The nemesis: makes the faults of a plan happen, and ends them.

Invariant: after heal() no fault is under way and none begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gavel.sim.administrator import Administrator
from gavel.sim.cluster import Cluster
from gavel.sim.plan import Fault
from gavel.sim.world import MILLISECOND

PERCENT = 100


class Nemesis:
    """What is not a matter of machines and links it has the administrator do."""

    def __init__(self, cluster: Cluster, administrator: Administrator) -> None:
        self._cluster = cluster
        self._administrator = administrator
        self._over = False
        self.struck = 0

    def schedule(self, faults: tuple[Fault, ...]) -> None:
        """Let them happen when their time comes."""
        for fault in faults:
            self._cluster.world.at(fault.at, self._strike, fault)

    def heal(self) -> None:
        """End everything. Processes that are down stay down until somebody starts them."""
        self._over = True
        self._cluster.heal()

    def _strike(self, fault: Fault) -> None:
        hosts = self._cluster.hosts
        if self._over or fault.node not in hosts or fault.other not in hosts:
            return
        self.struck += 1
        self._cluster.world.happened(fault.kind.encode())
        self._cluster.world.tell("nemesis", str(fault))
        end = getattr(self, f"_do_{fault.kind}")(fault)
        if end is not None:
            self._cluster.world.after(fault.lasts, self._relent, end)

    def _relent(self, end: Callable[[], None]) -> None:
        if not self._over:
            end()

    # -- the kinds: each does its harm and returns what ends it -----------------------------------------------------

    def _do_crash(self, fault: Fault) -> Callable[[], None]:
        self._cluster.crash(fault.node)
        return lambda: self._cluster.start(fault.node)

    def _do_blackout(self, fault: Fault) -> Callable[[], None]:
        for node in self._cluster.hosts:
            self._cluster.crash(node)

        def end() -> None:
            for node in self._cluster.hosts:
                self._cluster.start(node)

        return end

    def _do_stop(self, fault: Fault) -> Callable[[], None]:
        host = self._cluster.hosts[fault.node]
        host.stop()
        return host.resume

    def _do_cut(self, fault: Fault) -> Callable[[], None]:
        return self._cut_all([(fault.node, fault.other)])

    def _do_split(self, fault: Fault) -> Callable[[], None]:
        return self._cut_all([(fault.node, fault.other), (fault.other, fault.node)])

    def _do_isolate(self, fault: Fault) -> Callable[[], None]:
        others = [node for node in self._cluster.hosts if node != fault.node]
        return self._cut_all([(fault.node, node) for node in others] + [(node, fault.node) for node in others])

    def _cut_all(self, links: list[tuple[int, int]]) -> Callable[[], None]:
        for source, target in links:
            self._cluster.cut(source, target)

        def end() -> None:
            for source, target in links:
                self._cluster.mend(source, target)

        return end

    def _do_clog(self, fault: Fault) -> Callable[[], None]:
        self._cluster.network.clog(fault.node, fault.other)
        return lambda: self._cluster.network.unclog(fault.node, fault.other)

    def _do_slow(self, fault: Fault) -> Callable[[], None]:
        network = self._cluster.network
        before = network.link(fault.node, fault.other).weather
        network.change(fault.node, fault.other, replace(before, bandwidth=fault.amount))
        return lambda: network.change(fault.node, fault.other, replace(before, bandwidth=0))

    def _do_lossy(self, fault: Fault) -> Callable[[], None]:
        network = self._cluster.network
        before = network.link(fault.node, fault.other).weather
        network.change(fault.node, fault.other, replace(before, loss=fault.amount / PERCENT))
        return lambda: network.change(fault.node, fault.other, before)

    def _do_rate(self, fault: Fault) -> Callable[[], None]:
        clock = self._cluster.hosts[fault.node].clock
        clock.set_rate(fault.amount)
        return lambda: clock.set_rate(1_000_000)

    def _do_step(self, fault: Fault) -> None:
        self._cluster.hosts[fault.node].clock.step(fault.amount * MILLISECOND)

    def _do_flap(self, fault: Fault) -> None:
        self._cluster.flap(fault.node, fault.other)

    def _do_disk(self, fault: Fault) -> Callable[[], None]:
        host = self._cluster.hosts[fault.node]
        usual = host.sync_ns
        host.sync_ns = min(usual * fault.amount, 200 * MILLISECOND)

        def end() -> None:
            host.sync_ns = usual

        return end

    def _do_eio(self, fault: Fault) -> Callable[[], None]:
        self._cluster.hosts[fault.node].fail_next_sync = True
        return lambda: self._cluster.start(fault.node)

    def _do_wipe(self, fault: Fault) -> None:
        self._administrator.wipe(fault.node)

    def _do_checkpoint(self, fault: Fault) -> None:
        self._administrator.checkpoint(fault.node)

    def _do_members(self, fault: Fault) -> None:
        self._administrator.change_members(fault.amount)
