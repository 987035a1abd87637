"""File objects: a raw file over a Runner, buffered and decoded by the standard library's io."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING, NamedTuple

from gavel.client import operations
from gavel.client.paths import AnyPath
from gavel.client.runner import Runner

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

AnyFile = io.RawIOBase | io.BufferedIOBase | io.TextIOWrapper

BUFFER = 128 * 1024  # one extent: buffered writes make whole extents, buffered reads fetch whole ones


class Mode(NamedTuple):
    """A mode of open() taken apart."""

    reading: bool
    writing: bool
    appending: bool
    create: bool
    exclusive: bool
    truncate: bool
    binary: bool
    text: str  # as given


def parse_mode(mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> Mode:
    """Take a mode apart; raises ValueError as the builtin open() does, also for what does not go with it."""
    letters = set(mode)
    if len(letters) != len(mode) or letters - set("rwaxbt+") or {"b", "t"} <= letters:
        raise ValueError(f"invalid mode: {mode!r}")
    if len(letters & set("rwax")) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if "b" in letters and (encoding is not None or errors is not None or newline is not None):
        raise ValueError("binary mode takes no encoding, errors or newline argument")
    if "b" not in letters and buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    plus = "+" in letters
    return Mode(
        reading="r" in letters or plus,
        writing="r" not in letters or plus,
        appending="a" in letters,
        create="r" not in letters,
        exclusive="x" in letters,
        truncate="w" in letters,
        binary="b" in letters,
        text=mode,
    )


class RawFile(io.RawIOBase):
    """An open file: an object and an offset. Every read and write is one atomic operation."""

    def __init__(self, runner: Runner, obj: int, name: AnyPath, mode: Mode) -> None:
        super().__init__()
        self._runner, self._obj, self._mode = runner, obj, mode
        self._offset = 0
        self.name = os.fspath(name)
        runner.hold(obj)
        if mode.appending:
            self.seek(0, io.SEEK_END)

    @property
    def mode(self) -> str:
        """The mode it was opened with, as far as raw files know: always binary."""
        return self._mode.text.replace("t", "").replace("b", "") + "b"

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self._mode.reading

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._mode.writing

    def seekable(self) -> bool:
        """Always."""
        return True

    def _alive(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to len(buffer) bytes; 0 at the end of the file."""
        self._alive()
        if not self._mode.reading:
            raise io.UnsupportedOperation("read")
        into = memoryview(buffer).cast("B")
        done = 0
        for part in self._runner.read(operations.read_at, self._obj, self._offset, len(into)):
            into[done : done + len(part)] = part
            done += len(part)
        self._offset += done
        return done

    def readall(self) -> bytes:
        """Everything from the offset to the end."""
        self._alive()
        if not self._mode.reading:
            raise io.UnsupportedOperation("read")
        size = self._runner.read(operations.size_of, self._obj)
        content = b"".join(self._runner.read(operations.read_at, self._obj, self._offset, max(size - self._offset, 0)))
        self._offset += len(content)
        return content

    def write(self, buffer: ReadableBuffer) -> int:
        """Write all of the buffer, at the end of the file in append mode."""
        self._alive()
        if not self._mode.writing:
            raise io.UnsupportedOperation("write")
        content = memoryview(buffer).cast("B")
        offset = -1 if self._mode.appending else self._offset
        if len(content):
            self._offset = self._runner.write(operations.write_at, self._obj, offset, content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; the new offset."""
        self._alive()
        if whence == io.SEEK_CUR:
            offset += self._offset
        elif whence == io.SEEK_END:
            offset += self._runner.read(operations.size_of, self._obj)
        elif whence != io.SEEK_SET:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._offset = offset
        return offset

    def tell(self) -> int:
        """The offset."""
        self._alive()
        return self._offset

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend to `size` bytes, by default to the offset."""
        self._alive()
        if not self._mode.writing:
            raise io.UnsupportedOperation("truncate")
        size = self._offset if size is None else size
        if size < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._runner.write(operations.resize, self._obj, size)
        return size

    def close(self) -> None:
        """Let go of the object; a file without a name goes for good with its last holder."""
        if not self.closed:
            super().close()
            self._runner.release(self._obj)


def wrap(
    raw: RawFile,
    mode: Mode,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
    gathers: int = BUFFER,
) -> AnyFile:
    """The raw file with buffering and decoding on top, as the builtin open() would.

    `gathers`: how much of what is written is kept together unless `buffering` says.
    """
    if buffering == 0:
        return raw
    line = buffering == 1 and not mode.binary
    size = buffering if buffering > 1 else BUFFER if mode.reading else gathers
    buffered: io.BufferedRandom | io.BufferedWriter | io.BufferedReader
    if mode.reading and mode.writing:
        buffered = io.BufferedRandom(raw, size)
    elif mode.writing:
        buffered = io.BufferedWriter(raw, size)
    else:
        buffered = io.BufferedReader(raw, size)
    if mode.binary:
        return buffered
    return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, line_buffering=line)
