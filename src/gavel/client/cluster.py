"""A cluster's filesystem: everything of Tree on its present, its past, transactions, snapshots.

Every call is confirmed by a majority of masters before it returns: what it read was true after the call began, what it
wrote is durable. Blocking and safe to use from several threads; the network lives on an event loop of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, TypeVar

from gavel.client import files, looking_back, paths
from gavel.client.driving import OnProgress, drive
from gavel.client.looking_back import When
from gavel.client.remote_past import RemotePast
from gavel.client.results import Progress, StatVfs
from gavel.client.runner import InTransaction, Operation, P, Runner, read_only
from gavel.client.states import path_of_key
from gavel.client.tree import AsOf, Tree
from gavel.errors import BadWhen, Collision
from gavel.filesystem import snapshots, when
from gavel.filesystem.caller import Caller
from gavel.filesystem.diff import Difference
from gavel.filesystem.file_history import FileVersion
from gavel.filesystem.log import Logged
from gavel.filesystem.snapshots import Snapshot
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


class Cluster(Tree):
    """A connection to a cluster. `gavel.connect` makes one; close it, or use it in a `with` block."""

    def __init__(self, engine: RemoteEngine, caller: Caller, on_close: Callable[[], None]) -> None:
        self._present = Present(engine)
        super().__init__(self._present, caller)
        self._on_close = on_close
        self._closing = threading.Lock()

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

    def snapshot_create(self, name: str, moment: When | None = None, note: str = "") -> Snapshot:
        """Name a state; raises BadRequest for a name that is taken or cannot be one, BadWhen."""
        return looking_back.snapshot_create(self._present, name, moment, note)

    def snapshot_list(self) -> list[Snapshot]:
        """All snapshots, oldest state first."""
        return looking_back.snapshot_list(self._present)

    def snapshot_delete(self, name: str) -> Snapshot:
        """Forget a name; raises BadRequest where there is none such."""
        return looking_back.snapshot_delete(self._present, name)

    def history(self, path: paths.AnyPath) -> list[FileVersion]:
        """Every version of what a path names or ever named, oldest first; also of a deleted file."""
        try:
            return looking_back.history(self._present, paths.encode(path))
        except OSError as problem:
            raise paths.named(problem, path) from None

    def log(
        self,
        path: paths.AnyPath = "/",
        *,
        since: When | None = None,
        until: When | None = None,
        limit: int | None = None,
    ) -> Iterator[Logged]:
        """The transactions that touched a tree in (since, until], newest first, with what they did to which paths."""
        return (step for step in self.log_job(path, since, until, limit) if not isinstance(step, Progress))

    def log_job(
        self, path: paths.AnyPath, since: When | None, until: When | None, limit: int | None
    ) -> Generator[Progress | Logged, None, bool]:
        """log() as a long operation, to be driven in slices; whether there is more than `limit`."""
        return looking_back.named_errors(looking_back.log(self._present, paths.encode(path), since, until, limit), path)

    def diff(self, path: paths.AnyPath, old: When, new: When | None = None) -> Iterator[Difference]:
        """What is different in a tree between two times; without `new`, between then and now."""
        return (step for step in self.diff_job(path, old, new) if not isinstance(step, Progress))

    def diff_job(
        self, path: paths.AnyPath, old: When, new: When | None
    ) -> Generator[Progress | Difference, None, tuple[int, int]]:
        """diff() as a long operation, to be driven in slices; the tids that were compared."""
        return looking_back.named_errors(looking_back.diff(self._present, paths.encode(path), old, new), path)

    def undo(
        self, path: paths.AnyPath, to: When | None = None, *, dry_run: bool = False, progress: OnProgress | None = None
    ) -> looking_back.Undone:
        """Bring a path back to what it was; without `to`, to before its last change. See Fs.undo."""
        return drive(self.undo_job(path, to, dry_run), progress)

    def undo_job(
        self, path: paths.AnyPath, to: When | None, dry_run: bool
    ) -> Generator[Progress, None, looking_back.Undone]:
        """undo() as a long operation, to be driven in slices."""
        return looking_back.named_errors(looking_back.undo(self._present, paths.encode(path), to, dry_run), path)

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
