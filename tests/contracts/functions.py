"""The Adapter over the functions of the filesystem room, on records in a dict.

Paths are walked here, as the kernel does it before it asks a filesystem. Open files keep orphans alive, and the last
close reaps them, as the mount does it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from itertools import count
from typing import Any

from gavel.filesystem import attributes, data, directory, namespace, orphans, xattr
from gavel.filesystem.attributes import Changes
from gavel.filesystem.caller import Caller
from gavel.filesystem.check import check
from gavel.filesystem.inode import Inode, decode
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.media.extents import view_size
from gavel.mount import listing
from gavel.mount.listing import HEAD, Found
from gavel.transaction.transaction import Transaction
from tests.contracts.adapter import Status
from tests.contracts.views import Store


def _listed(tx: Transaction, obj: int, cookie: int, size: int) -> tuple[list[Found], list[Inode]]:
    """Entries with their inodes, as the mount reads them."""
    found = listing.entries(tx, obj, cookie, size, HEAD)
    return found, listing.inodes_of(tx, found) if found else []


def fail(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class Functions:
    """The operations on one Store; with `missing`, each meets a Miss for all it reads and is run again.

    `store` may be anything else that runs operations: it has `run(op, *args)` and `tick()`.
    """

    features = frozenset({"handles", "cookies", "acl", "owners", "trusted", "umask", "sizes", "functions"})

    def __init__(self, missing: bool = False, store: Any = None) -> None:
        self.store = store or Store(missing)
        self.caller = Caller(0, 0, 0o022)
        self.handles: dict[int, int] = {}
        self.numbers = count(3)

    def run(self, op: Any, *args: Any) -> Any:
        return self.store.run(op, *args)

    # Paths.

    def _walk(self, path: str, follow: bool) -> tuple[int, bytes, int]:
        """The directory that holds the last name, that name, and its object (0: none)."""
        here, name, obj, links = ROOT_OBJECT, b".", ROOT_OBJECT, 0
        parts = [part for part in os.fsencode(path).split(b"/") if part]
        while parts:
            name = parts.pop(0)
            here = obj
            if not self._inode(here).is_dir:
                raise fail(errno.ENOTDIR)
            found = self.run(directory.lookup, here, name)
            if found is None:
                if parts:
                    raise fail(errno.ENOENT)
                return here, name, 0
            obj, inode = found
            if inode.is_symlink and (parts or follow):
                links += 1
                if links > 40:
                    raise fail(errno.ELOOP)
                target = self.run(namespace.readlink, obj)
                parts = [part for part in target.split(b"/") if part] + parts
                obj = ROOT_OBJECT if target.startswith(b"/") else here
        return here, name, obj

    def _find(self, path: str, follow: bool = False) -> int:
        obj = self._walk(path, follow)[2]
        if not obj:
            raise fail(errno.ENOENT)
        return obj

    def _place(self, path: str) -> tuple[int, bytes]:
        return self._walk(path, False)[:2]

    def _inode(self, obj: int) -> Inode:
        inode: Inode = self.run(attributes.getattr, obj)
        return inode

    # Names.

    def tick(self) -> None:
        self.store.tick()

    def umask(self, mask: int) -> None:
        self.caller = self.caller._replace(umask=mask)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self.run(namespace.mkdir, *self._place(path), mode, self.caller)

    def mknod(self, path: str, mode: int, device: int = 0) -> None:
        self.run(namespace.create, *self._place(path), mode, self.caller, device)

    def symlink(self, target: str, path: str) -> None:
        self.run(namespace.symlink, *self._place(path), os.fsencode(target), self.caller)

    def link(self, path: str, new: str) -> None:
        self.run(namespace.link, self._find(path), *self._place(new))

    def unlink(self, path: str) -> None:
        obj, inode = self.run(namespace.unlink, *self._place(path))
        self._let_go(obj, inode.nlink)

    def rmdir(self, path: str) -> None:
        obj, inode = self.run(namespace.rmdir, *self._place(path))
        self._let_go(obj, inode.nlink)

    def rename(self, path: str, new: str, flags: int = 0) -> None:
        replaced = self.run(namespace.rename, *self._place(path), *self._place(new), flags)
        if replaced:
            self._let_go(replaced[0], replaced[1].nlink)

    def readlink(self, path: str) -> str:
        return os.fsdecode(self.run(namespace.readlink, self._find(path)))

    def listdir(self, path: str) -> list[str]:
        cookie, names = 0, []
        while batch := self.readdir(path, cookie, 7):
            names += [name for _, name in batch]
            cookie = batch[-1][0]
        return names[2:]

    def readdir(self, path: str, cookie: int, count: int) -> list[tuple[int, str]]:
        size = max(count * (HEAD + 16), HEAD + 256)
        found, inodes = self.run(_listed, self._find(path, True), cookie, size)
        for (_, _, _, kind), inode in zip(found, inodes, strict=True):
            assert kind == inode.mode >> 12
        return [(at, os.fsdecode(name)) for _, at, name, _ in found]

    # Attributes.

    def stat(self, path: str, follow: bool = False) -> Status:
        return self._status(self._find(path, follow))

    def _status(self, obj: int) -> Status:
        at = self._inode(obj)
        return Status(obj, at.mode, at.nlink, at.uid, at.gid, at.size, at.rdev, at.atime, at.mtime, at.ctime)

    def _set(self, obj: int, **changes: Any) -> None:
        self.run(attributes.setattr, obj, Changes(**changes))

    def chmod(self, path: str, mode: int) -> None:
        self._set(self._find(path, True), mode=mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._set(self._find(path), uid=None if uid == -1 else uid, gid=None if gid == -1 else gid)

    def utime(self, path: str, atime: int, mtime: int) -> None:
        self._set(self._find(path), atime=atime, mtime=mtime)

    def truncate(self, path: str, size: int) -> None:
        self._set(self._find(path, True), size=size)

    def getxattr(self, path: str, name: str) -> bytes:
        value: bytes = self.run(xattr.get, self._find(path), os.fsencode(name))
        return value

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        self.run(xattr.set, self._find(path), os.fsencode(name), value, flags)

    def listxattr(self, path: str) -> list[str]:
        return [os.fsdecode(name) for name in self.run(xattr.list, self._find(path))]

    def removexattr(self, path: str, name: str) -> None:
        self.run(xattr.remove, self._find(path), os.fsencode(name))

    # Content and open files.

    def write(self, path: str, data: bytes) -> None:
        handle = self.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        self.pwrite(handle, data, 0)
        self.close(handle)

    def read(self, path: str) -> bytes:
        obj = self._find(path, True)
        return b"".join(self.run(data.read, obj, 0, self._inode(obj).size))

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        parent, name, obj = self._walk(path, not exclusive and not flags & os.O_NOFOLLOW)
        if not obj:
            if not flags & os.O_CREAT:
                raise fail(errno.ENOENT)
            obj = self.run(namespace.create, parent, name, mode & 0o7777, self.caller)[0]
            return self._opened(obj)
        if exclusive:
            raise fail(errno.EEXIST)
        inode = self._inode(obj)
        if inode.is_symlink:
            raise fail(errno.ELOOP)
        if inode.is_dir and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise fail(errno.EISDIR)
        if not inode.is_dir and flags & os.O_DIRECTORY:
            raise fail(errno.ENOTDIR)
        if not inode.is_dir and not inode.is_file:
            raise fail(errno.EINVAL)  # a kernel opens pipes and devices itself
        if flags & os.O_TRUNC:
            self._set(obj, size=0)
        return self._opened(obj)

    def tmpfile(self, directory: str, mode: int = 0o666) -> int:
        return self._opened(self.run(namespace.tmpfile, self._find(directory, True), mode, self.caller)[0])

    def _opened(self, obj: int) -> int:
        handle = next(self.numbers)
        self.handles[handle] = obj
        return handle

    def close(self, handle: int) -> None:
        obj = self.handles.pop(handle)
        self._let_go(obj, self._inode(obj).nlink)

    def _let_go(self, obj: int, nlink: int) -> None:
        if not nlink and obj not in self.handles.values():
            while not self.run(orphans.reap, obj):
                pass

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return b"".join(self.run(data.read, self.handles[handle], offset, size))

    def pwrite(self, handle: int, content: bytes, offset: int) -> int:
        self.run(data.write, self.handles[handle], offset, content)
        return len(content)

    def fstat(self, handle: int) -> Status:
        return self._status(self.handles[handle])

    def flink(self, handle: int, new: str) -> None:
        self.run(namespace.link, self.handles[handle], *self._place(new))

    # What must always hold.

    def verify(self) -> None:
        """Check every invariant that the rooms' modules promise, over all records."""
        self.run(_verify, self.handles.values())

    def check(self) -> None:
        """What `gavel check --deep` would say: nothing. A store in a dict reserves no object ids."""
        excused = {"object_ids_are_reserved"} if isinstance(self.store, Store) else set()
        problems = self.run(lambda tx: [found for found in check(tx, deep=True) if found])
        assert [found for found in problems if found.invariant not in excused] == []


def _verify(tx: Transaction, opened: Any) -> None:
    inodes: dict[int, Inode] = {}
    names: dict[int, list[tuple[int, int]]] = {}
    size, subdirs, xattrs, used, waiting = Counter[int](), Counter[int](), Counter[int](), Counter[int](), set()
    for key, value in tx.scan(*records.whole(tx.pfs)):
        _, locality, obj, kind, subkey = records.parse(key)
        if kind == records.INODE:
            inodes[obj] = decode(value)
        elif kind == records.ENTRY:
            target, dirent = directory.unpack_entry(value)
            names.setdefault(target, []).append((obj, records.entry_cookie(key)))
            size[obj] += 1
            subdirs[obj] += dirent == directory.TYPE_DIRECTORY
            assert inodes[target].mode >> 12 == dirent, "inodes come before entries in key order"
        elif kind == records.XATTR:
            xattrs[obj] += 1
        elif locality == records.DATA:
            used[obj] += view_size(value)
        elif kind == records.ORPHAN:
            waiting.add(int.from_bytes(subkey, "big"))
    assert set(size) | set(xattrs) | set(used) | waiting | set(names) <= set(inodes), "records of objects that are gone"
    for obj, inode in inodes.items():
        mine = names.get(obj, [])
        count = len(mine) + (obj == ROOT_OBJECT)
        assert inode.nlink == (count and 2 + subdirs[obj] if inode.is_dir else count)
        assert (obj in waiting) == (inode.nlink == 0)
        assert inode.nlink or obj in opened, "an orphan that nobody has open was reaped"
        assert inode.xattrs == xattrs[obj]
        assert inode.used == used[obj]
        if inode.is_dir:
            assert inode.size == size[obj]
            assert count <= 1
        if obj == ROOT_OBJECT:
            assert inode.parent == ROOT_OBJECT
        elif inode.parent:
            assert (inode.parent, inode.name_hash) in mine
        else:
            assert not inode.is_dir or not mine
        if inode.is_symlink:
            assert inode.size == len(inode.target)
        assert stat.S_IFMT(inode.mode)
