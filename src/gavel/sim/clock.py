"""Virtual time: it stands still until somebody moves it.

Invariant: neither reading ever runs back, unless a test sets the wall clock back on purpose.
"""

from __future__ import annotations


class SimClock:
    """A monotonic clock (ns from 0) and a wall clock (ns since 1970) that move together."""

    __slots__ = ("_monotonic", "_offset")

    def __init__(self, wall: int = 1_750_000_000 * 10**9) -> None:
        self._monotonic = 0
        self._offset = wall

    def monotonic(self) -> int:
        """Nanoseconds since this clock was made."""
        return self._monotonic

    def wall(self) -> int:
        """Nanoseconds since 1970."""
        return self._monotonic + self._offset

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        assert nanoseconds >= 0
        self._monotonic += nanoseconds

    def step_wall(self, nanoseconds: int) -> None:
        """Set the wall clock forth or (negative) back, as an administrator or a bad time server would."""
        self._offset += nanoseconds
