"""The inode record: what is true of an object, whatever its names.

An inode is encoded as a MessagePack array in field order; fields added later come at the end with defaults, so that
old records stay readable. Object ids are unique forever, therefore there is no generation.
"""

from __future__ import annotations

import stat

import msgspec


class Inode(msgspec.Struct, array_like=True, gc=False):
    """An object's attributes. Times in nanoseconds since 1970, sizes in bytes."""

    mode: int  # type and permission bits, as in st_mode
    nlink: int
    uid: int
    gid: int
    size: int
    used: int  # bytes of data records; st_blocks is this in 512s, rounded up
    mtime: int
    ctime: int
    btime: int
    atime: int
    parent: int  # directory of the name it was last linked or moved to; 0 when it has none left
    name_hash: int  # of that name; with parent it finds the path without a table
    rdev: int = 0
    xattrs: int = 0  # how many, so that the kernel's question for a missing one needs no lookup
    flags: int = 0
    target: bytes = b""  # of a symlink

    @property
    def is_dir(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether this is a symbolic link."""
        return stat.S_ISLNK(self.mode)


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Inode).decode
