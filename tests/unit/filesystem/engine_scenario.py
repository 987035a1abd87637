"""The same scenarios on a real volume: engine, log and trees over a simulated device, each step flushed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gavel.history.versions import Change, Version
from gavel.transaction.transaction import Transaction
from tests.crash.simulated import fresh
from tests.unit.filesystem.scenario import Scenario


class EngineScenario(Scenario):
    """A Scenario whose past is kept by history."""

    def __init__(self, *, reap: bool = True) -> None:
        self.system = fresh()
        self.engine = self.system.engine
        self.history = self.engine.history
        self.reap = reap
        self.created_tid = self.history.last_tid

    @property
    def micros(self) -> int:  # type: ignore[override]
        return self.engine.clock() // 1000

    @property
    def last_tid(self) -> int:  # type: ignore[override]
        return self.history.last_tid

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.history.horizon

    def versions(self, key: bytes) -> list[Version]:
        return self.history.versions(key)

    def get_at(self, key: bytes, at: int) -> bytes | None:
        return self.history.get_at(key, at)

    def scan_at(self, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
        return self.history.scan_at(lo, hi, at)

    def changes(self, t0: int, t1: int, lo: bytes = b"", hi: bytes = b"\xff" * 16) -> Iterator[Change]:
        return self.history.changes(t0, t1, lo, hi)

    def begin(self, at: int | None = None) -> Transaction:
        now = self.engine.clock()
        return self.engine.cache.reader(now) if at is None else self.engine.cache.frozen(at, now)

    def run(self, op: Callable[..., Any], *args: Any, seconds: float = 1, **more: Any) -> Any:
        self.system.shell.run(seconds)
        result = self.engine.write(op, *args, **more)
        self.engine.flush()
        return result
