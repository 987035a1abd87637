"""Replies with what an object is: its attributes, and for how long the kernel may believe them.

In sole-owner mode the kernel may keep what it is told for ever: nothing changes but through it, and what does (undo,
the admin socket) is told to it by notify.py. So entries and attributes live for `FOREVER`, names that are not there
included. Where others may change the present, it lives for no time at all; the past never changes.
"""

from __future__ import annotations

from gavel.filesystem.inode import Inode
from gavel.mount import abi
from gavel.mount.views import FIRST

FOREVER = 10 * 365 * 86_400  # seconds that the kernel may believe us
BLOCK = 4096
_NS = 1_000_000_000
_entry, _attr, _plus = abi.ENTRY_OUT.pack, abi.ATTR_OUT.pack, abi.DIRENTPLUS.pack


class Replies:
    """The replies of one mount, in which what is true now may be believed for `lives` seconds."""

    def __init__(self, lives: int) -> None:
        self._lives, self._nsec = lives, 0
        self.no_name = abi.ENTRY_OUT.pack(0, 0, lives, 0, 0, 0, *(0,) * 16)  # the kernel remembers: the name is free

    def believe(self, ns: int) -> None:
        """From now on what is true now may be believed for so many ns."""
        self._lives, self._nsec = divmod(ns, _NS)
        self.no_name = abi.ENTRY_OUT.pack(0, 0, self._lives, 0, self._nsec, 0, *(0,) * 16)

    def entry(self, node: int, inode: Inode, lives: int | None = None) -> bytes:
        """The reply to whatever makes a name known to the kernel, for `lives` seconds if not for as long as all."""
        whole, nsec = (self._lives, self._nsec) if node < FIRST else (FOREVER, 0)
        mtime, ctime, atime = divmod(inode.mtime, _NS), divmod(inode.ctime, _NS), divmod(inode.atime, _NS)
        return _entry(
            node, inode.generation, whole if lives is None else lives, whole, nsec if lives is None else 0, nsec,
            node, inode.size, (inode.used + 511) >> 9, atime[0], mtime[0], ctime[0], atime[1], mtime[1], ctime[1],
            inode.mode, inode.nlink, inode.uid, inode.gid, inode.rdev, BLOCK, 0,
        )  # fmt: skip

    def attributes(self, node: int, inode: Inode) -> bytes:
        """The reply to GETATTR and SETATTR."""
        mtime, ctime, atime = divmod(inode.mtime, _NS), divmod(inode.ctime, _NS), divmod(inode.atime, _NS)
        return _attr(
            self._lives if node < FIRST else FOREVER, self._nsec if node < FIRST else 0, 0,
            node, inode.size, (inode.used + 511) >> 9, atime[0], mtime[0], ctime[0], atime[1], mtime[1], ctime[1],
            inode.mode, inode.nlink, inode.uid, inode.gid, inode.rdev, BLOCK, 0,
        )  # fmt: skip

    def entry_plus(self, node: int, inode: Inode, cookie: int, name: bytes, kind: int) -> bytes:
        """One entry of a READDIRPLUS reply, padded."""
        mtime, ctime, atime = divmod(inode.mtime, _NS), divmod(inode.ctime, _NS), divmod(inode.atime, _NS)
        size = len(name)
        whole, nsec = (self._lives, self._nsec) if node < FIRST else (FOREVER, 0)
        return _plus(
            node, inode.generation, whole, whole, nsec, nsec,
            node, inode.size, (inode.used + 511) >> 9, atime[0], mtime[0], ctime[0], atime[1], mtime[1], ctime[1],
            inode.mode, inode.nlink, inode.uid, inode.gid, inode.rdev, BLOCK, 0,
            node, cookie, size, kind,
        ) + name + bytes(-size & 7)  # fmt: skip

    def statx(self, node: int, inode: Inode) -> bytes:
        """The reply to STATX, which knows the time of birth."""
        times: list[int] = []
        for moment in (inode.atime, inode.btime, inode.ctime, inode.mtime):
            times += (*divmod(moment, _NS), 0)
        rdev = inode.rdev
        major, minor = rdev >> 8 & 0xFFF, rdev & 0xFF | rdev >> 12 & 0xFFF00
        return abi.STATX_OUT.pack(
            self._lives if node < FIRST else FOREVER, self._nsec if node < FIRST else 0, 0,
            abi.STATX_BASIC_AND_BTIME, BLOCK, 0, inode.nlink, inode.uid, inode.gid, inode.mode, 0,
            node, inode.size, (inode.used + 511) >> 9, 0, *times, major, minor, 0, 0,
        )  # fmt: skip
