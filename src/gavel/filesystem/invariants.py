"""The invariants that check.py tests, one function each: it returns what is wrong in words, or None.

Where a function is given `at`, that is the index of the object in the census, -1 for one without an inode.
"""

from __future__ import annotations

import stat
from typing import NamedTuple

from gavel.filesystem.census import Census
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import FILE_SIZE_MAX, NAME_MAX, OBJECT_ID_MAX, SYMLINK_MAX, XATTR_VALUE_MAX
from gavel.media import extents

_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})


class Entry(NamedTuple):
    """A directory entry as it lies there."""

    directory: int
    cookie: int
    name: bytes
    object: int
    type: int


class Data(NamedTuple):
    """A data record in its place."""

    start: int
    end: int
    value: bytes


# -- of inodes -------------------------------------------------------------------------------------------------


def inode_has_a_type(census: Census, obj: int, inode: Inode) -> str | None:
    """The mode names one of the seven types."""
    return None if stat.S_IFMT(inode.mode) in _TYPES else f"no type has the mode {inode.mode:o}"


def object_id_is_sane(census: Census, obj: int, inode: Inode) -> str | None:
    """Object ids are within their bounds."""
    return None if ROOT_OBJECT <= obj <= OBJECT_ID_MAX else f"{obj} cannot be an object id"


def size_is_sane(census: Census, obj: int, inode: Inode) -> str | None:
    """A size is not beyond what a file can have."""
    return None if 0 <= inode.size <= FILE_SIZE_MAX else f"a size of {inode.size} bytes cannot be"


def target_is_sane(census: Census, obj: int, inode: Inode) -> str | None:
    """A symlink, and nothing else, has a target; its size is the target's."""
    if not inode.is_symlink:
        return "it has a target and is no symlink" if inode.target else None
    sane = 0 < len(inode.target) <= SYMLINK_MAX and b"\0" not in inode.target and inode.size == len(inode.target)
    return None if sane else f"a symlink of size {inode.size} cannot have the target {inode.target[:80]!r}"


def orphan_is_listed(census: Census, obj: int, inode: Inode) -> str | None:
    """An object without a link, and no other, has an orphan record."""
    if (inode.nlink == 0) == (obj in census.orphans):
        return None
    return f"its link count is {inode.nlink}, and it is {'' if inode.nlink else 'not '}waiting to be reaped"


# -- of names --------------------------------------------------------------------------------------------------


def entry_points_to_an_inode(census: Census, entry: Entry) -> str | None:
    """What a name stands for exists."""
    return None if census.index(entry.object) >= 0 else f"{entry.name!r} is object {entry.object}, which is not there"


def entry_is_in_a_directory(census: Census, entry: Entry) -> str | None:
    """Names are in directories."""
    at = census.index(entry.directory)
    if at < 0:
        return f"{entry.name!r} is in object {entry.directory}, which is not there"
    return None if stat.S_ISDIR(census.modes[at]) else f"{entry.name!r} is in what is no directory"


def entry_has_the_type(census: Census, entry: Entry) -> str | None:
    """The type in an entry is that of the inode."""
    at = census.index(entry.object)
    if at < 0 or census.modes[at] >> 12 == entry.type:
        return None
    return f"{entry.name!r} has the type {entry.type}, its object {census.modes[at] >> 12}"


def entry_has_the_hash(census: Census, entry: Entry) -> str | None:
    """An entry lies where the hash of its name says."""
    return None if records.name_hash(entry.name) == entry.cookie else f"{entry.name!r} has the hash of another name"


def entry_name_is_possible(census: Census, entry: Entry) -> str | None:
    """Names are not empty, not too long, and without slash and NUL."""
    name = entry.name
    possible = 0 < len(name) <= NAME_MAX and b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    return None if possible else f"nothing can be called {name!r}"


# -- of extended attributes and data ---------------------------------------------------------------------------


def xattr_has_an_inode(at: int, name: bytes, value: bytes) -> str | None:
    """An attribute belongs to something."""
    return None if at >= 0 else f"the attribute {name!r} belongs to nothing"


def xattr_is_within_bounds(at: int, name: bytes, value: bytes) -> str | None:
    """Attributes have names and values that Linux can return."""
    sane = 0 < len(name) <= NAME_MAX and len(value) <= XATTR_VALUE_MAX
    return None if sane else f"the attribute {name!r} of {len(value)} bytes is out of bounds"


def data_has_a_file(census: Census, at: int, data: Data) -> str | None:
    """Data belongs to a regular file."""
    if at >= 0 and stat.S_ISREG(census.modes[at]):
        return None
    return f"the data up to byte {data.end} belongs to {'nothing' if at < 0 else 'what is no regular file'}"


def data_is_not_empty(census: Census, at: int, data: Data) -> str | None:
    """A data record shows something, and no more than its extent has."""
    shown = extents.decode(data.value)
    fits = shown.extent is None or shown.skip + shown.view <= shown.extent.length
    return None if shown.view > 0 and fits else f"the record up to byte {data.end} shows what it has not"


def data_does_not_overlap(census: Census, at: int, data: Data) -> str | None:
    """Data records do not overlap, nor begin before the file does."""
    before = census.data_end[at] if at >= 0 else 0
    return None if data.start >= before else f"bytes {data.start} to {before} are shown twice"


def data_is_inside_the_file(census: Census, at: int, data: Data) -> str | None:
    """No data record ends beyond the size."""
    if at < 0 or not stat.S_ISREG(census.modes[at]) or data.end <= census.sizes[at]:
        return None
    return f"there is data up to byte {data.end}, the size is {census.sizes[at]}"


# -- of objects, once all is counted -----------------------------------------------------------------------------


def links_are_counted(census: Census, at: int) -> str | None:
    """What is no directory has as many names as its link count says."""
    if stat.S_ISDIR(census.modes[at]) or census.names[at] == census.nlinks[at]:
        return None
    return f"it has {census.names[at]} names, its link count is {census.nlinks[at]}"


def directory_has_one_name(census: Census, at: int) -> str | None:
    """A directory has one name, the root none, a removed one none."""
    if not stat.S_ISDIR(census.modes[at]):
        return None
    expected = 0 if census.objects[at] == ROOT_OBJECT or not census.nlinks[at] else 1
    return None if census.names[at] == expected else f"it has {census.names[at]} names"


def directory_links_are_counted(census: Census, at: int) -> str | None:
    """The link count of a directory is 2 and one for each directory in it; 0 once it is removed."""
    if not stat.S_ISDIR(census.modes[at]):
        return None
    found, says = census.subdirectories[at], census.nlinks[at]
    expected = 2 + found if says or found else 0
    return None if says == expected else f"it has {found} directories in it, its link count is {says}"


def entries_are_counted(census: Census, at: int) -> str | None:
    """The size of a directory is the number of its entries."""
    if not stat.S_ISDIR(census.modes[at]) or census.sizes[at] == census.children[at]:
        return None
    return f"it has {census.children[at]} entries, its size is {census.sizes[at]}"


def parent_is_right(census: Census, at: int) -> str | None:
    """Parent and name hash lead to a name of the object, or are 0; those of a directory are not 0 while it has one."""
    parent = census.parents[at]
    if census.objects[at] == ROOT_OBJECT:
        return None if parent == ROOT_OBJECT else "the root is not its own parent"
    if parent:
        return None if census.named[at] else f"its parent, object {parent}, has no such name for it"
    named_directory = stat.S_ISDIR(census.modes[at]) and census.nlinks[at]
    return "it is a directory that knows no parent" if named_directory else None


def used_is_right(census: Census, at: int) -> str | None:
    """`used` is the sum of what the data records show."""
    found, says = census.found_data[at], census.used[at]
    return None if found == says else f"its data has {found} bytes, {says} are counted"


def xattrs_are_counted(census: Census, at: int) -> str | None:
    """The inode's number of extended attributes is right."""
    found, says = census.found_xattrs[at], census.xattrs[at]
    return None if found == says else f"it has {found} attributes, {says} are counted"


# -- of the whole ------------------------------------------------------------------------------------------------


def root_is_a_directory(census: Census) -> str | None:
    """There is a root, and it is a directory."""
    at = census.index(ROOT_OBJECT)
    return None if at >= 0 and stat.S_ISDIR(census.modes[at]) else "there is no root directory"


def orphans_exist(census: Census) -> str | None:
    """What waits to be reaped is there."""
    lost = [obj for obj in sorted(census.orphans) if census.index(obj) < 0]
    return f"objects {lost[:10]} wait to be reaped and are not there" if lost else None


def object_ids_are_reserved(census: Census) -> str | None:
    """The counter of object ids is above every id in use, so that none is ever given twice."""
    highest = census.objects[-1] if census.objects else 0
    if highest <= ROOT_OBJECT or census.next_object > highest:
        return None
    return f"object {highest} is in use, the next one made would be {census.next_object}"


def directories_hang_together(census: Census) -> str | None:
    """Every directory that has a name is below the root."""
    known = bytearray(len(census.objects))  # 1: below the root (or reported elsewhere), 2: on the way just now
    for start in range(len(known)):
        chain = []
        at = start
        while at >= 0 and not known[at] and census.objects[at] != ROOT_OBJECT and stat.S_ISDIR(census.modes[at]):
            known[at] = 2
            chain.append(at)
            at = census.index(census.parents[at])
        if at >= 0 and known[at] == 2:
            return f"the directories {[census.objects[one] for one in chain[:10]]} are in each other, not in the root"
        for one in chain:
            known[one] = 1
    return None


INODE_INVARIANTS = inode_has_a_type, object_id_is_sane, size_is_sane, target_is_sane, orphan_is_listed
ENTRY_INVARIANTS = (
    entry_points_to_an_inode,
    entry_is_in_a_directory,
    entry_has_the_type,
    entry_has_the_hash,
    entry_name_is_possible,
)
XATTR_INVARIANTS = xattr_has_an_inode, xattr_is_within_bounds
DATA_INVARIANTS = data_has_a_file, data_is_not_empty, data_does_not_overlap, data_is_inside_the_file
OBJECT_INVARIANTS = (
    links_are_counted,
    directory_has_one_name,
    directory_links_are_counted,
    entries_are_counted,
    parent_is_right,
    used_is_right,
    xattrs_are_counted,
)
WHOLE_INVARIANTS = root_is_a_directory, orphans_exist, object_ids_are_reserved, directories_hang_together
