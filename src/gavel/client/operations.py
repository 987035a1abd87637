"""What the Python API does in one step, as operations over a Transaction.

Each takes encoded paths (see paths.py) and the object where they start, calls the functions of the filesystem room
and is atomic like them: `write_whole` replaces a file's content or leaves it alone, whatever happens in between.
Permissions are not checked: who can open the volume may do anything to it.
"""

from __future__ import annotations

import errno
import stat as modes
from typing import NamedTuple

from gavel.client import paths
from gavel.filesystem import attributes, data, directory, namespace, path, xattr
from gavel.filesystem.caller import Caller
from gavel.filesystem.directory import Entry
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.keys.records import ROOT_OBJECT
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Buffer


class Found(NamedTuple):
    """An object and its inode."""

    obj: int
    inode: Inode


def find(tx: Transaction, start: int, raw: bytes, follow: bool = True) -> Found:
    """The object that a path names; a symbolic link at its end is followed or not."""
    obj, inode = path.resolve(tx, start, raw, follow)
    return Found(obj, inode)


def find_parent(tx: Transaction, start: int, raw: bytes) -> tuple[int, bytes]:
    """The directory that holds (or would hold) the last name of a path, and that name."""
    parent, name = paths.split(raw)
    obj, inode = find(tx, start, parent)
    if not inode.is_dir:
        raise failure(errno.ENOTDIR)
    return obj, name


def has_name(tx: Transaction, start: int, before: bytes, name: bytes) -> tuple[int, bool]:
    """The directory `before` and whether it really has this name."""
    obj, _ = find(tx, start, before)
    return obj, directory.lookup(tx, obj, name) is not None


def list_directory(tx: Transaction, start: int, raw: bytes) -> list[Entry]:
    """All entries of a directory but "." and "..", in name order."""
    obj, inode = find(tx, start, raw)
    if not inode.is_dir:
        raise failure(errno.ENOTDIR)
    return sorted(directory.entries(tx, obj), key=lambda entry: entry.name)


def file_at(tx: Transaction, start: int, raw: bytes) -> Found:
    """The regular file that a path names; raises EISDIR for a directory, EINVAL for what has no content."""
    found = find(tx, start, raw)
    if found.inode.is_dir:
        raise failure(errno.EISDIR)
    if not found.inode.is_file:
        raise failure(errno.EINVAL)
    return found


def read_whole(tx: Transaction, start: int, raw: bytes) -> bytes:
    """The content of a file."""
    obj, inode = file_at(tx, start, raw)
    return b"".join(data.read(tx, obj, 0, inode.size))


def open_file(
    tx: Transaction, raw: bytes, caller: Caller, mode: int, create: bool, exclusive: bool, truncate: bool
) -> Found:
    """The file that a path names, made and emptied as asked: open(2) with O_CREAT, O_EXCL and O_TRUNC."""
    if create:
        made = _create(tx, raw, caller, mode, exclusive)
        if made is not None:
            return made
    found = file_at(tx, ROOT_OBJECT, raw)
    if truncate and found.inode.size:
        return Found(found.obj, data.truncate(tx, found.obj, 0))
    return found


def _create(tx: Transaction, raw: bytes, caller: Caller, mode: int, exclusive: bool) -> Found | None:
    """The new file, or None where the path already names something and that may be."""
    parent, name = find_parent(tx, ROOT_OBJECT, raw)
    there = directory.lookup(tx, parent, name)
    if there is not None and exclusive:
        raise failure(errno.EEXIST)
    if there is None:
        return Found(*namespace.create(tx, parent, name, modes.S_IFREG | mode, caller))
    if not there[1].is_symlink:
        return None
    try:
        find(tx, ROOT_OBJECT, raw)
    except FileNotFoundError:  # a dangling link: the file is made where it points
        target = namespace.readlink(tx, there[0])
        aim = target if target.startswith(b"/") else paths.split(raw)[0] + b"/" + target
        return _create(tx, paths.encode(aim), caller, mode, exclusive)
    return None


def write_whole(tx: Transaction, raw: bytes, content: Buffer, caller: Caller, mode: int = 0o666) -> Inode:
    """Make `content` the whole content of a file, which is created if need be."""
    obj, inode = open_file(tx, raw, caller, mode, create=True, exclusive=False, truncate=True)
    return data.write(tx, obj, 0, content) if len(content) else inode


def read_at(tx: Transaction, obj: int, offset: int, size: int) -> list[Buffer]:
    """Bytes of an open file, clipped to its size."""
    return data.read(tx, obj, offset, size)


def write_at(tx: Transaction, obj: int, offset: int, content: Buffer) -> int:
    """Write into an open file; an offset of -1 appends. Returns the offset just past what was written."""
    if offset < 0:
        offset = attributes.getattr(tx, obj).size
    data.write(tx, obj, offset, content)
    return offset + len(content)


def size_of(tx: Transaction, obj: int) -> int:
    """The size of an open file."""
    return attributes.getattr(tx, obj).size


def resize(tx: Transaction, obj: int, size: int) -> None:
    """Cut or extend an open file."""
    data.truncate(tx, obj, size)


def truncate(tx: Transaction, raw: bytes, size: int) -> None:
    """Cut or extend the file that a path names."""
    if size < 0:
        raise failure(errno.EINVAL)
    data.truncate(tx, file_at(tx, ROOT_OBJECT, raw).obj, size)


def make_directory(tx: Transaction, raw: bytes, mode: int, caller: Caller) -> None:
    """mkdir(2)."""
    parent, name = _parent_for_new(tx, raw)
    namespace.mkdir(tx, parent, name, mode, caller)


def _parent_for_new(tx: Transaction, raw: bytes) -> tuple[int, bytes]:
    """find_parent() for a name that must not exist: of the root, that fails with EEXIST."""
    if not raw:
        raise failure(errno.EEXIST)
    return find_parent(tx, ROOT_OBJECT, raw)


def make_node(tx: Transaction, raw: bytes, mode: int, device: int, caller: Caller) -> None:
    """mknod(2)."""
    namespace.create(tx, *_parent_for_new(tx, raw), mode, caller, device)


def remove_directory(tx: Transaction, raw: bytes) -> None:
    """rmdir(2)."""
    namespace.rmdir(tx, *find_parent(tx, ROOT_OBJECT, raw))


def unlink(tx: Transaction, raw: bytes) -> None:
    """unlink(2)."""
    namespace.unlink(tx, *find_parent(tx, ROOT_OBJECT, raw))


def rename(tx: Transaction, source: bytes, target: bytes, flags: int = 0) -> None:
    """renameat2(2)."""
    namespace.rename(tx, *find_parent(tx, ROOT_OBJECT, source), *find_parent(tx, ROOT_OBJECT, target), flags)


def link(tx: Transaction, source: bytes, target: bytes, follow: bool) -> None:
    """link(2)."""
    obj, _ = find(tx, ROOT_OBJECT, source, follow)
    namespace.link(tx, obj, *_parent_for_new(tx, target))


def symlink(tx: Transaction, target: bytes, raw: bytes, caller: Caller) -> None:
    """symlink(2)."""
    namespace.symlink(tx, *_parent_for_new(tx, raw), target, caller)


def readlink(tx: Transaction, start: int, raw: bytes) -> bytes:
    """readlink(2)."""
    return namespace.readlink(tx, find(tx, start, raw, follow=False).obj)


def change(tx: Transaction, raw: bytes, changes: attributes.Changes, follow: bool) -> None:
    """chmod, chown, utime: set some attributes."""
    attributes.setattr(tx, find(tx, ROOT_OBJECT, raw, follow).obj, changes)


def change_mode(tx: Transaction, raw: bytes, mode: int, follow: bool) -> None:
    """chmod(2): the permission bits; the type stays."""
    change(tx, raw, attributes.Changes(mode=modes.S_IMODE(mode)), follow)


def touch_times(tx: Transaction, raw: bytes, times: tuple[int, int] | None, follow: bool) -> None:
    """utimensat(2): access and modification time in ns; None is the time of the transaction."""
    atime, mtime = (tx.now, tx.now) if times is None else times
    change(tx, raw, attributes.Changes(atime=atime, mtime=mtime), follow)


def get_xattr(tx: Transaction, start: int, raw: bytes, name: bytes, follow: bool) -> bytes:
    """getxattr(2)."""
    return bytes(xattr.get(tx, find(tx, start, raw, follow).obj, name))


def list_xattrs(tx: Transaction, start: int, raw: bytes, follow: bool) -> list[bytes]:
    """listxattr(2)."""
    return list(xattr.list(tx, find(tx, start, raw, follow).obj))


def set_xattr(tx: Transaction, raw: bytes, name: bytes, value: bytes, flags: int, follow: bool) -> None:
    """setxattr(2)."""
    xattr.set(tx, find(tx, ROOT_OBJECT, raw, follow).obj, name, value, flags)


def remove_xattr(tx: Transaction, raw: bytes, name: bytes, follow: bool) -> None:
    """removexattr(2)."""
    xattr.remove(tx, find(tx, ROOT_OBJECT, raw, follow).obj, name)


def copy_file(tx: Transaction, source: bytes, target: bytes, caller: Caller) -> int:
    """Make the target a copy of the source that shares its extents; bytes copied. Permission bits come along."""
    obj, inode = file_at(tx, ROOT_OBJECT, source)
    copy, _ = open_file(tx, target, caller, modes.S_IMODE(inode.mode), create=True, exclusive=False, truncate=False)
    if copy == obj:
        raise failure(errno.EINVAL)
    data.truncate(tx, copy, 0)
    done = 0
    while done < inode.size:
        step = data.copy_range(tx, obj, done, copy, done, inode.size - done)
        if not step:
            break
        done += step
    return done


def path_of(tx: Transaction, obj: int) -> str | None:
    """The path of an object as people see it; None where it has no name."""
    found = path.path_of(tx, obj)
    return found if found is None else "/" + found.lstrip("/")
