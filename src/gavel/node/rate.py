"""How often something happens, from looks at a counter now and then."""

from __future__ import annotations

from collections import deque
from typing import Final

_SECONDS: Final = 10.0  # over which is averaged


class Rate:
    """The pace of a counter over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, count: int, now: float) -> None:
        """The counter is `count` at `now` (s); one that goes back has begun anew."""
        if self._seen and count < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _SECONDS:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """0 before there were two looks."""
        if len(self._seen) < 2:
            return 0.0
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return round((after - before) / max(last - first, 1e-3), 1)
