"""A mount of a cluster's filesystem under leases: answered from memory, told to nobody until somebody wants to know.

A request that needs no question is answered in its turn, as on a mount of a volume; any other takes the way of
shared.py. The kernel may believe what it is told for as long as the leases last: some two seconds, after which it asks
again, even if this process is stopped or cut off. When a range is recalled, it is told to forget what it was told of it
lately, from a thread of its own; until it has, requests are answered under the lease that is about to be given up, with
no time to be believed, so that none of them keeps the kernel from forgetting.

Invariants: see shared.py; nothing that the kernel may believe lies outside of a lease; fsync returns when a majority
has what was written, or says why not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from gavel.cache.attempts import Finished
from gavel.cache.leased import Leased
from gavel.cache.leased_view import LeasedView
from gavel.keys.ranges import Range
from gavel.mount import abi
from gavel.mount.failures import errno_of
from gavel.mount.mount import Options
from gavel.mount.names import Names, name_at, two_names
from gavel.mount.nodes import Nodes
from gavel.mount.notify import Notifier
from gavel.mount.session import Handler, Header, Reply
from gavel.mount.shared import MARK, Client, SharedMount
from gavel.mount.told import Told
from gavel.mount.views import FIRST
from gavel.runtime.steady import steady
from gavel.transaction.transaction import Transaction

_SYNCS = (abi.FSYNC, abi.FSYNCDIR, abi.SYNCFS)
_NAMED = {abi.LOOKUP: 0, abi.MKNOD: 16, abi.MKDIR: 8, abi.LINK: 8, abi.CREATE: 16}  # where a name begins
_ABOUT = frozenset({abi.GETATTR, abi.SETATTR, abi.STATX})
_LEAST_NS = 10_000_000  # shorter than this is not worth a lifetime
_node_of = abi.ENTRY_OUT.unpack_from


class LeasedClient(Client, Protocol):
    """What the mount needs of runtime.LeasedEngine."""

    core: Leased

    def at_once(self, operation: Callable[[Transaction], Any]) -> Finished | None:
        """The end of an operation that needs no question."""

    def start_sync(self, done: Callable[[Finished], None]) -> None:
        """Make all that is done by now durable."""

    def keeps(self, forget: Callable[[list[Range], Callable[[], None]], None]) -> None:
        """Have what operations say forgotten when it is recalled."""


class LeasedMount(SharedMount):
    """See the module."""

    def __init__(self, client: LeasedClient, directory: str, options: Options | None = None, **times: float) -> None:
        super().__init__(client, directory, options, **times)
        self._client = client
        self._told = Told()

    async def start(self) -> None:
        """See Mount."""
        self._client.keeps(self._forget)
        await super().start()
        assert self._session is not None
        self._notifier = Notifier(self._session.fd, asyncio.get_running_loop())

    def _table(self, table: list[Handler], nodes: Nodes, names: Names) -> list[Handler]:
        whole = super()._table(table, nodes, names)
        for opcode in _SYNCS:
            whole[opcode] = partial(self._sync, nodes)
        return whole

    def _start(self, handler: Handler, nodes: Nodes, header: Header, body: memoryview) -> Reply:
        opcode = header[1]
        if header[3] >= FIRST or self.options.at is not None or (opcode == abi.LOOKUP and MARK in bytes(body)):
            return super()._start(handler, nodes, header, body)
        running = self._running

        def operation(tx: Transaction) -> Reply:
            running.tx = tx
            try:
                return handler(header, body)
            finally:
                running.tx = None

        lives = self._believe(nodes, True)
        end = self._client.at_once(operation)
        if end is None:
            return super()._start(handler, nodes, header, body)
        if end.error is not None:
            return errno_of(end.error) if isinstance(end.error, Exception) else 0
        reply: Reply = end.result
        if lives:
            self._note(header, body, reply, lives)
        return reply

    def _believe(self, nodes: Nodes, leased: bool) -> int:
        """Set for how long the next reply may be believed; that."""
        core = self._client.core
        lives = core.lives if leased and core.quiet else 0
        if lives < _LEAST_NS:
            lives = 0
        nodes.replies.believe(lives)
        return lives

    def _prepared(self, nodes: Nodes, header: Header, kept: memoryview, tx: Transaction) -> Callable[[Reply], None]:
        """What is run without leases must not be believed after it was said."""
        lives = self._believe(nodes, isinstance(tx.view, LeasedView))
        return (lambda reply: self._note(header, kept, reply, lives)) if lives else lambda reply: None

    def _note(self, header: Header, body: memoryview, reply: Reply, lives: int) -> None:
        """Remember what the kernel is about to be told."""
        if not isinstance(reply, bytes):
            return
        opcode, node, now = header[1], header[3], steady()
        until, told = now + 2 * lives, self._told
        if opcode in _ABOUT:
            told.add(now, until, node)
        elif opcode in _NAMED:
            told.add(now, until, node, name_at(body, _NAMED[opcode]))
            told.add(now, until, _node_of(reply)[0])
        elif opcode == abi.SYMLINK:
            told.add(now, until, node, two_names(body, 0)[0])
            told.add(now, until, _node_of(reply)[0])
        elif opcode == abi.READDIRPLUS:
            told.add(now, until, node, listing=reply)
        elif opcode in (abi.RENAME, abi.RENAME2):
            (target,) = abi.RENAME_IN.unpack_from(body)
            old, new = two_names(body, 8 if opcode == abi.RENAME else 16)
            told.add(now, until, node, old)
            told.add(now, until, target, new)

    def _forget(self, ranges: list[Range], done: Callable[[], None]) -> None:
        """Have the kernel forget what it was told of these lately, then call back."""
        objects, names = self._told.within(ranges, steady())
        notifier = self._notifier
        if notifier is None or self.closed.done() or not (objects or names):
            done()
            return
        for directory, name in names:
            notifier.entry(directory, name)
        for obj in objects:
            notifier.inode(obj)
        loop = asyncio.get_running_loop()

        def forgotten() -> None:
            loop.call_soon_threadsafe(done)

        notifier.call(forgotten)

    def _sync(self, nodes: Nodes, header: Header, body: memoryview) -> Reply:
        """FSYNC, FSYNCDIR, SYNCFS: answered when a majority has all that was written."""
        if nodes.is_past(header[3]):
            return b""

        def done(end: Finished) -> None:
            failed = isinstance(end.error, Exception)
            self._reply(header[2], errno_of(end.error) if failed else b"")  # type: ignore[arg-type]

        self._client.start_sync(done)
        return None
