"""Requests about attributes: of objects, extended ones, and of the filesystem as a whole."""

from __future__ import annotations

import errno
import time
from collections.abc import Container

from gavel.filesystem import attributes as attrs
from gavel.filesystem import inode as inodes
from gavel.filesystem import xattr
from gavel.filesystem.attributes import Changes
from gavel.filesystem.inode import Inode
from gavel.limits import NAME_MAX
from gavel.mount import abi
from gavel.mount.names import name_at
from gavel.mount.nodes import Nodes
from gavel.mount.past import symlink_inode
from gavel.mount.replies import BLOCK
from gavel.mount.session import Header, Reply
from gavel.mount.views import FIRST
from gavel.transaction.transaction import Transaction

_NS = 1_000_000_000
_CAPABILITY = b"security.capability"
_CAPABILITY_SIZE = 20
_PRIVATE = b"gavel."
_COUNTED = (b"security.", b"user.", b"trusted.")  # of these there are none where the inode counts none
_FLUSHED = abi.SET_MTIME | abi.SET_CTIME  # what the kernel sends when it writes back the times it kept
_HANDLE = 1 << 6
_PLAIN_MOST = 1024
_EARLIEST, _LATEST = -(2**63), 2**63 - 1


class Attributes:
    """Handlers. `virtual` are the xattrs that every inode of the mount answers to and none lists."""

    def __init__(self, nodes: Nodes, virtual: dict[bytes, bytes], orphans: Container[int], sole: bool = True) -> None:
        self._nodes = nodes
        self._attributes, self._statx = nodes.replies.attributes, nodes.replies.statx
        self._engine = nodes.engine
        self._virtual = virtual
        self._plain: set[int] = set()
        self._sole = sole
        self._orphans = orphans  # the kernel sends the times of each removed file; nobody will ask for them
        self.settling: set[int] = set()  # objects whose size and time we tell the kernel ourselves; see outside.py
        self.extended = False  # whether SETXATTR_EXT was agreed on, so that SETXATTR has a longer head

    def plain(self, obj: int) -> None:
        """A file was made that has no xattrs: the question that precedes its first write can be answered at once."""
        if len(self._plain) >= _PLAIN_MOST:
            self._plain.clear()
        if self._sole:
            self._plain.add(obj)

    def forget_plain(self) -> None:
        """Xattrs may have changed in other ways than by requests."""
        self._plain.clear()

    def _inode(self, node: int) -> Inode:
        if node < FIRST:
            return inodes.read(self._nodes.present, node)
        view = self._nodes.views[node]
        return symlink_inode(view.target) if view.target else self._nodes.read(node, inodes.read)

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """GETATTR."""
        return self._attributes(header[3], self._inode(header[3]))

    def statx(self, header: Header, body: memoryview) -> Reply:
        """STATX: the kernel asks by it when somebody wants to know the time of birth."""
        abi.STATX_IN.unpack_from(body)
        return self._statx(header[3], self._inode(header[3]))

    def setattr(self, header: Header, body: memoryview) -> Reply:
        """SETATTR: any set of changes at once."""
        fields = abi.SETATTR_IN.unpack_from(body)
        valid = fields[0]
        node = header[3]
        times = valid & ~_HANDLE == _FLUSHED
        if node in self.settling or (times and node in self._orphans):
            return self._attributes(node, self._inode(node))
        mtime = _moment(fields[6], fields[9]) if valid & abi.SET_MTIME else None
        ctime = _moment(fields[7], fields[10]) if valid & abi.SET_CTIME else None
        if times:
            return self._attributes(node, self._nodes.write(node, _set_times, mtime or 0, ctime or 0))
        atime = _moment(fields[5], fields[8]) if valid & abi.SET_ATIME else None
        now = time.time_ns()
        changes = Changes(
            mode=fields[11] & 0o7777 if valid & abi.SET_MODE else None,
            uid=fields[13] if valid & abi.SET_UID else None,
            gid=fields[14] if valid & abi.SET_GID else None,
            size=fields[3] if valid & abi.SET_SIZE else None,
            atime=now if valid & abi.SET_ATIME_NOW else atime,
            mtime=now if valid & abi.SET_MTIME_NOW else mtime,
            ctime=ctime,
            kill_suidgid=bool(valid & abi.SET_KILL_SUIDGID),
        )
        return self._attributes(node, self._nodes.write(node, attrs.setattr, changes))

    def getxattr(self, header: Header, body: memoryview) -> Reply:
        """GETXATTR. The kernel asks for file capabilities before the first write to each file."""
        size, _ = abi.GETXATTR_IN.unpack_from(body)
        node = header[3]
        name = name_at(body, 8)
        if node in self._plain and name == _CAPABILITY:
            return errno.ENODATA
        if name.startswith(_COUNTED):
            if name == _CAPABILITY and not size and self._nodes.is_past(node):
                return _pretend_capability()
            if not self._inode(node).xattrs:
                return errno.ENODATA
        elif name.startswith(_PRIVATE):
            value = self._virtual.get(name)
            return errno.ENODATA if value is None else _sized(value, size)
        return _sized(self._nodes.read(node, xattr.get, name), size)

    def listxattr(self, header: Header, body: memoryview) -> Reply:
        """LISTXATTR."""
        size, _ = abi.GETXATTR_IN.unpack_from(body)
        node = header[3]
        names = self._nodes.read(node, xattr.list) if self._inode(node).xattrs else []
        if header[4]:  # the kernel lets nobody but root read these, and leaves it to us not to name them
            names = [name for name in names if not name.startswith(b"trusted.")]
        return _sized(b"".join([name + b"\0" for name in names]), size)

    def setxattr(self, header: Header, body: memoryview) -> Reply:
        """SETXATTR."""
        size, flags = abi.GETXATTR_IN.unpack_from(body)
        kill_sgid, head = False, abi.GETXATTR_IN.size
        if self.extended:
            kill_sgid, head = bool(abi.SETXATTR_IN.unpack_from(body)[2] & abi.SETXATTR_ACL_KILL_SGID), 16
        name, end, value = bytes(body[head:]).partition(b"\0")
        if not end or len(value) < size:
            return errno.EINVAL
        if name.startswith(_PRIVATE):
            return errno.EPERM
        self._plain.discard(header[3])
        self._nodes.write(header[3], xattr.set, name, value[:size], flags, kill_sgid)
        return b""

    def removexattr(self, header: Header, body: memoryview) -> Reply:
        """REMOVEXATTR."""
        name = name_at(body, 0)
        if name.startswith(_PRIVATE):
            return errno.EPERM
        self._nodes.write(header[3], xattr.remove, name)
        return b""

    def statfs(self, header: Header, body: memoryview) -> Reply:
        """STATFS. As many more files are said to be possible as there are free blocks; none are counted."""
        space = self._engine.space()
        total, free = space.total // BLOCK, space.free // BLOCK
        return abi.STATFS_OUT.pack(total, free, free, total, free, BLOCK, NAME_MAX, BLOCK, 0)


def _set_times(tx: Transaction, obj: int, mtime: int, ctime: int) -> Inode:
    """What attributes.setattr does for the two times alone, as the kernel sends them after every write and rename."""
    inode = inodes.read(tx, obj)
    inode.mtime, inode.ctime = mtime, ctime
    inodes.write(tx, obj, inode)
    return inode


def _moment(seconds: int, ns: int) -> int:
    """A time in ns; what lies outside the years 1677 to 2262 is moved to their edge, as other filesystems do."""
    moment = seconds * _NS + ns
    return moment if _EARLIEST < moment < _LATEST else min(max(moment, _EARLIEST), _LATEST)


def _pretend_capability() -> bytes:
    """What makes the kernel refuse a write to the past while the writer waits, not when the cache is written back.

    Without OPEN requests nothing stops a program from opening a file of a view for writing, and its first write would
    end in the kernel's cache. But before it, the kernel asks whether there are file capabilities to be taken away (a
    request for the size alone). If there are, it removes them first; that is refused with EROFS, and so is the write.
    Who asks for the value itself (execve, getfattr) gets the truth.
    """
    return abi.SIZE_OUT.pack(_CAPABILITY_SIZE, 0)


def _sized(value: bytes, size: int) -> Reply:
    """An xattr's value as asked for: only its size (0), or all of it if that fits."""
    if not size:
        return abi.SIZE_OUT.pack(len(value), 0)
    return value if len(value) <= size else errno.ERANGE
