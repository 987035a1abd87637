"""A mounted volume: the kernel on one side, an engine on the other.

The way of a request: /dev/fuse -> session.Session -> table -> names, attributes or data -> a filesystem function run by
the engine -> reply, all in one turn of the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable
from typing import NamedTuple

from gavel.errors import BadWhen, GavelError
from gavel.limits import HAND_OVER_SECONDS, READ_AHEAD
from gavel.mount import abi, attach, mounted
from gavel.mount.attributes import Attributes
from gavel.mount.data import Data
from gavel.mount.names import Names
from gavel.mount.nodes import EngineLike, Nodes
from gavel.mount.notify import Notifier
from gavel.mount.outside import Outside
from gavel.mount.reaper import Reaper
from gavel.mount.replies import FOREVER
from gavel.mount.session import SHARED, SOLE, Handler, Session
from gavel.mount.table import handlers
from gavel.transaction.view import Buffer

STOP_SECONDS = 5.0  # how long users of a mount that is taken away get to finish


def no_moment(text: str) -> int:
    """For a mount on which no past can be named."""
    raise BadWhen(text, "means nothing on this mount")


class Options(NamedTuple):
    """How to mount. `socket` and `volume` are what the xattrs gavel.socket and gavel.volume say."""

    source: str = "gavel"  # shown in /proc/mounts
    read_only: bool = False
    at: int | None = None  # the whole mount as of this tid
    moment: Callable[[str], int] = no_moment  # the tid that a WHEN stands for; raises BadWhen
    socket: str = ""
    volume: str = ""
    allow_other: bool = True


class Mount:
    """One mount. Must be used on the event loop that it is to be served by."""

    _sole = True  # whether nothing changes but through this mount and what tells it

    def __init__(self, engine: EngineLike, directory: str, options: Options | None = None) -> None:
        self.options = options or Options()
        self.directory = os.path.abspath(directory)
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._engine = engine
        self.make_room: Callable[[Callable[[], None]], bool] = lambda again: False  # see Session
        self._session: Session | None = None
        self._notifier: Notifier | None = None
        self._reaper: Reaper | None = None
        self._outside: Outside | None = None
        self._attributes: Attributes | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether the kernel has asked for something a moment ago."""
        return self._session is not None and self._session.busy

    @property
    def pending(self) -> bool:
        """Whether the kernel waits for an answer at this moment."""
        return self._session is not None and self._session.pending()

    async def start(self) -> None:
        """Mount; returns when the mount answers. Raises attach.CannotMount, OSError."""
        loop, options = asyncio.get_running_loop(), self.options
        read_only = options.read_only or options.at is not None
        fd = await loop.run_in_executor(None, self._attach, read_only)
        sole = self._sole
        nodes = Nodes(self._engine, options.at, self.directory, options.moment, FOREVER if sole else 0)
        reaper = Reaper(self._engine, loop, sole)
        virtual = {b"gavel.socket": os.fsencode(options.socket), b"gavel.volume": os.fsencode(options.volume)}
        attributes = Attributes(nodes, virtual, reaper.orphans, sole)
        names = Names(nodes, reaper.orphaned, reaper.adopted, attributes.plain)
        data = Data(nodes, self._reply, sole)
        table = self._table(handlers(names, attributes, data, reaper), nodes, names)
        session = Session(fd, table, loop, SOLE if sole else SHARED)
        self._session, self._reaper, self._attributes = session, reaper, attributes
        session.make_room = self.make_room
        session.closed.add_done_callback(self._ended)
        session.start()
        try:
            agreed = await session.ready
        except OSError:
            await loop.run_in_executor(None, self._drop)
            raise
        attributes.extended = bool(agreed.flags & abi.SETXATTR_EXT)
        self._notifier = Notifier(fd, loop)
        nodes.let_go = self._notifier.entry
        if sole:
            self._watch_alone(self._notifier, session, reaper, data)
            if not read_only:
                self._keeper = loop.create_task(self._keep())
        here = mounted.at(self.directory)
        if here is not None:
            attach.read_ahead(here.device, READ_AHEAD)

    def _table(self, table: list[Handler], nodes: Nodes, names: Names) -> list[Handler]:
        """How requests are answered: here, each in its turn."""
        return table

    def _watch_alone(self, notifier: Notifier, session: Session, reaper: Reaper, data: Data) -> None:
        """What follows from being the only one who changes anything: the kernel's cache is ours to order about."""
        assert self._attributes is not None
        reaper.ask = notifier.held
        reaper.busy = lambda: session.busy
        data.written_back = notifier.written_back
        self._outside = Outside(self._engine, notifier, reaper, self.directory, self._attributes.settling)

    async def _keep(self) -> None:
        """Keep the promise that little is lost without fsync.

        What is written to an open file stays in the kernel's cache for half a minute if nobody asks for it.
        """
        loop, durable = asyncio.get_running_loop(), 0
        while True:
            await asyncio.sleep(HAND_OVER_SECONDS)
            await loop.run_in_executor(None, attach.hand_over, self.directory)
            with contextlib.suppress(GavelError):  # the engine tries again by itself, and tells who asks next
                if self._engine.flush() != durable:
                    durable = await self._engine.sync()

    def _attach(self, read_only: bool) -> int:
        options = self.options
        return attach.attach(self.directory, options.source, read_only=read_only, allow_other=options.allow_other)

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            attach.detach(self.directory, lazy=True)

    def changed_outside(self, keys: list[bytes]) -> None:
        """Records were written that did not come through this mount (undo, an API): the kernel is told."""
        if self._outside is not None and self._attributes is not None:
            self._attributes.forget_plain()
            self._outside.changed(keys)

    async def told(self, seconds: float = 5.0) -> None:
        """Return when the kernel has been told of all that was changed outside until now; at most so late."""
        if self._notifier is None or self.closed.done():
            return
        loop = asyncio.get_running_loop()
        known = asyncio.Event()

        def all_before_is_told() -> None:
            loop.call_soon_threadsafe(known.set)

        self._notifier.call(all_before_is_told)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(known.wait(), seconds)

    async def caught_up(self, seconds: float = 5.0) -> None:
        """Return when every request that the kernel had sent is answered; under endless load, after so many seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        waiting = select.poll()
        if self._session is not None and self._session.fd >= 0:
            waiting.register(self._session.fd, select.POLLIN)
        while waiting.poll(0) and loop.time() < deadline and not self.closed.done():  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0)

    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Unmount, whoever uses it: everything cached is handed over first; users get `patience` seconds to finish.

        Returns when it is gone. Nothing of this makes data durable: close the engine after.
        """
        if self._session is None or self.closed.done():
            return
        loop = asyncio.get_running_loop()
        if self._keeper is not None:
            self._keeper.cancel()
        with contextlib.suppress(OSError):  # somebody else may have unmounted it meanwhile
            await loop.run_in_executor(None, attach.flush_and_detach, self.directory)
        done, _ = await asyncio.wait([self.closed], timeout=patience)
        if not done:
            self._session.close()
        await self.closed

    def _reply(self, unique: int, reply: bytes | int | list[Buffer]) -> None:
        if self._session is not None and self._session.fd >= 0:
            self._session.reply(unique, reply)

    def _ended(self, ended: asyncio.Future[None]) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        if self._reaper is not None:
            self._reaper.finish()
        if self._notifier is not None:
            self._notifier.close()
        if not self.closed.done():
            self.closed.set_result(None)
