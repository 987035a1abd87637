"""The transactions that touched a tree, newest first, each with the paths it changed and how.

Going back in time without an index of time: changes are fetched window by window, each window twice as long as the
last. At most LOG_CHANGES_MAX changes are held; where a window has more, its older transactions are left for the next.
So the newest come at once, and the cost of a whole history is that of reading it some tens of times at worst.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from heapq import heappop, heappush

import msgspec

from gavel.filesystem.inode import Inode
from gavel.filesystem.past import Name, Past, Places, as_of, held, inside, named, text, what_changed
from gavel.history.versions import Change
from gavel.keys import records
from gavel.limits import LOG_CHANGES_MAX, SLICE_RECORDS

_FIRST_WINDOW = 60_000_000 << 8  # a minute, in tids


class Event(msgspec.Struct, frozen=True):
    """What a transaction did to one object under one path.

    `what` holds one or more of: created, deleted, renamed, linked, unlinked, written, truncated, extended, punched,
    mode, owner, xattrs, times. `old_path` is set where it was renamed. Paths are absolute in the volume.
    """

    path: str
    old_path: str | None
    object: int
    what: tuple[str, ...]


class Logged(msgspec.Struct, frozen=True):
    """One transaction and what it did within the tree, sorted by path."""

    tid: int
    events: list[Event]


def log(past: Past, tree: int, since: int = 0, until: int | None = None, pfs: int = 0) -> Iterator[Logged]:
    """As logging, without the pauses."""
    return (one for one in logging(past, tree, since, until, pfs) if one is not None)


def logging(past: Past, tree: int, since: int = 0, until: int | None = None, pfs: int = 0) -> Iterator[Logged | None]:
    """The transactions in (since, until] that changed anything in the tree below an object, newest first, lazily.

    A file may stand for the tree. A file with several names is told under the one that its inode knows, and missed
    where only another one is in the tree. Goes back to the horizon, not beyond. Yields None from time to time.
    """
    ceiling = past.last_tid if until is None else min(until, past.last_tid)
    bottom = max(since, past.horizon, past.created_tid - 1)
    width = _FIRST_WINDOW
    while ceiling > bottom:
        floor = max(bottom, ceiling - width)
        floor, found = yield from _window(past, floor, ceiling, pfs)
        for tid in sorted(found, reverse=True):
            events = _events(past, tree, tid, found[tid], pfs)
            yield Logged(tid, events) if events else None
        ceiling, width = floor, width * 2


def _window(
    past: Past, floor: int, ceiling: int, pfs: int
) -> Generator[None, None, tuple[int, dict[int, list[Change]]]]:
    """The changes of inodes and names in (floor, ceiling] by transaction, and the floor that could be kept to."""
    found: dict[int, list[Change]] = {}
    oldest: list[int] = []
    held = 0
    for locality in (records.INODES, records.ENTRIES):
        for count, change in enumerate(past.changes(floor, ceiling, *records.all_in(pfs, locality)), 1):
            if count % SLICE_RECORDS == 0:
                yield
            tid = change.tid
            if tid <= floor:
                continue
            if tid not in found:
                found[tid] = []
                heappush(oldest, tid)
            found[tid].append(change)
            held += 1
            while held > LOG_CHANGES_MAX and len(oldest) > 1:
                floor = heappop(oldest)
                held -= len(found.pop(floor))
    return floor, found


class _Transaction:
    """One transaction taken apart: what it did to which inode, and which names came and went."""

    def __init__(self, past: Past, tid: int, changes: list[Change], pfs: int) -> None:
        self.before = Places(as_of(past, tid - 1, pfs))
        self.after = Places(as_of(past, tid, pfs))
        self.inodes: dict[int, tuple[Inode | None, Inode | None]] = {}
        self.lost: dict[int, list[bytes]] = {}
        self.gained: dict[int, list[bytes]] = {}
        for change in changes:
            key = records.parse(change.key)
            if key.locality == records.INODES:
                self.inodes[key.object] = named(change.old), named(change.new)
                continue
            old, new = held(change.old), held(change.new)
            if old != new:
                name = Name(key.object, records.entry_name(change.key))
                self._note(self.lost, old, self.before.path(name))
                self._note(self.gained, new, self.after.path(name))

    @staticmethod
    def _note(names: dict[int, list[bytes]], obj: int, path: bytes | None) -> None:
        if obj and path is not None:
            names.setdefault(obj, []).append(path)


def _events(past: Past, tree: int, tid: int, changes: list[Change], pfs: int) -> list[Event]:
    did = _Transaction(past, tid, changes, pfs)
    roots = did.before.path_of(tree), did.after.path_of(tree)
    events: list[Event] = []

    def tell(obj: int, old_path: bytes | None, path: bytes | None, what: list[str]) -> None:
        touched = obj == tree or inside(old_path, roots[0]) or inside(path, roots[1])
        shown = old_path if path is None else path
        if what and touched and shown is not None:
            moved = None if path is None or old_path in (None, path) else text(old_path or b"")
            events.append(Event(text(shown), moved, obj, tuple(what)))

    for obj in sorted({*did.inodes, *did.lost, *did.gained}):
        old, new = did.inodes.get(obj, (None, None))
        lost, gained = sorted(did.lost.get(obj, ())), sorted(did.gained.get(obj, ()))
        changed = [] if old is None or new is None else what_changed(past, tid - 1, tid, pfs, obj, old, new)
        for old_path, path in zip(lost, gained, strict=False):
            tell(obj, old_path, path, ["renamed", *changed])
        for path in lost[len(gained) :]:
            tell(obj, path, None, ["deleted"] if new is None else ["unlinked", *changed])
        for path in gained[len(lost) :]:
            tell(obj, None, path, ["created"] if old is None else ["linked", *changed])
        if not lost and not gained and changed:
            tell(obj, did.before.path_of(obj), did.after.path_of(obj), changed)
    return sorted(events, key=lambda event: (event.path, event.object))
