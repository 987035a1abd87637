"""Objects that have lost their last name, and how they go away.

An object without a name stays whole as long as somebody has it open; an orphan record says that it waits. The shell
reaps it once nobody has, and reaps all that wait when it opens a volume. Reaping is done in slices, so that a huge
file holds nobody up; between slices the object is still an orphan and a crash loses nothing.
"""

from __future__ import annotations

from gavel.filesystem import data
from gavel.filesystem import inode as inodes
from gavel.filesystem.inode import UNNAMED, Inode
from gavel.keys import records
from gavel.limits import SLICE_RECORDS
from gavel.transaction.transaction import Transaction


def lose_name(tx: Transaction, obj: int, inode: Inode, directory: int, name_hash: int) -> Inode:
    """Take note that a name of an object is gone, its entry already removed; a directory loses all its links at once.

    Changes nlink and ctime, and makes the object an orphan with its last name.
    """
    left = 0 if inode.is_dir else inode.nlink - 1
    inode.nlink = left
    inode.ctime = tx.now
    if not left:
        inode.parent = inode.name_hash = 0
        tx.put(records.orphan(tx.pfs, obj), b"")
    elif inode.parent == directory and inode.name_hash == name_hash:
        inode.parent = inode.name_hash = 0  # which of its other names to take, nobody knows
    tx.put(records.inode(tx.pfs, obj), inodes.encode(inode))
    return inode


def gain_name(tx: Transaction, obj: int, inode: Inode, directory: int, name_hash: int) -> Inode:
    """Take note that an object has one name more, its entry already made; an orphan is one no longer."""
    if not inode.nlink:
        tx.delete(records.orphan(tx.pfs, obj))
        inode.flags &= ~UNNAMED
    inode.nlink += 1
    inode.ctime = tx.now
    inode.parent, inode.name_hash = directory, name_hash
    tx.put(records.inode(tx.pfs, obj), inodes.encode(inode))
    return inode


def listed(tx: Transaction) -> list[int]:
    """All objects that wait to be reaped."""
    return [records.orphan_object(key) for key, _ in tx.scan(*records.orphans(tx.pfs))]


def stale(tx: Transaction, before: int, most: int) -> list[int]:
    """Of the objects that wait to be reaped, some that have not changed since `before` (ns since 1970)."""
    found: list[int] = []
    for obj in listed(tx):
        value = tx.get(records.inode(tx.pfs, obj))
        if value is None or inodes.decode(value).ctime < before:
            found.append(obj)
            if len(found) == most:
                break
    return found


def reap(tx: Transaction, obj: int) -> bool:
    """Delete an orphan, or a slice of it; True when nothing of it is left (call again, in a later transaction).

    An object that has a name is left alone, and one that is gone already is no error.
    """
    key = records.inode(tx.pfs, obj)
    value = tx.get(key)
    if value is not None:
        inode = inodes.decode(value)
        if inode.nlink:
            return True
        if inode.used:
            at_once = not inode.xattrs and data.drop_single(tx, obj, inode)  # the inode goes along in this transaction
            if not at_once and not data.drop(tx, obj, SLICE_RECORDS):
                return False
        if inode.xattrs and not _drop_xattrs(tx, obj):
            return False
        tx.delete(key)
    tx.delete(records.orphan(tx.pfs, obj))
    return True


def _drop_xattrs(tx: Transaction, obj: int) -> bool:
    some: list[bytes] = []
    for key, _ in tx.scan(*records.xattrs(tx.pfs, obj)):
        if len(some) == SLICE_RECORDS:
            break
        some.append(key)
    for key in some:
        tx.delete(key)
    inode = inodes.read(tx, obj)
    inode.xattrs -= len(some)
    inodes.write(tx, obj, inode)
    return not inode.xattrs
