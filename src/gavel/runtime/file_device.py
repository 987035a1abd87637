"""The real device: a sparse file or a block device, locked against a second user.

Invariants:

- a write never extends the file: it was made at its full size, sparse;
- room for a big-block is allocated before the first byte is written into it, so that a full disk shows there, before
  anything was written, and not in the middle of a frame or, worse, at a sync;
- a range that is trimmed is allocated anew before it is written again;
- one process at a time: the lock is flock(2)'s and goes with the process, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from typing import Final

from gavel.errors import BadRequest, DeviceFailed, DeviceFull, VolumeBusy
from gavel.limits import BIG_BLOCK, FRAME_MAX
from gavel.media.device import Buffer
from gavel.runtime.punch import Puncher

_IOV_MAX: Final = 1024  # UIO_MAXIOV of Linux
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
_CANNOT_ALLOCATE: Final = frozenset((errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV))


class FileDevice:
    """A volume's file or block device.

    `create_size` makes (or empties) a regular file of that many bytes, sparse; a block device keeps its size.
    Raises FileNotFoundError and PermissionError as open(2) does, VolumeBusy when another process has it open.
    """

    def __init__(
        self, path: str, *, create_size: int | None = None, read_only: bool = False, exclusive: bool = True
    ) -> None:
        self.path = path
        flags = os.O_RDONLY if read_only else os.O_RDWR
        if _is_block_device(path):
            flags |= os.O_EXCL if exclusive and not read_only else 0  # refused while the kernel itself uses it
        elif create_size is not None:
            flags |= os.O_CREAT
        try:
            self._fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise VolumeBusy(path, None, "or it is mounted, swap, or part of another device") from None
        try:
            self._open(create_size, read_only, exclusive)
        except BaseException:
            os.close(self._fd)
            raise

    def _open(self, create_size: int | None, read_only: bool, exclusive: bool) -> None:
        mode = os.fstat(self._fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise BadRequest(f"{self.path} is neither a file nor a block device; a volume needs one of them")
        if exclusive:
            self._lock(read_only)
        self._block_device = stat.S_ISBLK(mode)
        if create_size is not None and not self._block_device:
            try:
                os.ftruncate(self._fd, 0)
                os.ftruncate(self._fd, create_size)
            except OSError as error:
                raise BadRequest(f"{self.path} cannot be {create_size} bytes large: {error.strerror}") from error
        self._size = os.lseek(self._fd, 0, os.SEEK_END)
        self._allocated: set[int] = set()
        self._scratch = bytearray(FRAME_MAX)
        self._puncher = Puncher(self._fd)
        self._allocates = not self._block_device and not read_only

    def _lock(self, read_only: bool) -> None:
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _lock_holder(os.fstat(self._fd))
            raise VolumeBusy(self.path, pid, _command(pid)) from None

    def __str__(self) -> str:
        return self.path

    def fileno(self) -> int:
        """See media.device.Descriptor."""
        return self._fd

    def close(self) -> None:
        """Give the device and its lock back. What was not synced is left to the kernel."""
        if self._fd >= 0:
            self._puncher.close()
            os.close(self._fd)
            self._fd = -1

    def read(self, offset: int, length: int) -> bytes:
        """See media.device."""
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    raise DeviceFailed("read", offset, "past the end")
                data += more
        except OSError as error:
            raise DeviceFailed("read", offset, error.strerror or str(error)) from error
        return data

    def at_hand(self, offset: int, length: int) -> bool:
        """See media.device.Cached."""
        if length > len(self._scratch):
            return False
        try:
            return os.preadv(self._fd, [memoryview(self._scratch)[:length]], offset, os.RWF_NOWAIT) == length
        except OSError:
            return False

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """See media.device."""
        size = sum(map(len, parts))
        if offset < 0 or offset + size > self._size:
            raise DeviceFailed("write", offset, "past the end")
        if self._allocates:
            self._allocate(offset, size)
        try:
            written = os.pwritev(self._fd, parts if len(parts) <= _IOV_MAX else parts[:_IOV_MAX], offset)
            if written < size:
                self._write_rest(offset, parts, written)
        except OSError as error:
            if error.errno in _FULL:
                raise DeviceFull(offset, size) from error
            raise DeviceFailed("write", offset, error.strerror or str(error)) from error

    def _write_rest(self, offset: int, parts: Sequence[Buffer], written: int) -> None:
        rest: list[Buffer] = []
        skip = written
        for part in parts:
            if skip >= len(part):
                skip -= len(part)
            else:
                rest.append(memoryview(part)[skip:] if skip else part)
                skip = 0
        offset += written
        while rest:
            count = os.pwritev(self._fd, rest[:_IOV_MAX], offset)
            offset += count
            while rest and count >= len(rest[0]):
                count -= len(rest.pop(0))
            if count:
                rest[0] = memoryview(rest[0])[count:]

    def _allocate(self, offset: int, size: int) -> None:
        """Have the file's space for these big-blocks set aside; raises DeviceFull with nothing written."""
        for block in range(offset // BIG_BLOCK, (offset + size - 1) // BIG_BLOCK + 1):
            if block in self._allocated or not block:
                continue
            self._puncher.keep(block)
            try:
                os.posix_fallocate(self._fd, block * BIG_BLOCK, min(BIG_BLOCK, self._size - block * BIG_BLOCK))
            except OSError as error:
                if error.errno in _FULL:
                    raise DeviceFull(offset, BIG_BLOCK) from error
                if error.errno not in _CANNOT_ALLOCATE:
                    raise DeviceFailed("write", offset, error.strerror or str(error)) from error
                self._allocates = False
                return
            self._allocated.add(block)

    def sync(self) -> None:
        """See media.device."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise DeviceFailed("sync", 0, error.strerror or str(error)) from error

    def trim(self, offset: int, length: int) -> None:
        """See media.device.Sparse: holes are punched into a file, in the background; a block device is left alone."""
        if self._allocates:
            blocks = range(-(-offset // BIG_BLOCK), (offset + length) // BIG_BLOCK)
            self._allocated.difference_update(blocks)
            self._puncher.punch(blocks)

    def size(self) -> int:
        """See media.device."""
        return self._size

    def resize(self, size: int) -> None:
        """See media.device."""
        if self._block_device:
            raise DeviceFailed("resize", size, "a block device has the size it has")
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise DeviceFailed("resize", size, error.strerror or str(error)) from error
        self._size = size


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False  # open(2) will say why


def _lock_holder(status: os.stat_result) -> int | None:
    """The process that holds a flock on this inode, as /proc/locks tells."""
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as locks:
            for line in locks:
                fields = line.split()
                if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == inode and int(fields[4]) > 0:
                    return int(fields[4])
    except OSError:
        pass
    return None


def _command(pid: int | None) -> str:
    """The command line of a process, empty if it cannot be read."""
    if pid is None:
        return ""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(512).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
