"""What an operation runs on: the present, a frozen past state, or an open transaction.

An operation is a plain function whose first argument is a Transaction. `Tree` is written once, over a Runner; which
one it is given decides what it sees and where its writes go.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from gavel.transaction.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate[Transaction, P], T]


class Runner(Protocol):
    """Runs operations on one state of the filesystem."""

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of an operation that writes nothing."""

    def write(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of an operation; what it writes takes effect as one. Raises OSError EROFS where nothing may."""

    def at(self, when: str) -> Runner:
        """The runner of the state that a WHEN names ("" is today); raises BadWhen, HistoryPruned."""

    def hold(self, obj: int) -> None:
        """Keep an object's content although its last name may go, until release(); a file was opened."""

    def release(self, obj: int) -> None:
        """Undo one hold()."""


def read_only(why: str = "") -> OSError:
    """The error of a write to what takes none."""
    text = os.strerror(errno.EROFS)
    return OSError(errno.EROFS, f"{text} ({why})" if why else text)


class HasPast(Protocol):
    """A present that can be read as of any tid."""

    def read_at(self, tid: int, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of an operation that only reads, on the state of a tid; raises HistoryPruned."""

    def at(self, when: str) -> Runner:
        """See Runner."""


class Past:
    """What was true at one tid; it never changes, and keeps everything."""

    def __init__(self, present: HasPast, tid: int) -> None:
        self._present = present
        self.tid = tid

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner; raises HistoryPruned."""
        return self._present.read_at(self.tid, op, *args, **kwargs)

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


class InTransaction:
    """Runs operations inside one open transaction.

    Each operation works on a transaction of its own over the outer one, which receives its writes only when it
    succeeds: an operation that raised has left nothing behind, and the outer transaction may go on.

    `turn` is held for each of them: a volume's own thread works on the same log and trees meanwhile.
    """

    def __init__(
        self, outer: Transaction, past: Callable[[str], Runner], turn: AbstractContextManager[object] | None = None
    ) -> None:
        self.outer = outer
        self._past = past
        self._turn = nullcontext() if turn is None else turn
        self.closed = False

    def read(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner; raises ValueError once the transaction is over."""
        self._check_open()
        with self._turn:
            return op(self.outer, *args, **kwargs)

    def write(self, op: Operation[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Runner; raises ValueError once the transaction is over."""
        self._check_open()
        outer = self.outer
        with self._turn:
            inner = Transaction(outer, outer.now, outer.pfs, outer.new_object)
            result = op(inner, *args, **kwargs)
            outer.writes.update(inner.writes)
        return result

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a transaction that is over")

    def at(self, when: str) -> Runner:
        """See Runner. "" is the transaction itself: its today."""
        return self._past(when) if when else self

    def hold(self, obj: int) -> None:
        """Nothing to do: what the transaction sees is frozen."""

    def release(self, obj: int) -> None:
        """Nothing to do."""
