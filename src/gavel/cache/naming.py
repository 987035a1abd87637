"""The client's own: its name, how it numbers transactions, and what it knows of the masters' time.

Invariant: a sequence is given once, and counts as settled only when its transaction has an outcome.
"""

from __future__ import annotations


class Naming:
    """See the module."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self._sequence = 0
        self._open: set[int] = set()
        self._clock, self._heard = 0, 0  # a master's clock (a tid) and when we heard it (ns)

    def heard(self, clock: int, now: int) -> None:
        """A master's clock is at least there."""
        if clock > self._clock:
            self._clock, self._heard = clock, now

    @property
    def knows_time(self) -> bool:
        """Whether any master has said what time it is."""
        return bool(self._clock)

    def born(self, now: int) -> int:
        """A tid for a transaction that is born now: the masters' time, as far as is known."""
        return self._clock + (max(0, now - self._heard) // 1000 << 8)

    def name_next(self) -> int:
        """The sequence of a new transaction."""
        self._sequence += 1
        self._open.add(self._sequence)
        return self._sequence

    def settle(self, sequence: int) -> None:
        """The outcome of a transaction has come."""
        self._open.discard(sequence)

    @property
    def settled(self) -> int:
        """All transactions below this have their outcomes."""
        return min(self._open, default=self._sequence + 1)
