"""Requests about the bytes of files, and about making things durable."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from gavel.filesystem import data
from gavel.filesystem import inode as inodes
from gavel.filesystem.inode import Inode
from gavel.limits import FUSE_REQUEST_MAX
from gavel.mount import abi
from gavel.mount.failures import errno_of
from gavel.mount.nodes import Nodes
from gavel.mount.session import Header, Reply
from gavel.transaction.transaction import Transaction

_WRITE_HEAD = abi.WRITE_IN.size
_COPY_MOST = 1 << 30  # bytes in one COPY_FILE_RANGE, whose reply has 32 bits


class Data:
    """Handlers. `reply` answers a request later than in its turn."""

    def __init__(self, nodes: Nodes, reply: Callable[[int, bytes | int], None], sole: bool = True) -> None:
        self._sole = sole
        self._nodes = nodes
        self._engine = nodes.engine
        self._reply = reply
        self.written_back: Callable[[int, Callable[[], None]], None] | None = None  # Notifier.written_back
        self._syncing: set[asyncio.Task[None]] = set()

    def read(self, header: Header, body: memoryview) -> Reply:
        """READ: less than asked for only at the end of the file."""
        _, offset, size, _, _, _, _ = abi.READ_IN.unpack_from(body)
        return self._nodes.read(header[3], data.read, offset, min(size, FUSE_REQUEST_MAX))

    def write(self, header: Header, body: memoryview) -> Reply:
        """WRITE: the payload is handed on where it lies in the read buffer."""
        _, offset, size, flags, _, opened, _ = abi.WRITE_IN.unpack_from(body)
        payload = body[_WRITE_HEAD : _WRITE_HEAD + size]
        if len(payload) != size:
            return errno.EINVAL
        # Where others write, too, the kernel's idea of where a file ends is not to be believed.
        write = _append if opened & os.O_APPEND and not self._sole else data.write
        self._nodes.write(header[3], write, offset, payload, bool(flags & abi.WRITE_KILL_SUIDGID))
        return abi.SIZE_OUT.pack(size, 0)

    def fallocate(self, header: Header, body: memoryview) -> Reply:
        """FALLOCATE."""
        _, offset, length, mode, _ = abi.FALLOCATE_IN.unpack_from(body)
        self._nodes.write(header[3], data.fallocate, mode, offset, length)
        return b""

    def lseek(self, header: Header, body: memoryview) -> Reply:
        """LSEEK: SEEK_DATA and SEEK_HOLE; the kernel does the others by itself.

        It asks without having written back its cache: what is dirty there would look like a hole to us, and a copy
        made by the answer would lack it. So the cache comes first, and the answer when it is here.
        """
        _, offset, whence, _ = abi.LSEEK_IN.unpack_from(body)
        node, unique = header[3], header[2]
        if self.written_back is None or self._nodes.is_past(node):
            return self._seek(node, offset, whence)

        def answer() -> None:
            try:
                self._reply(unique, self._seek(node, offset, whence))
            except Exception as error:
                self._reply(unique, errno_of(error))

        self.written_back(node, answer)
        return None

    def _seek(self, node: int, offset: int, whence: int) -> bytes:
        return abi.OFFSET_OUT.pack(self._nodes.read(node, data.seek, offset, whence))

    def copy_file_range(self, header: Header, body: memoryview) -> Reply:
        """COPY_FILE_RANGE: extents are shared, nothing is copied."""
        return abi.SIZE_OUT.pack(self._copy(header[3], body), 0)

    def copy_file_range_64(self, header: Header, body: memoryview) -> Reply:
        """COPY_FILE_RANGE_64: the same, with a wider reply."""
        return abi.OFFSET_OUT.pack(self._copy(header[3], body))

    def _copy(self, node: int, body: memoryview) -> int:
        _, offset, target, _, target_offset, length, flags = abi.COPY_FILE_RANGE_IN.unpack_from(body)
        if flags:
            raise OSError(errno.EINVAL, "copy_file_range has no flags")
        length = min(length, _COPY_MOST)
        if self._nodes.is_past(node):
            raise OSError(errno.EXDEV, "from a view the kernel has to copy the bytes")
        return self._nodes.write(node, data.copy_range, offset, self._nodes.live(target), target_offset, length)

    def fsync(self, header: Header, body: memoryview) -> Reply:
        """FSYNC, FSYNCDIR, SYNCFS: everything becomes durable, whichever object was named; answered when it is."""
        if self._nodes.is_past(header[3]) or not self._sole:
            return b""
        task = asyncio.get_running_loop().create_task(self._sync(header[2]))
        self._syncing.add(task)
        task.add_done_callback(self._syncing.discard)
        return None

    async def _sync(self, unique: int) -> None:
        try:
            await self._engine.sync()
        except Exception as error:
            self._reply(unique, errno_of(error))
        else:
            self._reply(unique, b"")


def _append(tx: Transaction, obj: int, offset: int, payload: memoryview, kill_suidgid: bool) -> Inode:
    return data.write(tx, obj, inodes.read(tx, obj).size, payload, kill_suidgid)
