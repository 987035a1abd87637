"""Recovered files on the host: DIR/files as they were, DIR/nameless, DIR/history.

Nothing is written through a symbolic link: links are made last, and every file is created new. Names come from the
medium and were checked to be single components.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gavel.filesystem.inode import Inode
from gavel.keys import tid as tids
from gavel.keys.records import ROOT_OBJECT
from gavel.upkeep.recover import Past, Salvage

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_WHY_MAX = 300
_KINDS = {
    stat.S_IFCHR: "a device file",
    stat.S_IFBLK: "a device file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class Report(NamedTuple):
    """What became of a file: whole, partial or lost. `missing` bytes read as zeros; a lost file is not written."""

    path: str
    state: str
    size: int
    missing: int
    why: str = ""


class Host:
    """Writes what a Salvage has into a directory."""

    def __init__(self, directory: Path, salvage: Salvage) -> None:
        self.reports: list[Report] = []
        self.states = 0  # past states written
        self.refused = 0  # extended attributes that the host does not take
        self._salvage = salvage
        self._base = os.fsencode(directory)
        self._files = os.path.join(self._base, b"files")
        self._owner = os.geteuid() == 0

    def write(self, history: bool) -> Iterator[int]:
        """Write everything; yields how many objects are done. Raises OSError when the host cannot take it."""
        os.makedirs(self._files, exist_ok=True)
        salvage, done = self._salvage, 0
        links: list[tuple[int, Inode]] = []
        directories: list[tuple[bytes, Inode]] = []
        for obj, inode in salvage.inodes.items():
            if inode.is_dir:
                for path in [()] if obj == ROOT_OBJECT else salvage.paths(obj):
                    where = self._place(path)
                    self._make_directory(where)
                    directories.append((where, inode))
            elif inode.is_file:
                if not inode.used:
                    self._write_file(obj, inode, [])
                    done += 1
                    yield done
            else:
                links.append((obj, inode))
        seen = set()
        for obj, found in salvage.files():
            known = salvage.inodes.get(obj)
            if known is None or known.is_file:
                seen.add(obj)
                self._write_file(obj, known, found)
                done += 1
                yield done
        self._report_lost(seen)
        if history:
            for obj, states in salvage.states():
                self._write_states(obj, states)
                yield done
        for obj, inode in links:
            self._make_other(obj, inode)
        self._set_xattrs()
        for where, inode in reversed(directories):
            self._dress(where, inode)

    def _set_xattrs(self) -> None:
        """Attributes of what was written, ACLs among them, as far as the host takes them."""
        for obj, name, value in self._salvage.xattrs():
            for path in [()] if obj == ROOT_OBJECT else self._salvage.paths(obj):
                try:
                    os.setxattr(self._place(path), name, value, follow_symlinks=False)
                except (OSError, ValueError):
                    self.refused += 1

    def _report_lost(self, seen: set[int]) -> None:
        """Files of which nothing was written: no data, or no inode."""
        salvage = self._salvage
        for obj, inode in salvage.inodes.items():
            if inode.is_file and inode.used and obj not in seen:
                self._report(self._names(obj), "lost", inode.size, inode.used, "no data of it is left")
        for obj in salvage.names:
            if obj not in salvage.inodes and obj not in seen:
                for path in salvage.paths(obj):
                    self._report([self._place(path)], "lost", 0, 0, "its inode is gone")

    # -- one file ----------------------------------------------------------------------------------------------

    def _write_file(self, obj: int, inode: Inode | None, found: list[tuple[int, bytes]]) -> None:
        names = self._names(obj)
        where = self._fresh(names[0], obj)
        size = inode.size if inode is not None else found[-1][0]
        got, whys = self._write_content(where, size, found)
        if inode is not None:
            self._dress(where, inode)
        for other in names[1:]:
            self._make_directory(os.path.dirname(other))
            os.link(where, self._fresh(other, obj), follow_symlinks=False)
        used = inode.used if inode is not None else got
        missing = max(used - got, 0)
        if inode is None:
            whys.append("its inode is gone, so its size is a guess")
        elif missing and not whys:
            whys.append("data records are gone")
        if not self._salvage.paths(obj):
            whys.append("its present name is gone")
        if self._salvage.outdated(obj):
            whys.append("the newest of its records are lost, so it may be of an earlier time")
        if not whys and not missing:
            self._report([where, *names[1:]], "whole", size, 0)
        elif used and not got:
            os.unlink(where)
            self._report([where, *names[1:]], "lost", size, missing, "; ".join(whys))
        else:
            self._report([where, *names[1:]], "partial", size, missing, "; ".join(whys))

    def _write_content(self, where: bytes, size: int, found: list[tuple[int, bytes]]) -> tuple[int, list[str]]:
        """Bytes that were written, and what went wrong."""
        got = 0
        whys: list[str] = []
        handle = os.open(where, _NEW, 0o600)
        try:
            os.ftruncate(handle, size)
            for piece in self._salvage.pieces(found):
                if piece.data is None:
                    if len(whys) < 3:
                        whys.append(f"bytes {piece.start} to {piece.start + piece.size}: {piece.why}"[:_WHY_MAX])
                    continue
                done = 0
                while done < piece.size:
                    done += os.pwrite(handle, memoryview(piece.data)[done:], piece.start + done)
                got += piece.size
        finally:
            os.close(handle)
        return got, whys

    def _write_states(self, obj: int, states: list[Past]) -> None:
        """Past states of a file under its last name and the tid at which they began."""
        path = self._salvage.last_path(obj) or (b"object-%d" % obj,)
        present = obj in self._salvage.inodes
        for state in states:
            if state.until is None and present:
                continue
            name = path[-1] + b"@@" + tids.text(state.tid).encode()
            where = os.path.join(self._base, b"history", *path[:-1], name)
            self._make_directory(os.path.dirname(where))
            where = self._fresh(where, obj)
            got, whys = self._write_content(where, state.inode.size, state.records)
            self._dress(where, state.inode)
            self.states += 1
            missing = max(state.inode.used - got, 0)
            if whys or missing:
                why = "; ".join(whys) or "data records are gone"
                self._report([where], "partial", state.inode.size, missing, why)

    def _make_other(self, obj: int, inode: Inode) -> None:
        """What is neither file nor directory; a device file, which only root may make, is told as lost to others."""
        for name in self._names(obj):
            where = self._fresh(name, obj)
            try:
                if inode.is_symlink:
                    os.symlink(inode.target, where)
                else:
                    os.mknod(where, inode.mode, inode.rdev)
            except PermissionError:
                self._report([where], "lost", 0, 0, f"only root may make {_KINDS[stat.S_IFMT(inode.mode)]}")
                continue
            self._dress(where, inode)
            self._report([where], "whole", inode.size, 0)

    # -- names and attributes ----------------------------------------------------------------------------------

    def _place(self, path: tuple[bytes, ...]) -> bytes:
        return os.path.join(self._files, *path)

    def _names(self, obj: int) -> list[bytes]:
        """Where an object goes; its directories are made."""
        names = [self._place(path) for path in self._salvage.paths(obj)]
        if not names:
            last = self._salvage.last_path(obj) if obj in self._salvage.inodes else None
            names = [self._place(last) if last else os.path.join(self._base, b"nameless", b"object-%d" % obj)]
        for name in names:
            self._make_directory(os.path.dirname(name))
        return names

    def _make_directory(self, where: bytes) -> None:
        os.makedirs(where, exist_ok=True)

    def _fresh(self, where: bytes, obj: int) -> bytes:
        """The place itself, or beside it when something else has it."""
        return where if not os.path.lexists(where) else where + b"~%d" % obj

    def _dress(self, where: bytes, inode: Inode) -> None:
        if self._owner:
            os.lchown(where, inode.uid, inode.gid)
        if not inode.is_symlink:
            os.chmod(where, inode.mode & 0o7777)
        os.utime(where, ns=(inode.atime, inode.mtime), follow_symlinks=False)

    def _report(self, places: list[bytes], state: str, size: int, missing: int, why: str = "") -> None:
        for place in places:
            name = os.path.relpath(place, self._base).decode(errors="backslashreplace")
            self.reports.append(Report(name, state, size, missing, why))
