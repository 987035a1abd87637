"""What is different in a tree between two tids. Costs what changed in between, not what is there.

The same object under another name is renamed; another object under the same name (an editor that saves by renaming,
a directory made anew) is changed. A directory that was moved is told once, not again for all that is in it.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator, Iterator

import msgspec

from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.filesystem.past import (
    Name,
    Past,
    Places,
    as_of,
    components,
    finished,
    held,
    inside,
    named,
    net_paced,
    same_data,
    text,
    what_changed,
)
from gavel.keys import records
from gavel.limits import SLICE_RECORDS


class State(msgspec.Struct, frozen=True):
    """One side of a difference. `mtime` in ns since 1970."""

    object: int
    mode: int
    size: int
    mtime: int


class Difference(msgspec.Struct, frozen=True):
    """One path that is different.

    `kind` is added, removed, changed or renamed. `path` is relative to the tree ("." is the tree itself), that of the
    later state if it is there; it begins with `/` where a rename led out of the tree. `what` (of changed and renamed)
    holds one or more of: written, truncated, extended, punched, mode, owner, xattrs, times, target, type, link (one of
    several names came or went).
    """

    kind: str
    path: str
    old_path: str | None
    what: tuple[str, ...]
    before: State | None
    after: State | None


def diff(past: Past, path: bytes, t0: int, t1: int, pfs: int = 0) -> list[Difference]:
    """As diffing, in one go."""
    return finished(diffing(past, path, t0, t1, pfs))


def diffing(past: Past, path: bytes, t0: int, t1: int, pfs: int = 0) -> Generator[None, None, list[Difference]]:
    """The differences of a tree or file (absolute path in the volume) between two tids, sorted by path.

    What has been renamed since is found again by its object. Raises ENOENT for a path that is in neither state.
    Memory: in proportion to the names that changed.
    """
    before, after = Places(as_of(past, t0, pfs)), Places(as_of(past, t1, pfs))
    parts = components(path)
    old, new = before.find(parts), after.find(parts)
    if not old and not new:
        raise failure(errno.ENOENT)
    if not old and before.inode(new) is not None:
        old = new
    elif not new and after.inode(old) is not None:
        new = old
    return (yield from _Comparison(past, pfs, (t0, t1), (before, after), (old, new)).run())


class _Comparison:
    """Two states of one tree. Everything in pairs: (before, after)."""

    def __init__(
        self, past: Past, pfs: int, tids: tuple[int, int], places: tuple[Places, Places], roots: tuple[int, int]
    ) -> None:
        self.past, self.pfs, self.tids = past, pfs, tids
        self.before, self.after = places
        self.roots = roots
        self.trees = self.before.path_of(roots[0]), self.after.path_of(roots[1])
        self.lost: dict[int, list[bytes]] = {}
        self.gained: dict[int, list[bytes]] = {}
        self.rows: list[Difference] = []
        self.told: set[int] = set()

    def run(self) -> Generator[None, None, list[Difference]]:
        """All differences, sorted."""
        old, new = self.roots
        inodes_of = (self.before.inode(old) if old else None, self.after.inode(new) if new else None)
        self._pair(old, new, ".", None)
        if any(inode is not None and inode.is_dir for inode in inodes_of):
            yield from self._names()
            yield from self._renamed()
            yield from self._came_and_went()
            yield from self._changed()
        return sorted(self.rows, key=lambda row: (row.path, row.kind))

    def _names(self) -> Iterator[None]:
        """Which names within the tree came and went."""
        for found in net_paced(self.past, *self.tids, records.all_in(self.pfs, records.ENTRIES)):
            if found is None:
                yield
                continue
            key, was, now = found
            name = Name(records.parse(key).object, records.entry_name(key))
            old, new = held(was), held(now)
            if old == new:
                continue
            path = self.before.path(name) if old else None
            if old and path is not None and inside(path, self.trees[0]) and old != self.roots[0]:
                self.lost.setdefault(old, []).append(path)
            path = self.after.path(name) if new else None
            if new and path is not None and inside(path, self.trees[1]) and new != self.roots[1]:
                self.gained.setdefault(new, []).append(path)

    def _renamed(self) -> Iterator[None]:
        """Pair lost with gained names of the same object; also with names outside of the tree."""
        for count, obj in enumerate(sorted({*self.lost, *self.gained})):
            if count % SLICE_RECORDS == 0:
                yield
            lost, gained = sorted(self.lost.pop(obj, ())), sorted(self.gained.pop(obj, ()))
            while lost and gained:
                self._pair(obj, obj, self._after(gained.pop(0)), self._before(lost.pop(0)))
            if lost and (outside := self._elsewhere(obj, self.after, self.before)) is not None:
                self._pair(obj, obj, text(outside), self._before(lost.pop(0)))
            elif gained and (outside := self._elsewhere(obj, self.before, self.after)) is not None:
                self._pair(obj, obj, self._after(gained.pop(0)), text(outside))
            if lost:
                self.lost[obj] = lost
            if gained:
                self.gained[obj] = gained

    def _elsewhere(self, obj: int, there: Places, here: Places) -> bytes | None:
        """The path that an object has in one state under a name that in the other was not its own."""
        inode = there.inode(obj)
        name = None if inode is None else there.name(obj, inode)
        return None if name is None or here.holds(name) == obj else there.path(name)

    def _came_and_went(self) -> Iterator[None]:
        """What is left: names that are new, names that are gone, and names that hold something else now."""
        gained = {self._after(path): obj for obj, paths in self.gained.items() for path in paths}
        lost = {self._before(path): obj for obj, paths in self.lost.items() for path in paths}
        for count, (shown, obj) in enumerate(gained.items()):
            if count % SLICE_RECORDS == 0:
                yield
            self._pair(lost.pop(shown, 0), obj, shown, None)
        for count, (shown, obj) in enumerate(lost.items()):
            if count % SLICE_RECORDS == 0:
                yield
            self._pair(obj, 0, shown, None)

    def _changed(self) -> Iterator[None]:
        """What kept its name and is different."""
        linked: set[int] = set()
        for found in net_paced(self.past, *self.tids, records.all_in(self.pfs, records.INODES)):
            if found is None:
                yield
                continue
            key, was, now = found
            obj = records.parse(key).object
            old, new = named(was), named(now)
            if obj in self.told or old is None or new is None:
                continue
            if not new.is_dir and (new.nlink > 1 or not new.parent):
                linked.add(obj)
                continue
            name = self.after.name(obj, new)
            path = None if name is None else self.after.path(name)
            if path is not None and inside(path, self.trees[1]):
                self._pair(obj, obj, self._after(path), None)
        if linked and self.roots[1]:
            below = yield from self.after.names_below(self.roots[1], linked)
            for obj, names in below.items():
                for name in names:
                    path = self.after.path(name)
                    if path is not None:
                        self._pair(obj, obj, self._after(path), None)

    def _pair(self, old: int, new: int, shown: str, old_path: str | None) -> None:
        """Add a row for what was the one and is the other object (0 for nothing)."""
        was = self.before.inode(old) if old else None
        now = self.after.inode(new) if new else None
        self.told |= {obj for obj, inode in ((old, was), (new, now)) if obj and inode is not None}
        if old_path is not None and was is not None and now is not None:
            kind, what = "renamed", tuple(self._what(old, was, new, now))
        elif was is not None and now is not None and self._kept(old, new):
            kind, what = "changed", tuple(self._what(old, was, new, now))
            if not what:
                return
        elif was is None and now is None:
            return
        else:
            if was is not None and now is not None:
                self._pair(old, 0, shown, None)
                was = None
            kind = "added" if was is None else "removed"
            linked = self.before.inode(new) if was is None else self.after.inode(old)
            what = () if linked is None else ("link",)
        before = None if was is None else State(old, was.mode, was.size, was.mtime)
        after = None if now is None else State(new, now.mode, now.size, now.mtime)
        self.rows.append(Difference(kind, shown, old_path, what, before, after))

    def _kept(self, old: int, new: int) -> bool:
        """Whether one name with these two objects is one thing changed, rather than one gone and another come."""
        return old == new or self.after.inode(old) is None or self.before.inode(new) is None

    def _what(self, old: int, was: Inode, new: int, now: Inode) -> Iterator[str]:
        if old == new:
            yield from what_changed(self.past, *self.tids, self.pfs, old, was, now)
            return
        if stat.S_IFMT(was.mode) != stat.S_IFMT(now.mode):
            yield "type"
            return
        t0, t1 = self.tids
        words = {
            "written": was.is_file
            and not (was.size == now.size and same_data(self.past, self.pfs, (old, t0), (new, t1))),
            "target": (was.target, was.rdev) != (now.target, now.rdev),
            "mode": was.mode != now.mode,
            "owner": (was.uid, was.gid) != (now.uid, now.gid),
            "xattrs": self._xattrs(self.before, old, was) != self._xattrs(self.after, new, now),
        }
        found = [word for word, true in words.items() if true]
        yield from found
        if not found and not now.is_dir and was.mtime != now.mtime:
            yield "times"

    def _xattrs(self, places: Places, obj: int, inode: Inode) -> list[tuple[bytes, bytes]]:
        if not inode.xattrs:
            return []
        found = places.tx.scan(*records.xattrs(self.pfs, obj))
        return [(records.xattr_name(key), value) for key, value in found]

    def _before(self, path: bytes) -> str:
        return _relative(path, self.trees[0])

    def _after(self, path: bytes) -> str:
        return _relative(path, self.trees[1])


def _relative(path: bytes, tree: bytes | None) -> str:
    assert tree is not None
    return text(path[len(tree) + 1 :]) if path != tree else "."
