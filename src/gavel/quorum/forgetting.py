"""When registers can be forgotten: when the lives of their transactions are durably over for every voter, not for a
majority of them.

A voter vouches for what it knows above the asker's watermark; were a register dropped while one voter is still below
it, that voter would be told of everything but this. So one voter that is long gone keeps registers everywhere
(without their bodies) until it is back or removed.
"""

from __future__ import annotations

from gavel.limits import REGISTERS_REPORTED
from gavel.quorum.desk import Desk
from gavel.quorum.register import Registers
from gavel.quorum.watermark import Watermark


class Forgetting:
    """Computes what is over here, and drops what is over everywhere."""

    def __init__(self, desk: Desk, registers: Registers, watermark: Watermark) -> None:
        self._desk = desk
        self._registers = registers
        self._watermark = watermark
        self._reported_at = REGISTERS_REPORTED

    def look(self) -> None:
        """Once a heartbeat."""
        desk = self._desk
        self._watermark.settled = self._registers.settled()
        bounds = {node: peer.settled for node, peer in desk.peers.items()}
        bounds[desk.me] = self._watermark.settled
        voters = desk.electorate.voters
        if desk.voter and desk.rules.all_settled:
            self._registers.forget(min(bounds.get(voter, 0) for voter in voters))
            self._report(bounds)
        elif desk.voter:
            self._registers.forget(min(bounds[desk.me], desk.electorate.reached(bounds)))
        else:
            self._registers.forget(bounds[desk.me])
        self._watermark.trim()

    def _report(self, bounds: dict[int, int]) -> None:
        """Say once whom it is that keeps too many registers from being forgotten; and again when there are twice as
        many."""
        count = len(self._registers.table)
        if count >= self._reported_at:
            self._reported_at = 2 * count
            held_by = min(self._desk.electorate.voters, key=lambda voter: bounds.get(voter, 0))
            self._desk.observe("registers kept", node=held_by, count=count)
        elif count < REGISTERS_REPORTED:
            self._reported_at = REGISTERS_REPORTED
