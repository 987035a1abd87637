"""Names come and go: create, mkdir, symlink, link, unlink, rmdir, tmpfile; rename is in rename.py.

Permissions, the sticky bit, and clearing setgid of a new file whose creator is not in its group are the kernel's
business, done before it asks. The umask and default ACLs are ours.

Each operation changes the entry, the object and the directory (mtime, ctime, size, and nlink for directories) or,
raising, nothing. Errors common to all: ESTALE (the directory is gone), ENOTDIR, ENOENT (it was removed but is still
open), ENAMETOOLONG, EINVAL (a slash or NUL in the name). No space is looked at here: the commit does.
"""

from __future__ import annotations

import errno
import stat

from gavel.filesystem import acl as acls
from gavel.filesystem import compression, orphans, xattr
from gavel.filesystem import inode as inodes
from gavel.filesystem.caller import Caller
from gavel.filesystem.directory import TYPE_DIRECTORY, check_name, pack_entry, unpack_entry
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import UNNAMED, Inode
from gavel.filesystem.rename import EXCHANGE, NOREPLACE, rename
from gavel.keys import records
from gavel.limits import LINK_MAX, NAME_MAX, SYMLINK_MAX
from gavel.transaction.transaction import Transaction

__all__ = [
    "EXCHANGE",
    "NOREPLACE",
    "Caller",
    "create",
    "link",
    "mkdir",
    "readlink",
    "rename",
    "rmdir",
    "symlink",
    "tmpfile",
    "unlink",
]

_TYPE = 0o170000
_DIRECTORY, _REGULAR, _LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
_MADE_BY_MKNOD = frozenset({stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})
_DEVICES = frozenset({stat.S_IFCHR, stat.S_IFBLK})
_SGID = stat.S_ISGID


def create(tx: Transaction, parent: int, name: bytes, mode: int, caller: Caller, rdev: int = 0) -> tuple[int, Inode]:
    """Make a regular file, fifo, socket or device (mknod); a mode without type bits makes a regular file.

    Raises EEXIST, EPERM for a directory, EINVAL for any other type.
    """
    kind = mode & _TYPE
    if kind not in _MADE_BY_MKNOD:
        if kind:
            raise failure(errno.EPERM if kind == _DIRECTORY else errno.EINVAL)
        mode |= _REGULAR
    return _make(tx, parent, name, mode, caller, rdev if kind in _DEVICES else 0)


def mkdir(tx: Transaction, parent: int, name: bytes, mode: int, caller: Caller) -> tuple[int, Inode]:
    """Make a directory; of its mode only permissions and sticky count. Raises EEXIST, EMLINK for one link too many."""
    return _make(tx, parent, name, mode & 0o1777 | _DIRECTORY, caller, 0)


def symlink(tx: Transaction, parent: int, name: bytes, target: bytes, caller: Caller) -> tuple[int, Inode]:
    """Make a symbolic link. Raises EEXIST, ENOENT for an empty target, ENAMETOOLONG for one over 4095 bytes."""
    if not target:
        raise failure(errno.ENOENT)
    if len(target) > SYMLINK_MAX:
        raise failure(errno.ENAMETOOLONG)
    if b"\0" in target:
        raise failure(errno.EINVAL)
    return _make(tx, parent, name, _LINK | 0o777, caller, 0, target)


def _make(
    tx: Transaction, parent: int, name: bytes, mode: int, caller: Caller, rdev: int, target: bytes = b""
) -> tuple[int, Inode]:
    check_name(name)
    pfs = tx.pfs
    parent_key = records.inode(pfs, parent)
    entry_key = records.entry(pfs, parent, name)
    value, taken = inodes.pair(tx, parent_key, entry_key)
    directory = inodes.directory(value)
    if taken is not None:
        raise failure(errno.EEXIST)
    if not directory.nlink:
        raise failure(errno.ENOENT)
    now = tx.now
    nlink, is_dir = 1, mode & _TYPE == _DIRECTORY
    if is_dir:
        if directory.nlink >= LINK_MAX:
            raise failure(errno.EMLINK)
        nlink = 2
        directory.nlink += 1
    obj = tx.new_object()
    mode, gid, count = _inherited(tx, obj, parent, directory, mode, caller)
    inode = Inode(
        mode, nlink, caller.uid, gid, len(target), 0, now, now, now, now,
        parent, records.entry_cookie(entry_key), rdev, count, directory.flags & compression.INHERITED, target,
    )  # fmt: skip
    directory.size += 1
    directory.mtime = directory.ctime = now
    tx.put(records.inode(pfs, obj), inodes.encode(inode))
    tx.put(entry_key, pack_entry(obj, mode >> 12))
    tx.put(parent_key, inodes.encode(directory))
    return obj, inode


def _inherited(
    tx: Transaction, obj: int, parent: int, directory: Inode, mode: int, caller: Caller
) -> tuple[int, int, int]:
    """Mode, group and number of xattrs of a new object; puts the ACLs it inherits."""
    kind = mode & _TYPE
    gid = caller.gid
    if directory.mode & _SGID:
        gid = directory.gid
        if kind == _DIRECTORY:
            mode |= _SGID
    if kind == _LINK:
        return mode, gid, 0
    default = xattr.default_acl(tx, parent, directory) if directory.xattrs else None
    if default is None:
        return mode & ~caller.umask, gid, 0
    count = 0
    mode, access = acls.inherit(acls.decode(default), mode)
    if access is not None:
        tx.put(records.xattr(tx.pfs, obj, acls.ACCESS), acls.encode(access))
        count += 1
    if kind == _DIRECTORY:
        tx.put(records.xattr(tx.pfs, obj, acls.DEFAULT), default)
        count += 1
    return mode, gid, count


def tmpfile(tx: Transaction, parent: int, mode: int, caller: Caller) -> tuple[int, Inode]:
    """Make a regular file without a name (O_TMPFILE), which link may give one; until then it is an orphan.

    Group, umask and ACLs as for a file made in the directory, which itself is not changed.
    """
    directory = inodes.directory(tx.get(records.inode(tx.pfs, parent)))
    if not directory.nlink:
        raise failure(errno.ENOENT)
    now = tx.now
    obj = tx.new_object()
    mode, gid, count = _inherited(tx, obj, parent, directory, mode & 0o7777 | _REGULAR, caller)
    flags = UNNAMED | directory.flags & compression.INHERITED
    inode = Inode(mode, 0, caller.uid, gid, 0, 0, now, now, now, now, 0, 0, 0, count, flags)
    inodes.write(tx, obj, inode)
    tx.put(records.orphan(tx.pfs, obj), b"")
    return obj, inode


def link(tx: Transaction, obj: int, parent: int, name: bytes) -> Inode:
    """Give an object one more name; returns its inode.

    Raises EEXIST, EPERM for a directory, EMLINK, ENOENT for one that has lost its last name (an O_TMPFILE never had).
    """
    check_name(name)
    pfs = tx.pfs
    parent_key = records.inode(pfs, parent)
    entry_key = records.entry(pfs, parent, name)
    own, value, taken = inodes.several(tx, [records.inode(pfs, obj), parent_key, entry_key])
    directory = inodes.directory(value)
    if taken is not None:
        raise failure(errno.EEXIST)
    if own is None:
        raise failure(errno.ESTALE)
    inode = inodes.decode(own)
    if inode.is_dir:
        raise failure(errno.EPERM)
    if not directory.nlink or not (inode.nlink or inode.flags & UNNAMED):
        raise failure(errno.ENOENT)
    if inode.nlink >= LINK_MAX:
        raise failure(errno.EMLINK)
    tx.put(entry_key, pack_entry(obj, inode.mode >> 12))
    directory.size += 1
    directory.mtime = directory.ctime = tx.now
    tx.put(parent_key, inodes.encode(directory))
    return orphans.gain_name(tx, obj, inode, parent, records.entry_cookie(entry_key))


def unlink(tx: Transaction, parent: int, name: bytes) -> tuple[int, Inode]:
    """Remove a name of anything but a directory; returns the object and its inode as it is then.

    With nlink 0 there it is an orphan: to be reaped when nobody has it open. Raises ENOENT, EISDIR.
    """
    return _remove(tx, parent, name, False)


def rmdir(tx: Transaction, parent: int, name: bytes) -> tuple[int, Inode]:
    """Remove an empty directory, which becomes an orphan; returns it. Raises ENOENT, ENOTDIR, ENOTEMPTY."""
    return _remove(tx, parent, name, True)


def _remove(tx: Transaction, parent: int, name: bytes, want_dir: bool) -> tuple[int, Inode]:
    if len(name) > NAME_MAX:
        raise failure(errno.ENAMETOOLONG)
    pfs = tx.pfs
    parent_key = records.inode(pfs, parent)
    entry_key = records.entry(pfs, parent, name)
    value, entry = inodes.pair(tx, parent_key, entry_key)
    directory = inodes.directory(value)
    if entry is None:
        raise failure(errno.ENOENT)
    obj, kind = unpack_entry(entry)
    if (kind == TYPE_DIRECTORY) is not want_dir:
        raise failure(errno.ENOTDIR if want_dir else errno.EISDIR)
    inode = inodes.read(tx, obj)
    if want_dir:
        if inode.size:
            raise failure(errno.ENOTEMPTY)
        directory.nlink -= 1
    directory.size -= 1
    directory.mtime = directory.ctime = tx.now
    tx.delete(entry_key)
    tx.put(parent_key, inodes.encode(directory))
    return obj, orphans.lose_name(tx, obj, inode, parent, records.entry_cookie(entry_key))


def readlink(tx: Transaction, obj: int) -> bytes:
    """The target of a symbolic link; raises EINVAL for anything else."""
    inode = inodes.read(tx, obj)
    if not inode.is_symlink:
        raise failure(errno.EINVAL)
    return inode.target
