"""Files and their history out of the remains of a volume whose roots, map or headers are gone.

Records come from the pieces of both trees (layers.py) and, on top, from the log of the last two checkpoints; of keys
whose leaf is lost, from older leaves and whatever else is left of the log. Of one key the version with the highest
create_tid is the present one, unless it is known to have been closed. What is told of a file:

- whole: its inode, all its data records (their bytes add up to the inode's `used`) and every extent are there;
- partial: something of that is missing; what is missing reads as zeros;
- lost: it has a name, and nothing else of it is left.

Memory, beyond what Remains says: some 500 bytes for each object and name, the records of one file, one leaf of each
tree, and at most limits.RECOVER_RECORDS records of older log frames (only where leaves are lost).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from operator import itemgetter
from struct import error as struct_error
from typing import NamedTuple

from gavel.errors import Damaged, DeviceFailed
from gavel.filesystem import directory
from gavel.filesystem import inode as inodes
from gavel.filesystem.inode import Inode
from gavel.history.past import split_key
from gavel.history.versions import Version
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import NAME_MAX, RECOVER_RECORDS
from gavel.media import extents
from gavel.upkeep.job import Progress
from gavel.upkeep.layers import END, Layers
from gavel.upkeep.remains import Decode, Remains

_DEPTH_MAX = 4096  # directories above one another; more is a loop
_EVERY = 4096  # records between two words of progress

Events = dict[bytes, list[tuple[int, bytes | None]]]


class Name(NamedTuple):
    """Where an object was to be found; `until` is None where it still is."""

    parent: int
    name: bytes
    until: int | None


class Piece(NamedTuple):
    """Bytes of a file from `start` on; `data` is None for what is lost, and `why` says how."""

    start: int
    size: int
    data: bytes | memoryview | None
    why: str = ""


class Past(NamedTuple):
    """A state of a file: what it was from `tid` on."""

    tid: int
    until: int | None
    inode: Inode
    records: list[tuple[int, bytes]]  # (end, value) of its data


class Salvage:
    """What can be recovered. Exhaust `gather()` first."""

    def __init__(self, remains: Remains, layers: Layers, decode: Decode, pfs: int = 0) -> None:
        self._remains, self._layers, self._decode = remains, layers, decode
        self._pfs = pfs
        self._events: Events = {}
        self._keys: list[bytes] = []  # of the events, sorted
        self.overflow = False  # older log frames held more than could be looked at
        self.inodes: dict[int, Inode] = {}  # the present ones
        self.names: dict[int, list[Name]] = {}

    # -- records -----------------------------------------------------------------------------------------------

    def gather(self) -> Iterator[Progress]:
        """Read log, inodes and names."""
        for tid, keys, values in self._remains.recent(self._decode):
            for key, value in zip(keys, values, strict=True):
                self._events.setdefault(key, []).append((tid, value))
            yield Progress(len(self._events), None, "records", "log")
        if self._layers.lost or not self._layers.certain:
            yield from self._gather_old()
        for events in self._events.values():
            events.sort(key=itemgetter(0))
        self._keys = sorted(self._events)
        seen = 0
        for locality in (records.INODES, records.ENTRIES):
            for key, versions in self.versions(*records.all_in(self._pfs, locality)):
                self._take(key, versions)
                seen += 1
                if seen % _EVERY == 0:
                    yield Progress(seen, None, "records", "inodes and names")

    def _gather_old(self) -> Iterator[Progress]:
        count = 0
        for tid, keys, values in self._remains.old(self._decode):
            for key, value in zip(keys, values, strict=True):
                if self._layers.wants(key):
                    self._events.setdefault(key, []).append((tid, value))
                    count += 1
            if count > RECOVER_RECORDS:
                self.overflow = True
                return
            yield Progress(count, None, "records", "older log")

    def versions(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, list[Version]]]:
        """Every record in [lo, hi) with all versions that are known of it, oldest first."""
        layers = self._layers
        first, last = bisect_left(self._keys, lo), bisect_left(self._keys, hi)
        live = ((key, tid, None, value) for key, tid, value in layers.records(layers.current, lo, hi))
        closed = (
            (*split_key(stored), created, value) for stored, created, value in layers.records(layers.past, lo, hi)
        )
        past = ((key, created, deleted, value) for key, deleted, created, value in closed if lo <= key < hi)
        logged = ((key, -1, None, b"") for key in self._keys[first:last])
        together = merge(live, past, logged, key=itemgetter(0))
        for key, found in groupby(together, key=itemgetter(0)):
            versions = self._of_key(key, [one[1:] for one in found if one[1] >= 0])
            if versions:
                yield key, versions

    def _of_key(self, key: bytes, found: list[tuple[int, int | None, bytes]]) -> list[Version]:
        """What is known of a key, put in order: a version ends where the next begins, or where it was closed."""
        made = {created: value for created, _, value in found}
        ends = {created: deleted for created, deleted, _ in found if deleted is not None}
        events = self._events.get(key, [])
        gone = [tid for tid, value in events if value is None]
        held: bytes | None = None
        for tid, value in events:
            if value is not None and value != held:
                made.setdefault(tid, value)
            held = value
        order = sorted(made)
        if not order:
            return []
        versions: list[Version] = []
        for created, after in zip(order, [*order[1:], None], strict=True):
            candidates = [tid for tid in gone if tid > created]
            if after is not None:
                candidates.append(after)
            if created in ends:
                candidates.append(ends[created])
            versions.append(Version(key, created, min(candidates, default=None), made[created]))
        if len(versions) > 1:
            versions = _without_repetitions(versions)
        return versions

    def _take(self, key: bytes, versions: list[Version]) -> None:
        try:
            obj = records.parse(key).object
            if key[records.HEAD_SIZE - 1] == records.INODE and len(key) == records.HEAD_SIZE:
                if versions[-1].delete_tid is None:
                    inode = inodes.decode(versions[-1].value)
                    if inode.nlink:
                        self.inodes[obj] = inode
            elif key[records.HEAD_SIZE - 1] == records.ENTRY:
                name = records.entry_name(key)
                if not 0 < len(name) <= NAME_MAX or b"/" in name or b"\0" in name or name in (b".", b".."):
                    return
                for version in versions:
                    target, _ = directory.unpack_entry(version.value)
                    self.names.setdefault(target, []).append(Name(obj, name, version.delete_tid))
        except (Damaged, struct_error, IndexError):
            return

    # -- names -------------------------------------------------------------------------------------------------

    def paths(self, obj: int) -> list[tuple[bytes, ...]]:
        """The present paths of an object, as components; none where its name or a directory above is lost."""
        found = []
        for name in self.names.get(obj, ()):
            if name.until is None:
                above = self._above(name.parent, True)
                if above is not None:
                    found.append((*above, name.name))
        return found

    def last_path(self, obj: int) -> tuple[bytes, ...] | None:
        """The path of an object that may be deleted: where it, and what was above it, was last found."""
        names = self.names.get(obj)
        if not names:
            return None
        name = max(names, key=lambda one: END_OF_TIME if one.until is None else one.until)
        above = self._above(name.parent, False)
        return None if above is None else (*above, name.name)

    def _above(self, obj: int, present: bool) -> tuple[bytes, ...] | None:
        parts: list[bytes] = []
        while obj != ROOT_OBJECT:
            names = self.names.get(obj, ())
            name = max(names, key=lambda one: END_OF_TIME if one.until is None else one.until, default=None)
            if name is None or (present and name.until is not None) or len(parts) > _DEPTH_MAX:
                return None
            parts.append(name.name)
            obj = name.parent
        return tuple(reversed(parts))

    def xattrs(self) -> Iterator[tuple[int, bytes, bytes]]:
        """The present extended attributes of all objects: object, name, value."""
        for key, versions in self.versions(*records.all_in(self._pfs, records.XATTRS)):
            if versions[-1].delete_tid is None:
                yield records.parse(key).object, records.xattr_name(key), versions[-1].value

    # -- data --------------------------------------------------------------------------------------------------

    def files(self) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
        """Every object that has data now: its id and its data records (end, value), in order."""
        for obj, history in self._data():
            live = [(end, versions[-1].value) for end, versions in history if versions[-1].delete_tid is None]
            if live:
                yield obj, live

    def _data(self) -> Iterator[tuple[int, list[tuple[int, list[Version]]]]]:
        def object_of(found: tuple[bytes, list[Version]]) -> int:
            return int.from_bytes(found[0][3:11], "big")

        every = self.versions(*records.all_in(self._pfs, records.DATA))
        fitting = (one for one in every if len(one[0]) == records.HEAD_SIZE + 8)
        for obj, found in groupby(fitting, key=object_of):
            yield obj, [(records.extent_end(key), versions) for key, versions in found]

    def states(self) -> Iterator[tuple[int, list[Past]]]:
        """Every regular file with all states that its inode tells of, oldest first."""
        data = self._data()
        held = next(data, None)
        for key, versions in self.versions(*records.all_in(self._pfs, records.INODES)):
            obj = records.parse(key).object
            while held is not None and held[0] < obj:
                held = next(data, None)
            own = held[1] if held is not None and held[0] == obj else []
            states = []
            for version in versions:
                try:
                    inode = inodes.decode(version.value)
                except Damaged:
                    continue
                if inode.is_file:
                    tid = version.create_tid
                    states.append(Past(tid, version.delete_tid, inode, _as_of(own, tid)))
            if states:
                yield obj, states

    def outdated(self, obj: int) -> bool:
        """Whether what is told of an object may be of an earlier time, as the newest leaf with it is lost."""
        lost = self._layers.lost
        return records.inode(self._pfs, obj) in lost or lost.overlaps(*records.extents(self._pfs, obj))

    @property
    def certain(self) -> bool:
        """See Layers."""
        return self._layers.certain

    def pieces(self, found: list[tuple[int, bytes]]) -> Iterator[Piece]:
        """The bytes that data records show, verified; what cannot be had is a piece without data."""
        for end, value in found:
            try:
                shown = extents.decode(value)
            except Damaged as error:
                yield Piece(end, 0, None, error.fact)
                continue
            start = end - shown.view
            if start < 0:
                yield Piece(end, 0, None, "a record that begins before the file")
            elif shown.extent is None:
                yield Piece(start, shown.view, shown.inline)
            else:
                yield self._restored(start, shown, shown.extent)

    def _restored(self, start: int, shown: extents.DataView, extent: extents.Extent) -> Piece:
        try:
            raw = extents.restore(extent, self._remains.data(extent.place, extent.stored))
        except (Damaged, DeviceFailed) as error:
            return Piece(start, shown.view, None, error.fact)
        if shown.skip + shown.view > len(raw):
            return Piece(start, shown.view, None, "a record that shows more than its extent has")
        return Piece(start, shown.view, memoryview(raw)[shown.skip : shown.skip + shown.view])


END_OF_TIME = 1 << 64


def _as_of(history: list[tuple[int, list[Version]]], tid: int) -> list[tuple[int, bytes]]:
    return [
        (end, version.value)
        for end, versions in history
        for version in versions
        if version.create_tid <= tid and (version.delete_tid is None or version.delete_tid > tid)
    ]


def _without_repetitions(versions: list[Version]) -> list[Version]:
    """A commit that writes what is there already makes no version."""
    kept = [versions[0]]
    for version in versions[1:]:
        last = kept[-1]
        if last.value == version.value and last.delete_tid == version.create_tid:
            kept[-1] = last._replace(delete_tid=version.delete_tid)
        else:
            kept.append(version)
    return kept


assert len(END) > NAME_MAX + records.HEAD_SIZE + 17
