"""What the contract suite asks of a filesystem under test.

Paths are `str`, relative to the root of the filesystem under test ("" is the root itself), with bytes that are not
UTF-8 as surrogate escapes, as in `os`. Symbolic links inside a path are followed, one at its end is not, unless said
otherwise. Every method raises OSError with an errno on failure and has then changed nothing.

To run the suite over something new: write a class with these methods, say in `features` what it can do, and make a
test module with a fixture `fs` and `class TestMine(Contract): pass`. A test that needs a feature which is not there
is skipped. Features: "handles" (open files), "cookies" (readdir), "acl", "owners" (chown and mknod of devices: root),
"trusted" (the xattr namespace), "umask", "sizes" (a directory's size is the number of its entries), "functions" (not
behind a kernel, which keeps some errors to itself).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import pytest

NOREPLACE, EXCHANGE = 1, 2  # of rename
CREATE, REPLACE = 1, 2  # of setxattr


class Status(NamedTuple):
    """As os.stat_result; times in ns."""

    object: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    rdev: int
    atime: int
    mtime: int
    ctime: int


class Adapter(Protocol):
    """A filesystem under test."""

    features: frozenset[str]

    def tick(self) -> None:
        """Let so much time pass that a change after it has another time than one before."""

    def umask(self, mask: int) -> None:
        """The umask of what is made from now on; 0o022 at first."""

    def mkdir(self, path: str, mode: int = 0o777) -> None: ...
    def mknod(self, path: str, mode: int, device: int = 0) -> None: ...
    def symlink(self, target: str, path: str) -> None: ...
    def link(self, path: str, new: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def rename(self, path: str, new: str, flags: int = 0) -> None: ...
    def readlink(self, path: str) -> str: ...
    def listdir(self, path: str) -> list[str]:
        """The names in a directory but "." and "..", in any order."""

    def stat(self, path: str, follow: bool = False) -> Status: ...
    def chmod(self, path: str, mode: int) -> None:
        """Follows a link at the end of the path."""

    def chown(self, path: str, uid: int, gid: int) -> None:
        """-1 leaves as it is."""

    def utime(self, path: str, atime: int, mtime: int) -> None: ...
    def truncate(self, path: str, size: int) -> None:
        """Follows a link at the end of the path."""

    def getxattr(self, path: str, name: str) -> bytes: ...
    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None: ...
    def listxattr(self, path: str) -> list[str]: ...
    def removexattr(self, path: str, name: str) -> None: ...

    def write(self, path: str, data: bytes) -> None:
        """Make the file (mode 0666) if need be, and let it hold just this; follows a link at the end of the path."""

    def read(self, path: str) -> bytes:
        """Follows a link at the end of the path."""

    # Feature "handles".
    def open(self, path: str, flags: int, mode: int = 0o666) -> int: ...
    def tmpfile(self, directory: str, mode: int = 0o666) -> int:
        """A file without a name (O_TMPFILE), open for reading and writing."""

    def close(self, handle: int) -> None: ...
    def pread(self, handle: int, size: int, offset: int) -> bytes: ...
    def pwrite(self, handle: int, data: bytes, offset: int) -> int: ...
    def fstat(self, handle: int) -> Status: ...
    def flink(self, handle: int, new: str) -> None:
        """Give an open file a name (linkat with AT_EMPTY_PATH)."""

    # Feature "cookies".
    def readdir(self, path: str, cookie: int, count: int) -> list[tuple[int, str]]:
        """Some names behind a cookie (0: from the start) and their cookies, "." and ".." among them; [] at the end."""


@contextmanager
def fails(*codes: int) -> Iterator[None]:
    """The block raises OSError with one of these errnos."""
    with pytest.raises(OSError) as info:
        yield
    names = [errno.errorcode[code] for code in codes]
    assert info.value.errno in codes, f"{errno.errorcode.get(info.value.errno or 0)}, not {' or '.join(names)}"


def need(fs: Adapter, *features: str) -> None:
    """Skip the test where the filesystem under test lacks a feature."""
    for feature in features:
        if feature not in fs.features:
            pytest.skip(f"{type(fs).__name__} has no {feature}")


def exists(fs: Adapter, path: str) -> bool:
    """Whether there is anything at a path."""
    try:
        fs.stat(path)
    except FileNotFoundError:
        return False
    return True
