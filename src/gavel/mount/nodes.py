"""What every handler works with: running operations on a node, now or as of its view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from gavel.errors import ReadOnly
from gavel.media.room import Space
from gavel.mount.replies import FOREVER, Replies
from gavel.mount.views import FIRST, View, Views
from gavel.transaction.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate[Transaction, int, P], T]

BRIEFLY = 1  # seconds that "@@-5m" stays the same moment, and a snapshot's name the same state


class EngineLike(Protocol):
    """What the mount needs of runtime.Engine."""

    @property
    def present(self) -> Transaction:
        """Reads the present, whenever it is used."""

    def read(self, op: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation on the present."""

    def write(self, op: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation on the present and keep what it wrote."""

    def read_at(self, at: int, op: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation on the state as of a tid."""

    def flush(self) -> int:
        """Commit what is dirty; returns the newest tid."""

    async def sync(self) -> int:
        """Make everything durable; returns the tid that names it."""

    def space(self) -> Space:
        """Sizes of the volume."""


class Nodes:
    """The nodes of one mount. With `at` the whole mount shows that past state."""

    def __init__(
        self,
        engine: EngineLike,
        at: int | None,
        directory: str,
        moment: Callable[[str], int],
        lives: int = FOREVER,
    ) -> None:
        self.engine = engine
        self.views = Views()
        self.at = at
        self.replies = Replies(lives)
        self.directory = directory
        self.moment = moment
        self.let_go: Callable[[int, bytes], None] = lambda directory, name: None  # has the kernel forget an entry

    @property
    def present(self) -> Transaction:
        """What node ids that are object ids are read from."""
        return self.engine.present if self.at is None else self.engine.read_at(self.at, _itself)

    def read(self, node: int, op: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that only reads on the object of a node, in the node's state; raises as Views."""
        if node < FIRST:
            return op(self.present, node, *args, **kwargs)
        view = self.views[node]
        return self.engine.read_at(view.at, op, view.object, *args, **kwargs)

    def write(self, node: int, op: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation on the object of a node; raises ReadOnly in the past."""
        if node >= FIRST or self.at is not None:
            raise ReadOnly("the past cannot be changed; `gavel undo` brings it back")
        return self.engine.write(op, node, *args, **kwargs)

    def live(self, node: int) -> int:
        """The node itself where it can be written to; raises ReadOnly otherwise."""
        if node >= FIRST or self.at is not None:
            raise ReadOnly("the past cannot be changed; `gavel undo` brings it back")
        return node

    def is_past(self, node: int) -> bool:
        """Whether what the node shows can never change."""
        return node >= FIRST or self.at is not None

    def place(self, node: int) -> View:
        """The object of a directory's node and the tid it is seen as of (0: the present)."""
        if node < FIRST:
            return View(node, self.at or 0)
        return self.views[node]


def _itself(tx: Transaction) -> Transaction:
    return tx
