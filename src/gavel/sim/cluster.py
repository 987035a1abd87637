"""Machines, the network between them, and the connections that they see come and go.

A connection between two machines is up when both processes are and neither direction is cut; each side hears of a
change after a while of its own. A restarted peer is a new connection, even when nobody noticed that the old one broke.
Messages do not depend on any of that: a core must bear what a datagram network does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gavel.sim.host import Disk, Host, Program, Wire
from gavel.sim.network import Network, Weather
from gavel.sim.world import MILLISECOND, World

NOTICE_CLOSED = 2 * MILLISECOND  # until a peer hears that a process is gone: its machine says so
NOTICE_SILENT = 300 * MILLISECOND  # until it notices that nothing comes through
DIALLED = 20 * MILLISECOND  # until a connection is there again


class Cluster:
    """Machines by node id. `answer(host, request, result)` takes the answers to requests."""

    def __init__(
        self,
        world: World,
        weather: Weather,
        wire: Wire,
        boot: Callable[[Host], Program],
        answer: Callable[[Host, Any, Any], None],
    ) -> None:
        self.world = world
        self.hosts: dict[int, Host] = {}
        self.network = Network(world, self._deliver, weather)
        self._wire, self._boot, self._answer = wire, boot, answer
        self._connected: dict[tuple[int, int], int] = {}  # (who, to whom) -> incarnation of the latter
        self._random = world.stream("connections")
        self._calm = False
        self._gone: set[int] = set()

    def add(self, node: int, disk: Disk) -> Host:
        """Add a machine; its process is not started."""
        host = Host(self.world, node, disk, self._wire, self._boot, self.network.send, self._answer)
        host.failed = self.changed
        self.hosts[node] = host
        return host

    def _deliver(self, source: int, target: int, message: bytes) -> None:
        host = self.hosts.get(target)
        if host is not None:
            host.receive(source, message)

    def up(self) -> list[Host]:
        """The machines whose process runs and is not stopped."""
        return [host for host in self.hosts.values() if host.up and not host.stopped]

    # -- connections -------------------------------------------------------------------------------------------

    def changed(self, node: int) -> None:
        """Something about a machine or its links changed; its peers and itself will notice."""
        for peer in self.hosts:
            if peer != node:
                self._look_soon(node, peer)
                self._look_soon(peer, node)

    def _look_soon(self, node: int, peer: int) -> None:
        if self._ready(node, peer):
            within = DIALLED
        else:
            within = NOTICE_SILENT if self.hosts[peer].up else NOTICE_CLOSED
        self.world.after(self._random.randrange(within), self._look, node, peer)

    def _ready(self, node: int, peer: int) -> bool:
        network = self.network
        return (
            self.hosts[node].up
            and self.hosts[peer].up
            and not network.link(node, peer).cut
            and not network.link(peer, node).cut
        )

    def _look(self, node: int, peer: int) -> None:
        now = self.hosts[peer].incarnation * 1000 + self.hosts[node].incarnation if self._ready(node, peer) else 0
        before = self._connected.get((node, peer), 0)
        if now == before:
            return
        self._connected[node, peer] = now
        if before and before % 1000 == self.hosts[node].incarnation:
            self.hosts[node].peer(peer, False)
        if now:
            self.hosts[node].peer(peer, True)

    def flap(self, node: int, peer: int) -> None:
        """Close a connection; it is opened again at once."""
        for one, other in ((node, peer), (peer, node)):
            if self._connected.pop((one, other), 0):
                self.hosts[one].peer(other, False)
                self._look_soon(one, other)

    # -- faults ------------------------------------------------------------------------------------------------

    def start(self, node: int) -> None:
        """Start a machine's process, unless the machine is gone for good."""
        if node not in self._gone and not self.hosts[node].up:
            self.hosts[node].start()
            self.changed(node)

    def crash(self, node: int) -> None:
        """Crash a machine's process."""
        if self.hosts[node].up:
            self.hosts[node].crash()
            self.changed(node)

    def lose(self, node: int) -> None:
        """A machine and its disk are gone for good."""
        self.hosts[node].wipe()
        self._gone.add(node)
        self.changed(node)

    def gone(self) -> list[int]:
        """The machines that are."""
        return sorted(self._gone)

    def left(self) -> list[int]:
        """The machines that are not gone."""
        return [node for node in self.hosts if node not in self._gone]

    def cut(self, source: int, target: int) -> None:
        """Cut one direction."""
        if not self._calm:
            self.network.cut(source, target)
            self.changed(source)

    def mend(self, source: int, target: int) -> None:
        """Mend one direction."""
        self.network.mend(source, target)
        self.changed(source)

    def heal(self) -> None:
        """The network is well from now on, and so are disks and clocks; every process goes on."""
        self._calm = True
        self.network.heal()
        for host in self.hosts.values():
            host.fail_next_sync = False
            host.slow_sync = 0.0
            host.resume()
            self.changed(host.node)
