"""The clock of a simulated host: it may run fast or slow, be off, and be set forth or back.

Invariant: between two settings it never runs back.
"""

from __future__ import annotations

from gavel.sim.world import World

PARTS = 1_000_000  # a rate is in parts per million of true time


class HostClock:
    """What one host takes for the time, in ns since 1970."""

    __slots__ = ("_base", "_rate", "_set", "_since", "_world")

    def __init__(self, world: World, wall: int = 1_750_000_000 * 10**9, rate: int = PARTS) -> None:
        self._world = world
        self._base = wall
        self._since = world.now
        self._rate = rate
        self._set = 0  # ns by which it was set, all told

    def now(self) -> int:
        """Nanoseconds since 1970, as this host believes."""
        return self._base + (self._world.now - self._since) * self._rate // PARTS

    def steady(self) -> int:
        """Nanoseconds by this host's clock as if nobody had ever set it."""
        return self.now() - self._set

    def true_delay(self, nanoseconds: int) -> int:
        """How long it truly takes until this clock has moved on by so much, if nobody sets it."""
        return -(-max(0, nanoseconds) * PARTS // self._rate)

    def step(self, nanoseconds: int) -> None:
        """Set the clock forth or (negative) back, as an administrator or a bad time server would."""
        self._base = self.now() + nanoseconds
        self._set += nanoseconds
        self._since = self._world.now

    def set_rate(self, rate: int) -> None:
        """Run at `rate` parts per million of true time from now on."""
        assert rate > 0
        self._base = self.now()
        self._since = self._world.now
        self._rate = rate
