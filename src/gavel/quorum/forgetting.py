"""When registers can be forgotten: when the lives of their transactions are durably over for every voter.

A voter vouches for what it knows above the asker's watermark; were a register dropped while one voter is still below
it, that voter would be told of everything but this. So one voter that is away keeps registers everywhere, without
their bodies; but no more than limits.REGISTERS_KEPT. Beyond that what is over for a majority is dropped, and who was
away is vouched to from there on only: it catches up to that first.

Invariant: a register is dropped only when its life is durably over here and for a majority of the voters: so whatever
majority is asked about it later, somebody in it answers that it is closed.
"""

from __future__ import annotations

from gavel.limits import REGISTERS_KEPT
from gavel.quorum.desk import Desk
from gavel.quorum.register import Registers
from gavel.quorum.watermark import Watermark


class Forgetting:
    """Computes what is over here, and drops what is over everywhere; `most` is how many registers are kept for those
    who are away."""

    def __init__(self, desk: Desk, registers: Registers, watermark: Watermark) -> None:
        self._desk = desk
        self._registers = registers
        self._watermark = watermark
        self.most = REGISTERS_KEPT
        self._horizon = 0  # what ended at or below it was dropped for all
        self.left: list[int] = []  # who has to catch up when it is back

    def look(self) -> None:
        """Once a heartbeat."""
        desk, registers = self._desk, self._registers
        self._watermark.settled = registers.settled()
        bounds = {node: peer.settled for node, peer in desk.peers.items()}
        bounds[desk.me] = self._watermark.settled
        if not desk.voter:
            registers.forget(bounds[desk.me])
        elif not desk.rules.all_settled:
            registers.forget(self._by_majority(bounds))
        else:
            voters = desk.electorate.voters
            self.left = [voter for voter in self.left if voter in voters and bounds.get(voter, 0) < self._horizon]
            registers.forget(min(bounds.get(voter, 0) for voter in voters))
            if len(registers.table) > self.most:
                self._leave_behind(bounds)
        self._watermark.trim()

    def _by_majority(self, bounds: dict[int, int]) -> int:
        return min(bounds[self._desk.me], self._desk.electorate.reached(bounds))

    def _leave_behind(self, bounds: dict[int, int]) -> None:
        """Drop what is over for a majority: some will have to catch up. Said once of each."""
        desk, registers = self._desk, self._registers
        horizon, count = self._by_majority(bounds), len(registers.table)
        registers.untold = max(registers.untold, registers.forget(horizon))
        if len(registers.table) == count:
            return
        self._horizon = horizon
        for voter in desk.electorate.voters:
            if bounds.get(voter, 0) < horizon:
                self._watermark.break_stream(desk.peer(voter))
                if voter not in self.left:
                    self.left.append(voter)
                    desk.observe("left behind", node=voter, count=count)
