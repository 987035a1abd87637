"""A mount of what others change, too: a cluster's filesystem, seen through one client of it.

Each request is one operation of the client (cache/attempts.py): its handler runs, perhaps several times, on what is
held, and is answered when a majority of masters has confirmed what it read or has what it wrote. So a reply may come
long after the turn that read the request, and fsync has nothing left to do. The kernel keeps nothing that it does not
ask about again, but for pages of files whose size and time are the same.

Invariants: a handler sees one state, whatever happens between its runs; a run that was not the last leaves nothing
behind in the mount's own tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from gavel.cache.attempts import Finished
from gavel.cache.held_view import past_of
from gavel.errors import GavelError
from gavel.filesystem import orphans, snapshots, when
from gavel.limits import REAP_OBJECTS, SHARED_ORPHAN_SECONDS, SHARED_REAP_SECONDS
from gavel.media.room import Space
from gavel.mount import abi
from gavel.mount.failures import errno_of
from gavel.mount.mount import Mount, Options
from gavel.mount.names import Names
from gavel.mount.nodes import Nodes
from gavel.mount.session import Handler, Header, Reply
from gavel.runtime.moments import local_zone
from gavel.transaction.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("gavel.mount")
MARK = b"@@"

# Requests that never touch a record, or that have nothing to wait for.
AT_ONCE = frozenset(
    {
        abi.FORGET, abi.BATCH_FORGET, abi.RELEASE, abi.RELEASEDIR, abi.DESTROY, abi.INTERRUPT, abi.NOTIFY_REPLY,
        abi.INIT, abi.OPEN, abi.OPENDIR, abi.FLUSH, abi.POLL, abi.IOCTL, abi.GETLK, abi.SETLK, abi.SETLKW,
        abi.BMAP, abi.ACCESS, abi.SETUPMAPPING, abi.REMOVEMAPPING, abi.FSYNC, abi.FSYNCDIR, abi.SYNCFS, abi.STATFS,
    }
)  # fmt: skip


class Client(Protocol):
    """What the mount needs of runtime.RemoteEngine."""

    def start(self, operation: Callable[[Transaction], Any], done: Callable[[Finished], None], at: int = 0) -> None:
        """Run an operation to its end, and tell that."""

    async def point(self) -> int:
        """A tid whose state has all that was acknowledged before this was asked."""

    async def run(self, operation: Callable[[Transaction], T]) -> T:
        """The result of an operation."""

    def space(self) -> Space:
        """Sizes of the filesystem, as of lately."""


class Running:
    """The engine that handlers see: the transaction of the request that is being run."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.tx: Transaction | None = None

    @property
    def present(self) -> Transaction:
        """What the request reads from, and writes to."""
        assert self.tx is not None, "a handler that touches records is in AT_ONCE"
        return self.tx

    def read(self, op: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See EngineLike."""
        return op(self.present, *args, **kwargs)

    def write(self, op: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See EngineLike; one that raises ends its request, so what it wrote is dropped."""
        return op(self.present, *args, **kwargs)

    def read_at(self, at: int, op: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See EngineLike."""
        return op(past_of(self.present, at), *args, **kwargs)

    def flush(self) -> int:
        """Nothing is ever dirty here."""
        return 0

    async def sync(self) -> int:
        """Whatever was answered is durable."""
        return 0

    def space(self) -> Space:
        """See EngineLike."""
        return self.client.space()


class SharedMount(Mount):
    """A mount of a cluster's filesystem."""

    _sole = False

    def __init__(
        self,
        client: Client,
        directory: str,
        options: Options | None = None,
        *,
        keep_orphans: float = SHARED_ORPHAN_SECONDS,
        reap_every: float = SHARED_REAP_SECONDS,
    ) -> None:
        self._running = Running(client)
        self._keep_orphans, self._reap_every = keep_orphans, reap_every
        self._last = 0  # the newest tid when a moment was asked for last
        self._asking: set[asyncio.Task[None]] = set()
        given = options or Options()
        super().__init__(self._running, directory, given._replace(moment=self._moment))

    async def start(self) -> None:
        """See Mount."""
        await super().start()
        if not self.options.read_only and self.options.at is None:
            self._keeper = asyncio.get_running_loop().create_task(self._reap())

    async def _reap(self) -> None:
        """Delete what lost its last name long ago: who else may have it open, nobody knows until there are leases.

        Every mount does this at times of its own; that several do it at once harms nothing.
        """
        run = self._running.client.run
        while True:
            await asyncio.sleep(self._reap_every * (0.5 + random.random()))
            before = time.time_ns() - int(self._keep_orphans * 1e9)
            with contextlib.suppress(GavelError):
                for obj in await run(lambda tx, before=before: orphans.stale(tx, before, REAP_OBJECTS)):  # type: ignore[misc]
                    while not await run(lambda tx, obj=obj: orphans.reap(tx, obj)):  # type: ignore[misc]
                        pass

    def _table(self, table: list[Handler], nodes: Nodes, names: Names) -> list[Handler]:
        table[abi.CREATE] = names.create  # the way by LOOKUP and MKNOD takes two requests, and others come between
        return [
            handler if opcode in AT_ONCE else partial(self._start, handler, nodes)
            for opcode, handler in enumerate(table)
        ]

    def _start(self, handler: Handler, nodes: Nodes, header: Header, body: memoryview) -> Reply:
        """Begin to answer a request; its bytes are kept, since the buffer they lie in is used again."""
        kept = memoryview(bytes(body))
        if header[1] == abi.LOOKUP and MARK in bytes(kept):
            task = asyncio.get_running_loop().create_task(self._start_at_the_time(handler, nodes, header, kept))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        else:
            self._run(handler, nodes, header, kept)
        return None

    async def _start_at_the_time(self, handler: Handler, nodes: Nodes, header: Header, kept: memoryview) -> None:
        """Begin to answer a request that names a moment: what that is depends on what the newest state is."""
        try:
            self._last = max(self._last, await self._running.client.point())
        except GavelError as error:
            self._reply(header[2], errno_of(error))
        else:
            self._run(handler, nodes, header, kept)

    def _prepared(self, nodes: Nodes, header: Header, kept: memoryview, tx: Transaction) -> Callable[[Reply], None]:
        """A handler is about to be run on this; what is returned is called with its reply, if it was the last run."""
        return lambda reply: None

    def _moment(self, text: str) -> int:
        """The tid that a WHEN stands for to the request that is being run; raises BadWhen."""
        tx = self._running.present

        def snapshot(name: str) -> int | None:
            found = snapshots.find(tx, name)
            return None if found is None else found.tid

        return when.parse(text, tx.now, local_zone(), snapshot, 1, self._last)

    def _run(self, handler: Handler, nodes: Nodes, header: Header, kept: memoryview) -> None:
        running, views = self._running, nodes.views
        entered: list[int] = []

        def operation(tx: Transaction) -> Reply:
            while entered:
                views.forget(entered.pop(), 1)
            running.tx, views.entered = tx, entered
            noted.append(self._prepared(nodes, header, kept, tx))
            try:
                return handler(header, kept)
            finally:
                running.tx, views.entered = None, None

        def done(end: Finished) -> None:
            reply = end.result
            if end.error is not None:
                reply = errno_of(end.error) if isinstance(end.error, Exception) else 0
            if end.error is not None or isinstance(reply, int):
                while entered:
                    views.forget(entered.pop(), 1)
            if reply is not None:
                if noted:
                    noted[-1](reply)
                self._reply(header[2], reply)

        noted: list[Callable[[Reply], None]] = []
        self._running.client.start(operation, done)
