"""Extended attributes, ACLs among them.

Names live in namespaces as on Linux: user (regular files and directories only), trusted, security, and of system the
two ACLs. Who may touch which is checked by the kernel. Invariants: an inode counts its xattr records; an access ACL
is kept only where it says more than the mode, and always agrees with it.
"""

from __future__ import annotations

import errno
import stat

from gavel.filesystem import acl as acls
from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.limits import XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX
from gavel.transaction.transaction import Transaction

CREATE, REPLACE = 1, 2  # flags of set, as in <linux/xattr.h>

CAPABILITY = b"security.capability"
_ACLS = (acls.ACCESS, acls.DEFAULT)
_PREFIXES = (b"user.", b"trusted.", b"security.")
_SURELY_FITS = XATTR_LIST_MAX // (XATTR_NAME_MAX + 1)  # so many names of any length fit into a list


def get(tx: Transaction, obj: int, name: bytes) -> bytes:
    """The value of an attribute; raises ENODATA where there is none, EOPNOTSUPP, ERANGE for an impossible name."""
    inode = inodes.read(tx, obj)
    _check_name(name)
    if name in _ACLS and inode.is_symlink:
        raise failure(errno.EOPNOTSUPP)
    value = tx.get(records.xattr(tx.pfs, obj, name)) if inode.xattrs else None
    if value is None:
        raise failure(errno.ENODATA)
    return value


def set(tx: Transaction, obj: int, name: bytes, value: bytes, flags: int = 0, kill_sgid: bool = False) -> Inode:
    """Set an attribute; returns the inode as it is then.

    CREATE refuses one that is there (EEXIST), REPLACE one that is not (ENODATA). Raises E2BIG for a value over 64 KiB,
    ENOSPC where the list of names would become longer than Linux can return, EPERM for a user attribute on what is
    neither file nor directory. Setting the access ACL sets the mode as well; `kill_sgid` (the kernel says so when the
    caller is not in the file's group) clears setgid with it. EACCES for a default ACL on what is no directory.
    """
    inode = inodes.read(tx, obj)
    _check_name(name)
    if flags & ~(CREATE | REPLACE):
        raise failure(errno.EINVAL)
    if len(value) > XATTR_VALUE_MAX:
        raise failure(errno.E2BIG)
    if name in _ACLS:
        return _set_acl(tx, obj, inode, name, value, kill_sgid)
    if name.startswith(b"user.") and not (inode.is_file or inode.is_dir):
        raise failure(errno.EPERM)
    key = records.xattr(tx.pfs, obj, name)
    there = inode.xattrs > 0 and tx.get(key) is not None
    if there and flags & CREATE:
        raise failure(errno.EEXIST)
    if not there:
        if flags & REPLACE:
            raise failure(errno.ENODATA)
        _check_list(tx, obj, inode, name)
        inode.xattrs += 1
    tx.put(key, bytes(value))
    return _changed(tx, obj, inode)


def list(tx: Transaction, obj: int) -> list[bytes]:  # type: ignore[valid-type]  # named as the system call is
    """The names of an object's attributes, sorted."""
    if not inodes.read(tx, obj).xattrs:
        return []
    return [records.xattr_name(key) for key, _ in tx.scan(*records.xattrs(tx.pfs, obj))]


def remove(tx: Transaction, obj: int, name: bytes) -> Inode:
    """Remove an attribute; returns the inode. Raises ENODATA where there is none, but for ACLs, as Linux has it."""
    inode = inodes.read(tx, obj)
    _check_name(name)
    if name in _ACLS and inode.is_symlink:
        raise failure(errno.EOPNOTSUPP)
    if name.startswith(b"user.") and not (inode.is_file or inode.is_dir):
        raise failure(errno.EPERM)
    if _discard(tx, obj, inode, name):
        return _changed(tx, obj, inode)
    if name in _ACLS:
        return inode
    raise failure(errno.ENODATA)


def follow_mode(tx: Transaction, obj: int, inode: Inode) -> None:
    """Make the access ACL agree with the inode's mode, which a chmod has just changed. The inode is not written."""
    if not inode.xattrs:
        return
    key = records.xattr(tx.pfs, obj, acls.ACCESS)
    value = tx.get(key)
    if value is not None:
        tx.put(key, acls.encode(acls.with_mode(acls.decode(value), inode.mode)))


def drop_capability(tx: Transaction, obj: int, inode: Inode) -> None:
    """Take file capabilities away, as each write, truncate and chown must. The inode is changed but not written."""
    if inode.xattrs:
        _discard(tx, obj, inode, CAPABILITY)


def default_acl(tx: Transaction, directory: int, inode: Inode) -> bytes | None:
    """The default ACL of a directory in wire form, if it has one."""
    return tx.get(records.xattr(tx.pfs, directory, acls.DEFAULT)) if inode.xattrs else None


def _set_acl(tx: Transaction, obj: int, inode: Inode, name: bytes, value: bytes, kill_sgid: bool) -> Inode:
    if inode.is_symlink:
        raise failure(errno.EOPNOTSUPP)
    acl = acls.decode(value) if value else []
    keep = bool(acl)
    if name == acls.DEFAULT:
        if acl and not inode.is_dir:
            raise failure(errno.EACCES)
    elif acl:
        bits, exact = acls.mode_of(acl)
        inode.mode = inode.mode & ~0o777 | bits
        if kill_sgid:
            inode.mode &= ~stat.S_ISGID
        keep = not exact
    if not keep:
        gone = _discard(tx, obj, inode, name)
        return _changed(tx, obj, inode) if gone or acl else inode
    key = records.xattr(tx.pfs, obj, name)
    if not inode.xattrs or tx.get(key) is None:
        _check_list(tx, obj, inode, name)
        inode.xattrs += 1
    tx.put(key, acls.encode(acl))
    return _changed(tx, obj, inode)


def _check_name(name: bytes) -> None:
    if not 0 < len(name) <= XATTR_NAME_MAX:
        raise failure(errno.ERANGE)
    if name in _ACLS:
        return
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            if len(name) == len(prefix) or b"\0" in name:
                raise failure(errno.EINVAL)
            return
    raise failure(errno.EOPNOTSUPP)


def _check_list(tx: Transaction, obj: int, inode: Inode, name: bytes) -> None:
    if inode.xattrs < _SURELY_FITS:
        return
    size = sum(len(records.xattr_name(key)) + 1 for key, _ in tx.scan(*records.xattrs(tx.pfs, obj)))
    if size + len(name) + 1 > XATTR_LIST_MAX:
        raise failure(errno.ENOSPC)


def _discard(tx: Transaction, obj: int, inode: Inode, name: bytes) -> bool:
    key = records.xattr(tx.pfs, obj, name)
    if not inode.xattrs or tx.get(key) is None:
        return False
    tx.delete(key)
    inode.xattrs -= 1
    return True


def _changed(tx: Transaction, obj: int, inode: Inode) -> Inode:
    inode.ctime = tx.now
    inodes.write(tx, obj, inode)
    return inode
