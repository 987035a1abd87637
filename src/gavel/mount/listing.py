"""Directory listings in the kernel's form, straight from the records.

As filesystem.directory.readdir, but without an object for each entry: a listing of 100,000 names is mostly this loop.
"""

from __future__ import annotations

import errno
from struct import Struct

from gavel.filesystem import inode as inodes
from gavel.filesystem.directory import COOKIE_PARENT, COOKIE_SELF, TYPE_DIRECTORY
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.mount import abi
from gavel.transaction.transaction import Transaction

HEAD = abi.DIRENT.size
HEAD_PLUS = abi.DIRENTPLUS.size
_PADDING = [bytes(-length & 7) for length in range(8)]
_cookie_in_key = Struct(f">{records.HEAD_SIZE}xQ").unpack_from
_value = Struct(">QB").unpack
_NAME = records.HEAD_SIZE + 8
_DENSE = 4  # inodes are read as one range if it holds at most so many times what is wanted

Found = tuple[int, int, bytes, int]  # object, cookie, name, type


def entries(tx: Transaction, directory: int, cookie: int, size: int, head: int) -> list[Found]:
    """What of a directory behind a cookie fits into a reply of `size` bytes with `head` bytes before each name.

    It never ends between two names of one cookie, of which the second would be lost. Raises ENOTDIR, ESTALE; ENOENT
    for a directory that was removed.
    """
    inode = inodes.directory(tx.get(records.inode(tx.pfs, directory)))
    if not inode.nlink:
        raise OSError(errno.ENOENT, "removed")
    found: list[Found] = []
    if cookie < COOKIE_SELF:
        found.append((directory, COOKIE_SELF, b".", TYPE_DIRECTORY))
    if cookie < COOKIE_PARENT:
        found.append((inode.parent, COOKIE_PARENT, b"..", TYPE_DIRECTORY))
        cookie = COOKIE_PARENT
    room = size - len(found) * (head + 8)
    if cookie >= records.COOKIE_MAX:
        return found
    for key, value in tx.scan(*records.entries(tx.pfs, directory, cookie)):
        name = key[_NAME:-1]
        room -= head + (len(name) + 7 & -8)
        (at,) = _cookie_in_key(key)
        if room < 0:
            while len(found) > 1 and found[-1][1] == at:
                found.pop()
            break
        obj, kind = _value(value)
        found.append((obj, at, name, kind))
    return found


def packed(found: list[Found]) -> bytes:
    """A READDIR reply."""
    pack, padding = abi.DIRENT.pack, _PADDING
    return b"".join(
        [pack(obj, cookie, len(name), kind) + name + padding[len(name) & 7] for obj, cookie, name, kind in found]
    )


def inodes_of(tx: Transaction, found: list[Found]) -> list[Inode]:
    """The inodes of the entries. Those made one after the other lie side by side and are read as one range."""
    pfs, decode = tx.pfs, inodes.decode
    objects = [one[0] for one in found]
    lo, hi = min(objects), max(objects)
    if hi - lo < _DENSE * len(objects):
        values = dict(tx.scan(records.inode(pfs, lo), records.inode(pfs, hi + 1)))
        lacking = [obj for obj in objects if records.inode(pfs, obj) not in values]
        if not lacking:
            return [decode(values[records.inode(pfs, obj)]) for obj in objects]
    return [_decoded(value) for value in inodes.several(tx, [records.inode(pfs, obj) for obj in objects])]


def _decoded(value: bytes | None) -> Inode:
    if value is None:
        raise OSError(errno.ESTALE, "an entry without an object")
    return inodes.decode(value)
