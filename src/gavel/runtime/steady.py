"""The clock that leases are measured by, and how much of something is taken in a second.

Invariant: `steady` is never set and never goes back, and it counts while the machine sleeps: a lease that ran out
meanwhile has run out. It says nothing about what time it is.
"""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_SECOND: Final = 1_000_000_000


def steady() -> int:
    """Nanoseconds since the machine was started, sleep included."""
    return time.clock_gettime_ns(_CLOCK)


class Meter:
    """Takes so many a second, and as many at once; `refused` counts the rest."""

    __slots__ = ("_free_at", "_gap", "refused")

    def __init__(self, per_second: int) -> None:
        self._gap = _SECOND // per_second
        self._free_at = 0  # when all that was taken would have come at an even pace
        self.refused = 0

    def take(self, now: int) -> bool:
        """Whether one more is taken at `now`, ns of a clock that does not go back."""
        if self._free_at > now + _SECOND:
            self.refused += 1
            return False
        self._free_at = max(self._free_at, now) + self._gap
        return True
