"""The kernel's FUSE protocol: structures, opcodes and flags, as far as the mount uses them.

After <linux/fuse.h>, versions 7.31 to 7.45; everything is little-endian here because the machines are. Each Struct is
named like the kernel's struct without the `fuse_` in front; `ATTR` is the part that several of them share.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

MAJOR: Final = 7
MINOR_LEAST: Final = 31
MINOR_MOST: Final = 45

ROOT: Final = 1

# Opcodes.
LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = 1, 2, 3, 4, 5, 6
MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, OPEN, READ, WRITE, STATFS, RELEASE = 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18
FSYNC, SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR, FLUSH, INIT, OPENDIR, READDIR = 20, 21, 22, 23, 24, 25, 26, 27, 28
RELEASEDIR, FSYNCDIR, GETLK, SETLK, SETLKW, ACCESS, CREATE, INTERRUPT, BMAP, DESTROY = (
    29,
    30,
    31,
    32,
    33,
    34,
    35,
    36,
    37,
    38,
)
IOCTL, POLL, NOTIFY_REPLY, BATCH_FORGET, FALLOCATE, READDIRPLUS, RENAME2, LSEEK = 39, 40, 41, 42, 43, 44, 45, 46
COPY_FILE_RANGE, SETUPMAPPING, REMOVEMAPPING, SYNCFS, TMPFILE, STATX, COPY_FILE_RANGE_64 = 47, 48, 49, 50, 51, 52, 53
OPCODES: Final = 64  # length of a table indexed by opcode

# Notifications.
NOTIFY_INVAL_INODE, NOTIFY_INVAL_ENTRY, NOTIFY_PRUNE = 2, 3, 9
MINOR_OF_PRUNE: Final = 45

# Headers.
IN_HEADER = Struct("<IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extensions (8-byte units), padding
OUT_HEADER = Struct("<IiQ")  # length, minus errno, unique (for notifications: code, 0)
HEADER_SIZE = IN_HEADER.size

# Attributes: ino, size, blocks, atime, mtime, ctime, their ns, mode, nlink, uid, gid, rdev, blksize, flags.
ATTR = "QQQqqqIIIIIIIIII"
ENTRY_OUT = Struct("<QQQQII" + ATTR)  # node, generation, entry valid, attr valid, both ns, attributes
ATTR_OUT = Struct("<QII" + ATTR)  # valid, ns, padding, attributes
OPEN_OUT = Struct("<QIi")  # handle, flags, backing
DIRENT = Struct("<QQII")  # ino, offset, name length, type; then the name, padded to 8
DIRENTPLUS = Struct("<QQQQII" + ATTR + "QQII")  # an ENTRY_OUT and a DIRENT
STATX_OUT = Struct("<QII16x" + "IIQIIIHHQQQQ" + "qIi" * 4 + "IIII112x")
STATFS_OUT = Struct("<QQQQQIIII24x")  # blocks, free, available, files, free files, bsize, namelen, frsize
SIZE_OUT = Struct("<II")  # of a WRITE or COPY_FILE_RANGE, or of an xattr that was only asked for its size
OFFSET_OUT = Struct("<Q")
INIT_OUT = Struct("<IIIIHHIIHHIIH22x")
# major, minor, max_readahead, flags, max_background, congestion, max_write, time_gran, max_pages, -, flags2, -, -

# Requests.
INIT_IN = Struct("<IIII")  # major, minor, max_readahead, flags; since 7.36 flags2
INIT_FLAGS2 = Struct("<I")
FORGET_IN = Struct("<Q")
FORGET_ONE = Struct("<QQ")
BATCH_FORGET_IN = Struct("<II")
SETATTR_IN = Struct("<IIQQQqqqIIIIIIII")
# valid, -, handle, size, lock owner, atime, mtime, ctime, their ns, mode, -, uid, gid, -
MKNOD_IN = Struct("<IIII")  # mode, rdev, umask, -
MKDIR_IN = Struct("<II")  # mode, umask
CREATE_IN = Struct("<IIII")  # flags, mode, umask, open flags
RENAME_IN = Struct("<Q")
RENAME2_IN = Struct("<QII")
LINK_IN = Struct("<Q")
READ_IN = Struct("<QQIIQII")  # handle, offset, size, flags, lock owner, open flags, -
WRITE_IN = Struct("<QQIIQII")
FALLOCATE_IN = Struct("<QQQII")  # handle, offset, length, mode, -
LSEEK_IN = Struct("<QQII")  # handle, offset, whence, -
COPY_FILE_RANGE_IN = Struct("<QQQQQQQ")  # handle, offset, other node, other handle, other offset, length, flags
SETXATTR_IN = Struct("<IIII")  # size, flags, setxattr flags, - (the last two since SETXATTR_EXT)
GETXATTR_IN = Struct("<II")  # size, -
STATX_IN = Struct("<IIQII")

# Notifications out.
INVAL_INODE_OUT = Struct("<Qqq")  # node, offset, length
INVAL_ENTRY_OUT = Struct("<QII")  # directory, name length, flags; then the name and a NUL
PRUNE_OUT = Struct("<II8x")  # count; then the nodes
NODE = Struct("<Q")

# What SETATTR changes.
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
SET_ATIME_NOW, SET_MTIME_NOW, SET_CTIME, SET_KILL_SUIDGID = 1 << 7, 1 << 8, 1 << 10, 1 << 11

WRITE_KILL_SUIDGID: Final = 1 << 2
SETXATTR_ACL_KILL_SGID: Final = 1 << 0
STATX_BASIC_AND_BTIME: Final = 0xFFF

# Flags of INIT; those from bit 32 on travel in flags2.
ASYNC_READ, BIG_WRITES, DONT_MASK, AUTO_INVAL_DATA, DO_READDIRPLUS = 1 << 0, 1 << 5, 1 << 6, 1 << 12, 1 << 13
READDIRPLUS_AUTO, ASYNC_DIO, WRITEBACK_CACHE, NO_OPEN_SUPPORT = 1 << 14, 1 << 15, 1 << 16, 1 << 17
PARALLEL_DIROPS, POSIX_ACL, MAX_PAGES, CACHE_SYMLINKS = 1 << 18, 1 << 20, 1 << 22, 1 << 23
NO_OPENDIR_SUPPORT, EXPLICIT_INVAL_DATA = 1 << 24, 1 << 25
HANDLE_KILLPRIV_V2, SETXATTR_EXT, INIT_EXT = 1 << 28, 1 << 29, 1 << 30
