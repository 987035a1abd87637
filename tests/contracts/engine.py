"""A Store of records in a real volume: operations go through engine, cache, log and trees, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.crash.simulated import fresh, opened

SECOND = 1_000_000_000


class EngineStore:
    """Runs operations on an engine over a simulated device; has what tests.contracts.views.Store has."""

    def __init__(self, seed: int = 0) -> None:
        self.system = fresh(seed)

    def run(self, op: Callable[..., Any], *args: Any) -> Any:
        """Run op(tx, *args) and take in what it wrote."""
        return self.system.engine.write(op, *args)

    def tick(self) -> None:
        """Let a little time pass, and do what has become due."""
        self.system.shell.run(1e-6)

    def begin_again(self) -> None:
        """Close, and open what is on the device then."""
        self.system.checkpoint(clean=True)
        self._open(self.system.device)

    def power_cut(self, random: Random) -> None:
        """Crash: of what was written since the last sync, anything may be lost, torn or kept; then open again."""
        self.system.engine.abandon()
        self._open(self.system.device.crash(random))

    def _open(self, device: Any) -> None:
        self.system = opened(device, self.system.shell.clock() + 60 * SECOND)
        self.system.shell.run(1)  # objects that were open without a name are reaped
