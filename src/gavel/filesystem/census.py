"""What check.py has counted so far: a few numbers for each object, in arrays.

Memory: some 80 bytes an object, 80 MB for a million of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from gavel.filesystem.inode import Inode


class Census:
    """Objects in the order of their ids, what their inodes say, and what was found of each.

    `index` of an object is its place in every array; ids have to be added in rising order.
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
        wide = obj, inode.nlink, inode.size, inode.used, inode.xattrs, inode.parent, inode.name_hash
        if min(*wide, inode.mode) < 0 or max(wide) >> 64 or inode.mode >> 32:
            raise OverflowError("a number is out of bounds")
        self.objects.append(obj)
        self.modes.append(inode.mode)
        self.nlinks.append(inode.nlink)
        self.sizes.append(inode.size)
        self.used.append(inode.used)
        self.xattrs.append(inode.xattrs)
        self.parents.append(inode.parent)
        self.hashes.append(inode.name_hash)
        self.names.append(0)
        self.children.append(0)
        self.subdirectories.append(0)
        self.found_xattrs.append(0)
        self.found_data.append(0)
        self.data_end.append(0)
        self.named.append(0)

    def index(self, obj: int) -> int:
        """The place of an object; -1 where it has no inode."""
        at = bisect_left(self.objects, obj)
        return at if at < len(self.objects) and self.objects[at] == obj else -1
