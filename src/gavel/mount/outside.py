"""What others than this mount changed (undo, the admin socket): told to the kernel, record by record.

With a write-back cache the kernel takes itself for the master of a regular file's size and times, and believes nothing
else while it holds the inode. So it is made to let go of it. Where it cannot, because somebody has the file open, the
size and time are set through the mount as any program would, and that request is answered without changing anything.
"""

from __future__ import annotations

import logging
import os
from functools import partial

from gavel.filesystem import inode as inodes
from gavel.filesystem import path
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.mount.nodes import EngineLike
from gavel.mount.notify import Notifier
from gavel.mount.reaper import Reaper
from gavel.transaction.transaction import Transaction

log = logging.getLogger("gavel.mount")


class Outside:
    """Turns written record keys into notifications. `settling` holds the objects whose SETATTRs are our own."""

    def __init__(
        self, engine: EngineLike, notifier: Notifier, reaper: Reaper, directory: str, settling: set[int]
    ) -> None:
        self._engine = engine
        self._notifier = notifier
        self._reaper = reaper
        self._directory = directory
        self._settling = settling

    def changed(self, keys: list[bytes]) -> None:
        """Tell the kernel about records that were written: names first, so that it can let go of what they led to."""
        objects: set[int] = set()
        for key in keys:
            record = records.parse(key)
            if record.locality == records.ENTRIES:
                self._notifier.entry(record.object, records.entry_name(key))
            elif record.locality in (records.INODES, records.DATA, records.XATTRS):
                objects.add(record.object)
            elif record.type == records.ORPHAN:
                self._orphan(key)
        for obj in sorted(objects):
            self._notifier.inode(obj)
            found = self._engine.read(_named, obj)
            if found is not None:
                inode, where = found
                self._notifier.entry(inode.parent, os.path.basename(os.fsencode(where)))
                self._notifier.call(partial(self._settle, obj, inode, self._directory + where))

    def _orphan(self, key: bytes) -> None:
        """The record of an orphan was written, or deleted: then it was brought back, and has a name again."""
        obj = records.orphan_object(key)
        if self._engine.read(_is_there, key):
            self._reaper.suspect(obj)
        else:
            self._reaper.adopted(obj)

    def _settle(self, obj: int, inode: Inode, where: str) -> None:
        """If the kernel still holds a file, set its size and time there. Runs on the notifier's thread.

        By now its name may be another file's: that one is left alone.
        """
        if not self._notifier.holds(obj):
            return
        self._settling.add(obj)
        try:
            handle = os.open(where, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if os.fstat(handle).st_ino == obj:
                    os.ftruncate(handle, inode.size)
                    os.utime(handle, ns=(inode.atime, inode.mtime))
            finally:
                os.close(handle)
        except OSError as error:
            log.info("the kernel goes on with its size of %s: %s", where, error)
        finally:
            self._settling.discard(obj)


def _is_there(tx: Transaction, key: bytes) -> bool:
    return tx.get(key) is not None


def _named(tx: Transaction, obj: int) -> tuple[Inode, str] | None:
    """The inode and path of a regular file that has a name."""
    value = tx.get(records.inode(tx.pfs, obj))
    if value is None:
        return None
    inode = inodes.decode(value)
    where = path.path_of(tx, obj) if inode.is_file and inode.parent else None
    return None if where is None else (inode, where)
