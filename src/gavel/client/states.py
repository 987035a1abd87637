"""What operations on an open volume run on.

The engine's turn is held for one operation at a time, so callers in several threads interleave between operations
and never within one. On an event loop the turn is always free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from gavel.client.runner import Operation, P, Past, Runner, read_only
from gavel.errors import ReadOnly, VolumeFull
from gavel.filesystem import orphans
from gavel.history.history import History
from gavel.keys import records
from gavel.runtime.engine import Engine
from gavel.runtime.turn import Turn
from gavel.transaction.transaction import Transaction

T = TypeVar("T")


class Present:
    """What is true now. Writes are seen by everybody at once and are durable after the next sync.

    `reaping`: whether content without a name is dropped as soon as nobody here holds it; off where a mount on the
    same engine may have it open.
    """

    def __init__(self, engine: Engine, find_tid: Callable[[int | str], int], reaping: bool = True) -> None:
        self.closed = False
        self._engine = engine
        self._find_tid = find_tid
        self._reaping = reaping
        self._held: dict[int, int] = {}
        self._nameless: set[int] = set()  # without a name but held
        self._released: deque[int] = deque()

    @property
    def engine(self) -> Engine:
        """The engine; raises ValueError once the volume was closed."""
        if self.closed:
            raise ValueError("the volume is closed")
        return self._engine

    @property
    def turn(self) -> Turn:
        """See Timeline."""
        return self.engine.turn

    def past(self) -> History:
        """See Timeline."""
        return self.engine.history

    def tid_of(self, moment: int | str) -> int:
        """See Timeline."""
        return self._find_tid(moment)

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner."""
        engine = self.engine
        with engine.turn:
            return engine.read(op, *args, **kwargs)

    def read_at(self, tid: int, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See HasPast."""
        engine = self.engine
        with engine.turn:
            return engine.read_at(tid, op, *args, **kwargs)

    def write(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner."""
        nameless: list[int] = []

        def noting(tx: Transaction) -> T:
            result = op(tx, *args, **kwargs)
            nameless.extend(orphaned(tx.writes))
            return result

        engine = self.engine
        try:
            return self._write(noting, nameless)
        except VolumeFull:
            if not engine.threaded or engine.turn.mine or not engine.make_room_now():
                raise
            nameless.clear()
            return self._write(noting, nameless)

    def _write(self, operation: Callable[[Transaction], T], nameless: list[int]) -> T:
        engine = self.engine
        with engine.turn:
            try:
                result = engine.write_outside(operation)
            except ReadOnly as error:
                raise read_only(error.why) from None
            if self._released:
                self._let_go()
            self.reap(nameless)
        return result

    def at(self, when: str) -> Runner:
        """See Runner."""
        return Past(self, self._find_tid(when)) if when else self

    def hold(self, obj: int) -> None:
        """See Runner."""
        with self._engine.turn:
            self._held[obj] = self._held.get(obj, 0) + 1

    def release(self, obj: int) -> None:
        """See Runner. May be called by the garbage collector in any thread, so it never waits for the turn."""
        self._released.append(obj)
        if self._engine.turn.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._engine.turn.release()

    def tidy(self) -> None:
        """Act on what was released while the turn was taken."""
        with self._engine.turn:
            self._let_go()

    def _let_go(self) -> None:
        """Act on what was released; whoever finds the turn taken leaves that to the next write, sync or close."""
        while self._released:
            obj = self._released.popleft()
            self._held[obj] -= 1
            if not self._held[obj]:
                del self._held[obj]
                if obj in self._nameless:
                    self._nameless.discard(obj)
                    self.reap([obj])

    def reap(self, nameless: list[int]) -> None:
        """Drop from the present what has no name and is not held; its past stays."""
        for obj in nameless:
            if obj in self._held:
                self._nameless.add(obj)
            elif self._reaping and not self.closed and not self._engine.write(orphans.reap, obj):
                self._engine.reap_later([obj])  # a huge one: the rest when there is time


def orphaned(writes: dict[bytes, bytes | None]) -> list[int]:
    """The objects that these writes left without a name."""
    return [
        records.orphan_object(key)
        for key, value in writes.items()
        if key[2] == records.ROOT and value is not None and records.parse(key).type == records.ORPHAN
    ]
