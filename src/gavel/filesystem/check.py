"""fsck: whether the records of a filesystem agree with each other. The invariants are in invariants.py.

One pass over all records in key order, so inodes are met before names, names before data. Nothing is repaired: what
a check finds is damage or a bug, and undo has the past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import error as struct_error
from typing import NamedTuple

import msgspec

from gavel.errors import Damaged
from gavel.filesystem import directory, path
from gavel.filesystem import inode as inodes
from gavel.filesystem.census import Census
from gavel.filesystem.glance import Glance
from gavel.filesystem.invariants import (
    DATA_INVARIANTS,
    ENTRY_INVARIANTS,
    INODE_INVARIANTS,
    OBJECT_INVARIANTS,
    WHOLE_INVARIANTS,
    XATTR_INVARIANTS,
    Data,
    Entry,
)
from gavel.keys import records
from gavel.keys.records import RecordKey
from gavel.limits import SLICE_RECORDS
from gavel.media import extents
from gavel.transaction.transaction import Transaction

_ROOT_TYPE_OF = {records.INODES: records.INODE, records.ENTRIES: records.ENTRY, records.XATTRS: records.XATTR}

_ROOT_TYPES = frozenset({records.ORPHAN, records.COUNTER, records.SNAPSHOT, records.CONFIG})
_TYPE_OF = {records.INODES: records.INODE, records.ENTRIES: records.ENTRY, records.XATTRS: records.XATTR}


class Problem(NamedTuple):
    """One broken invariant: its name, the object concerned (0 for none), where that is, and what is wrong."""

    invariant: str
    object: int
    where: str  # a path, or "object N" where there is none
    text: str


def check(
    tx: Transaction, deep: bool = False, progress: Callable[[int], None] | None = None
) -> Iterator[Problem | None]:
    """Every problem of the filesystem that a transaction sees; None from time to time, for others to run meanwhile.

    The view has to stay as it is until the end: one as of a tid. `deep` reads all file data and verifies its sums.
    `progress` is told how many records have been looked at. Memory: see census.py.
    """
    run = _Run(tx, deep)
    seen = 0
    glance = run.glance.record
    for key, value in tx.scan(*records.whole(tx.pfs)):
        if not glance(key, value):
            yield from run.record(key, value)
        elif deep and key[2] == records.DATA:
            yield from run.verified(records.parse(key).object, records.extent_end(key), extents.decode(value))
        seen += 1
        if seen % SLICE_RECORDS == 0:
            if progress is not None:
                progress(seen)
            yield None
    for at in range(len(run.census.objects)):
        if not run.glance.object(at):
            yield from run.report(OBJECT_INVARIANTS, run.census.objects[at], run.census, at)
        if at % SLICE_RECORDS == 0:
            yield None
    yield from run.report(WHOLE_INVARIANTS, 0, run.census)
    if progress is not None:
        progress(seen)


class _Run:
    """One pass."""

    def __init__(self, tx: Transaction, deep: bool) -> None:
        self.tx, self.deep = tx, deep
        self.census = Census()
        self.glance = Glance(self.census)

    def report(self, invariants: tuple[Callable[..., str | None], ...], obj: int, *facts: object) -> Iterator[Problem]:
        """The problems that these functions find."""
        for invariant in invariants:
            text = invariant(*facts)
            if text is not None:
                yield self.problem(invariant.__name__, obj, text)

    def problem(self, invariant: str, obj: int, text: str) -> Problem:
        """A problem with the path of its object."""
        where = None
        if obj:
            try:
                where = path.path_of(self.tx, obj)
            except (Damaged, struct_error):
                where = None
        return Problem(invariant, obj, where or (f"object {obj}" if obj else "the filesystem"), text)

    def record(self, key: bytes, value: bytes) -> Iterator[Problem]:
        """Look at one record."""
        found = records.parse(key)
        try:
            if found.locality == records.ROOT and found.type in _ROOT_TYPES:
                self._root(found, value)
            elif found.locality == records.DATA and found.type == records.EXTENT and len(found.subkey) == 8:
                yield from self._data(found, value)
            elif _TYPE_OF.get(found.locality) != found.type:
                yield self.problem("record_is_known", found.object, f"nobody knows a record {key.hex()}")
            elif found.type == records.INODE:
                inode = inodes.decode(value)
                self.census.add(found.object, inode)
                yield from self.report(INODE_INVARIANTS, found.object, self.census, found.object, inode)
            elif found.type == records.ENTRY:
                yield from self._entry(found, key, value)
            else:
                yield from self._xattr(found, key, value)
        except (msgspec.DecodeError, msgspec.ValidationError, struct_error, Damaged, OverflowError) as error:
            why = error.fact if isinstance(error, Damaged) else error
            yield self.problem("record_is_readable", found.object, f"the record {key.hex()} is not readable: {why}")

    def _root(self, key: RecordKey, value: bytes) -> None:
        if key.type == records.ORPHAN:
            self.census.orphans.add(int.from_bytes(key.subkey, "big"))
        elif key.type == records.COUNTER and key.subkey == records.OBJECTS + b"\0":
            self.census.next_object = int.from_bytes(value, "big")

    def _entry(self, key: RecordKey, raw: bytes, value: bytes) -> Iterator[Problem]:
        census = self.census
        obj, kind = directory.unpack_entry(value)
        entry = Entry(key.object, records.entry_cookie(raw), records.entry_name(raw), obj, kind)
        yield from self.report(ENTRY_INVARIANTS, key.object, census, entry)
        parent, at = census.index(key.object), census.index(obj)
        if parent >= 0:
            census.children[parent] += 1
            census.subdirectories[parent] += kind == directory.TYPE_DIRECTORY
        if at >= 0:
            census.names[at] += 1
            if (census.parents[at], census.hashes[at]) == (entry.directory, entry.cookie):
                census.named[at] = 1

    def _xattr(self, key: RecordKey, raw: bytes, value: bytes) -> Iterator[Problem]:
        at = self.census.index(key.object)
        if at >= 0:
            self.census.found_xattrs[at] += 1
        yield from self.report(XATTR_INVARIANTS, key.object, at, records.xattr_name(raw), value)

    def _data(self, key: RecordKey, value: bytes) -> Iterator[Problem]:
        census = self.census
        shown = extents.decode(value)
        end = int.from_bytes(key.subkey, "big")
        data = Data(end - shown.view, end, value)
        at = census.index(key.object)
        yield from self.report(DATA_INVARIANTS, key.object, census, at, data)
        if at >= 0:
            census.found_data[at] += shown.view
            census.data_end[at] = end
        if self.deep:
            yield from self.verified(key.object, end, shown)

    def verified(self, obj: int, end: int, shown: extents.DataView) -> Iterator[Problem]:
        """The file data that a record shows verifies."""
        if shown.extent is not None:
            try:
                self.tx.load(shown.extent)
            except Damaged as damage:
                yield self.problem("data_verifies", obj, f"bytes {end - shown.view} to {end}: {damage.fact}")
