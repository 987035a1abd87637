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
from operator import attrgetter

import msgspec

from gavel.errors import BadRequest
from gavel.filesystem import directory
from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.filesystem.file_history import holders
from gavel.filesystem.inode import Inode
from gavel.filesystem.log import log
from gavel.filesystem.past import ROOT, Name, Past, Places, as_of, components, inside, net, text, what_changed
from gavel.keys import records
from gavel.keys.tid import TID_MAX
from gavel.keys.tid import text as tid_text


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
    """Plan to bring a path (absolute in the volume; symlinks not followed) back to what it was at `to`.

    Without `to`: to the state before its last change. Raises ENOENT for a path that is in neither state, BadRequest
    where there is nothing to go back to or something is in the way, HistoryPruned. Memory: by what there is to do.
    """
    upto = past.last_tid
    if to is None:
        to = last_change(past, path, pfs) - 1
    if to < past.created_tid:
        raise BadRequest(f"{text(path)} has not changed since the beginning; there is nothing to undo")
    return Plan(text(path), to, upto, pfs, _Planner(past, components(path), to, upto, pfs).run())


def last_change(past: Past, path: bytes, pfs: int = 0) -> int:
    """The tid of the last transaction that changed a file or anything in a tree, or took its path away."""
    found = holders(past, path, pfs)
    if not found:
        raise failure(errno.ENOENT)
    obj, since, until = found[-1]
    if until != TID_MAX:
        return until
    inode = Places(as_of(past, past.last_tid, pfs)).inode(obj)
    if inode is not None and inode.is_dir:
        newest = next(log(past, obj, pfs=pfs), None)
        return since if newest is None else max(newest.tid, since)
    return max(past.versions(records.inode(pfs, obj))[-1].create_tid, since)


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

    def run(self) -> list[Action]:
        """The actions in order: names from the top down, removals from the bottom up, content, directories last."""
        if self.old != ROOT:
            self._root_name()
        root = self.before.inode(self.old) if self.old else None
        whole = root is not None and root.is_dir
        if whole:
            self._names_within()
        placed = self._placements()
        for obj in sorted(self.spare):
            for name in self.spare[obj]:
                self._spared(obj, name)
        removals = [action for _, action in sorted(self.removals, key=lambda one: -one[0])]
        doomed = {action.target: action.object for action in removals if not action.is_dir}
        actions = [
            msgspec.structs.replace(action, replaces=doomed.get(action.target, 0)) for action in placed + self.homeward
        ]
        actions += removals
        names = [name for action in actions for name in (action.target, action.source) if whole and name is not None]
        within = {name.directory for name in names if inside(self.before.directory(name.directory), self.tree)}
        return actions + self._contents(placed, whole, within)

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
        if len(parts) == 1:
            return ROOT, b"/" + parts[0]
        found = self.after.find(parts[:-1])
        if found:
            inode = self.after.inode(found)
            if inode is None or not inode.is_dir:
                where = text(b"/" + b"/".join(parts[:-1]))
                raise BadRequest(f"{where} was a directory then and is none now; undo {where} first")
            return found, b"/" + b"/".join(parts)
        missing = self.before.find(parts[:-1])
        path = self.after.directory(missing)
        if path is None:
            above, path = self._home(parts[:-1])
            self.places.append((len(parts) - 2, Name(above, parts[-2]), missing, path))
        return missing, path + b"/" + parts[-1]

    def _names_within(self) -> None:
        """The names in the tree's directories that are not what they were."""
        for key, was, now in net(self.past, *self.tids, records.all_in(self.pfs, records.ENTRIES)):
            name = Name(records.parse(key).object, records.entry_name(key))
            old, new = _object(was), _object(now)
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

    def _placements(self) -> list[Action]:
        """Actions that give names: each takes a spare name of its object along, if there is one."""
        actions = []
        for _, target, obj, path in sorted(self.places, key=lambda place: (place[0], place[3])):
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

    def _spared(self, obj: int, name: Name) -> None:
        """Deal with a name that is not to be here: its object came since, or came from elsewhere."""
        then = self.before.inode(obj)
        now = self.after.inode(obj)
        if then is None:
            self._remove(obj, name, now)
            return
        home = self.before.name(obj, then)
        if home is None or self.after.holds(home) == obj or inside(self.before.path(home), self.tree):
            self._remove(obj, name, now)  # one link too many
            return
        was, path = self.before.path(home), self.after.path(name)
        assert was is not None and path is not None
        if self.after.holds(home) or self.after.directory(home.directory) is None:
            raise BadRequest(f"{text(path)} was {text(was)} then, where it cannot go back to; move it elsewhere first")
        moved = Action("move", text(was), text(path), (), obj, then.is_dir, home, name)
        self.homeward.append(moved)

    def _remove(self, obj: int, name: Name, now: Inode | None) -> None:
        is_dir = now is not None and now.is_dir
        if is_dir:
            for entry in directory.entries(self.after.tx, obj):
                below = Name(obj, entry.name)
                if below not in self.sources:  # else it goes from here to the place it had in the tree
                    self._spared(entry.object, below)
        path = self.after.path(name)
        assert path is not None
        what = ("link",) if now is not None and not is_dir and now.nlink > 1 else ()
        action = Action("remove", text(path), None, what, obj, is_dir, name)
        self.removals.append((path.count(b"/"), action))

    # -- content -----------------------------------------------------------------------------------------------

    def _contents(self, placed: list[Action], whole: bool, worked_in: set[int]) -> list[Action]:
        """What to do to the objects themselves; those that come back are restored with their names.

        The directories that were worked in get their times back, whatever they are now.
        """
        gone = {action.object for action in placed if not self.alive[action.object]}
        files: list[Action] = []
        directories: list[Action] = []
        for obj in sorted({*self._touched(whole), *gone, *worked_in}):
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

    def _touched(self, whole: bool) -> set[int]:
        """The objects of the old tree whose inode is not what it was."""
        if not whole:
            return {self.old} if self.old and self.after.inode(self.old) is not None else set()
        touched: set[int] = set()
        linked: set[int] = set()
        for key, was, _ in net(self.past, *self.tids, records.all_in(self.pfs, records.INODES)):
            obj = records.parse(key).object
            inode = None if was is None else inodes.decode(was)
            if inode is None or not inode.nlink:
                continue
            if inside(self.before.path_of(obj), self.tree):
                touched.add(obj)
            elif not inode.is_dir and (inode.nlink > 1 or not inode.parent):
                linked.add(obj)
        return touched | self.before.names_below(self.old, linked).keys()


def describe(made: Plan) -> str:
    """A plan in one sentence."""
    counts = {kind: sum(action.kind == kind for action in made.actions) for kind in ("restore", "move", "remove")}
    changed = sum(action.kind == "change" for action in made.actions)
    told = ", ".join(f"{count} to {kind}" for kind, count in {**counts, "change": changed}.items() if count)
    return f"{made.path} back to {tid_text(made.to)}: {told or 'nothing to do'}"


def _object(value: bytes | None) -> int:
    return 0 if value is None else int(directory.unpack_entry(value)[0])
