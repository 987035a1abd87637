"""A shell in virtual time: what production does on a loop or a thread happens here when the simulation says so.

Invariants: callbacks run in order of their time, ties in order of asking; a sync calls back after everything that
was due before it; nothing runs but from `run`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from gavel.errors import DeviceFailed
from gavel.media.device import Device

SECOND = 1_000_000_000
FETCH_NS = 100_000


class SimShell:
    """Carries out an engine's effects in virtual time. `now` is in ns since 1970 and is the engine's clock."""

    def __init__(self, device: Device, start: int = 1_600_000_000 * SECOND, sync_ns: int = 1_000_000) -> None:
        self._device = device
        self._now = start
        self._sync_ns = sync_ns
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._open = True

    def clock(self) -> int:
        """The time; it moves on by a microsecond with each look, so that no two operations share one."""
        self._now += 1000
        return self._now

    def sync(self, done: Callable[[DeviceFailed | None], None]) -> None:
        """Sync when its virtual time has come."""

        def work() -> None:
            try:
                self._device.sync()
            except DeviceFailed as error:
                done(error)
            else:
                done(None)

        self._push(self._sync_ns, work)

    def fetch(self, ranges: Sequence[tuple[int, int]], done: Callable[[], None]) -> None:
        """Nothing is nearer than it is; what is asked for is there a moment later."""
        self._push(FETCH_NS, done)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back so much later in virtual time."""
        self._push(max(0, int(seconds * SECOND)), callback)

    def _push(self, delay: int, callback: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._due, (self._now + delay, self._number, callback))

    def run(self, seconds: float = 0) -> None:
        """Let so much virtual time pass, running all that becomes due."""
        until = self._now + int(seconds * SECOND)
        while self._open and self._due and self._due[0][0] <= max(until, self._now):
            at, _, callback = heapq.heappop(self._due)
            self._now = max(self._now, at)
            callback()
        self._now = max(self._now, until)

    def run_until(self, condition: Callable[[], bool], steps: int = 1_000_000) -> None:
        """Run what is due next, whenever that is, until the condition holds; raises TimeoutError if it never does."""
        for _ in range(steps):
            if condition():
                return
            if not self._due or not self._open:
                break
            at, _, callback = heapq.heappop(self._due)
            self._now = max(self._now, at)
            callback()
        if not condition():
            raise TimeoutError("nothing is due any more, and the condition does not hold")

    def close(self) -> None:
        """Call back no more."""
        self._open = False
