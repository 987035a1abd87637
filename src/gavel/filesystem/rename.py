"""Rename: moving a name, replacing what the new one held, or exchanging the two.

The order in which errors are found is that of Linux: existence, then loops, then types, then emptiness. Each entry's
object, both directories, and what is replaced change in one transaction or not at all.
"""

from __future__ import annotations

import errno

import msgspec

from gavel.filesystem import inode as inodes
from gavel.filesystem import orphans
from gavel.filesystem.directory import TYPE_DIRECTORY, check_name, unpack_entry
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import LINK_MAX
from gavel.transaction.transaction import Transaction

NOREPLACE, EXCHANGE = 1, 2  # as in <linux/fs.h>; RENAME_WHITEOUT is EINVAL


class _Name(msgspec.Struct, gc=False):
    """One side of a rename."""

    directory: int
    key: bytes  # of the entry
    entry: bytes = b""  # its value
    object: int = 0  # 0 for a name that is free
    is_dir: bool = False


def rename(
    tx: Transaction, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0
) -> tuple[int, Inode] | None:
    """Move a name; returns the object that lost its name by being replaced, with its inode (see unlink), or None.

    Does nothing where both names are of one object. Raises ENOENT (also for EXCHANGE with a free name), EEXIST (with
    NOREPLACE), EINVAL for a directory moved into itself and for unknown flags, ENOTEMPTY, EISDIR and ENOTDIR for what
    cannot be replaced by it, EMLINK.
    """
    if flags & ~(NOREPLACE | EXCHANGE) or flags == NOREPLACE | EXCHANGE:
        raise failure(errno.EINVAL)
    check_name(name)
    directories, old, new = _read(tx, parent, name, new_parent, new_name)
    if not old.object:
        raise failure(errno.ENOENT)
    check_name(new_name)
    if flags == NOREPLACE and new.object:
        raise failure(errno.EEXIST)
    if flags == EXCHANGE and not new.object:
        raise failure(errno.ENOENT)
    if parent != new_parent:
        _check_loops(tx, old, new, flags == EXCHANGE)
    if old.object == new.object:
        return None
    if not directories[new_parent].nlink:
        raise failure(errno.ENOENT)
    if flags == EXCHANGE:
        _exchange(tx, directories, old, new)
        replaced = None
    else:
        replaced = _move(tx, directories, old, new)
    for obj, directory in directories.items():
        directory.mtime = directory.ctime = tx.now
        inodes.write(tx, obj, directory)
    return replaced


def _read(
    tx: Transaction, parent: int, name: bytes, new_parent: int, new_name: bytes
) -> tuple[dict[int, Inode], _Name, _Name]:
    """The directories (one or two) by object, and the two names."""
    pfs = tx.pfs
    old_key = records.entry(pfs, parent, name)
    new_key = records.entry(pfs, new_parent, new_name)
    keys = [records.inode(pfs, parent), old_key, new_key]
    if new_parent != parent:
        keys.append(records.inode(pfs, new_parent))
    values = inodes.several(tx, keys)
    directories = {parent: inodes.directory(values[0])}
    if new_parent != parent:
        directories[new_parent] = inodes.directory(values[3])
    return directories, _name(parent, old_key, values[1]), _name(new_parent, new_key, values[2])


def _name(directory: int, key: bytes, entry: bytes | None) -> _Name:
    if entry is None:
        return _Name(directory, key)
    obj, kind = unpack_entry(entry)
    return _Name(directory, key, entry, obj, kind == TYPE_DIRECTORY)


def _check_loops(tx: Transaction, old: _Name, new: _Name, exchange: bool) -> None:
    """Nothing may become part of itself. A directory in the way of its own content is simply not empty."""
    if old.is_dir and _holds(tx, old.object, new.directory):
        raise failure(errno.EINVAL)
    if new.is_dir and _holds(tx, new.object, old.directory):
        raise failure(errno.EINVAL if exchange else errno.ENOTEMPTY)


def _holds(tx: Transaction, directory: int, obj: int) -> bool:
    """Whether a directory is another one or an ancestor of it. Costs one get for each level."""
    while obj != directory:
        if obj == ROOT_OBJECT or not obj:
            return False
        obj = inodes.read(tx, obj).parent
    return True


def _move(tx: Transaction, directories: dict[int, Inode], old: _Name, new: _Name) -> tuple[int, Inode] | None:
    source, target = directories[old.directory], directories[new.directory]
    gone = _replaceable(tx, old, new) if new.object else None
    if old.is_dir and new.directory != old.directory and gone is None and target.nlink >= LINK_MAX:
        raise failure(errno.EMLINK)
    if old.is_dir:
        source.nlink -= 1
        target.nlink += 1
    source.size -= 1
    target.size += 1
    replaced = None
    if gone is not None:
        target.nlink -= new.is_dir
        target.size -= 1
        cookie = records.entry_cookie(new.key)
        replaced = new.object, orphans.lose_name(tx, new.object, gone, new.directory, cookie)
    tx.delete(old.key)
    _place(tx, old, new)
    return replaced


def _replaceable(tx: Transaction, old: _Name, new: _Name) -> Inode:
    """The inode of what is about to lose its name to another."""
    if old.is_dir != new.is_dir:
        raise failure(errno.ENOTDIR if old.is_dir else errno.EISDIR)
    gone = inodes.read(tx, new.object)
    if new.is_dir and gone.size:
        raise failure(errno.ENOTEMPTY)
    return gone


def _exchange(tx: Transaction, directories: dict[int, Inode], old: _Name, new: _Name) -> None:
    if old.is_dir != new.is_dir and old.directory != new.directory:
        gains, loses = (new, old) if old.is_dir else (old, new)
        if directories[gains.directory].nlink >= LINK_MAX:
            raise failure(errno.EMLINK)
        directories[gains.directory].nlink += 1
        directories[loses.directory].nlink -= 1
    _place(tx, old, new)
    _place(tx, new, old)


def _place(tx: Transaction, what: _Name, where: _Name) -> None:
    """Let a name hold an object."""
    key = records.inode(tx.pfs, what.object)
    value = tx.get(key)
    if value is None:
        raise failure(errno.ESTALE)
    inode = inodes.decode(value)
    inode.parent, inode.name_hash = where.directory, records.entry_cookie(where.key)
    inode.ctime = tx.now
    tx.put(key, inodes.encode(inode))
    tx.put(where.key, what.entry)
