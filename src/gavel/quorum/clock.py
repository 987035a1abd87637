"""The hybrid clock of a voter: never back, reserved ahead, and no follower of a wall clock that is far off.

Invariants:
- every tick handed out or observed is at or below `reserved`, which is in the ledger before anything that shows the
  tick is told;
- after a restart the clock stands at what was reserved, so above everything it may have said;
- the wall clock moves it forward only, and only while no more than limits.CLOCK_OFF_US from the median of the walls
  of a majority.
"""

from __future__ import annotations

from collections.abc import Callable

from gavel.keys.tid import end_of, make, micros
from gavel.limits import CLOCK_OFF_US, CLOCK_RENEW_US, CLOCK_RESERVE_US


class Clock:
    """Microseconds since 1970, as far as that can be had; `tick` is the last one used."""

    __slots__ = ("_reserve", "durable", "node", "off", "reserved", "tick", "wall")

    def __init__(self, node: int, tick: int, reserve: Callable[[int], None]) -> None:
        """`reserve(us)` writes a reservation down; `synced(us)` is to be called when it is durable."""
        self.node = node
        self.tick = tick
        self.reserved = tick
        self.durable = tick
        self.wall = 0
        self.off = 0  # by how much the wall clock is not followed
        self._reserve = reserve

    def look(self, wall_us: int) -> None:
        """The host's clock reads this now."""
        self.wall = wall_us + self.off

    def fresh(self) -> int:
        """A tid of this node above everything it has said."""
        tick = self.tick + 1
        if self.wall > tick:
            tick = self.wall
        self.tick = tick
        if tick > self.reserved:
            self._renew()
        return make(tick, self.node)

    def observe(self, tid: int) -> None:
        """Everything from now on is above this tid, by a whole tick."""
        tick = micros(tid) + 1
        if tick > self.tick:
            self.tick = tick
            if tick > self.reserved:
                self._renew()

    def follow(self) -> bool:
        """Move on to the wall clock; whether a reservation was written that wants to become durable soon."""
        if self.wall > self.tick:
            self.tick = self.wall
        if self.reserved - self.tick < CLOCK_RENEW_US:
            self._renew()
            return True
        return False

    def _renew(self) -> None:
        self.reserved = self.tick + CLOCK_RESERVE_US
        self._reserve(self.reserved)

    def synced(self, reserved: int) -> None:
        """This reservation is durable."""
        if reserved > self.durable:
            self.durable = reserved

    def resume(self, reserved: int) -> None:
        """Start again above what was reserved."""
        if reserved > self.tick:
            self.tick = self.reserved = self.durable = reserved

    def bound(self, durable: bool = True) -> int:
        """A tid above which everything that this node will ever propose is, crashes included if `durable`."""
        tick = self.tick
        if durable and self.durable < tick:
            tick = self.durable
        return end_of(tick)

    def compare(self, offsets: list[int], others: int) -> int:
        """Take in by how much the walls of other voters are ahead; the own one counts as 0. Returns how far off the
        own one is.

        `others` is how many must be known for a majority; with fewer the wall is followed, but not past what the rest
        say. Of two that differ the lower one is believed: a clock that is behind does no lasting harm.
        """
        known = sorted([0, *offsets])
        median = known[(len(known) - 1) // 2]
        off = median if abs(median) > CLOCK_OFF_US and len(offsets) >= others else 0
        self.wall += off - self.off
        self.off = off
        return off
