"""Undo: what has to be done so that a file or tree is again as it was at a tid.

An undo is a plan first: made from two frozen states, it changes nothing and can be shown. restore.py carries it out,
as ordinary changes in bounded slices, so an undo is undone like anything else: undo to the tid before it.

What is restored:
- an object is found by its id, under whatever name it is now, and goes back to the name it had; one that is gone
  comes back under its own id. Ids are unique for ever and name one thing, and this is that thing again: its past
  goes on where it ended, and whoever still has the file open sees it change. Data is shared with the old extents.
- all of it comes back as it was, mtime included, but for ctime: its object has changed, just now.
- what came into the tree since goes: what is new is removed, what was moved in goes back where it came from.
- a directory on the way to the path that is missing is restored too, without its other content. Where another
  directory has its name now, that one is used.
Nothing outside of the tree is touched, except what was moved into it or out of it.
"""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterator
from operator import attrgetter

import msgspec

from gavel.errors import BadRequest
from gavel.filesystem import directory
from gavel.filesystem.failure import failure
from gavel.filesystem.file_history import holders
from gavel.filesystem.inode import Inode
from gavel.filesystem.log import logging
from gavel.filesystem.past import (
    ROOT,
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
    text,
    what_changed,
)
from gavel.keys import records
from gavel.keys.tid import TID_MAX, micros
from gavel.limits import FLUSH_SECONDS, SLICE_RECORDS

_GOING = frozenset({"deleted", "unlinked"})  # what the removal of a directory does, in the words of log.Event
_PAUSE_US = 2 * FLUSH_SECONDS * 1_000_000  # one who goes on removing commits more often than that


class Action(msgspec.Struct, frozen=True):
    """One thing to do.

    `kind`: restore (bring back what is gone), move (back from `old_path`), remove, change (back what `what` names, as
    in diff). `path` is where the object is then, or where it was removed from.
    """

    kind: str
    path: str
    old_path: str | None
    what: tuple[str, ...]
    object: int
    is_dir: bool
    target: Name | None = None  # the name to give to it, or to take away
    source: Name | None = None  # the name it is moved from
    replaces: int = 0  # what may be unlinked to make place: the plan removes it anyway


class Plan(msgspec.Struct, frozen=True):
    """What an undo does, in the order in which it is done. Made from the states at `to` and at `upto`."""

    path: str
    to: int
    upto: int
    pfs: int
    actions: list[Action]


def plan(past: Past, path: bytes, to: int | None = None, pfs: int = 0) -> Plan:
    """As planning, in one go."""
    return finished(planning(past, path, to, pfs))


def planning(past: Past, path: bytes, to: int | None = None, pfs: int = 0) -> Generator[None, None, Plan]:
    """Plan to bring a path (absolute in the volume; symlinks not followed) back to what it was at `to`.

    Without `to`: to the state before its last change; of a directory that is gone, before its removal began. Raises
    ENOENT for a path that is in neither state, BadRequest where there is nothing to go back to or something is in the
    way, HistoryPruned. Memory: by what there is to do.
    """
    upto = past.last_tid
    if to is None:
        to = (yield from _last_change(past, path, pfs)) - 1
    if to < past.created_tid:
        raise BadRequest(f"{text(path)} has not changed since the beginning; there is nothing to undo")
    actions = yield from _Planner(past, components(path), to, upto, pfs).run()
    return Plan(text(path), to, upto, pfs, actions)


def _last_change(past: Past, path: bytes, pfs: int) -> Generator[None, None, int]:
    """The tid of the last transaction that changed a file or anything in a tree, or took its path away."""
    found = holders(past, path, pfs)
    if not found:
        raise failure(errno.ENOENT)
    obj, since, until = found[-1]
    if until != TID_MAX:
        return (yield from _end_began(past, obj, until, pfs))
    inode = Places(as_of(past, past.last_tid, pfs)).inode(obj)
    if inode is not None and inode.is_dir:
        for newest in logging(past, obj, pfs=pfs):
            if newest is not None:
                return max(newest.tid, since)
            yield
        return since
    return max(past.versions(records.inode(pfs, obj))[-1].create_tid, since)


def _end_began(past: Past, obj: int, until: int, pfs: int) -> Generator[None, None, int]:
    """The tid at which what lost its path at `until` began to go.

    Removing a large directory takes several transactions. Those that only took things away from it, each soon after the
    one before, belong together.
    """
    inode = Places(as_of(past, until - 1, pfs)).inode(obj)
    began = until
    if inode is None or not inode.is_dir:
        return began
    for one in logging(past, obj, 0, until, pfs):
        if one is None:
            yield
            continue
        removing = all(_GOING.issuperset(event.what) for event in one.events)
        if not removing or micros(began) - micros(one.tid) > _PAUSE_US:
            break
        began = one.tid
    return began


class _Planner:
    """The two states, and what was found out about the tree."""

    def __init__(self, past: Past, parts: list[bytes], to: int, upto: int, pfs: int) -> None:
        self.past, self.pfs, self.tids = past, pfs, (to, upto)
        self.before, self.after = Places(as_of(past, to, pfs)), Places(as_of(past, upto, pfs))
        self.parts = parts
        self.old, self.new = self.before.find(parts), self.after.find(parts)
        if not self.old and not self.new:
            raise failure(errno.ENOENT)
        if not self.old and self.before.inode(self.new) is not None:
            self.old = self.new  # it had another name then
        self.tree = self.before.path_of(self.old) if self.old else None
        self.shown: bytes | None = None  # the path that the tree will have
        self.places: list[tuple[int, Name, int, bytes]] = []  # depth, target, object, path: names to give
        self.spare: dict[int, list[Name]] = {}  # names to take away, by what holds them now
        self.removals: list[tuple[int, Action]] = []
        self.homeward: list[Action] = []
        self.alive: dict[int, bool] = {}  # what gets a name: whether it has one now
        self.sources: set[Name] = set()

    def run(self) -> Generator[None, None, list[Action]]:
        """The actions in order: names from the top down, removals from the bottom up, content, directories last."""
        if self.old != ROOT:
            self._root_name()
        root = self.before.inode(self.old) if self.old else None
        whole = root is not None and root.is_dir
        if whole:
            yield from self._names_within()
        placed = yield from self._placements()
        todo = [(obj, name) for obj in sorted(self.spare) for name in self.spare[obj]]
        while todo:
            yield
            todo += self._spared(*todo.pop())
        removals = [action for _, action in sorted(self.removals, key=lambda one: -one[0])]
        doomed = {action.target: action.object for action in removals if not action.is_dir}
        actions = [
            msgspec.structs.replace(action, replaces=doomed.get(action.target, 0)) for action in placed + self.homeward
        ]
        actions += removals
        names = [name for action in actions for name in (action.target, action.source) if whole and name is not None]
        within = {name.directory for name in names if inside(self.before.directory(name.directory), self.tree)}
        contents = yield from self._contents(placed, whole, within)
        return actions + contents

    # -- names -------------------------------------------------------------------------------------------------

    def _root_name(self) -> None:
        """The name of the tree itself."""
        if not self.old:
            self.spare[self.new] = [Name(self.after.find(self.parts[:-1]), self.parts[-1])]
            return
        inode = self.before.inode(self.old)
        name = self.before.name(self.old, inode) if inode is not None else None
        parts = self.parts
        if self.before.find(parts) != self.old:
            assert self.tree is not None and name is not None
            parts = components(self.tree)
        home, self.shown = self._home(parts)
        target = Name(home, parts[-1])
        holder = self.after.holds(target)
        if holder != self.old:
            self.places.append((len(parts) - 1, target, self.old, self.shown))
            if holder:
                self.spare[holder] = [target]

    def _home(self, parts: list[bytes]) -> tuple[int, bytes]:
        """The directory in which a path's last name is to be, restored where it is missing, and the whole path."""
        missing: list[tuple[int, int]] = []
        home, path = ROOT, b""
        for depth in range(len(parts) - 1, 0, -1):
            found = self.after.find(parts[:depth])
            if found:
                path = b"/" + b"/".join(parts[:depth])
                inode = self.after.inode(found)
                if inode is None or not inode.is_dir:
                    where = text(path)
                    raise BadRequest(f"{where} was a directory then and is none now; undo {where} first")
                home = found
                break
            then = self.before.find(parts[:depth])
            elsewhere = self.after.directory(then)
            if elsewhere is not None:
                home, path = then, elsewhere
                break
            missing.append((depth, then))
        for depth, then in reversed(missing):
            path += b"/" + parts[depth - 1]
            self.places.append((depth - 1, Name(home, parts[depth - 1]), then, path))
            home = then
        return home, path + b"/" + parts[-1]

    def _names_within(self) -> Iterator[None]:
        """The names in the tree's directories that are not what they were."""
        for found in net_paced(self.past, *self.tids, records.all_in(self.pfs, records.ENTRIES)):
            if found is None:
                yield
                continue
            key, was, now = found
            name = Name(records.parse(key).object, records.entry_name(key))
            old, new = held(was), held(now)
            if old == new or not inside(self.before.directory(name.directory), self.tree):
                continue
            if old:
                path = self.before.path(name)
                assert path is not None
                self.places.append((path.count(b"/") - 1, name, old, self._shown(path)))
            if new:
                self.spare.setdefault(new, []).append(name)

    def _shown(self, path: bytes) -> bytes:
        """Where a path of the old tree will be."""
        return path if self.shown is None or self.tree is None else self.shown + path[len(self.tree) :]

    def _placements(self) -> Generator[None, None, list[Action]]:
        """Actions that give names: each takes a spare name of its object along, if there is one."""
        actions = []
        places = sorted(self.places, key=lambda place: (place[0], place[3]))
        for count, (_, target, obj, path) in enumerate(places):
            if count % SLICE_RECORDS == 0:
                yield
            inode = self.before.inode(obj)
            assert inode is not None
            now = self.after.inode(obj)
            source = None
            if now is not None:
                source = self._source(obj, now)
            if source is not None:
                self.sources.add(source)
            kind = "restore" if source is None else "move"
            moved = None if source is None else self.after.path(source)
            actions.append(
                Action(
                    kind,
                    text(path),
                    None if moved is None else text(moved),
                    () if now is None or source is not None else ("link",),
                    obj,
                    inode.is_dir,
                    target,
                    source,
                )
            )
            self.alive.setdefault(obj, now is not None)
        return actions

    def _source(self, obj: int, now: Inode) -> Name | None:
        """A name that an object has now and did not have then."""
        spare = self.spare.get(obj)
        if spare:
            return spare.pop(0)
        name = self.after.name(obj, now)
        if name is None or self.before.holds(name) == obj or self.alive.get(obj):
            return None
        return name

    # -- what is not to be there -------------------------------------------------------------------------------

    def _spared(self, obj: int, name: Name) -> list[tuple[int, Name]]:
        """Deal with a name that is not to be here: its object came since, or came from elsewhere.

        Returns the names below that are to be dealt with next.
        """
        then = self.before.inode(obj)
        home = None if then is None else self.before.name(obj, then)
        if then is None or home is None or self.after.holds(home) == obj or inside(self.before.path(home), self.tree):
            return self._remove(obj, name)  # new, or one link too many
        was, path = self.before.path(home), self.after.path(name)
        assert was is not None and path is not None
        if self.after.holds(home) or self.after.directory(home.directory) is None:
            raise BadRequest(f"{text(path)} was {text(was)} then, where it cannot go back to; move it elsewhere first")
        self.homeward.append(Action("move", text(was), text(path), (), obj, then.is_dir, home, name))
        return []

    def _remove(self, obj: int, name: Name) -> list[tuple[int, Name]]:
        now, path = self.after.inode(obj), self.after.path(name)
        assert now is not None and path is not None
        what = ("link",) if not now.is_dir and now.nlink > 1 else ()
        action = Action("remove", text(path), None, what, obj, now.is_dir, name)
        self.removals.append((path.count(b"/"), action))
        if not now.is_dir:
            return []
        below = [(entry.object, Name(obj, entry.name)) for entry in directory.entries(self.after.tx, obj)]
        return [(child, place) for child, place in below if place not in self.sources]  # those go to their old places

    # -- content -----------------------------------------------------------------------------------------------

    def _contents(self, placed: list[Action], whole: bool, worked_in: set[int]) -> Generator[None, None, list[Action]]:
        """What to do to the objects themselves; those that come back are restored with their names.

        The directories that were worked in get their times back, whatever they are now.
        """
        gone = {action.object for action in placed if not self.alive[action.object]}
        files: list[Action] = []
        directories: list[Action] = []
        touched = yield from self._touched(whole)
        for count, obj in enumerate(sorted({*touched, *gone, *worked_in})):
            if count % SLICE_RECORDS == 0:
                yield
            old, new = self.before.inode(obj), self.after.inode(obj)
            assert old is not None
            what = () if new is None else tuple(what_changed(self.past, *self.tids, self.pfs, obj, old, new))
            if old.is_dir and not what and (new is None or new.mtime != old.mtime or obj in worked_in):
                what = ("times",)
            path = self.before.path_of(obj)
            if (what and obj not in gone) or (old.is_dir and what):
                shown = text(self._shown(path) if path is not None and inside(path, self.tree) else path or b"")
                action = Action("change", shown, None, what, obj, old.is_dir)
                (directories if old.is_dir else files).append(action)
        order = attrgetter("path")
        return sorted(files, key=order) + sorted(directories, key=order, reverse=True)

    def _touched(self, whole: bool) -> Generator[None, None, set[int]]:
        """The objects of the old tree whose inode is not what it was."""
        if not whole:
            return {self.old} if self.old and self.after.inode(self.old) is not None else set()
        touched: set[int] = set()
        linked: set[int] = set()
        for found in net_paced(self.past, *self.tids, records.all_in(self.pfs, records.INODES)):
            if found is None:
                yield
                continue
            obj, inode = records.parse(found.key).object, named(found.old)
            if inode is None:
                continue
            if inside(self.before.path_of(obj), self.tree):
                touched.add(obj)
            elif not inode.is_dir and (inode.nlink > 1 or not inode.parent):
                linked.add(obj)
        below = yield from self.before.names_below(self.old, linked)
        return touched | below.keys()
