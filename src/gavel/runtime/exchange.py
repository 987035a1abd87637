"""All links of one process. What arrives on any of them in one turn of the event loop is handed on at once, so that one
step of the cores, one sync and one frame for each peer serve it all (group commit depends on it).

Invariants:
- `deliver` is called from the loop, never from within a call of the exchange or of a link, and not again before it has
  returned; arrivals of a link keep their order; the first is Opened, the last Ended;
- after it has returned, everything that was said meanwhile leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from gavel.errors import GavelError
from gavel.limits import PING_BUSY_MS
from gavel.runtime.link import Doubted, Link, Sure
from gavel.wire.connection import Ended, Event, Opened, Party
from gavel.wire.messages import Greeting

log = logging.getLogger("gavel.link")
_MS = 1_000_000


class Arrival(NamedTuple):
    """Something that came on a link."""

    link: Link
    event: Event | Doubted | Sure


class Exchange:
    """See the module.

    `me` says who this side is whenever a link is made; `judge` says why a peer that has greeted is not welcome, or
    None; `busy` on which links somebody waits for the peer (these are pinged often); `clock` is ns since 1970.
    """

    def __init__(
        self,
        me: Callable[[], Party],
        deliver: Callable[[list[Arrival]], None],
        *,
        judge: Callable[[Link, Greeting], GavelError | None] = lambda link, peer: None,
        busy: Callable[[], Collection[Link]] = lambda: (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.me, self.judge, self.clock = me, judge, clock
        self.links: list[Link] = []  # every transport that is there, in the order they came
        self._deliver, self._busy = deliver, busy
        self._loop = asyncio.get_running_loop()
        self._arrivals: list[Arrival] = []
        self._opened: set[Link] = set()
        self._dirty: dict[Link, None] = {}
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._beat_at = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    def dirty(self, link: Link) -> None:
        """A link has something to send; it leaves at the end of this turn."""
        self._dirty[link] = None
        self._soon()

    def arrived(self, link: Link, events: list[Event | Doubted | Sure]) -> None:
        """Something came on a link."""
        for event in events:
            if isinstance(event, Opened):
                self._opened.add(link)
                self._arm()
            elif link not in self._opened:  # one that never was open ends without anybody having known it
                if isinstance(event, Ended) and event.error is not None and not link.dialled:
                    log.warning("%s is not let in: %s", link.where, event.error)
                continue
            elif isinstance(event, Ended):
                self._opened.discard(link)
            self._arrivals.append(Arrival(link, event))
        if link.speaks:
            self._dirty[link] = None
        self._soon()

    def joined(self, link: Link) -> None:
        """A link has its transport."""
        self.links.append(link)
        self._empty.clear()
        self.dirty(link)
        self._arm()

    def left(self, link: Link) -> None:
        """A link has its transport no more."""
        if link in self.links:
            self.links.remove(link)
        self._dirty.pop(link, None)
        if not self.links:
            self._empty.set()

    def hurry(self) -> None:
        """Somebody began to wait for peers: ping at once where it is due."""
        if self._beat_at > time.monotonic_ns() + PING_BUSY_MS * _MS:
            self._arm()

    def close(self) -> None:
        """End all links."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for link in list(self.links):
            link.end()

    async def finish(self, seconds: float = 1.0) -> None:
        """End all links, and wait for their last words to be sent; after so long they are cut off."""
        self.close()
        for link in list(self.links):
            link.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        for link in list(self.links):
            link.abort()
        await asyncio.sleep(0)

    def _soon(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Hand on what came since the last turn, then send what was said."""
        self._scheduled = False
        if self._arrivals:
            arrivals, self._arrivals = self._arrivals, []
            self._deliver(arrivals)
        dirty, self._dirty = self._dirty, {}
        for link in dirty:
            link.flush()
        if self._busy():
            self.hurry()

    def _arm(self) -> None:
        """Look after the pulses when the next of them may need it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.links or self._closed:
            return
        now, busy = time.monotonic_ns(), self._busy()
        self._beat_at = min(link.beat_at(now, link in busy) for link in self.links)
        self._timer = self._loop.call_later(max(0.001, (self._beat_at - now) / 1e9), self._beat)

    def _beat(self) -> None:
        now, busy = time.monotonic_ns(), self._busy()
        for link in list(self.links):
            link.beat(now, link in busy)
        self._arm()
