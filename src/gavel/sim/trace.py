"""What happened in a run, a line an event, for people.

Invariant: whether a trace is kept changes nothing that happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

KEPT = 200_000  # lines; more than anybody reads, less than what fills a memory


class Trace:
    """The last lines of a run; each may also be handed on at once (`sink`)."""

    def __init__(self, sink: Callable[[str], None] | None = None, kept: int = KEPT) -> None:
        self._lines: deque[str] = deque(maxlen=kept)
        self._sink = sink

    def add(self, now: int, who: str, what: str) -> None:
        """One line: when (ms), who, what."""
        line = f"{now / 1e6:12.3f}  {who:<8} {what}"
        self._lines.append(line)
        if self._sink is not None:
            self._sink(line)

    def lines(self) -> list[str]:
        """What is kept, the oldest first."""
        return list(self._lines)

    def last(self, count: int) -> list[str]:
        """The last lines of them."""
        return list(self._lines)[-count:]
