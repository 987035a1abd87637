"""A tree of files under os and pathlib names: written once, over whatever state a Runner runs on.

`ReadTree` has the reading calls, `Tree` the writing ones on top. In reading calls any component of a path may carry a
time (`name@@WHEN`); a file that really has such a name wins. Symbolic links are resolved within the volume: an
absolute target starts at its root. Errors are OSError subclasses with errno and filename, or gavel.errors.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from gavel.client import files, operations, paths
from gavel.client.paths import AnyPath, decode, encode, named
from gavel.client.results import DirEntry, Stat, stat_of
from gavel.client.runner import Runner, read_only
from gavel.errors import BadWhen
from gavel.filesystem.attributes import Changes
from gavel.filesystem.caller import Caller
from gavel.keys.records import ROOT_OBJECT
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Buffer

if TYPE_CHECKING:
    from _typeshed import (
        OpenBinaryMode,
        OpenBinaryModeReading,
        OpenBinaryModeUpdating,
        OpenBinaryModeWriting,
        OpenTextMode,
    )

P = ParamSpec("P")
T = TypeVar("T")

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2  # as in renameat2(2)


class ReadTree:
    """The reading calls over one state of the filesystem."""

    _gathers = files.BUFFER  # of what is written to a file object

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    # -- finding the state and the object a path speaks of

    def _place(self, raw: bytes) -> tuple[Runner, int, bytes]:
        """The runner, the object to start from and the rest of the path, once every mark is taken out of it."""
        runner, start, skip = self._runner, ROOT_OBJECT, 0
        while (cut := paths.cut_at_mark(raw, skip)) is not None:
            obj, literal = runner.read(operations.has_name, start, cut.before, cut.literal)
            if literal:
                skip += 1
                continue
            runner, start, skip = runner.at(cut.when), obj, 0
            raw = b"/".join(part for part in (cut.name, cut.after) if part)
        return runner, start, raw

    def _read(
        self,
        path: AnyPath,
        op: Callable[Concatenate[Transaction, int, bytes, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        try:
            runner, start, raw = self._place(encode(path))
            return runner.read(op, start, raw, *args, **kwargs)
        except OSError as problem:
            raise named(problem, path) from None

    # -- content

    def read_bytes(self, path: AnyPath) -> bytes:
        """The whole content of a file."""
        return self._read(path, operations.read_whole)

    def read_text(self, path: AnyPath, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The whole content of a file as text; line ends become "\\n"."""
        with io.TextIOWrapper(io.BytesIO(self.read_bytes(path)), encoding, errors) as text:
            return text.read()

    @overload
    def open(
        self,
        path: AnyPath,
        mode: OpenTextMode = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(self, path: AnyPath, mode: OpenBinaryMode, buffering: Literal[0]) -> files.RawFile: ...
    @overload
    def open(
        self, path: AnyPath, mode: OpenBinaryModeUpdating, buffering: Literal[-1, 1] = -1
    ) -> io.BufferedRandom: ...
    @overload
    def open(self, path: AnyPath, mode: OpenBinaryModeWriting, buffering: Literal[-1, 1] = -1) -> io.BufferedWriter: ...
    @overload
    def open(self, path: AnyPath, mode: OpenBinaryModeReading, buffering: Literal[-1, 1] = -1) -> io.BufferedReader: ...
    @overload
    def open(
        self,
        path: AnyPath,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> files.AnyFile: ...
    def open(
        self,
        path: AnyPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> files.AnyFile:
        """A file object, as from the builtin open(): modes r, w, a, x with +, b, t; text is UTF-8 unless said.

        The file stays what it was opened as: it can be read and written after its name is gone. Data written is
        in the filesystem once flushed, durable after sync(). Writing modes raise OSError EROFS on a past state.
        """
        wanted = files.parse_mode(mode, buffering, encoding, errors, newline)
        raw = self._open_for_writing(path, wanted) if wanted.writing else self._open_for_reading(path, wanted)
        file = files.wrap(raw, wanted, buffering, encoding, errors, newline, self._gathers)
        if wanted.writing:
            self._opened(file)
        return file

    def _open_for_reading(self, path: AnyPath, mode: files.Mode) -> files.RawFile:
        try:
            runner, start, raw = self._place(encode(path))
            found = runner.read(operations.file_at, start, raw)
        except OSError as problem:
            raise named(problem, path) from None
        return files.RawFile(runner, found.obj, path, mode)

    def _open_for_writing(self, path: AnyPath, mode: files.Mode) -> files.RawFile:
        raise named(read_only(), path)

    def _opened(self, file: files.AnyFile) -> None:
        """Told of every file object opened for writing."""

    # -- directories

    def listdir(self, path: AnyPath = "/") -> list[str]:
        """The names in a directory, sorted by their bytes."""
        return [decode(entry.name) for entry in self._read(path, operations.list_directory)]

    def scandir(self, path: AnyPath = "/") -> Iterator[DirEntry]:
        """The entries of a directory as of this moment, sorted by the bytes of their names."""
        base = paths.as_given(path)
        for entry in self._read(path, operations.list_directory):
            name = decode(entry.name)
            yield DirEntry(self, name, paths.join(base, name), entry.object, entry.type << 12)

    def iterdir(self, path: AnyPath = "/") -> Iterator[str]:
        """The paths of what is in a directory."""
        for entry in self.scandir(path):
            yield entry.path

    def walk(
        self,
        top: AnyPath = "/",
        topdown: bool = True,
        onerror: Callable[[OSError], object] | None = None,
        followlinks: bool = False,
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """(directory, names of directories, other names) for every directory below, as os.walk()."""
        base = paths.as_given(top)
        try:
            entries = list(self.scandir(top))
        except OSError as problem:
            if onerror is not None:
                onerror(problem)
            return
        folders = [entry.name for entry in entries if entry.is_dir()]
        others = [entry.name for entry in entries if not entry.is_dir()]
        links = {entry.name for entry in entries if entry.is_symlink()}
        if topdown:
            yield base, folders, others
        for name in folders:
            if followlinks or name not in links:
                yield from self.walk(paths.join(base, name), topdown, onerror, followlinks)
        if not topdown:
            yield base, folders, others

    def glob(self, pattern: str) -> Iterator[str]:
        """The paths that match a pattern of `*`, `?`, `[...]` and `**` (any depth), sorted within a directory.

        Leading dots match like any other character. Symbolic links to directories are followed, but not by `**`.
        """
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        yield from self._glob("/" if pattern.startswith("/") else "", parts)

    def _glob(self, base: str, parts: list[str]) -> Iterator[str]:
        if not parts:
            yield base
            return
        first, rest = parts[0], parts[1:]
        if first == "**":
            yield from self._glob(base, rest)
            for entry in self._entries(base):
                if entry.is_dir(follow_symlinks=False):
                    yield from self._glob(entry.path, parts)
        elif not any(mark in first for mark in "*?["):
            path = paths.join(base, first)
            if self.lexists(path):
                yield from self._glob(path, rest)
        else:
            match = re.compile(fnmatch.translate(first)).match
            for entry in self._entries(base):
                if match(entry.name) and (not rest or entry.is_dir()):
                    yield from self._glob(entry.path, rest)

    def _entries(self, path: str) -> list[DirEntry]:
        try:
            return list(self.scandir(path))
        except (NotADirectoryError, FileNotFoundError):
            return []

    # -- attributes

    def stat(self, path: AnyPath, *, follow_symlinks: bool = True) -> Stat:
        """The attributes of what a path names."""
        return stat_of(*self._read(path, operations.find, follow_symlinks))

    def lstat(self, path: AnyPath) -> Stat:
        """The attributes of what a path names, a symbolic link itself included."""
        return self.stat(path, follow_symlinks=False)

    def exists(self, path: AnyPath) -> bool:
        """Whether the path names something; False for a dangling link."""
        return self._stat_or_none(path) is not None

    def lexists(self, path: AnyPath) -> bool:
        """Whether the path names something, be it a dangling link."""
        return self._stat_or_none(path, follow_symlinks=False) is not None

    def is_dir(self, path: AnyPath) -> bool:
        """Whether the path names a directory or a link to one."""
        found = self._stat_or_none(path)
        return found is not None and found.is_dir()

    def is_file(self, path: AnyPath) -> bool:
        """Whether the path names a regular file or a link to one."""
        found = self._stat_or_none(path)
        return found is not None and found.is_file()

    def is_symlink(self, path: AnyPath) -> bool:
        """Whether the path names a symbolic link."""
        found = self._stat_or_none(path, follow_symlinks=False)
        return found is not None and found.is_symlink()

    def _stat_or_none(self, path: AnyPath, *, follow_symlinks: bool = True) -> Stat | None:
        try:
            return self.stat(path, follow_symlinks=follow_symlinks)
        except OSError as problem:
            if problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def readlink(self, path: AnyPath) -> str:
        """What a symbolic link points to."""
        return decode(self._read(path, operations.readlink))

    def getxattr(self, path: AnyPath, name: str | bytes, *, follow_symlinks: bool = True) -> bytes:
        """The value of an extended attribute; raises OSError ENODATA where there is none."""
        return self._read(path, operations.get_xattr, _xattr_name(name), follow_symlinks)

    def listxattr(self, path: AnyPath = "/", *, follow_symlinks: bool = True) -> list[str]:
        """The names of the extended attributes."""
        return [decode(name) for name in self._read(path, operations.list_xattrs, follow_symlinks)]


def _xattr_name(name: str | bytes) -> bytes:
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name


class Tree(ReadTree):
    """Reading and writing calls. Paths of writing calls carry no times: what is past does not change."""

    def __init__(self, runner: Runner, caller: Caller) -> None:
        super().__init__(runner)
        self._caller = caller

    def _write(
        self, path: AnyPath, op: Callable[Concatenate[Transaction, bytes, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        raw = self._writable(path)
        try:
            return self._runner.write(op, raw, *args, **kwargs)
        except OSError as problem:
            raise named(problem, path) from None

    def _writable(self, path: AnyPath) -> bytes:
        """The encoded path; raises EROFS where it leads into the past."""
        raw = encode(path)
        if paths.MARK in raw:
            try:
                runner, start, rest = self._place(raw)
                runner.read(operations.find, start, rest.partition(b"/")[0], False)
            except (OSError, BadWhen):
                return raw  # no such past: then it is a name like any other
            if runner is not self._runner:
                raise named(read_only("the past does not change"), path)
        return raw

    def _write_two(
        self,
        source: AnyPath,
        target: AnyPath,
        op: Callable[Concatenate[Transaction, bytes, bytes, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        first, second = self._writable(source), self._writable(target)
        try:
            return self._runner.write(op, first, second, *args, **kwargs)
        except OSError as problem:
            raise named(problem, source, target) from None

    # -- hooks of the volume and of a transaction

    def _sync(self) -> int:
        """Make durable and return the tid; a transaction cannot before its commit."""
        raise ValueError("a transaction is synced by its commit; use fs.transaction(sync=True)")

    # -- content

    @overload
    def write_bytes(self, path: AnyPath, data: Buffer, sync: Literal[False] = False) -> None: ...
    @overload
    def write_bytes(self, path: AnyPath, data: Buffer, sync: Literal[True]) -> int: ...
    @overload
    def write_bytes(self, path: AnyPath, data: Buffer, sync: bool) -> int | None: ...
    def write_bytes(self, path: AnyPath, data: Buffer, sync: bool = False) -> int | None:
        """Make `data` the whole content of a file, creating it if need be; all of it in one step.

        With `sync`, returns once it is durable, the tid that names the state; without, None, and at most
        limits.FLUSH_SECONDS of work can be lost in a crash, always whole operations in order.
        """
        content = memoryview(data).cast("B") if isinstance(data, memoryview) else data
        self._write(path, operations.write_whole, content, self._caller)
        return self._sync() if sync else None

    @overload
    def write_text(
        self, path: AnyPath, text: str, encoding: str = "utf-8", *, sync: Literal[False] = False
    ) -> None: ...
    @overload
    def write_text(self, path: AnyPath, text: str, encoding: str = "utf-8", *, sync: bool) -> int | None: ...
    def write_text(self, path: AnyPath, text: str, encoding: str = "utf-8", *, sync: bool = False) -> int | None:
        """write_bytes() of the encoded text."""
        return self.write_bytes(path, text.encode(encoding), sync)

    def _open_for_writing(self, path: AnyPath, mode: files.Mode) -> files.RawFile:
        found = self._write(path, operations.open_file, self._caller, 0o666, mode.create, mode.exclusive, mode.truncate)
        return files.RawFile(self._runner, found.obj, path, mode)

    def truncate(self, path: AnyPath, length: int) -> None:
        """Cut a file to `length` bytes, or extend it with a hole."""
        self._write(path, operations.truncate, length)

    def copy(self, source: AnyPath, target: AnyPath) -> int:
        """Make the target a copy of a file; the bytes copied. The data is shared, so size costs next to nothing.

        The source may carry a time (`fs.copy("a@@-5m", "a")`), which reads and writes the bytes anew instead.
        Permission bits come along, times and extended attributes do not.
        """
        try:
            runner, start, raw = self._place(encode(source))
            if runner is self._runner:
                return self._write_two(source, target, operations.copy_file, self._caller)
            content = runner.read(operations.read_whole, start, raw)
        except OSError as problem:
            raise named(problem, source, target) from None
        self._write(target, operations.write_whole, content, self._caller)
        return len(content)

    # -- names

    def mkdir(self, path: AnyPath, mode: int = 0o777) -> None:
        """Make a directory; raises FileExistsError."""
        self._write(path, operations.make_directory, mode, self._caller)

    def makedirs(self, path: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        """Make a directory and those above it that are missing."""
        parts = encode(path).split(b"/")
        for count in range(1, len(parts)):
            try:
                self._write(b"/".join(parts[:count]), operations.make_directory, mode, self._caller)
            except FileExistsError:
                continue
        try:
            self.mkdir(path, mode)
        except FileExistsError:
            if not exist_ok or not self.is_dir(path):
                raise

    def mknod(self, path: AnyPath, mode: int = 0o600, device: int = 0) -> None:
        """Make a file, fifo, socket or device, as its type bits say; without any, an empty file."""
        self._write(path, operations.make_node, mode, device, self._caller)

    def rmdir(self, path: AnyPath) -> None:
        """Remove an empty directory; raises OSError ENOTEMPTY."""
        self._write(path, operations.remove_directory)

    def unlink(self, path: AnyPath) -> None:
        """Remove a name; raises IsADirectoryError. The past keeps the file: see history() and undo()."""
        self._write(path, operations.unlink)

    def remove(self, path: AnyPath) -> None:
        """unlink() under its other name."""
        self.unlink(path)

    def rmtree(self, path: AnyPath) -> None:
        """Remove a directory and all below it, one name after the other; the root itself stays."""
        for _ in self.removing(path):
            pass

    def removing(self, path: AnyPath) -> Iterator[str]:
        """rmtree() as an iterator: removes with each step, and yields the path that went."""
        for base, folders, others in self.walk(path, topdown=False):
            for name in others:
                self.unlink(paths.join(base, name))
                yield paths.join(base, name)
            for name in folders:
                child = paths.join(base, name)
                if self.is_symlink(child):
                    self.unlink(child)
                else:
                    self.rmdir(child)
                yield child
        if encode(path):
            self.rmdir(path)

    def rename(self, source: AnyPath, target: AnyPath, *, flags: int = 0) -> None:
        """Rename, replacing the target as rename(2) does; `flags` are those of renameat2(2)."""
        self._write_two(source, target, operations.rename, flags)

    def replace(self, source: AnyPath, target: AnyPath) -> None:
        """rename() under its other name."""
        self.rename(source, target)

    def link(self, source: AnyPath, target: AnyPath, *, follow_symlinks: bool = True) -> None:
        """Give a file one more name."""
        self._write_two(source, target, operations.link, follow_symlinks)

    def symlink(self, target: AnyPath, path: AnyPath) -> None:
        """Make `path` a symbolic link to `target`, which is stored as it is given."""
        given = os.fspath(target)
        raw = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else given
        try:
            self._runner.write(operations.symlink, raw, self._writable(path), self._caller)
        except OSError as problem:
            raise named(problem, target, path) from None

    # -- attributes

    def chmod(self, path: AnyPath, mode: int, *, follow_symlinks: bool = True) -> None:
        """Set the permission bits."""
        self._write(path, operations.change_mode, mode, follow_symlinks)

    def chown(self, path: AnyPath, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        """Set owner and group; -1 leaves one as it is."""
        changes = Changes(uid=uid if uid >= 0 else None, gid=gid if gid >= 0 else None)
        self._write(path, operations.change, changes, follow_symlinks)

    def utime(
        self,
        path: AnyPath,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Set access and modification time, in seconds or in ns; to now if neither is given."""
        if times is not None and ns is not None:
            raise ValueError("utime: give times or ns, not both")
        if times is not None:
            ns = (round(times[0] * 1e9), round(times[1] * 1e9))
        self._write(path, operations.touch_times, ns, follow_symlinks)

    def touch(self, path: AnyPath) -> None:
        """Create an empty file, or set the times of what is there to now."""
        if self.exists(path):
            self.utime(path)
        else:
            self._write(path, operations.open_file, self._caller, 0o666, True, False, False)

    def setxattr(
        self, path: AnyPath, name: str | bytes, value: bytes, flags: int = 0, *, follow_symlinks: bool = True
    ) -> None:
        """Set an extended attribute; flags as os.XATTR_CREATE and os.XATTR_REPLACE."""
        self._write(path, operations.set_xattr, _xattr_name(name), value, flags, follow_symlinks)

    def removexattr(self, path: AnyPath, name: str | bytes, *, follow_symlinks: bool = True) -> None:
        """Remove an extended attribute; raises OSError ENODATA where there is none."""
        self._write(path, operations.remove_xattr, _xattr_name(name), follow_symlinks)


class AsOf(ReadTree):
    """The whole filesystem as it was at one tid; read-only, unaffected by anything that happens now."""

    def __init__(self, runner: Runner, tid: int) -> None:
        super().__init__(runner)
        self.tid = tid

    def __enter__(self) -> AsOf:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __repr__(self) -> str:
        return f"<AsOf 0x{self.tid:016x}>"
