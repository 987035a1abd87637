"""Directories: entries by name, and reading them in a stable order.

An entry's value is the object id (8 bytes, big-endian) and the type (1 byte, as in a dirent: the file type bits of
st_mode shifted right by 12).

Reading goes by cookies, which are hashes of the names. So an entry keeps its cookie whatever else is added to or
removed from the directory, and a name that is there from the first to the last reply is given exactly once. Names
with equal hashes share a cookie; a reply never ends between them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import NamedTuple

from gavel.errors import Damaged
from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.limits import NAME_MAX
from gavel.transaction.transaction import Transaction

_VALUE = Struct(">QB")
pack_entry = _VALUE.pack  # (object, type) -> the value of an entry
_unpack = _VALUE.unpack

TYPE_DIRECTORY = 4  # DT_DIR
_NOT_NAMES = (b"", b".", b"..")
COOKIE_SELF, COOKIE_PARENT = 1, 2  # of "." and ".."


def unpack_entry(value: bytes) -> tuple[int, int]:
    """(object, type) in the value of an entry; raises Damaged for a value of no known form."""
    try:
        return _unpack(value)
    except StructError:
        raise Damaged("directory entry", 0, f"{_VALUE.size} bytes", len(value)) from None


class Entry(NamedTuple):
    """One name in a directory. `cookie` continues behind it, `type` is as in a dirent."""

    cookie: int
    name: bytes
    object: int
    type: int


def check_name(name: bytes) -> None:
    """Whether a name may be given to anything; raises ENAMETOOLONG, ENOENT (empty), EINVAL (NUL or slash in it)."""
    if len(name) > NAME_MAX:
        raise failure(errno.ENAMETOOLONG)
    if b"/" in name or b"\0" in name:
        raise failure(errno.EINVAL)
    if name in _NOT_NAMES:
        raise failure(errno.EEXIST if name else errno.ENOENT)


def lookup(tx: Transaction, parent: int, name: bytes) -> tuple[int, Inode] | None:
    """The object that a directory holds under a name, and its inode; None where there is none.

    "." and ".." are understood. Whether `parent` is a directory is not looked at: what is none has no entries.
    Raises ENAMETOOLONG; ESTALE for ".." of an object that is gone.
    """
    if len(name) > NAME_MAX:
        raise failure(errno.ENAMETOOLONG)
    value = tx.get(records.entry(tx.pfs, parent, name))
    if value is None:
        if name == b"." or name == b"..":
            return _lookup_dots(tx, parent, name)
        return None
    obj: int = unpack_entry(value)[0]
    return obj, inodes.read(tx, obj)


def _lookup_dots(tx: Transaction, directory: int, name: bytes) -> tuple[int, Inode] | None:
    inode = inodes.directory(tx.get(records.inode(tx.pfs, directory)))
    if name == b".":
        return directory, inode
    return (inode.parent, inodes.read(tx, inode.parent)) if inode.parent else None


def entries(tx: Transaction, directory: int, cookie: int = 0) -> Iterator[Entry]:
    """The entries of a directory behind a cookie in cookie order, lazily, without "." and ".."."""
    if cookie >= records.COOKIE_MAX:
        return
    name_at, cookie_at, unpack = records.entry_name, records.entry_cookie, unpack_entry
    for key, value in tx.scan(*records.entries(tx.pfs, directory, cookie)):
        obj, kind = unpack(value)
        yield Entry(cookie_at(key), name_at(key), obj, kind)
