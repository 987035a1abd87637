"""What check.py has counted so far: a few numbers for each object, in arrays.

Memory: some 80 bytes an object, 80 MB for a million of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from struct import Struct
from struct import error as struct_error

from gavel.filesystem.inode import Inode

_FITS = Struct("<QIQQQQQQ").pack


class Census:
    """Objects in the order of their ids, what their inodes say, and what was found of each.

    `index` of an object is its place in every array; ids have to be added in rising order. What was found has room for
    more objects than there are.
    """

    def __init__(self) -> None:
        # What the inodes say.
        self.objects = array("Q")
        self.modes = array("I")
        self.nlinks = array("Q")
        self.sizes = array("Q")
        self.used = array("Q")
        self.xattrs = array("Q")
        self.parents = array("Q")
        self.hashes = array("Q")
        columns = self.objects, self.modes, self.nlinks, self.sizes, self.used, self.xattrs, self.parents, self.hashes
        self._append = [column.append for column in columns]
        # What was found.
        self.names = array("I")  # entries that point to it
        self.children = array("I")  # entries in it
        self.subdirectories = array("I")  # directories among them
        self.found_xattrs = array("I")
        self.found_data = array("Q")  # bytes of data records
        self.data_end = array("Q")  # where the last data record ended
        self.named = bytearray()  # whether the entry was met that `parent` and `hash` tell of
        # What is not in inodes.
        self.orphans: set[int] = set()
        self.next_object = 0

    def add(self, obj: int, inode: Inode) -> None:
        """Take an inode into account; raises OverflowError, having changed nothing, for numbers that cannot be."""
        numbers = obj, inode.mode, inode.nlink, inode.size, inode.used, inode.xattrs, inode.parent, inode.name_hash
        try:
            _FITS(*numbers)
        except struct_error as error:
            raise OverflowError("a number is out of bounds") from error
        for append, number in zip(self._append, numbers, strict=True):
            append(number)
        if len(self.objects) > len(self.names):
            self._make_room()

    def _make_room(self) -> None:
        """Make the columns of what was found longer, by an eighth: a call for each object costs more."""
        more = max(4096, len(self.names) // 8)
        for narrow in (self.names, self.children, self.subdirectories, self.found_xattrs):
            narrow.frombytes(bytes(more * narrow.itemsize))
        for wide in (self.found_data, self.data_end):
            wide.frombytes(bytes(more * wide.itemsize))
        self.named.extend(bytes(more))

    def index(self, obj: int) -> int:
        """The place of an object; -1 where it has no inode."""
        at = bisect_left(self.objects, obj)
        return at if at < len(self.objects) and self.objects[at] == obj else -1
