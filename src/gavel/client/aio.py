"""The Python API for asyncio: the same names as Fs, awaitable.

    async with gavel.aio.open("disk.gavel", create=True) as fs:
        await fs.write_text("/hello", "world")
        print(await fs.sync())

What waits for the disk (sync, commits with sync, watch, close) really waits, and long work (undo, check, log, diff,
walk) lets others run between slices; everything else is answered at once from the caches or by a short read, as the
mount does. The volume belongs to the loop it was opened on: use it from there only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from gavel.client import files, looking_back
from gavel.client.driving import OnProgress, drive_on_loop
from gavel.client.fs import Fs
from gavel.client.looking_back import When
from gavel.client.paths import AnyPath
from gavel.client.results import DirEntry, Info, Progress, Stat, StatVfs
from gavel.client.transactions import Transaction
from gavel.client.tree import AsOf, ReadTree, Tree
from gavel.client.upkept import AsyncUpkept
from gavel.client.volumes import caller, create_if_missing, open_engine
from gavel.client.watch import Watch
from gavel.errors import Collision
from gavel.filesystem.check import Problem
from gavel.filesystem.diff import Difference
from gavel.filesystem.file_history import FileVersion
from gavel.filesystem.log import Logged
from gavel.filesystem.snapshots import Snapshot
from gavel.limits import SLICE_RECORDS, TRANSACTION_RETRIES
from gavel.media.cipher import Key
from gavel.transaction.view import Buffer

T = TypeVar("T")


class Closable(Protocol):
    """What an Opening gives."""

    async def close(self) -> None:
        """Let go of it."""


C = TypeVar("C", bound=Closable)


class Opening(Generic[C]):
    """What open() returns: await it, or use it in `async with`, which closes what was opened."""

    def __init__(self, opening: Coroutine[Any, Any, C]) -> None:
        self._opening = opening
        self._opened: C | None = None

    def __await__(self) -> Generator[Any, None, C]:
        return self._opening.__await__()

    async def __aenter__(self) -> C:
        self._opened = await self._opening
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None
        await self._opened.close()


class AsyncFile:
    """A file object with awaitable methods; see files.RawFile for what it promises."""

    def __init__(self, file: files.AnyFile) -> None:
        self._file: Any = file

    async def read(self, size: int = -1) -> Any:
        """Up to `size` bytes or characters, all by default."""
        return self._file.read(size)

    async def readline(self) -> Any:
        """One line."""
        return self._file.readline()

    async def readlines(self) -> list[Any]:
        """All lines."""
        return list(self._file.readlines())

    async def write(self, content: Any) -> int:
        """Write bytes or text; how many."""
        return int(self._file.write(content))

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the new offset."""
        return int(self._file.seek(offset, whence))

    async def tell(self) -> int:
        """The offset."""
        return int(self._file.tell())

    async def truncate(self, size: int | None = None) -> int:
        """Cut or extend, by default to the offset."""
        return int(self._file.truncate(size))

    async def flush(self) -> None:
        """Hand what is buffered to the filesystem."""
        self._file.flush()

    async def close(self) -> None:
        """Flush and close."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return bool(self._file.closed)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        line = self._file.readline()
        if not line:
            raise StopAsyncIteration
        return line


async def in_slices(source: Iterator[T]) -> AsyncIterator[T]:
    """The items of an iterator, others running now and then."""
    for count, item in enumerate(source, 1):
        yield item
        if count % SLICE_RECORDS == 0:
            await asyncio.sleep(0)


async def _items(job: Generator[Progress | T, None, object]) -> AsyncIterator[T]:
    for step in job:
        if isinstance(step, Progress):
            await asyncio.sleep(step.pause)
        else:
            yield step


class AsyncReadTree:
    """The reading calls of ReadTree; what they do and raise is said there."""

    def __init__(self, tree: ReadTree) -> None:
        self._reading = tree

    async def read_bytes(self, path: AnyPath) -> bytes:
        """See ReadTree."""
        return self._reading.read_bytes(path)

    async def read_text(self, path: AnyPath, encoding: str = "utf-8", errors: str = "strict") -> str:
        """See ReadTree."""
        return self._reading.read_text(path, encoding, errors)

    def open(
        self,
        path: AnyPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Opening[AsyncFile]:
        """A file object with awaitable methods: `async with fs.open(path) as file`."""

        async def opened() -> AsyncFile:
            return AsyncFile(self._reading.open(path, mode, buffering, encoding, errors, newline))

        return Opening(opened())

    async def listdir(self, path: AnyPath = "/") -> list[str]:
        """See ReadTree."""
        return self._reading.listdir(path)

    async def scandir(self, path: AnyPath = "/") -> list[DirEntry]:
        """The entries of a directory, as a list."""
        return list(self._reading.scandir(path))

    async def iterdir(self, path: AnyPath = "/") -> list[str]:
        """The paths of what is in a directory, as a list."""
        return list(self._reading.iterdir(path))

    def walk(
        self,
        top: AnyPath = "/",
        topdown: bool = True,
        onerror: Callable[[OSError], object] | None = None,
        followlinks: bool = False,
    ) -> AsyncIterator[tuple[str, list[str], list[str]]]:
        """See ReadTree; an async iterator."""
        return in_slices(self._reading.walk(top, topdown, onerror, followlinks))

    def glob(self, pattern: str) -> AsyncIterator[str]:
        """See ReadTree; an async iterator."""
        return in_slices(self._reading.glob(pattern))

    async def stat(self, path: AnyPath, *, follow_symlinks: bool = True) -> Stat:
        """See ReadTree."""
        return self._reading.stat(path, follow_symlinks=follow_symlinks)

    async def lstat(self, path: AnyPath) -> Stat:
        """See ReadTree."""
        return self._reading.lstat(path)

    async def exists(self, path: AnyPath) -> bool:
        """See ReadTree."""
        return self._reading.exists(path)

    async def lexists(self, path: AnyPath) -> bool:
        """See ReadTree."""
        return self._reading.lexists(path)

    async def is_dir(self, path: AnyPath) -> bool:
        """See ReadTree."""
        return self._reading.is_dir(path)

    async def is_file(self, path: AnyPath) -> bool:
        """See ReadTree."""
        return self._reading.is_file(path)

    async def is_symlink(self, path: AnyPath) -> bool:
        """See ReadTree."""
        return self._reading.is_symlink(path)

    async def readlink(self, path: AnyPath) -> str:
        """See ReadTree."""
        return self._reading.readlink(path)

    async def getxattr(self, path: AnyPath, name: str | bytes, *, follow_symlinks: bool = True) -> bytes:
        """See ReadTree."""
        return self._reading.getxattr(path, name, follow_symlinks=follow_symlinks)

    async def listxattr(self, path: AnyPath = "/", *, follow_symlinks: bool = True) -> list[str]:
        """See ReadTree."""
        return self._reading.listxattr(path, follow_symlinks=follow_symlinks)


class AsyncTree(AsyncReadTree):
    """The writing calls of Tree on top; what they do and raise is said there."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree)
        self._tree = tree

    async def _durable(self) -> int:
        raise ValueError("a transaction is synced by its commit; use fs.transaction(sync=True)")

    async def write_bytes(self, path: AnyPath, data: Buffer, sync: bool = False) -> int | None:
        """See Tree; with `sync`, the tid once it is durable, else None."""
        self._tree.write_bytes(path, data)
        return await self._durable() if sync else None

    async def write_text(self, path: AnyPath, text: str, encoding: str = "utf-8", *, sync: bool = False) -> int | None:
        """See Tree; with `sync`, the tid once it is durable, else None."""
        return await self.write_bytes(path, text.encode(encoding), sync)

    async def truncate(self, path: AnyPath, length: int) -> None:
        """See Tree."""
        self._tree.truncate(path, length)

    async def copy(self, source: AnyPath, target: AnyPath) -> int:
        """See Tree."""
        return self._tree.copy(source, target)

    async def mkdir(self, path: AnyPath, mode: int = 0o777) -> None:
        """See Tree."""
        self._tree.mkdir(path, mode)

    async def makedirs(self, path: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        """See Tree."""
        self._tree.makedirs(path, mode, exist_ok)

    async def mknod(self, path: AnyPath, mode: int = 0o600, device: int = 0) -> None:
        """See Tree."""
        self._tree.mknod(path, mode, device)

    async def rmdir(self, path: AnyPath) -> None:
        """See Tree."""
        self._tree.rmdir(path)

    async def unlink(self, path: AnyPath) -> None:
        """See Tree."""
        self._tree.unlink(path)

    async def remove(self, path: AnyPath) -> None:
        """See Tree."""
        self._tree.remove(path)

    async def rmtree(self, path: AnyPath) -> None:
        """See Tree."""
        for count, _ in enumerate(self._tree.removing(path), 1):
            if count % SLICE_RECORDS == 0:
                await asyncio.sleep(0)

    async def rename(self, source: AnyPath, target: AnyPath, *, flags: int = 0) -> None:
        """See Tree."""
        self._tree.rename(source, target, flags=flags)

    async def replace(self, source: AnyPath, target: AnyPath) -> None:
        """See Tree."""
        self._tree.replace(source, target)

    async def link(self, source: AnyPath, target: AnyPath, *, follow_symlinks: bool = True) -> None:
        """See Tree."""
        self._tree.link(source, target, follow_symlinks=follow_symlinks)

    async def symlink(self, target: AnyPath, path: AnyPath) -> None:
        """See Tree."""
        self._tree.symlink(target, path)

    async def chmod(self, path: AnyPath, mode: int, *, follow_symlinks: bool = True) -> None:
        """See Tree."""
        self._tree.chmod(path, mode, follow_symlinks=follow_symlinks)

    async def chown(self, path: AnyPath, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        """See Tree."""
        self._tree.chown(path, uid, gid, follow_symlinks=follow_symlinks)

    async def utime(
        self,
        path: AnyPath,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """See Tree."""
        self._tree.utime(path, times, ns=ns, follow_symlinks=follow_symlinks)

    async def touch(self, path: AnyPath) -> None:
        """See Tree."""
        self._tree.touch(path)

    async def setxattr(
        self, path: AnyPath, name: str | bytes, value: bytes, flags: int = 0, *, follow_symlinks: bool = True
    ) -> None:
        """See Tree."""
        self._tree.setxattr(path, name, value, flags, follow_symlinks=follow_symlinks)

    async def removexattr(self, path: AnyPath, name: str | bytes, *, follow_symlinks: bool = True) -> None:
        """See Tree."""
        self._tree.removexattr(path, name, follow_symlinks=follow_symlinks)


class AsyncAsOf(AsyncReadTree):
    """The whole filesystem as it was at one tid; see AsOf."""

    def __init__(self, view: AsOf) -> None:
        super().__init__(view)
        self.tid = view.tid


class AsyncTransaction(AsyncTree):
    """A transaction: `async with fs.transaction() as tx`; see fs.Transaction."""

    def __init__(self, fs: AsyncFs, work: Transaction, sync: bool) -> None:
        super().__init__(work)
        self._fs, self._work, self._durably = fs, work, sync

    @property
    def freeze(self) -> int:
        """The tid whose state it sees."""
        return self._work.freeze

    @property
    def tid(self) -> int | None:
        """The tid of its commit; None before."""
        return self._work.tid

    async def commit(self) -> int:
        """Commit and return the tid; raises Collision. Durable when it returns if begun with `sync`."""
        tid = self._work.commit()
        if self._durably:
            await self._fs.sync()
        return tid

    async def rollback(self) -> None:
        """Give up: nothing of it has happened."""
        self._work.rollback()

    async def __aenter__(self) -> AsyncTransaction:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._work.__exit__(kind, error, trace)
        if kind is None and self._durably:
            await self._fs.sync()


class AsyncFs(AsyncUpkept, AsyncTree):
    """An open volume on an event loop; `gavel.aio.open` makes one."""

    def __init__(self, fs: Fs) -> None:
        super().__init__(fs)
        self._fs = self._kept = fs

    async def _durable(self) -> int:
        return await self.sync()

    async def sync(self) -> int:
        """Return when everything done so far is durable, with the tid that names it."""
        return await self._fs.sync_on_loop()

    async def tid(self) -> int:
        """sync() under its other name."""
        return await self.sync()

    def as_of(self, when: When) -> AsyncAsOf:
        """Everything as it was at a tid or WHEN, read-only; see Fs.as_of."""
        return AsyncAsOf(self._fs.as_of(when))

    def transaction(self, *, sync: bool = False) -> AsyncTransaction:
        """A transaction on the state of this moment; see Fs.transaction."""
        return AsyncTransaction(self, self._fs.transaction(), sync)

    async def run(
        self,
        function: Callable[[AsyncTransaction], Awaitable[T]],
        retries: int = TRANSACTION_RETRIES,
        *,
        sync: bool = False,
    ) -> T:
        """The result of `await function(tx)`, run again on Collision; see Fs.run."""
        while True:
            try:
                async with self.transaction(sync=sync) as tx:
                    return await function(tx)
            except Collision:
                if retries <= 0:
                    raise
                retries -= 1

    async def history(self, path: AnyPath) -> list[FileVersion]:
        """See Fs.history."""
        return self._fs.history(path)

    def log(
        self, path: AnyPath = "/", *, since: When | None = None, until: When | None = None, limit: int | None = None
    ) -> AsyncIterator[Logged]:
        """See Fs.log; an async iterator."""
        return _items(self._fs.log_job(path, since, until, limit))

    def diff(self, path: AnyPath, old: When, new: When | None = None) -> AsyncIterator[Difference]:
        """See Fs.diff; an async iterator."""
        return _items(self._fs.diff_job(path, old, new))

    async def undo(
        self, path: AnyPath, to: When | None = None, *, dry_run: bool = False, progress: OnProgress | None = None
    ) -> looking_back.Undone:
        """See Fs.undo."""
        return await drive_on_loop(self._fs.undo_job(path, to, dry_run), progress)

    async def snapshot_create(self, name: str, when: When | None = None, note: str = "") -> Snapshot:
        """See Fs.snapshot_create."""
        return self._fs.snapshot_create(name, when, note)

    async def snapshot_list(self) -> list[Snapshot]:
        """See Fs.snapshot_list."""
        return self._fs.snapshot_list()

    async def snapshot_delete(self, name: str) -> Snapshot:
        """See Fs.snapshot_delete."""
        return self._fs.snapshot_delete(name)

    async def check(self, deep: bool = False, *, progress: OnProgress | None = None) -> list[Problem]:
        """See Fs.check."""
        return await drive_on_loop(self._fs.check_job(deep), progress)

    async def info(self) -> Info:
        """See Fs.info."""
        return await drive_on_loop(self._fs.info_job(), None)

    async def statvfs(self, path: AnyPath = "/") -> StatVfs:
        """See Fs.statvfs."""
        return self._fs.statvfs(path)

    def watch(self, path: AnyPath = "/", *, since: When | None = None, timeout: float | None = None) -> Watch:
        """An async iterator over what is committed in a tree; see Watch."""
        return self._fs.watch(path, since=since, timeout=timeout)

    async def close(self) -> None:
        """Make everything durable and let go of the volume; closing twice is no error."""
        await self._fs.close_on_loop()

    async def __aenter__(self) -> AsyncFs:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def open(
    path: AnyPath,
    *,
    create: bool = False,
    size: int | None = None,
    label: str = "",
    read_only: bool = False,
    key: Key | None = None,
) -> Opening[AsyncFs]:
    """Open a volume on the running loop: await it, or `async with gavel.aio.open(path) as fs`; see gavel.open."""

    async def opened() -> AsyncFs:
        if create:
            await asyncio.to_thread(create_if_missing, path, size, label, key)
        engine, device = open_engine(path, read_only=read_only, loop=asyncio.get_running_loop(), key=key)
        return AsyncFs(Fs(engine, caller(), on_close=device.close))

    return Opening(opened())


__all__ = ["AsyncAsOf", "AsyncFile", "AsyncFs", "AsyncTransaction", "open"]
