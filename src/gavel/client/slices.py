"""Long looks at the past, in slices, so that nobody waits for them.

The functions of the filesystem room that look at the past are plain: they return when they are done. Here one runs in a
thread of its own, which works only while the driver of the generator waits for it, and pauses within its reads of
the history as soon as a slice is over. So at any time one thread at most is at work on the engine, as ever,
and between two slices a mount answers its kernel.

Invariants: the thread runs only between `_resume` and the driver's wake-up; a generator that is closed ends its thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

from gavel.client.results import Progress
from gavel.filesystem.past import Past
from gavel.history.versions import Change, Version
from gavel.runtime.engine import Engine

T = TypeVar("T")

SLICE_SECONDS = 0.002  # after so long at work the others have their turn


class _Abandoned(BaseException):
    """Nobody wants the result any more."""


class _Pausing:
    """A history that pauses its reader between slices; see filesystem.past.Past."""

    def __init__(self, past: Past, breathe: Callable[[], None]) -> None:
        self._past, self._breathe = past, breathe

    @property
    def created_tid(self) -> int:
        return self._past.created_tid

    @property
    def last_tid(self) -> int:
        return self._past.last_tid

    @property
    def horizon(self) -> int:
        return self._past.horizon

    def get_at(self, key: bytes, at: int) -> bytes | None:
        self._breathe()
        return self._past.get_at(key, at)

    def scan_at(self, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
        return self._paused(self._past.scan_at(lo, hi, at))

    def versions(self, key: bytes) -> list[Version]:
        self._breathe()
        return self._past.versions(key)

    def changes(self, t0: int, t1: int, lo: bytes, hi: bytes) -> Iterator[Change]:
        return self._paused(self._past.changes(t0, t1, lo, hi))

    def _paused(self, source: Iterator[T]) -> Iterator[T]:
        for item in source:
            yield item
            self._breathe()


class _Worker(Generic[T]):
    """The thread, and the baton that goes to and fro between it and the driver."""

    def __init__(self, make: Callable[[Past], Iterator[T]], past: Past) -> None:
        self.found: deque[T] = deque()
        self.over = False
        self.error: BaseException | None = None
        self._make, self._past = make, past
        self._go, self._stop = threading.Semaphore(0), threading.Semaphore(0)
        self._deadline = 0.0
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="gavel-past", daemon=True)
        self._thread.start()

    def slice(self) -> None:
        """Let it work for a slice, or to its end."""
        self._deadline = time.perf_counter() + SLICE_SECONDS
        self._go.release()
        self._stop.acquire()

    def abandon(self) -> None:
        """End it where it is."""
        if not self.over:
            self._abandoned = True
            self.slice()
        self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._abandoned:
                for item in self._make(_Pausing(self._past, self._breathe)):
                    self.found.append(item)
                    self._breathe()
        except _Abandoned:
            pass
        except BaseException as problem:  # the driver's to raise
            self.error = problem
        finally:
            self.over = True
            self._stop.release()

    def _breathe(self) -> None:
        if time.perf_counter() >= self._deadline:
            self._stop.release()
            self._go.acquire()
            if self._abandoned:
                raise _Abandoned


def in_slices(engine: Engine, make: Callable[[Past], Iterator[T]]) -> Generator[Progress | T, None, None]:
    """The items of an iterator over the history, with a Progress after each slice; raises what it raises."""
    worker = _Worker(make, engine.history)
    try:
        while not worker.over:
            with engine.turn:
                worker.slice()
            while worker.found:
                yield worker.found.popleft()
            yield Progress(0, None)
        if worker.error is not None:
            raise worker.error
    finally:
        worker.abandon()


def once(engine: Engine, function: Callable[[Past], T]) -> Generator[Progress, None, T]:
    """The result of a function over the history, with a Progress after each slice."""

    def make(past: Past) -> Iterator[tuple[T]]:
        yield (function(past),)

    results: list[T] = []
    for step in in_slices(engine, make):
        if isinstance(step, Progress):
            yield step
        else:
            results.append(step[0])
    return results[0]
