"""A cluster's filesystem: everything of Tree on its present, its past, transactions, snapshots.

Every call is confirmed by a majority of masters before it returns: what it read was true after the call began, what it
wrote is durable. Blocking and safe to use from several threads; the network lives on an event loop of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, TypeVar

from gavel.client import files, paths
from gavel.client.looking_back import When
from gavel.client.over_time import OverTime
from gavel.client.remote_past import RemotePast
from gavel.client.results import StatVfs
from gavel.client.runner import InTransaction, Operation, P, Runner, read_only
from gavel.client.states import path_of_key
from gavel.client.tree import AsOf, Tree
from gavel.errors import BadWhen, Collision
from gavel.filesystem import snapshots, when
from gavel.filesystem.caller import Caller
from gavel.keys import tid as tids
from gavel.limits import NAME_MAX, TRANSACTION_RETRIES
from gavel.runtime.moments import local_zone
from gavel.runtime.remote import RemoteEngine
from gavel.transaction import transaction
from gavel.transaction.requests import Horizon, Reaches, Status, Told

T = TypeVar("T")

_BLOCK = 4096  # unit in which statvfs counts


class Present:
    """What is true now. Content without a name stays for a day, since anybody may have it open."""

    def __init__(self, engine: RemoteEngine) -> None:
        self.closed = False
        self._engine = engine

    @property
    def engine(self) -> RemoteEngine:
        """The engine; raises ValueError once the connection was closed."""
        if self.closed:
            raise ValueError("the connection is closed")
        return self._engine

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner."""
        return self.engine.run_now(lambda tx: op(tx, *args, **kwargs))

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

    def tid_named(self, text: str) -> int:
        """The tid that a WHEN stands for; raises BadWhen."""
        last = self.wait(self.engine.point())

        def snapshot(name: str) -> int | None:
            found = self.read(snapshots.find, name)
            return None if found is None else found.tid

        return when.parse(text, self.engine.clock(), local_zone(), snapshot, 1, last)


class Past:
    """What was true at one tid; it never changes."""

    def __init__(self, present: Present, tid: int) -> None:
        self._present = present
        self.tid = tid

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner; raises HistoryPruned."""
        return self._present.engine.run_now(lambda tx: op(tx, *args, **kwargs), self.tid)

    def write(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises OSError EROFS."""
        raise read_only("the past does not change")

    def at(self, when: str) -> Runner:
        """See Runner; "" leads back to the present."""
        return self._present.at(when)

    def hold(self, obj: int) -> None:
        """Nothing to do."""

    def release(self, obj: int) -> None:
        """Nothing to do."""


class InFrozen(InTransaction):
    """Runs operations inside a transaction whose records are fetched as they are needed."""

    def __init__(self, outer: transaction.Transaction, present: Present) -> None:
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


class Transaction(Tree):
    """The filesystem as of one moment, with this transaction's own changes on top: all of them happen, or none.

    Use it as `with fs.transaction() as tx:`. It commits when the block ends and is given up when the block raises.
    After the commit `tid` names the state it made, which is durable.
    """

    def __init__(self, fs: Cluster, present: Present, caller: Caller) -> None:
        self._work = present.wait(present.engine.begin())
        self._inside = InFrozen(self._work, present)
        super().__init__(self._inside, caller)
        self._fs, self._present = fs, present
        self._files: weakref.WeakSet[files.AnyFile] = weakref.WeakSet()
        self.tid: int | None = None  # of its commit

    def _opened(self, file: files.AnyFile) -> None:
        self._files.add(file)

    def commit(self) -> int:
        """Commit and return the tid; raises Collision, which names the paths, when what was read has changed since."""
        for file in list(self._files):
            if not file.closed:
                file.flush()
        self._inside.closed = True
        try:
            self.tid = self._present.wait(self._present.engine.commit(self._work))
        except Collision as collision:
            raise self._fs.explained(collision) from None
        return self.tid

    def rollback(self) -> None:
        """Give up: nothing of it has happened."""
        if not self._inside.closed:
            self._inside.closed = True
            engine = self._present.engine
            engine.loop.call_soon_threadsafe(engine.give_up, self._work)

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inside.closed:
            return
        if kind is None:
            self.commit()
        else:
            self.rollback()


class Cluster(OverTime, Tree):
    """A connection to a cluster. `gavel.connect` makes one; close it, or use it in a `with` block."""

    def __init__(self, engine: RemoteEngine, caller: Caller, on_close: Callable[[], None]) -> None:
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
        return Transaction(self, self._present, self._caller)

    def run(self, function: Callable[[Transaction], T], retries: int = TRANSACTION_RETRIES) -> T:
        """The result of `function(tx)`, whose transaction is committed; on Collision it is run again, at once.

        So it may be called several times; what it does besides using `tx` happens each time. Raises the last
        Collision when all retries are used up: each means that somebody else succeeded.
        """
        while True:
            try:
                with self.transaction() as tx:
                    return function(tx)
            except Collision:
                if retries <= 0:
                    raise
                retries -= 1

    def explained(self, collision: Collision) -> Collision:
        """The same collision with the path it is about."""
        path = self._present.read(path_of_key, collision.key) if collision.key else None
        if path is None:
            return collision
        return Collision(collision.key, collision.tid, collision.freeze, (path,))

    # -- the cluster

    def status(self) -> dict[str, Any]:
        """How the cluster is, as the master in use tells it; the keys are those of `gavel status --json`."""
        told = self._present.wait(self._present.engine.ask(Status()))
        assert isinstance(told, Told)
        return told.fields

    def reaches(self) -> Reaches:
        """What of the past can be read, and the newest tid."""
        answer = self._present.wait(self._present.engine.ask(Horizon()))
        assert isinstance(answer, Reaches)
        return answer

    def statvfs(self, path: paths.AnyPath = "/") -> StatVfs:
        """Space on the master in use under the names of os.statvfs; the same for every path."""
        fields = self.status()
        blocks, usable = fields.get("total", 0) // _BLOCK, fields.get("free", 0) // _BLOCK
        free = usable + fields.get("reserve", 0) // _BLOCK
        return StatVfs(
            f_bsize=_BLOCK, f_frsize=_BLOCK, f_blocks=blocks, f_bfree=free, f_bavail=usable,
            f_files=0, f_ffree=0, f_favail=0, f_flag=0, f_namemax=NAME_MAX,
        )  # fmt: skip

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
