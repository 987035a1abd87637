"""Watching a tree: what is committed in it, as it is committed.

Invariant: between two looks a watch remembers only the tid up to which it has told everything. One that nobody reads
costs no memory, and one that resumes `since` a tid misses nothing, because the history itself is what it reads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

from gavel.client.looking_back import watched
from gavel.client.results import Change
from gavel.runtime.engine import Engine


class Watch:
    """Yields a Change for every transaction that touches the tree: `for change in watch` or `async for`.

    With a `timeout` (seconds) the blocking iterator ends when nothing has come for so long. Changes are told when
    they are committed, which for plain writes is at the next flush: sync(), or at most limits.FLUSH_SECONDS later.
    Close it when done; closing ends an iterator that waits.
    """

    def __init__(self, engine: Engine, raw: bytes, since: int | None, timeout: float | None) -> None:
        self._engine, self._raw, self._timeout = engine, raw, timeout
        self._news = threading.Condition()
        self._loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._ready: list[Change] = []
        self.closed = False
        with engine.turn:
            if since is None:
                since = engine.replica.last_tid if engine.volume.read_only else engine.flush()
            self._told = since
            self._newest = engine.replica.last_tid
            engine.on_commit.append(self._committed)

    def _committed(self, tid: int, keys: list[bytes]) -> None:
        with self._news:
            self._newest = tid
            self._news.notify_all()
        for loop, event in self._loops:
            loop.call_soon_threadsafe(event.set)

    def _collect(self) -> Change | None:
        """The next change that was committed, if there is one."""
        if not self._ready:
            newest = self._newest
            if newest > self._told:
                with self._engine.turn:
                    self._ready = watched(self._engine.history, self._raw, self._told, newest)
                self._told = newest
        return self._ready.pop(0) if self._ready else None

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            found = self._collect()
            if found is not None:
                return found
            with self._news:
                if self.closed:
                    raise StopIteration
                if self._newest > self._told:
                    continue
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise StopIteration
                self._news.wait(left)

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        self._loops.append(entry)
        try:
            while True:
                event.clear()
                found = self._collect()
                if found is not None:
                    return found
                if self.closed:
                    raise StopAsyncIteration
                try:
                    await asyncio.wait_for(event.wait(), self._timeout)
                except TimeoutError:
                    raise StopAsyncIteration from None
        finally:
            self._loops.remove(entry)

    def close(self) -> None:
        """Watch no longer."""
        if self.closed:
            return
        self.closed = True
        with self._engine.turn:
            self._engine.on_commit.remove(self._committed)
        with self._news:
            self._news.notify_all()
        for loop, event in self._loops:
            loop.call_soon_threadsafe(event.set)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
