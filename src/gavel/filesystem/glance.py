"""A quick look at a record: nearly all are as they should be, and that is cheap to see.

Invariant: a glance takes a record into the census and says yes only where no invariant (invariants.py) could object;
otherwise it changes nothing, says no, and check.py looks again, with one function for each invariant. So what is
found, and how it is told, does not depend on this module; tests compare the two.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Final

from gavel.errors import Damaged
from gavel.filesystem import inode as inodes
from gavel.filesystem.census import Census
from gavel.filesystem.directory import TYPE_DIRECTORY, unpack_entry
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import FILE_SIZE_MAX, NAME_MAX, OBJECT_ID_MAX
from gavel.media.extents import EXTENT, INLINE, RECORD_SIZE

_TYPE: Final = 0o170000
_PLAIN: Final = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})
_DOTS: Final = frozenset({b".", b".."})
_ENTRY_SIZE: Final = 9  # bytes of an entry's value


class Glance:
    """Looks at records in key order and remembers where the last one's object is in the census."""

    def __init__(self, census: Census) -> None:
        self._census = census
        self._object = self._at = -1  # the object of the last name or data, and its place
        self._parent = -1  # of a name: the directory in use
        self._parent_at = -1
        self._looks: dict[bytes, Callable[[bytes, bytes], bool]] = {
            bytes((records.INODES, records.INODE)): self._inode,
            bytes((records.ENTRIES, records.ENTRY)): self._entry,
            bytes((records.DATA, records.EXTENT)): self._data,
        }

    def record(self, key: bytes, value: bytes) -> bool:
        """Whether a record was taken into the census because nothing is wrong with it."""
        look = self._looks.get(key[2:3] + key[11:12])
        return look is not None and look(key, value)

    def object(self, at: int) -> bool:
        """Whether all that is counted of an object is right; says so of files only."""
        census = self._census
        return (
            census.modes[at] & _TYPE != stat.S_IFDIR
            and census.names[at] == census.nlinks[at]
            and (not census.parents[at] or census.named[at] == 1)
            and census.found_data[at] == census.used[at]
            and census.found_xattrs[at] == census.xattrs[at]
            and census.objects[at] != ROOT_OBJECT
        )

    def _inode(self, key: bytes, value: bytes) -> bool:
        if len(key) != records.HEAD_SIZE:
            return False
        try:
            inode = inodes.decode(value)
        except Damaged:
            return False
        obj = int.from_bytes(key[3:11], "big")
        census = self._census
        if (
            inode.mode & _TYPE not in _PLAIN
            or inode.target
            or not inode.nlink
            or not ROOT_OBJECT <= obj <= OBJECT_ID_MAX
            or not 0 <= inode.size <= FILE_SIZE_MAX
            or obj in census.orphans
        ):
            return False
        try:
            census.add(obj, inode)
        except OverflowError:
            return False
        return True

    def _place(self, obj: int) -> int:
        """The place of an object in the census, most often next to that of the last one; -1 for none."""
        objects = self._census.objects
        at = self._at + obj - self._object
        if not (0 <= at < len(objects) and objects[at] == obj):
            at = self._census.index(obj)
        if at >= 0:
            self._object, self._at = obj, at
        return at

    def _entry(self, key: bytes, value: bytes) -> bool:
        name = key[20:-1]
        if not 0 < len(name) <= NAME_MAX or key[-1] or b"/" in name or b"\0" in name or name in _DOTS:
            return False
        if len(value) != _ENTRY_SIZE or records.name_hash(name) != int.from_bytes(key[12:20], "big"):
            return False
        census = self._census
        parent = int.from_bytes(key[3:11], "big")
        if parent != self._parent:
            self._parent_at = census.index(parent)
            self._parent = parent
        obj, kind = unpack_entry(value)
        parent_at, at = self._parent_at, self._place(obj)
        if at < 0 or parent_at < 0 or census.modes[at] >> 12 != kind:
            return False
        if census.modes[parent_at] & _TYPE != stat.S_IFDIR:
            return False
        census.children[parent_at] += 1
        if kind == TYPE_DIRECTORY:
            census.subdirectories[parent_at] += 1
        census.names[at] += 1
        if census.parents[at] == parent and census.hashes[at] == int.from_bytes(key[12:20], "big"):
            census.named[at] = 1
        return True

    def _data(self, key: bytes, value: bytes) -> bool:
        if len(key) != records.HEAD_SIZE + 8 or not value:
            return False
        if value[0] == INLINE:
            view = len(value) - 1
        elif value[0] == EXTENT and len(value) == RECORD_SIZE:
            view = int.from_bytes(value[21:25], "little")
            if int.from_bytes(value[17:21], "little") + view > int.from_bytes(value[13:17], "little"):
                return False
        else:
            return False
        census = self._census
        end = int.from_bytes(key[12:20], "big")
        at = self._place(int.from_bytes(key[3:11], "big"))
        if at < 0 or view <= 0 or census.modes[at] & _TYPE != stat.S_IFREG:
            return False
        if end - view < census.data_end[at] or end > census.sizes[at]:
            return False
        census.found_data[at] += view
        census.data_end[at] = end
        return True
