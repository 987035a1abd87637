"""Requests about names: looking up, making, moving and removing them, and reading directories.

Every reply with an entry counts as one lookup of its node, which the kernel gives back by FORGET; for live objects
nobody counts, since a node id is the object id and stays valid without a table.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from struct import Struct

from gavel.filesystem import directory, namespace
from gavel.filesystem.caller import Caller
from gavel.filesystem.inode import Inode
from gavel.mount import abi, listing
from gavel.mount.nodes import Nodes
from gavel.mount.past import PastNames
from gavel.mount.session import Header, Reply
from gavel.mount.views import FIRST, View
from gavel.transaction.transaction import Transaction

_MARK = b"@@"
_DOTS = (b".", b"..")
_NO_ENTRY = bytes(abi.ENTRY_OUT.size)
_dirent = abi.DIRENT.pack
_forgets = Struct("<QQ").iter_unpack


def name_at(body: memoryview, start: int) -> bytes:
    """The NUL-terminated name that ends a request; raises OSError EINVAL for a request without one."""
    raw = bytes(body[start:])
    if raw[-1:] != b"\0":
        raise OSError(errno.EINVAL, "a name without an end")
    return raw[:-1]


def two_names(body: memoryview, start: int) -> tuple[bytes, bytes]:
    """The two names that end a request; raises as name_at."""
    parts = bytes(body[start:]).split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise OSError(errno.EINVAL, "not two names, each with its end")
    return parts[0], parts[1]


class Names:
    """Handlers of the requests about names.

    `orphaned` is told of objects that have lost their last one, `adopted` of those that have got one, `plain` of new
    files without xattrs.
    """

    def __init__(
        self,
        nodes: Nodes,
        orphaned: Callable[[int], None],
        adopted: Callable[[int], None],
        plain: Callable[[int], None],
    ) -> None:
        self._nodes = nodes
        self._replies = nodes.replies
        self._entry, self._entry_plus = nodes.replies.entry, nodes.replies.entry_plus
        self._plain = plain
        self._past = PastNames(nodes)
        self._orphaned = orphaned
        self._adopted = adopted

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """LOOKUP: a name in a directory; a real one wins over what `@@` would mean."""
        parent = header[3]
        name = bytes(body[:-1])
        if parent < FIRST:
            found = directory.lookup(self._nodes.present, parent, name)
            if found is not None:
                return self._entry(*found)
        else:
            found = self._nodes.read(parent, directory.lookup, name)
            if found is not None:
                obj, inode = found
                above = self._nodes.views[parent]
                return self._entry(self._nodes.views.enter(View(obj, above.at), parent, name, inode.is_dir), inode)
        if _MARK in name:
            return self._past.lookup(parent, name)
        return self._replies.no_name

    def mknod(self, header: Header, body: memoryview) -> Reply:
        """MKNOD: make anything but a directory or a symlink; also how regular files come to be (see table.py)."""
        mode, rdev, umask, _ = abi.MKNOD_IN.unpack_from(body)
        caller = Caller(header[4], header[5], umask)
        name = name_at(body, 16)
        obj, inode = self._nodes.write(header[3], namespace.create, name, mode & 0xFFFF, caller, rdev)
        if not inode.xattrs:
            self._plain(obj)
        return self._entry(obj, inode)

    def create(self, header: Header, body: memoryview) -> Reply:
        """CREATE: make a file and open it, where the kernel's own idea of what is there cannot be believed.

        If others have made it meanwhile the answer is ESTALE: the kernel looks once more, and opens what it finds as
        it opens any file, permissions checked. It says EEXIST only to who asked for that.
        """
        flags, mode, umask, _ = abi.CREATE_IN.unpack_from(body)
        caller = Caller(header[4], header[5], umask)
        try:
            made = self._nodes.write(header[3], namespace.create, name_at(body, 16), mode & 0xFFFF, caller, 0)
        except FileExistsError:
            return errno.EEXIST if flags & os.O_EXCL else errno.ESTALE
        return self._entry(*made) + abi.OPEN_OUT.pack(0, _KEEP_CACHE, 0)

    def mkdir(self, header: Header, body: memoryview) -> Reply:
        """MKDIR."""
        mode, umask = abi.MKDIR_IN.unpack_from(body)
        caller = Caller(header[4], header[5], umask)
        return self._entry(*self._nodes.write(header[3], namespace.mkdir, name_at(body, 8), mode, caller))

    def symlink(self, header: Header, body: memoryview) -> Reply:
        """SYMLINK."""
        name, target = two_names(body, 0)
        return self._entry(*self._nodes.write(header[3], namespace.symlink, name, target, Caller(header[4], header[5])))

    def tmpfile(self, header: Header, body: memoryview) -> Reply:
        """TMPFILE: a file without a name, and open (the handle is not used)."""
        _, mode, umask, _ = abi.CREATE_IN.unpack_from(body)
        caller = Caller(header[4], header[5], umask)
        obj, inode = self._nodes.write(header[3], namespace.tmpfile, mode, caller)
        self._orphaned(obj)
        return self._entry(obj, inode) + abi.OPEN_OUT.pack(0, _KEEP_CACHE, 0)

    def link(self, header: Header, body: memoryview) -> Reply:
        """LINK: one more name for an object."""
        (obj,) = abi.LINK_IN.unpack_from(body)
        parent = self._nodes.live(header[3])
        inode = self._nodes.write(obj, namespace.link, parent, name_at(body, 8))
        self._adopted(obj)
        return self._entry(obj, inode)

    def unlink(self, header: Header, body: memoryview) -> Reply:
        """UNLINK."""
        obj, inode = self._nodes.write(header[3], namespace.unlink, name_at(body, 0))
        if not inode.nlink:
            self._orphaned(obj)
        return b""

    def rmdir(self, header: Header, body: memoryview) -> Reply:
        """RMDIR."""
        obj, _ = self._nodes.write(header[3], namespace.rmdir, name_at(body, 0))
        self._orphaned(obj)
        return b""

    def rename(self, header: Header, body: memoryview) -> Reply:
        """RENAME."""
        (target,) = abi.RENAME_IN.unpack_from(body)
        return self._move(header[3], target, *two_names(body, 8), 0)

    def rename2(self, header: Header, body: memoryview) -> Reply:
        """RENAME2: with flags."""
        target, flags, _ = abi.RENAME2_IN.unpack_from(body)
        return self._move(header[3], target, *two_names(body, 16), flags)

    def _move(self, parent: int, target: int, name: bytes, new_name: bytes, flags: int) -> Reply:
        target = self._nodes.live(target)
        replaced = self._nodes.write(parent, namespace.rename, name, target, new_name, flags)
        if replaced is not None and not replaced[1].nlink:
            self._orphaned(replaced[0])
        return b""

    def readlink(self, header: Header, body: memoryview) -> Reply:
        """READLINK."""
        node = header[3]
        if node >= FIRST:
            target = self._nodes.views[node].target
            if target:
                return target
        return self._nodes.read(node, namespace.readlink)

    def readdir(self, header: Header, body: memoryview) -> Reply:
        """READDIR: names and types; as many as fit."""
        _, cookie, size, _, _, _, _ = abi.READ_IN.unpack_from(body)
        return listing.packed(self._nodes.read(header[3], listing.entries, cookie, size, listing.HEAD))

    def readdirplus(self, header: Header, body: memoryview) -> Reply:
        """READDIRPLUS: names with their entries, each of which counts as a lookup."""
        _, cookie, size, _, _, _, _ = abi.READ_IN.unpack_from(body)
        node = header[3]
        found, inodes = self._nodes.read(node, _with_inodes, cookie, size)
        above = self._nodes.place(node) if node >= FIRST else None
        parts: list[bytes] = []
        for (obj, at, name, kind), inode in zip(found, inodes, strict=True):
            if name in _DOTS:
                parts.append(_NO_ENTRY + _dirent(obj, at, len(name), kind) + name.ljust(8, b"\0"))
            elif above is None:
                parts.append(self._entry_plus(obj, inode, at, name, kind))
            else:
                own = self._nodes.views.enter(View(obj, above.at), node, name, inode.is_dir)
                parts.append(self._entry_plus(own, inode, at, name, kind))
        return b"".join(parts)

    def forget(self, header: Header, body: memoryview) -> Reply:
        """FORGET: of a view's node. Live ones are the reaper's business, see table.py."""
        if header[3] >= FIRST and len(body) >= abi.FORGET_IN.size:  # nobody waits for an error
            self._nodes.views.forget(header[3], abi.FORGET_IN.unpack_from(body)[0])
        return None

    def batch_forget(self, header: Header, body: memoryview) -> Reply:
        """BATCH_FORGET, likewise."""
        if self._nodes.views:
            for node, lookups in _forgets(body[8 : 8 + (len(body) - 8) // 16 * 16]):
                if node >= FIRST:
                    self._nodes.views.forget(node, lookups)
        return None


_KEEP_CACHE = 1 << 1


def _with_inodes(tx: Transaction, node: int, cookie: int, size: int) -> tuple[list[listing.Found], list[Inode]]:
    found = listing.entries(tx, node, cookie, size, listing.HEAD_PLUS)
    return found, listing.inodes_of(tx, found) if found else []
