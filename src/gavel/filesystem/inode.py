"""The inode record: what is true of an object, whatever its names.

An inode is encoded as a MessagePack array in field order; fields added later come at the end with defaults, so that
old records stay readable. Object ids are unique forever, so a generation is needed only where the same object comes
back after its removal.

Invariants:
- a directory's nlink is 2 and one for each directory in it; its size is the number of its entries;
- an object with nlink 0 has an orphan record (and only such an object has one), parent 0, and for a directory no
  entries;
- `parent` and `name_hash` lead to a name that exists, or are 0; a directory's are 0 only when it has none, and the
  root directory is its own parent;
- `xattrs` is the number of xattr records, ACLs included.
"""

from __future__ import annotations

import errno
import stat

import msgspec

from gavel.errors import Damaged
from gavel.filesystem.failure import failure
from gavel.keys import records
from gavel.keys.ranges import Range
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss

UNNAMED = 1  # flag: made by O_TMPFILE and never linked, so linking it is allowed
COMPRESS, PLAIN = 2, 4  # flags: data is compressed, or is not; neither: compression.DEFAULT. Inherited when made

_TYPE, _DIRECTORY = 0o170000, stat.S_IFDIR


class Inode(msgspec.Struct, array_like=True, gc=False):
    """An object's attributes. Times in nanoseconds since 1970, sizes in bytes."""

    mode: int  # type and permission bits, as in st_mode
    nlink: int
    uid: int
    gid: int
    size: int  # of a directory: how many entries it has
    used: int  # bytes of data records; st_blocks is this in 512s, rounded up
    mtime: int
    ctime: int
    btime: int
    atime: int
    parent: int  # directory of the name it was last linked or moved to; 0 when that name is gone
    name_hash: int  # of that name; with parent it finds the path without a table
    rdev: int = 0
    xattrs: int = 0  # how many, so that the kernel's question for a missing one needs no lookup
    flags: int = 0
    target: bytes = b""  # of a symlink
    generation: int = 0  # of a directory that undo brought back: when (ns). The kernel never revives one it saw removed

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
_decode = msgspec.msgpack.Decoder(Inode).decode


def decode(value: bytes) -> Inode:
    """The inode in a record's value; raises Damaged for a value of no known form."""
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise Damaged("inode record", 0, "a known form", str(error)) from None


def read(tx: Transaction, obj: int) -> Inode:
    """The inode of an object, the reader's own to change; raises ESTALE when there is none (any more)."""
    value = tx.get(records.inode(tx.pfs, obj))
    if value is None:
        raise failure(errno.ESTALE)
    return decode(value)


def write(tx: Transaction, obj: int, inode: Inode) -> None:
    """Set the inode of an object."""
    tx.put(records.inode(tx.pfs, obj), encode(inode))


def directory(value: bytes | None) -> Inode:
    """The inode of a directory from its record; raises ESTALE for no record, ENOTDIR for another type."""
    if value is None:
        raise failure(errno.ESTALE)
    inode = decode(value)
    if inode.mode & _TYPE != _DIRECTORY:
        raise failure(errno.ENOTDIR)
    return inode


def pair(tx: Transaction, first: bytes, second: bytes) -> tuple[bytes | None, bytes | None]:
    """The values of two keys; what is missing of both is named in one Miss."""
    try:
        return tx.get(first), tx.get(second)
    except Miss:
        first_value, second_value = several(tx, [first, second])
        return first_value, second_value


def several(tx: Transaction, keys: list[bytes]) -> list[bytes | None]:
    """The values of keys; what is missing of all of them is named in one Miss."""
    try:
        return list(map(tx.get, keys))
    except Miss:
        return _gathered(tx, keys)


def _gathered(tx: Transaction, keys: list[bytes]) -> list[bytes | None]:
    values: list[bytes | None] = []
    ranges: list[Range] = []
    at = 0
    for key in keys:
        try:
            values.append(tx.get(key))
        except Miss as miss:
            ranges.extend(lacking for lacking in miss.ranges if lacking not in ranges)
            at = miss.at
    if ranges:
        raise Miss(tuple(ranges), at=at)
    return values
