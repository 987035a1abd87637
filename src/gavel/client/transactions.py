"""Transactions of the Python API, on a volume and on a cluster alike: begun, committed, given up, run again.

Invariant: however a `with` block ends, its transaction is over after it, and nothing is kept for it any more.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from gavel.client import files, paths
from gavel.client.operations import path_of
from gavel.client.runner import InTransaction, Runner
from gavel.client.tree import Tree
from gavel.errors import Collision
from gavel.filesystem.caller import Caller
from gavel.keys import records
from gavel.transaction.transaction import Transaction as Records

T = TypeVar("T")


class Transaction(Tree):
    """The filesystem as of one moment, with this transaction's own changes on top: all of them happen, or none.

    Use it as `with fs.transaction() as tx:`. It commits when the block ends and is given up when the block raises.
    `freeze` is the tid whose state it sees; after the commit `tid` names the state it made.
    """

    def __init__(
        self,
        inside: InTransaction,
        caller: Caller,
        freeze: int,
        *,
        commit: Callable[[], int],
        give_up: Callable[[], None],
        committed: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(inside, caller)
        self._inside, self._commit, self._give_up, self._committed = inside, commit, give_up, committed
        self._files: weakref.WeakSet[files.AnyFile] = weakref.WeakSet()
        self.freeze = freeze
        self.tid: int | None = None  # of its commit

    def _opened(self, file: files.AnyFile) -> None:
        self._files.add(file)

    def commit(self) -> int:
        """Commit and return the tid; raises Collision, which names the paths, when what was read has changed since.

        Files opened for writing are flushed first. What it made is durable when this returns on a cluster, and on a
        volume where the transaction was begun with `sync`.
        """
        for file in list(self._files):
            if not file.closed:
                file.flush()
        self._inside.closed = True
        self.tid = self._commit()
        self._committed()
        return self.tid

    def rollback(self) -> None:
        """Give up: nothing of it has happened."""
        if not self._inside.closed:
            self._inside.closed = True
            self._give_up()

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inside.closed:
            return
        try:
            if kind is None:
                self.commit()
        finally:
            self.rollback()


def run(begin: Callable[[], Transaction], function: Callable[[Transaction], T], retries: int) -> T:
    """The result of `function(tx)` on a transaction that is then committed; on Collision all of it again, at once."""
    while True:
        try:
            with begin() as tx:
                return function(tx)
        except Collision:
            if retries <= 0:
                raise
            retries -= 1


def explained(collision: Collision, present: Runner) -> Collision:
    """The same collision with the path it is about, if there is one."""
    path = present.read(_path_of_key, collision.key) if collision.key else None
    return collision if path is None else Collision(collision.key, collision.tid, collision.freeze, (path,))


def _path_of_key(tx: Records, key: bytes) -> str | None:
    """The path of what a record belongs to, for people; None for records that belong to no file."""
    record = records.parse(key)
    if record.locality == records.ROOT:
        return None
    base = path_of(tx, record.object)
    if record.locality != records.ENTRIES or base is None or not record.subkey:
        return base
    return paths.join(base, paths.decode(records.entry_name(key)))
