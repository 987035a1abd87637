"""What others than this mount changed (undo, the admin socket): told to the kernel, record by record."""

from __future__ import annotations

from gavel.keys import records
from gavel.mount.nodes import EngineLike
from gavel.mount.notify import Notifier
from gavel.mount.reaper import Reaper


class Outside:
    """Turns written record keys into notifications."""

    def __init__(self, engine: EngineLike, notifier: Notifier, reaper: Reaper) -> None:
        self._engine = engine
        self._notifier = notifier
        self._reaper = reaper

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
                self._reaper.suspect(records.orphan_object(key))
        for obj in sorted(objects):
            self._notifier.inode(obj)
