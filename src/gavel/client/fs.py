"""An open volume: everything of Tree on its present, and what only a whole volume has: time, transactions, upkeep.

Blocking and safe to use from several threads; the engine's own thread keeps the promise that nothing stays volatile
for longer than limits.FLUSH_SECONDS. The async face in aio.py stands on the same class.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import TypeVar

from gavel.client import jobs, paths, transactions
from gavel.client.driving import OnProgress, drive
from gavel.client.looking_back import When
from gavel.client.over_time import OverTime
from gavel.client.paths import AnyPath
from gavel.client.results import Info, Progress, StatVfs, statvfs_of
from gavel.client.runner import InTransaction, Past, Runner
from gavel.client.states import Present, orphaned
from gavel.client.transactions import Transaction
from gavel.client.tree import AsOf, Tree
from gavel.client.upkept import Upkept
from gavel.client.watch import Watch
from gavel.errors import Collision
from gavel.filesystem.caller import Caller
from gavel.filesystem.check import Problem
from gavel.limits import TRANSACTION_RETRIES
from gavel.runtime.engine import Engine, Optimistic

T = TypeVar("T")

_at_exit: set[Fs] = set()  # open volumes that nobody has closed yet


class Fs(Upkept, OverTime, Tree):
    """An open volume. `gavel.open` makes one; close it, or use it in a `with` block."""

    def __init__(
        self, engine: Engine, caller: Caller, *, on_close: Callable[[], None] | None = None, reaping: bool = True
    ) -> None:
        self._present = Present(engine, self._tid_of, reaping)
        super().__init__(self._present, caller)
        self._on_close = on_close
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()

    @property
    def _timeline(self) -> Present:
        return self._present

    @property
    def _engine(self) -> Engine:
        return self._present.engine

    @property
    def closed(self) -> bool:
        """Whether it was closed; every call raises ValueError then."""
        return self._present.closed

    # -- time

    def _tid_of(self, when: When) -> int:
        """The tid that a WHEN names; raises BadWhen."""
        return jobs.tid_of(self._engine, when)

    @property
    def last_tid(self) -> int:
        """The tid of the newest transaction; what is not flushed yet has none."""
        return self._engine.replica.last_tid

    @property
    def created_tid(self) -> int:
        """The tid at which the volume was made; nothing is older."""
        return self._engine.history.created_tid

    def _at(self, when: str) -> Runner:
        return self._present.at(when)

    def as_of(self, when: When) -> AsOf:
        """Everything as it was at a tid or WHEN ("-5m", "2026-11-22T10:00", a snapshot's name), read-only.

        Raises BadWhen for one that means nothing, lies ahead or before the beginning; HistoryPruned.
        """
        tid = self._tid_of(when)
        return AsOf(Past(self._present, tid), tid)

    def tid(self) -> int:
        """Make everything durable and return the tid that names this very state."""
        return self.sync()

    def sync(self) -> int:
        """Return when everything done so far is durable, with the tid that names it."""
        self._present.tidy()
        return self._engine.sync_now()

    def _sync(self) -> int:
        return self.sync()

    # -- transactions

    def transaction(self, *, sync: bool = False) -> Transaction:
        """A transaction on the state of this moment; see Transaction. With `sync` its commit returns once durable."""
        with self._engine.turn:
            work = self._engine.begin()
            return Transaction(
                InTransaction(work.tx, self._at, self._engine.turn),
                self._caller,
                work.freeze,
                commit=partial(self._commit, work),
                give_up=partial(self._give_up, work),
                committed=self.sync if sync else lambda: None,
            )

    def run(self, function: Callable[[Transaction], T], retries: int = TRANSACTION_RETRIES, *, sync: bool = False) -> T:
        """The result of `function(tx)`, whose transaction is committed; on Collision it is run again, at once.

        So it may be called several times; what it does besides using `tx` happens each time. A prune that took away
        the state it worked on is a Collision, too. Raises the last one when all retries are used up: each means that
        somebody else succeeded.
        """
        return transactions.run(partial(self.transaction, sync=sync), function, retries)

    def _commit(self, work: Optimistic) -> int:
        with self._engine.turn:
            try:
                tid = self._engine.commit(work)
            except Collision as collision:
                raise transactions.explained(collision, self._present) from None
            self._present.reap(orphaned(work.tx.writes))
            return tid

    def _give_up(self, work: Optimistic) -> None:
        with self._engine.turn:
            self._engine.give_up(work)

    # -- upkeep

    def check(self, deep: bool = False, *, progress: OnProgress | None = None) -> list[Problem]:
        """What is wrong with the volume; nothing, if all is well. `deep` reads every node and extent."""
        return drive(self.check_job(deep), progress)

    def check_job(self, deep: bool) -> Generator[Progress, None, list[Problem]]:
        """check() as a long operation, to be driven in slices."""
        return jobs.check(self._present, deep)

    def info(self) -> Info:
        """What the volume is and how full."""
        return drive(self.info_job(), None)

    def info_job(self) -> Generator[Progress, None, Info]:
        """info() as a long operation, to be driven in slices."""
        return jobs.info(self._engine)

    def statvfs(self, path: AnyPath = "/") -> StatVfs:
        """Space under the names of os.statvfs; the same for every path."""
        with self._engine.turn:
            space = self._engine.space()
            read_only = self._engine.volume.read_only
        return statvfs_of(space.total, space.free, space.reserve, read_only)

    def watch(self, path: AnyPath = "/", *, since: When | None = None, timeout: float | None = None) -> Watch:
        """An iterator over what is committed in a tree from now (or from `since`) on; see Watch."""
        watch = Watch(self._engine, paths.encode(path), None if since is None else self._tid_of(since), timeout)
        self._watches.add(watch)
        return watch

    # -- the end

    def close(self) -> None:
        """Make everything durable and let go of the volume; closing twice is no error."""
        if not self.closed:
            engine = self._begin_close()
            try:
                engine.close_now()
            finally:
                self._let_go()

    def _begin_close(self) -> Engine:
        engine = self._engine
        self._present.tidy()
        for watch in list(self._watches):
            watch.close()
        self._present.closed = True
        return engine

    def _let_go(self) -> None:
        _at_exit.discard(self)
        if self._on_close is not None:
            self._on_close()

    async def sync_on_loop(self) -> int:
        """sync() for an engine on an event loop."""
        return await self._engine.sync()

    async def close_on_loop(self) -> None:
        """close() for an engine on an event loop."""
        if not self.closed:
            engine = self._begin_close()
            try:
                await engine.close()
            finally:
                self._let_go()

    def __enter__(self) -> Fs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def close_at_exit(fs: Fs) -> Fs:
    """Have a volume closed when the program ends without doing so: what it wrote last would be lost."""
    if not _at_exit:
        atexit.register(_close_all, os.getpid())
    _at_exit.add(fs)
    return fs


def _close_all(process: int) -> None:
    """Close what is open, in the process that opened it; a fork of it has no say."""
    atexit.unregister(_close_all)
    if process == os.getpid():
        for fs in list(_at_exit):
            fs.close()
