"""Virtual time: one line on which everything happens that happens in a simulation, in an order the seed alone decides.

Invariants:
- callbacks run in order of their time, ties in the order they were asked for; time never runs back;
- everything that is drawn comes from a stream named after what it is for, so that taking one part of a run away
  (a client, a fault) leaves the draws of the others as they were: that is what makes shrinking work;
- what happened is added to the digest: two runs of one seed agree on it, or somebody used entropy.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

import xxhash

from gavel.sim.trace import Trace

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class World:
    """Time, chance and the record of both. Times are ns since the beginning of the run."""

    def __init__(self, seed: int | str, trace: Trace | None = None) -> None:
        self.seed = seed
        self.now = 0
        self.events = 0
        self.trace = trace
        self._due: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._digest = xxhash.xxh3_128()

    def stream(self, name: str) -> Random:
        """The source of chance for one purpose; the same seed and name give the same draws."""
        return Random(f"{self.seed}/{name}")

    def at(self, when: int, callback: Callable[..., None], *arguments: Any) -> None:
        """Call back at a time, or next if it has passed."""
        self._number += 1
        heapq.heappush(self._due, (max(when, self.now), self._number, callback, arguments))

    def after(self, delay: int, callback: Callable[..., None], *arguments: Any) -> None:
        """Call back so many ns from now."""
        self._number += 1
        heapq.heappush(self._due, (self.now + delay, self._number, callback, arguments))

    def happened(self, what: bytes) -> None:
        """Count an event and add it, with its time, to the digest."""
        self.events += 1
        self._digest.update(b"%d " % self.now)
        self._digest.update(what)

    def tell(self, who: str, what: str) -> None:
        """Add a line to the trace, if there is one. Whoever must build a line first looks whether `trace` is there."""
        if self.trace is not None:
            self.trace.add(self.now, who, what)

    def run(self, until: int) -> None:
        """Let time pass up to and including `until`."""
        due, pop = self._due, heapq.heappop
        while due and due[0][0] <= until:
            self.now, _, callback, arguments = pop(due)
            callback(*arguments)
        self.now = max(self.now, until)

    def digest(self) -> str:
        """32 hex digits that stand for everything that happened so far."""
        return self._digest.hexdigest()
