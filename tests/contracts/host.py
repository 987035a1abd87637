"""The Adapter over a directory of a mounted filesystem: the host's own, which proves the suite, or a gavel mount."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import time
from pathlib import Path

from tests.contracts.adapter import Status

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_GETDENTS64 = {"x86_64": 217, "aarch64": 61}.get(os.uname().machine, 217)
_DIRENT = struct.Struct("<QqHB")


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def fallocate(handle: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), which Python has without its mode."""
    _checked(_libc.fallocate(handle, mode, ctypes.c_long(offset), ctypes.c_long(length)))


class Host:
    """System calls in a directory. `pause` is how long the clock of its timestamps takes to move on."""

    def __init__(self, directory: Path, extra: frozenset[str] = frozenset(), pause: float = 0.012) -> None:
        self.top = os.fsencode(directory)
        self.pause = pause
        root = frozenset({"owners", "trusted"}) if os.geteuid() == 0 else frozenset()
        self.features = frozenset({"handles", "cookies", "umask"}) | root | extra
        self.umask(0o022)

    def _at(self, path: str) -> bytes:
        return os.path.join(self.top, os.fsencode(path)) if path else self.top

    def tick(self) -> None:
        time.sleep(self.pause)  # the kernel's file times move with its timer interrupt

    def umask(self, mask: int) -> None:
        os.umask(mask)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(self._at(path), mode)

    def mknod(self, path: str, mode: int, device: int = 0) -> None:
        os.mknod(self._at(path), mode, device)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(os.fsencode(target), self._at(path))

    def link(self, path: str, new: str) -> None:
        os.link(self._at(path), self._at(new), follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def rename(self, path: str, new: str, flags: int = 0) -> None:
        _checked(_libc.renameat2(_AT_FDCWD, self._at(path), _AT_FDCWD, self._at(new), flags))

    def readlink(self, path: str) -> str:
        return os.fsdecode(os.readlink(self._at(path)))

    def listdir(self, path: str) -> list[str]:
        return [os.fsdecode(name) for name in os.listdir(self._at(path))]

    def stat(self, path: str, follow: bool = False) -> Status:
        return _status(os.stat(self._at(path), follow_symlinks=follow))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid, follow_symlinks=False)

    def utime(self, path: str, atime: int, mtime: int) -> None:
        os.utime(self._at(path), ns=(atime, mtime), follow_symlinks=False)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), os.fsencode(name), follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._at(path), os.fsencode(name), value, flags, follow_symlinks=False)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(self._at(path), follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), os.fsencode(name), follow_symlinks=False)

    def write(self, path: str, data: bytes) -> None:
        with open(self._at(path), "wb") as file:
            file.write(data)

    def read(self, path: str) -> bytes:
        with open(self._at(path), "rb") as file:
            return file.read()

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        return os.open(self._at(path), flags, mode)

    def tmpfile(self, directory: str, mode: int = 0o666) -> int:
        return os.open(self._at(directory), os.O_TMPFILE | os.O_RDWR, mode)

    def close(self, handle: int) -> None:
        os.close(handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return os.pread(handle, size, offset)

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        return os.pwrite(handle, data, offset)

    def fstat(self, handle: int) -> Status:
        return _status(os.fstat(handle))

    def flink(self, handle: int, new: str) -> None:
        _checked(_libc.linkat(handle, b"", _AT_FDCWD, self._at(new), _AT_EMPTY_PATH))

    def readdir(self, path: str, cookie: int, count: int) -> list[tuple[int, str]]:
        handle = os.open(self._at(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.lseek(handle, cookie, os.SEEK_SET)
            buffer = ctypes.create_string_buffer(count * 280)
            size = _checked(_libc.syscall(_GETDENTS64, handle, buffer, len(buffer)))
        finally:
            os.close(handle)
        return _dirents(buffer.raw[:size])


def _dirents(raw: bytes) -> list[tuple[int, str]]:
    found, at = [], 0
    while at < len(raw):
        _, cookie, length, _ = _DIRENT.unpack_from(raw, at)
        name = raw[at + _DIRENT.size : at + length].split(b"\0")[0]
        found.append((cookie, os.fsdecode(name)))
        at += length
    return found


def _status(found: os.stat_result) -> Status:
    return Status(
        found.st_ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_rdev if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode) else 0,
        found.st_atime_ns,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )
