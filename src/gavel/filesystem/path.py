"""Paths: from names to objects and back, and the `@@` by which a component leads into the past.

`name@@when` is what the directory held under that name then; `@@when` alone is the directory itself then; `@@` alone
is the present. Below such a component everything is as it was then, so whoever meets one goes on in another view:
here is only the syntax. A name that really has `@@` in it wins: look it up as it stands first.
"""

from __future__ import annotations

import errno

from gavel.filesystem import directory
from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.transaction.transaction import Transaction

MARK = b"@@"
SYMLINKS_MAX = 40  # followed in one resolution, as in Linux


def split(component: bytes) -> tuple[bytes, bytes | None]:
    """A component's name and its WHEN (None without `@@`, empty for the present). The last `@@` counts."""
    name, mark, when = component.rpartition(MARK)
    return (name, when) if mark else (component, None)


def resolve(tx: Transaction, start: int, path: bytes, follow: bool = True) -> tuple[int, Inode]:
    """Follow a path from a directory, or from the root where it begins with `/`, to an object and its inode.

    `follow` tells whether a symlink at the end is followed; a trailing slash follows it in any case and wants a
    directory. An empty path is the start itself. Raises ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, ESTALE.
    """
    obj = records.ROOT_OBJECT if path.startswith(b"/") else start
    inode = inodes.read(tx, obj)
    todo = _parts(path)
    follow = follow or path.endswith(b"/")
    links = 0
    while todo:
        if not inode.is_dir:
            raise failure(errno.ENOTDIR)
        found = directory.lookup(tx, obj, todo.pop())
        if found is None:
            raise failure(errno.ENOENT)
        if found[1].is_symlink and (todo or follow):
            links += 1
            if links > SYMLINKS_MAX:
                raise failure(errno.ELOOP)
            target = found[1].target
            if target.startswith(b"/"):
                obj = records.ROOT_OBJECT
                inode = inodes.read(tx, obj)
            todo += _parts(target)
        else:
            obj, inode = found
    if path.endswith(b"/") and not inode.is_dir:
        raise failure(errno.ENOTDIR)
    return obj, inode


def path_of(tx: Transaction, obj: int) -> str | None:
    """An absolute path of an object, by the name it was last given; None where that name is gone, or the object.

    Bytes that are not UTF-8 become lone surrogates, as os.fsdecode makes them. Costs two reads per level.
    """
    names: list[bytes] = []
    seen: set[int] = set()
    while obj != records.ROOT_OBJECT:
        value = tx.get(records.inode(tx.pfs, obj))
        if value is None or obj in seen:
            return None
        seen.add(obj)
        inode = inodes.decode(value)
        name = _name_in(tx, inode.parent, inode.name_hash, obj) if inode.parent else None
        if name is None:
            return None
        names.append(name)
        obj = inode.parent
    return text(b"/" + b"/".join(reversed(names)))


def text(path: bytes) -> str:
    """A path or name for people; lone surrogates stand for bytes that are not UTF-8."""
    return path.decode("utf-8", "surrogateescape")


def _name_in(tx: Transaction, parent: int, name_hash: int, obj: int) -> bytes | None:
    for key, value in tx.scan(*records.entries_hashed(tx.pfs, parent, name_hash)):
        if directory.unpack_entry(value)[0] == obj:
            return records.entry_name(key)
    return None


def _parts(path: bytes) -> list[bytes]:
    """The components of a path, the first one last."""
    return [part for part in path.split(b"/") if part][::-1]
