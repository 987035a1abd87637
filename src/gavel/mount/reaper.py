"""Objects without a name: deleted when the kernel has let go of them.

Files are opened without asking us, so nobody says when the last program closes one. What tells is the kernel's FORGET
of the inode. A FORGET may also come while the inode is still held (lookups that raced), so before an orphan is deleted
the kernel is asked whether it really knows it no longer. All this is gathered and done beside the requests; until then
the orphan's record on the volume remembers it, whatever happens to this process.

Invariant: what the kernel was asked about an object, or has answered, is void once that object has got a name (undo
brings it back) or has lost one again: by then a program may have it open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct

from gavel.errors import GavelError
from gavel.filesystem import orphans
from gavel.limits import REAP_OBJECTS, REAP_WAITING
from gavel.mount.failures import errno_of
from gavel.mount.nodes import EngineLike
from gavel.mount.session import Handler, Header, Reply
from gavel.transaction.transaction import Transaction

Ask = Callable[[list[int], Callable[[list[int]], None]], None]

GATHER_SECONDS = 0.05  # forgotten orphans are asked for together
_RETRY_SECONDS = 5.0
_nodes_of = Struct("<Q8x").iter_unpack


class Reaper:
    """The orphans of a mount. `ask` finds out which of some objects the kernel holds no longer (Notifier.held).

    Not `sole`: another mount may have them open, so they are left alone.
    """

    def __init__(self, engine: EngineLike, loop: asyncio.AbstractEventLoop, sole: bool = True) -> None:
        self._sole = sole
        self.ask: Ask | None = None
        self._engine = engine
        self._loop = loop
        self.orphans: set[int] = set()  # objects without a name that the kernel may hold
        self._forgotten: list[int] = []
        self._armed = False
        self._asked: set[int] = set()  # what the kernel is being asked about
        self._due: dict[int, None] = {}  # what it does not hold, the last one first
        self._reaping = False  # whether a slice is going to come
        self._closed = False
        self.busy: Callable[[], bool] = lambda: False  # whether requests are being answered without a pause

    def orphaned(self, obj: int) -> None:
        """An object has lost its last name."""
        if self._sole:
            self._forget_answer(obj)
            self.orphans.add(obj)

    def adopted(self, obj: int) -> None:
        """An object has got a name."""
        self._forget_answer(obj)
        self.orphans.discard(obj)

    def _forget_answer(self, obj: int) -> None:
        self._asked.discard(obj)
        self._due.pop(obj, None)

    def suspect(self, obj: int) -> None:
        """An object lost its last name behind the kernel's back; it may be that the kernel never knew it."""
        self._forget_answer(obj)
        self.orphans.add(obj)
        self._forgot(obj)

    def forget(self, after: Handler) -> Handler:
        """The handler of FORGET: looks for orphans, then does what else is to be done."""

        def handler(header: Header, body: memoryview) -> Reply:
            if header[3] in self.orphans:
                self._forgot(header[3])
            return after(header, body)

        return handler

    def batch_forget(self, after: Handler) -> Handler:
        """The handler of BATCH_FORGET, likewise."""

        def handler(header: Header, body: memoryview) -> Reply:
            if self.orphans:
                for (node,) in _nodes_of(body[8 : 8 + (len(body) - 8) // 16 * 16]):
                    if node in self.orphans:
                        self._forgot(node)
            return after(header, body)

        return handler

    def _forgot(self, obj: int) -> None:
        self._forgotten.append(obj)
        if not self._armed:
            self._armed = True
            self._loop.call_later(GATHER_SECONDS, self._ask)

    def _ask(self) -> None:
        if len(self._forgotten) < REAP_WAITING and self.busy():
            self._loop.call_later(GATHER_SECONDS, self._ask)
            return
        self._armed = False
        forgotten, self._forgotten = self._forgotten, []
        self._asked.update(forgotten)
        if self.ask is not None and not self._closed:
            self.ask(forgotten, self._reap_all)

    def _reap_all(self, gone: list[int]) -> None:
        if self._closed:
            return
        gone = [obj for obj in gone if obj in self._asked and obj in self.orphans]
        self._due.update(dict.fromkeys(gone))
        self._asked.difference_update(gone)
        self.orphans.difference_update(gone)
        if self._due and not self._reaping:
            self._reaping = True
            self._loop.call_soon(self._slice)

    def _slice(self) -> None:
        """Delete some, then let requests be answered before the next; while those keep coming, only if many wait."""
        if self._closed:
            return
        if len(self._due) < REAP_WAITING and self.busy():
            self._loop.call_later(GATHER_SECONDS, self._slice)
            return
        some = [self._due.popitem()[0] for _ in range(min(REAP_OBJECTS, len(self._due)))]
        try:
            left = self._engine.write(_reap, some)
        except (GavelError, OSError) as error:
            errno_of(error)
            self._due.update(dict.fromkeys(some))
            self._loop.call_later(_RETRY_SECONDS, self._slice)
            return
        self._due.update(dict.fromkeys(left))
        self._reaping = bool(self._due)
        if self._reaping:
            self._loop.call_soon(self._slice)

    def finish(self) -> None:
        """The mount is gone: nobody can have anything open. What is left after this goes when it is next mounted."""
        self._closed = True


def _reap(tx: Transaction, objects: list[int]) -> list[int]:
    """Delete orphans; returns those of which something is left: a huge one takes several turns."""
    return [obj for obj in objects if not orphans.reap(tx, obj)]
