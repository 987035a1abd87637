"""The versions of one file: every transaction that changed it, from the first to the last, also when it is gone.

A path may have belonged to several objects one after the other: an editor that saves by renaming makes a new one each
time. The history of a path is that of all of them, each from its own beginning (under whatever name) to the moment
it lost this path.

Below the horizon a version is looked at as of the first kept state that shows it, and compared with the kept one
before; whether an object was gone between two such states nobody knows, so it is not said.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

import msgspec

from gavel.filesystem import directory
from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.filesystem.past import ROOT, Past, Places, as_of, components, seen_at, text, what_changed
from gavel.keys import records
from gavel.keys.tid import TID_MAX


class FileVersion(msgspec.Struct, frozen=True):
    """A file as one transaction left it.

    `what` holds one or more of: created, restored, written, truncated, extended, punched, renamed, linked, unlinked,
    mode, owner, xattrs, times, entries, deleted. Of a deleted file, size and mode are the last ones. `path` is None
    where no name is known (one of several links was removed). `old_path` is set where it was renamed.
    """

    tid: int
    object: int
    path: str | None
    old_path: str | None
    size: int
    mode: int
    mtime: int  # ns since 1970
    what: tuple[str, ...]


class Holder(NamedTuple):
    """An object had a path during [since, until)."""

    object: int
    since: int
    until: int


def holders(past: Past, path: bytes, pfs: int = 0) -> list[Holder]:
    """All objects that ever had a path, in order of time; a path has no two at once. Symlinks are not followed."""
    found = [Holder(ROOT, 0, TID_MAX)]
    for component in components(path):
        below = []
        for parent, since, until in found:
            for version in past.versions(records.entry(pfs, parent, component)):
                lo = max(since, version.create_tid)
                hi = min(until, TID_MAX if version.delete_tid is None else version.delete_tid)
                if lo < hi:
                    below.append(Holder(directory.unpack_entry(version.value)[0], lo, hi))
        found = _joined(sorted(below, key=lambda holder: holder.since))
    return found


def _joined(found: list[Holder]) -> list[Holder]:
    """Adjacent times of the same object as one."""
    joined: list[Holder] = []
    for holder in found:
        if joined and joined[-1].object == holder.object and joined[-1].until == holder.since:
            joined[-1] = joined[-1]._replace(until=holder.until)
        else:
            joined.append(holder)
    return joined


def file_history(past: Past, path: bytes, pfs: int = 0) -> list[FileVersion]:
    """The versions of a path (absolute in the volume), oldest first; raises ENOENT for one that never was."""
    found = holders(past, path, pfs)
    if not found:
        raise failure(errno.ENOENT)
    until: dict[int, int] = {}
    for holder in found:
        until[holder.object] = holder.until
    rows = [row for obj, end in until.items() for row in object_history(past, obj, end, pfs)]
    return sorted(rows, key=lambda row: (row.tid, row.what[0] != "deleted", row.object))


def object_history(past: Past, obj: int, until: int = TID_MAX, pfs: int = 0) -> list[FileVersion]:
    """The versions of an object that began up to `until`, under whatever name, oldest first."""
    rows: list[FileVersion] = []
    known: Inode | None = None  # the last version with a name
    path: bytes | None = None
    gone = True
    closed = looked = 0
    for version in past.versions(records.inode(pfs, obj)):
        tid, inode = version.create_tid, inodes.decode(version.value)
        moment = seen_at(past, version)
        if tid > until:
            break
        if moment is None:
            continue
        if past.horizon <= closed < tid and closed and not gone and known is not None:
            rows.append(_row(closed, obj, path, None, known, ["deleted"]))
            gone = True
        closed = version.delete_tid or 0
        if not inode.nlink:
            if not gone and known is not None:
                rows.append(_row(tid, obj, path, None, known, ["deleted"]))
            gone = True
            continue
        old_path, what = None, ["created" if known is None else "restored"]
        before, looked = tid - 1 if tid > past.horizon else looked, moment
        places = Places(as_of(past, moment, pfs))
        if gone or known is None:
            path = places.path_of(obj)
        else:
            what = _names(known, inode) + what_changed(past, before, moment, pfs, obj, known, inode)
            if what and what[0] in ("renamed", "linked", "unlinked"):
                old_path, path = (path if what[0] == "renamed" else None), places.path_of(obj)
        if what:
            rows.append(_row(tid, obj, path, old_path, inode, what))
        known, gone = inode, False
    if closed and closed <= until and not gone and known is not None:
        rows.append(_row(closed, obj, path, None, known, ["deleted"]))
    return rows


def _names(old: Inode, new: Inode) -> list[str]:
    """What became of an object's names, as far as its inode tells."""
    if not new.is_dir and old.nlink != new.nlink:
        return ["linked" if old.nlink < new.nlink else "unlinked"]
    if (old.parent, old.name_hash) != (new.parent, new.name_hash):
        return ["renamed"]
    return ["entries"] if new.is_dir and (old.size, old.mtime) != (new.size, new.mtime) else []


def _row(tid: int, obj: int, path: bytes | None, old: bytes | None, inode: Inode, what: list[str]) -> FileVersion:
    return FileVersion(
        tid,
        obj,
        None if path is None else text(path),
        None if old is None else text(old),
        inode.size,
        inode.mode,
        inode.mtime,
        tuple(what),
    )
