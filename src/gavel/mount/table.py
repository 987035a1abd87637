"""Which request goes to which handler, and which are refused for good.

The kernel takes ENOSYS as "never ask again", for the life of the mount. So it is answered on purpose or not at all;
every opcode for which it is stands in `NEVER`, with what the kernel does from then on (Linux fs/fuse, 6.18).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from gavel.mount import abi
from gavel.mount.attributes import Attributes
from gavel.mount.data import Data
from gavel.mount.names import Names
from gavel.mount.reaper import Reaper
from gavel.mount.session import Handler, Header, Reply

NEVER: Final[dict[int, str]] = {
    abi.OPEN: "opens files by itself, keeping its cache; no RELEASE follows. O_TRUNC comes as SETATTR in any case",
    abi.OPENDIR: "opens directories by itself, keeping a cache of the listing; no RELEASEDIR follows",
    abi.CREATE: "makes files by MKNOD and opens them by itself",
    abi.FLUSH: "writes back its cache on close, but asks nothing after",
    abi.POLL: "takes files for always ready, as they are",
}

# Opcodes that the kernel cannot or need not send as we agreed with it, and the errno if it does.
REFUSED: Final[dict[int, int]] = {
    abi.IOCTL: errno.ENOTTY,
    # With POSIX_LOCKS and FLOCK_LOCKS not announced the kernel keeps locks itself: one kernel is the whole world here.
    # On a cluster they will be announced, and answered here.
    abi.GETLK: errno.EOPNOTSUPP,
    abi.SETLK: errno.EOPNOTSUPP,
    abi.SETLKW: errno.EOPNOTSUPP,
    abi.BMAP: errno.EOPNOTSUPP,  # only for filesystems on a block device
    abi.ACCESS: errno.EOPNOTSUPP,  # default_permissions: the kernel checks by itself
    abi.SETUPMAPPING: errno.EOPNOTSUPP,  # DAX
    abi.REMOVEMAPPING: errno.EOPNOTSUPP,
}


def handlers(names: Names, attributes: Attributes, data: Data, reaper: Reaper) -> list[Handler]:
    """The table, indexed by opcode. What is in no table gets EOPNOTSUPP: for this time only."""
    table: list[Handler] = [_refuse(errno.EOPNOTSUPP)] * abi.OPCODES
    for opcode in NEVER:
        table[opcode] = _refuse(errno.ENOSYS)
    for opcode, code in REFUSED.items():
        table[opcode] = _refuse(code)
    known: dict[int, Handler] = {
        abi.LOOKUP: names.lookup,
        abi.FORGET: reaper.forget(names.forget),
        abi.BATCH_FORGET: reaper.batch_forget(names.batch_forget),
        abi.GETATTR: attributes.getattr,
        abi.SETATTR: attributes.setattr,
        abi.STATX: attributes.statx,
        abi.READLINK: names.readlink,
        abi.SYMLINK: names.symlink,
        abi.MKNOD: names.mknod,
        abi.MKDIR: names.mkdir,
        abi.TMPFILE: names.tmpfile,
        abi.UNLINK: names.unlink,
        abi.RMDIR: names.rmdir,
        abi.RENAME: names.rename,
        abi.RENAME2: names.rename2,
        abi.LINK: names.link,
        abi.READDIR: names.readdir,
        abi.READDIRPLUS: names.readdirplus,
        abi.READ: data.read,
        abi.WRITE: data.write,
        abi.FALLOCATE: data.fallocate,
        abi.LSEEK: data.lseek,
        abi.COPY_FILE_RANGE: data.copy_file_range,
        abi.COPY_FILE_RANGE_64: data.copy_file_range_64,
        abi.FSYNC: data.fsync,
        abi.FSYNCDIR: data.fsync,
        abi.SYNCFS: data.fsync,
        abi.STATFS: attributes.statfs,
        abi.SETXATTR: attributes.setxattr,
        abi.GETXATTR: attributes.getxattr,
        abi.LISTXATTR: attributes.listxattr,
        abi.REMOVEXATTR: attributes.removexattr,
        abi.RELEASE: _done,
        abi.RELEASEDIR: _done,
        abi.DESTROY: _done,
        abi.INTERRUPT: _silence,  # every request is answered in its turn; an fsync is not interrupted
        abi.NOTIFY_REPLY: _silence,
    }
    for opcode, handler in known.items():
        table[opcode] = handler
    return table


def _refuse(code: int) -> Callable[[Header, memoryview], Reply]:
    return lambda header, body: code


def _done(header: Header, body: memoryview) -> Reply:
    return b""


def _silence(header: Header, body: memoryview) -> Reply:
    return None
