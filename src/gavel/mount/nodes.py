"""What every handler works with: running operations on a node, now or as of its view, and packing attributes.

In sole-owner mode the kernel may keep what it is told for ever: nothing changes but through it, and what does (undo,
the admin socket) is told to it by notify.py. So entries and attributes live for `FOREVER`, names that are not there
included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from gavel.errors import ReadOnly
from gavel.filesystem.inode import Inode
from gavel.media.room import Space
from gavel.mount import abi
from gavel.mount.views import FIRST, View, Views
from gavel.transaction.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate[Transaction, int, P], T]

FOREVER = 10 * 365 * 86_400  # seconds that the kernel may believe us
BRIEFLY = 1  # seconds that "@@-5m" stays the same moment, and a snapshot's name the same state
BLOCK = 4096
_NS = 1_000_000_000

NO_NAME = abi.ENTRY_OUT.pack(0, 0, FOREVER, 0, 0, 0, *(0,) * 16)  # the kernel remembers that the name is free
_entry, _attr, _plus = abi.ENTRY_OUT.pack, abi.ATTR_OUT.pack, abi.DIRENTPLUS.pack


class EngineLike(Protocol):
    """What the mount needs of runtime.Engine."""

    present: Transaction  # reads the present, whenever it is used

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

    def __init__(self, engine: EngineLike, at: int | None, directory: str, moment: Callable[[str], int]) -> None:
        self.engine = engine
        self.views = Views()
        self.at = at
        # What node ids that are object ids are read from: it need not be made anew for each request.
        self.present = engine.present if at is None else engine.read_at(at, _itself)
        self.directory = directory
        self.moment = moment

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


def entry(node: int, inode: Inode, lives: int = FOREVER) -> bytes:
    """The reply to whatever makes a name known to the kernel."""
    mtime, ctime, atime = divmod(inode.mtime, _NS), divmod(inode.ctime, _NS), divmod(inode.atime, _NS)
    return _entry(
        node, inode.generation, lives, FOREVER, 0, 0,
        node, inode.size, (inode.used + 511) >> 9, atime[0], mtime[0], ctime[0], atime[1], mtime[1], ctime[1],
        inode.mode, inode.nlink, inode.uid, inode.gid, inode.rdev, BLOCK, 0,
    )  # fmt: skip


def attributes(node: int, inode: Inode) -> bytes:
    """The reply to GETATTR and SETATTR."""
    mtime, ctime, atime = divmod(inode.mtime, _NS), divmod(inode.ctime, _NS), divmod(inode.atime, _NS)
    return _attr(
        FOREVER, 0, 0,
        node, inode.size, (inode.used + 511) >> 9, atime[0], mtime[0], ctime[0], atime[1], mtime[1], ctime[1],
        inode.mode, inode.nlink, inode.uid, inode.gid, inode.rdev, BLOCK, 0,
    )  # fmt: skip


def entry_plus(node: int, inode: Inode, cookie: int, name: bytes, kind: int) -> bytes:
    """One entry of a READDIRPLUS reply, padded."""
    mtime, ctime, atime = divmod(inode.mtime, _NS), divmod(inode.ctime, _NS), divmod(inode.atime, _NS)
    size = len(name)
    return _plus(
        node, inode.generation, FOREVER, FOREVER, 0, 0,
        node, inode.size, (inode.used + 511) >> 9, atime[0], mtime[0], ctime[0], atime[1], mtime[1], ctime[1],
        inode.mode, inode.nlink, inode.uid, inode.gid, inode.rdev, BLOCK, 0,
        node, cookie, size, kind,
    ) + name + bytes(-size & 7)  # fmt: skip


def statx(node: int, inode: Inode) -> bytes:
    """The reply to STATX, which knows the time of birth."""
    times: list[int] = []
    for moment in (inode.atime, inode.btime, inode.ctime, inode.mtime):
        times += (*divmod(moment, _NS), 0)
    rdev = inode.rdev
    major, minor = rdev >> 8 & 0xFFF, rdev & 0xFF | rdev >> 12 & 0xFFF00
    return abi.STATX_OUT.pack(
        FOREVER, 0, 0,
        abi.STATX_BASIC_AND_BTIME, BLOCK, 0, inode.nlink, inode.uid, inode.gid, inode.mode, 0,
        node, inode.size, (inode.used + 511) >> 9, 0, *times, major, minor, 0, 0,
    )  # fmt: skip
