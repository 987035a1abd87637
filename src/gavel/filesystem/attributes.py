"""Attributes of an object: reading them, and every way of changing them but by writing.

What the kernel does before it asks, and is therefore not repeated here: permission checks, and clearing setgid on a
chmod by somebody outside the file's group.
"""

from __future__ import annotations

import errno
import stat

import msgspec

from gavel.filesystem import data, xattr
from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.transaction.transaction import Transaction

_SUID, _SGID, _XGRP = stat.S_ISUID, stat.S_ISGID, stat.S_IXGRP


class Changes(msgspec.Struct, gc=False):
    """What to change; None leaves as it is. Times in ns; without `ctime` it becomes the transaction's time."""

    mode: int | None = None  # the lower twelve bits count
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | None = None
    mtime: int | None = None
    ctime: int | None = None
    kill_suidgid: bool = False  # a truncate by somebody who may not keep the set-id bits


def getattr(tx: Transaction, obj: int) -> Inode:
    """The inode of an object; raises ESTALE when it is gone."""
    return inodes.read(tx, obj)


def setattr(tx: Transaction, obj: int, changes: Changes) -> Inode:
    """Change attributes, all at once; returns the inode as it is then.

    A new owner or group clears the set-id bits of anything but a directory (setgid only where the group may execute);
    a mode given with it wins. A new mode changes the access ACL along. Raises ESTALE, and for a size EISDIR, EINVAL,
    EFBIG.
    """
    pfs = tx.pfs
    if changes.size is not None:
        inode = data.truncate(tx, obj, changes.size)
    else:
        value = tx.get(records.inode(pfs, obj))
        if value is None:
            raise failure(errno.ESTALE)
        inode = inodes.decode(value)
    if changes.uid is not None or changes.gid is not None:
        _chown(tx, obj, inode, changes.uid, changes.gid)
    if changes.kill_suidgid:
        inode.mode = without_suidgid(inode.mode)
    if changes.mode is not None:
        inode.mode = inode.mode & ~0o7777 | changes.mode & 0o7777
        xattr.follow_mode(tx, obj, inode)
    if changes.mtime is not None:
        inode.mtime = changes.mtime
    if changes.atime is not None:
        inode.atime = changes.atime
    inode.ctime = tx.now if changes.ctime is None else changes.ctime
    tx.put(records.inode(pfs, obj), inodes.encode(inode))
    return inode


def without_suidgid(mode: int) -> int:
    """The mode without setuid, and without setgid where the group may execute; a directory's stays as it is."""
    if not mode & (_SUID | _SGID) or stat.S_ISDIR(mode):
        return mode
    return mode & ~(_SUID | _SGID) if mode & _XGRP else mode & ~_SUID


def _chown(tx: Transaction, obj: int, inode: Inode, uid: int | None, gid: int | None) -> None:
    if uid is not None:
        inode.uid = uid
    if gid is not None:
        inode.gid = gid
    if not inode.is_dir:
        inode.mode = without_suidgid(inode.mode)
        xattr.drop_capability(tx, obj, inode)
