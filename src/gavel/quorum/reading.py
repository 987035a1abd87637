"""Read points: a tid at or above everything that was acknowledged before somebody asked.

What was acknowledged had been accepted by a majority, so one of any majority knows a value at or above it. Reads that
come while a round of questions runs share the next one. A node that does not vote may ask, too; it waits until it has
streamed so far.
"""

from __future__ import annotations

from heapq import heappop, heappush

from gavel.quorum.desk import Desk
from gavel.quorum.messages import ReadAsk, ReadTold
from gavel.quorum.register import Registers
from gavel.quorum.requests import ReadPoint

ASK_AGAIN = 50_000_000  # ns


class Reads:
    """Rounds of questions, and reads that wait for the watermark."""

    def __init__(self, desk: Desk, registers: Registers) -> None:
        self._desk = desk
        self._registers = registers
        self._round = 0
        self._asked_at = 0
        self._asking: list[ReadPoint] = []  # those the round is for
        self._next: list[ReadPoint] = []
        self._told: dict[int, int] = {}
        self._waiting: list[tuple[int, int, ReadPoint]] = []  # a heap by tid
        self._count = 0

    @property
    def pending(self) -> bool:
        """Whether anybody waits."""
        return bool(self._asking or self._next or self._waiting)

    def begin(self, request: ReadPoint) -> None:
        """A read point is wanted."""
        self._next.append(request)
        if not self._asking:
            self._begin_round()

    def _begin_round(self) -> None:
        self._asking, self._next = self._next, []
        self._round += 1
        self._asked_at = self._desk.time
        self._told = {}
        for node in self._desk.electorate.voters:
            self._desk.send(node, ReadAsk(self._round))

    def asked(self, node: int, asked: ReadAsk) -> None:
        """Say what is the highest here; only who acts knows."""
        if self._desk.acting:
            self._desk.send(node, ReadTold(asked.number, self._registers.highest))

    def told(self, node: int, told: ReadTold) -> None:
        """A voter's answer; with a majority the read point is known."""
        if told.number != self._round or not self._asking or node not in self._desk.electorate.voters:
            return
        self._told[node] = told.highest
        if len(self._told) < self._desk.electorate.majority:
            return
        point = max(self._told.values())
        self._desk.clock.observe(point)  # else nothing here might vouch for it for a while
        for request in self._asking:
            self._count += 1
            heappush(self._waiting, (point, self._count, request))
        self._asking = []
        if self._next:
            self._begin_round()

    def ready(self) -> list[tuple[ReadPoint, int]]:
        """Those whose point the watermark has reached, with it."""
        found = []
        while self._waiting and self._waiting[0][0] <= self._desk.stable:
            point, _, request = heappop(self._waiting)
            found.append((request, point))
        return found

    def look(self, again: bool = False) -> None:
        """Ask again those who have not answered; `again`: the members changed, all of them."""
        if self._asking and (again or self._desk.time - self._asked_at >= ASK_AGAIN):
            if again:
                self._round += 1
                self._told = {}
            self._asked_at = self._desk.time
            for node in self._desk.electorate.voters:
                if node not in self._told:
                    self._desk.send(node, ReadAsk(self._round))

    def give_up(self, request: ReadPoint) -> None:
        """Its patience is over."""
        self._asking = [other for other in self._asking if other is not request]
        self._next = [other for other in self._next if other is not request]
        self._waiting = sorted(entry for entry in self._waiting if entry[2] is not request)
        if not self._asking and self._next:
            self._begin_round()
