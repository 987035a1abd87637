"""A cluster's filesystem: everything of Tree on its present, its past, transactions, snapshots.

Every call is confirmed by a majority of masters before it returns: what it read was true after the call began, what it
wrote is durable. Blocking and safe to use from several threads; the network lives on an event loop of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

from gavel.cache.held_view import HeldView
from gavel.client import paths, transactions, upkeep
from gavel.client.chosen import Chosen
from gavel.client.looking_back import When
from gavel.client.over_time import OverTime
from gavel.client.remote_past import RemotePast
from gavel.client.results import StatVfs, statvfs_of
from gavel.client.runner import InTransaction, Operation, P, Past, Runner
from gavel.client.transactions import Transaction
from gavel.client.tree import AsOf, Tree
from gavel.errors import BadWhen, Collision
from gavel.filesystem import retention, snapshots
from gavel.filesystem.caller import Caller
from gavel.history.horizon import Horizon as Kept
from gavel.keys import tid as tids
from gavel.limits import TRANSACTION_RETRIES, WRITE_TOGETHER
from gavel.runtime.cluster_engine import ClusterEngine
from gavel.runtime.moments import tid_on_cluster
from gavel.transaction.requests import Horizon, Reaches, Status, Told
from gavel.transaction.transaction import Transaction as Records

T = TypeVar("T")


class Present:
    """What is true now. Content without a name stays for a day, since anybody may have it open."""

    def __init__(self, engine: ClusterEngine) -> None:
        self.closed = False
        self._engine = engine

    @property
    def engine(self) -> ClusterEngine:
        """The engine; raises ValueError once the connection was closed."""
        if self.closed:
            raise ValueError("the connection is closed")
        return self._engine

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner."""
        return self.engine.run_now(lambda tx: op(tx, *args, **kwargs))

    def read_at(self, tid: int, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See HasPast."""
        return self.engine.run_now(lambda tx: op(tx, *args, **kwargs), tid)

    def write(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner."""
        return self.read(op, *args, **kwargs)

    def at(self, when: str) -> Runner:
        """See Runner."""
        return Past(self, self.tid_named(when)) if when else self

    def hold(self, obj: int) -> None:
        """Nothing to do."""

    def release(self, obj: int) -> None:
        """Nothing to do."""

    @property
    def turn(self) -> AbstractContextManager[None]:
        """See Timeline: nobody has to take turns with others."""
        return nullcontext()

    def past(self) -> RemotePast:
        """See Timeline."""
        return RemotePast(self.engine)

    def tid_of(self, moment: When) -> int:
        """See Timeline."""
        if isinstance(moment, int) and moment < 0:
            raise BadWhen(str(moment), "is no tid: they are above zero")
        return self.tid_named(tids.text(moment) if isinstance(moment, int) else moment)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of what runs on the engine's loop."""
        return self.engine.wait(work)

    def begin(self) -> Records:
        """The records of a transaction on the state of this moment."""
        return self.wait(self.engine.begin())

    def give_up(self, work: Records) -> None:
        """What was staged for a transaction is not needed; it is forgotten on the engine's loop."""
        self.engine.loop.call_soon_threadsafe(self.engine.give_up, work)

    def tid_named(self, text: str) -> int:
        """The tid that a WHEN stands for; raises BadWhen, and QuorumLost if it is not known to be of the past."""
        return self.wait(tid_on_cluster(self.engine, text))


class InFrozen(InTransaction):
    """Runs operations inside a transaction whose records are fetched as they are needed."""

    def __init__(self, outer: Records, present: Present) -> None:
        super().__init__(outer, present.at)
        self._present = present

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner; raises ValueError once the transaction is over."""
        whole = super().read
        return self._on_loop(lambda: whole(op, *args, **kwargs))

    def write(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner; raises ValueError once the transaction is over."""
        whole = super().write
        return self._on_loop(lambda: whole(op, *args, **kwargs))

    def _on_loop(self, work: Callable[[], T]) -> T:
        present = self._present
        return present.wait(present.engine.run_in(self.outer, lambda tx: work()))


class Cluster(Chosen, OverTime, Tree):
    """A connection to a cluster. `gavel.connect` makes one; close it, or use it in a `with` block."""

    _gathers = WRITE_TOGETHER

    def __init__(self, engine: ClusterEngine, caller: Caller, on_close: Callable[[], None]) -> None:
        self._present = Present(engine)
        super().__init__(self._present, caller)
        self._on_close = on_close
        self._closing = threading.Lock()

    @property
    def _timeline(self) -> Present:
        return self._present

    # -- time

    def tid(self) -> int:
        """The tid that names this state: everything acknowledged by now, to anybody, is in it."""
        return self._present.wait(self._present.engine.point())

    @property
    def last_tid(self) -> int:
        """tid(), under the name that it has on a volume."""
        return self.tid()

    def sync(self) -> int:
        """tid(): whatever returned is durable already."""
        return self.tid()

    def as_of(self, moment: When) -> AsOf:
        """Everything as it was at a tid or WHEN ("-5m", "2026-11-22T10:00", a snapshot's name), read-only.

        Raises BadWhen for one that means nothing or lies ahead; HistoryPruned.
        """
        tid = self._present.tid_of(moment)
        return AsOf(Past(self._present, tid), tid)

    # -- transactions

    def transaction(self) -> Transaction:
        """A transaction on the state of this moment; see Transaction."""
        work = self._present.begin()
        assert isinstance(work.view, HeldView)
        return Transaction(
            InFrozen(work, self._present),
            self._caller,
            work.view.at,
            commit=partial(self._commit, work),
            give_up=partial(self._present.give_up, work),
        )

    def run(self, function: Callable[[Transaction], T], retries: int = TRANSACTION_RETRIES) -> T:
        """The result of `function(tx)`, whose transaction is committed; on Collision it is run again, at once.

        So it may be called several times; what it does besides using `tx` happens each time. Raises the last
        Collision when all retries are used up: each means that somebody else succeeded.
        """
        return transactions.run(self.transaction, function, retries)

    def _commit(self, work: Records) -> int:
        try:
            return self._present.wait(self._present.engine.commit(work))
        except Collision as collision:
            raise transactions.explained(collision, self._present) from None

    # -- the cluster

    def status(self) -> dict[str, Any]:
        """How the cluster is, as the master in use tells it; the keys are those of `gavel status --json`."""
        told = self._present.wait(self._present.engine.ask(Status()))
        assert isinstance(told, Told)
        return told.fields

    def move_horizon(
        self, path: paths.AnyPath = "/", *, keep: str | None = None, everything: bool = False, dry_run: bool = False
    ) -> tuple[Kept, Kept]:
        """Let the past go as far as the policies allow; what was kept before, and what is now. See Fs.prune.

        From then on nobody reads below the horizon; each master drops what is there in its own time.
        """
        override = upkeep.kept_instead(self._present, paths.encode(path), keep, everything)
        reaches = self.reaches()

        def operation(tx: Records) -> tuple[Kept, Kept]:
            named = [one.tid for one in snapshots.listing(tx)]
            return retention.move(tx, reaches.created, reaches.last, named, override, everything)

        return self._present.engine.run_now(operation, reaches.last if dry_run else 0)

    def reaches(self) -> Reaches:
        """What of the past can be read, and the newest tid."""
        answer = self._present.wait(self._present.engine.ask(Horizon()))
        assert isinstance(answer, Reaches)
        return answer

    def statvfs(self, path: paths.AnyPath = "/") -> StatVfs:
        """Space on the master in use under the names of os.statvfs; the same for every path."""
        fields = self.status()
        return statvfs_of(fields.get("total", 0), fields.get("free", 0), fields.get("reserve", 0))

    # -- the end

    @property
    def closed(self) -> bool:
        """Whether it was closed; every call raises ValueError then."""
        return self._present.closed

    def close(self) -> None:
        """Let go of the cluster; nothing has to be made durable. Closing twice is no error."""
        with self._closing:
            if not self.closed:
                self._present.closed = True
                self._on_close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
