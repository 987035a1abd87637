"""What the Python API answers with: plain immutable values with documented fields."""

from __future__ import annotations

import os
import stat as modes
from typing import TYPE_CHECKING, Final

import msgspec

from gavel.filesystem.inode import Inode
from gavel.limits import NAME_MAX

if TYPE_CHECKING:
    from gavel.client.tree import ReadTree

_BILLION = 1_000_000_000


class Stat(msgspec.Struct, frozen=True, gc=False):
    """Attributes of an object under the names of os.stat_result; times in ns with suffix `_ns`, else in seconds."""

    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_blocks: int
    st_rdev: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_birthtime_ns: int
    st_dev: int = 0
    st_blksize: int = 128 * 1024

    @property
    def st_atime(self) -> float:
        """Last access, seconds since 1970."""
        return self.st_atime_ns / _BILLION

    @property
    def st_mtime(self) -> float:
        """Last change of the content, seconds since 1970."""
        return self.st_mtime_ns / _BILLION

    @property
    def st_ctime(self) -> float:
        """Last change of the attributes, seconds since 1970."""
        return self.st_ctime_ns / _BILLION

    @property
    def st_birthtime(self) -> float:
        """Creation, seconds since 1970."""
        return self.st_birthtime_ns / _BILLION

    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return modes.S_ISDIR(self.st_mode)

    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return modes.S_ISREG(self.st_mode)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return modes.S_ISLNK(self.st_mode)


def stat_of(obj: int, inode: Inode) -> Stat:
    """The attributes of an inode."""
    return Stat(
        st_mode=inode.mode,
        st_ino=obj,
        st_nlink=inode.nlink,
        st_uid=inode.uid,
        st_gid=inode.gid,
        st_size=inode.size,
        st_blocks=-(-inode.used // 512),
        st_rdev=inode.rdev,
        st_atime_ns=inode.atime,
        st_mtime_ns=inode.mtime,
        st_ctime_ns=inode.ctime,
        st_birthtime_ns=inode.btime,
    )


class DirEntry:
    """One name of a directory, as os.DirEntry: what kind it is without a stat, the stat when asked."""

    __slots__ = ("_kind", "_obj", "_tree", "name", "path")

    def __init__(self, tree: ReadTree, name: str, path: str, obj: int, kind: int) -> None:
        self.name, self.path = name, path
        self._tree, self._obj, self._kind = tree, obj, kind

    def inode(self) -> int:
        """The object id; unique forever."""
        return self._obj

    def is_symlink(self) -> bool:
        """Whether the name is a symbolic link itself."""
        return modes.S_ISLNK(self._kind)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory, or a link to one."""
        if self.is_symlink():
            return follow_symlinks and self._tree.is_dir(self.path)
        return modes.S_ISDIR(self._kind)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file, or a link to one."""
        if self.is_symlink():
            return follow_symlinks and self._tree.is_file(self.path)
        return modes.S_ISREG(self._kind)

    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """Its attributes; raises FileNotFoundError if it is gone by now, or a dangling link."""
        return self._tree.stat(self.path, follow_symlinks=follow_symlinks)

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class StatVfs(msgspec.Struct, frozen=True):
    """Space of the volume under the names of os.statvfs_result, in blocks of f_bsize bytes."""

    f_bsize: int
    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_favail: int
    f_flag: int
    f_namemax: int


_BLOCK: Final = 4096  # unit in which statvfs counts


def statvfs_of(total: int, free: int, reserve: int, read_only: bool = False) -> StatVfs:
    """The sizes of a volume, in bytes, as statvfs tells them; `reserve` is free, but not for everybody."""
    return StatVfs(
        f_bsize=_BLOCK, f_frsize=_BLOCK, f_blocks=total // _BLOCK, f_bfree=(free + reserve) // _BLOCK,
        f_bavail=free // _BLOCK, f_files=0, f_ffree=0, f_favail=0, f_flag=os.ST_RDONLY if read_only else 0,
        f_namemax=NAME_MAX,
    )  # fmt: skip


class Info(msgspec.Struct, frozen=True):
    """What a volume is and how full; sizes in bytes, tids as ints."""

    label: str
    identity: str  # 32 hex digits, unique to this volume
    size: int
    free: int
    live: int  # file data of the present; what several files share counts for each of them
    history: int  # file data that only the past has
    log: int
    trees: int
    reserve: int  # kept back so that deleting works on a full volume
    created_tid: int
    last_tid: int
    horizon: int  # as-of access reaches back to here
    records: int  # true today
    past_records: int  # closed versions
    read_only: bool


class Change(msgspec.Struct, frozen=True):
    """What one transaction did to the watched tree."""

    tid: int
    paths: tuple[str, ...]
    kinds: tuple[tuple[str, ...], ...]  # of each path: what happened to it, in the words of log.Event


class Progress(msgspec.Struct, frozen=True):
    """How far a long operation is; `total` is None where nobody can know."""

    done: int
    total: int | None
    what: str = ""
    pause: float = 0.0  # seconds after which it is worth looking again; the work goes on by itself meanwhile
