"""The administrator of a simulated cluster: replaces members, loses disks, has checkpoints made.

What it does it does through requests that masters answer, if they do; it knows no more than a person with a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from gavel.quorum.messages import Member
from gavel.quorum.requests import GetStatus, Reconfigure, Status
from gavel.quorum.votes import MASTER
from gavel.sim.cluster import Cluster
from gavel.sim.master import Master
from gavel.sim.world import SECOND
from gavel.transaction.requests import Checkpoint

FEWEST = 2  # members that are left; a group of one promises durability at a barrier only
LOOKS_EVERY = 2 * SECOND


class Administrator:
    """Its tickets are those below 2**32. `lost(node)` is called when a disk is gone for good."""

    def __init__(self, cluster: Cluster, masters: int, lost: Callable[[int], None]) -> None:
        self._cluster = cluster
        self._lost = lost
        self._random = cluster.world.stream("administrator")
        self._told: dict[int, Callable[[Status], None]] = {}
        self._tickets = 0
        self._asked = [list(range(1, masters + 1))]  # all sets of members that may have come to be

    def answered(self, request: Any, result: Any) -> None:
        """A master answers."""
        then = self._told.pop(request.ticket, None)
        if then is not None and isinstance(result, Status):
            then(result)

    def checkpoint(self, node: int) -> None:
        """Have a master forget what its log need not say any more."""
        master = self._cluster.hosts[node].program
        if isinstance(master, Master):
            master.checkpoint()
        elif master is not None:
            self._tickets += 1
            self._cluster.hosts[node].request(Checkpoint(self._tickets), "checkpoint")

    def wipe(self, node: int) -> None:
        """A disk is lost for good; only ever one, and only if all members there may be now can bear it."""
        if all(len(members) >= 3 for members in self._asked) and not self._cluster.gone():
            self._cluster.lose(node)
            self._lost(node)

    def change_members(self, number: int) -> None:
        """Ask for other members: one replaced, one more, one less, or all of them drawn anew."""
        random = Random(number)

        def change(status: Status) -> None:
            left = self._cluster.left()
            wanted = [member.node for member in status.members if member.node in left]
            others = [node for node in left if node not in wanted]
            draw = random.random()
            if draw < 0.4 and others and wanted:
                wanted[random.randrange(len(wanted))] = random.choice(others)
            elif draw < 0.65 and others:
                wanted.append(random.choice(others))
            elif draw < 0.85 and len(wanted) > FEWEST:
                wanted.pop(random.randrange(len(wanted)))
            else:
                wanted = random.sample(left, min(max(FEWEST, len(wanted)), len(left)))
            self._reconfigure(status, wanted)

        self._ask_status(change)

    def replace_lost(self) -> None:
        """From now on look, again and again, whether somebody is a member who is gone for good, and have it changed."""
        gone = self._cluster.gone()

        def change(status: Status) -> None:
            left = [member.node for member in status.members if member.node not in gone]
            if left and len(left) < len(status.members):
                self._reconfigure(status, left)

        if gone:
            self._ask_status(change)
            self._cluster.world.after(LOOKS_EVERY, self.replace_lost)

    def _ask_status(self, then: Callable[[Status], None]) -> None:
        up = self._cluster.up()
        if up:
            self._tickets += 1
            self._told[self._tickets] = then
            self._random.choice(up).request(GetStatus(self._tickets), "status")

    def _reconfigure(self, status: Status, wanted: list[int]) -> None:
        self._asked.append(wanted)
        self._tickets += 1
        members = [Member(node, MASTER) for node in sorted(set(wanted))]
        self._cluster.world.tell("admin", f"asks n{status.node} for the members {sorted(set(wanted))}")
        self._cluster.hosts[status.node].request(Reconfigure(self._tickets, members), "reconfigure")
