"""The Adapter over the Python API, and volumes in memory to try it on."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from gavel.client.cluster import Cluster
from gavel.client.fs import Fs
from gavel.client.results import Stat
from gavel.client.transactions import Transaction
from gavel.client.tree import Tree
from gavel.filesystem import superblock
from gavel.filesystem.caller import Caller
from gavel.keys import tid
from gavel.media.device import Device
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine
from gavel.sim.device import SimDevice
from tests.contracts.adapter import Status

WHO = Caller(0, 0, 0o022)
VOLUME_SIZE = 256 * 1024**2


def formatted(size: int = VOLUME_SIZE) -> SimDevice:
    """A device in memory with a fresh volume: a copy of one that is made once."""
    return _formatted(size).crash(keep=1.0)  # everything on it is durable


@cache
def _formatted(size: int) -> SimDevice:
    device = SimDevice(size)
    now = tid.make(time.time_ns() // 1000)
    Volume.format(device, identity=bytes(range(16)), salt=1, label="test", created_tid=now)
    engine = Engine(device)
    engine.write(superblock.make_root, WHO)
    engine.close_now()
    return device


def opened(device: Device, **how: Any) -> Fs:
    """The volume on a device, opened as gavel.open() does."""
    return Fs(Engine(device, **how), WHO)


class Api:
    """The calls of a Tree: of Fs, or of a transaction on it."""

    features = frozenset({"umask", "sizes", "owners", "trusted", "acl"})

    def __init__(self, fs: Fs | Cluster, tree: Tree) -> None:
        self.fs, self.tree = fs, tree

    def tick(self) -> None:
        if isinstance(self.tree, Transaction):
            self.tree._inside.outer.now += 1000  # all of a transaction happens at one time, unless a test needs another

    def umask(self, mask: int) -> None:
        self.tree._caller = self.tree._caller._replace(umask=mask)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self.tree.mkdir(path, mode)

    def mknod(self, path: str, mode: int, device: int = 0) -> None:
        self.tree.mknod(path, mode, device)

    def symlink(self, target: str, path: str) -> None:
        self.tree.symlink(target, path)

    def link(self, path: str, new: str) -> None:
        self.tree.link(path, new, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        self.tree.unlink(path)

    def rmdir(self, path: str) -> None:
        self.tree.rmdir(path)

    def rename(self, path: str, new: str, flags: int = 0) -> None:
        self.tree.rename(path, new, flags=flags)

    def readlink(self, path: str) -> str:
        return self.tree.readlink(path)

    def listdir(self, path: str) -> list[str]:
        return self.tree.listdir(path)

    def stat(self, path: str, follow: bool = False) -> Status:
        return _status(self.tree.stat(path, follow_symlinks=follow))

    def chmod(self, path: str, mode: int) -> None:
        self.tree.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self.tree.chown(path, uid, gid, follow_symlinks=False)

    def utime(self, path: str, atime: int, mtime: int) -> None:
        self.tree.utime(path, ns=(atime, mtime), follow_symlinks=False)

    def truncate(self, path: str, size: int) -> None:
        self.tree.truncate(path, size)

    def getxattr(self, path: str, name: str) -> bytes:
        return self.tree.getxattr(path, name, follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        self.tree.setxattr(path, name, value, flags, follow_symlinks=False)

    def listxattr(self, path: str) -> list[str]:
        return self.tree.listxattr(path, follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        self.tree.removexattr(path, name, follow_symlinks=False)

    def write(self, path: str, data: bytes) -> None:
        self.tree.write_bytes(path, data)

    def read(self, path: str) -> bytes:
        return self.tree.read_bytes(path)


def _status(at: Stat) -> Status:
    return Status(
        at.st_ino, at.st_mode, at.st_nlink, at.st_uid, at.st_gid, at.st_size, at.st_rdev,
        at.st_atime_ns, at.st_mtime_ns, at.st_ctime_ns,
    )  # fmt: skip
