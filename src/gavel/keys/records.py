"""Record keys as order-preserving bytes: `pfs | locality | object | type | subkey`, all big-endian.

Locality keeps inodes together, apart from names and apart from data, so that `ls -l` is one short scan. Keys are
*prefix-free*: within one (locality, type) the subkey either has a fixed width or ends in NUL, which no name
contains. So a key with a tid appended sorts like the pair (key, tid), which is how the past is kept.

A directory entry's subkey begins with a 63-bit hash of its name. The hash is the readdir cookie: it stays valid
however the directory changes, and costs the mount no table.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

# Localities, in key order.
ROOT, INODES, ENTRIES, XATTRS, DATA = range(5)

# Record types. A locality holds one of them, but for ROOT.
INODE, ENTRY, XATTR, EXTENT, ORPHAN, COUNTER, SNAPSHOT, CONFIG, OUTCOME = range(1, 10)

# In place of a pseudo-filesystem's number: records of the group of masters, whose past is not kept. They sort last.
GROUP = 0xFFFF
UNVERSIONED = GROUP.to_bytes(2, "big")  # keys from here on
SESSION_SIZE = 16  # bytes of a client session's name

ROOT_OBJECT = 1  # the root directory of every pseudo-filesystem
OBJECTS = b"objects"  # the counter of object ids: the first one that is not reserved

_HEAD = Struct(">HBQB")
_WIDE = Struct(">HBQBQ")
HEAD_SIZE = _HEAD.size
_head, _wide, _cookie = _HEAD.pack, _WIDE.pack, Struct(">Q").unpack_from

COOKIE_MAX = 2**63 - 1
_FIRST_COOKIE = 3  # 1 and 2 are "." and ".."


class RecordKey(NamedTuple):
    """A key taken apart."""

    pfs: int
    locality: int
    object: int
    type: int
    subkey: bytes


def parse(key: bytes) -> RecordKey:
    """Take a key apart; raises struct.error for one that is too short."""
    pfs, locality, obj, kind = _HEAD.unpack_from(key)
    return RecordKey(pfs, locality, obj, kind, key[HEAD_SIZE:])


def after(prefix: bytes) -> bytes:
    """The smallest key above every key that begins with this prefix."""
    number = int.from_bytes(prefix, "big") + 1
    return number.to_bytes(len(prefix), "big")


def inode(pfs: int, obj: int) -> bytes:
    """The inode of an object."""
    return _head(pfs, INODES, obj, INODE)


def name_hash(name: bytes) -> int:
    """The 63-bit hash that places a name within its directory; also its readdir cookie, so never below 3."""
    return max(xxh3_64_intdigest(name) >> 1, _FIRST_COOKIE)


def entry(pfs: int, directory: int, name: bytes) -> bytes:
    """The directory entry of a name."""
    return _wide(pfs, ENTRIES, directory, ENTRY, name_hash(name)) + name + b"\0"


def entry_name(key: bytes) -> bytes:
    """The name in a directory entry's key."""
    return key[HEAD_SIZE + 8 : -1]


def entry_cookie(key: bytes) -> int:
    """The readdir cookie in a directory entry's key."""
    cookie: int = _cookie(key, HEAD_SIZE)[0]
    return cookie


def entries(pfs: int, directory: int, cookie: int = 0) -> tuple[bytes, bytes]:
    """The range of a directory's entries whose cookie is above `cookie`."""
    return _wide(pfs, ENTRIES, directory, ENTRY, cookie + 1), _head(pfs, ENTRIES, directory, ENTRY + 1)


def entries_hashed(pfs: int, directory: int, cookie: int) -> tuple[bytes, bytes]:
    """The range of the entries with exactly this cookie (one, but for hash collisions)."""
    return _wide(pfs, ENTRIES, directory, ENTRY, cookie), _wide(pfs, ENTRIES, directory, ENTRY, cookie + 1)


def xattr(pfs: int, obj: int, name: bytes) -> bytes:
    """An extended attribute."""
    return _head(pfs, XATTRS, obj, XATTR) + name + b"\0"


def xattr_name(key: bytes) -> bytes:
    """The name in an extended attribute's key."""
    return key[HEAD_SIZE:-1]


def xattrs(pfs: int, obj: int) -> tuple[bytes, bytes]:
    """The range of an object's extended attributes."""
    return _head(pfs, XATTRS, obj, XATTR), _head(pfs, XATTRS, obj, XATTR + 1)


def extent(pfs: int, obj: int, end: int) -> bytes:
    """The data record that ends just before byte `end` of a file: one seek to (offset + 1) finds what covers offset."""
    return _wide(pfs, DATA, obj, EXTENT, end)


def extent_end(key: bytes) -> int:
    """The file offset just past a data record, from its key."""
    return int.from_bytes(key[HEAD_SIZE:], "big")


def extents(pfs: int, obj: int, offset: int = 0) -> tuple[bytes, bytes]:
    """The range of the data records that end above `offset`."""
    return _wide(pfs, DATA, obj, EXTENT, offset + 1), _head(pfs, DATA, obj, EXTENT + 1)


def is_data(key: bytes) -> bool:
    """Whether this is the key of a data record, whose value may refer to bytes in the log."""
    return key[2] == DATA


def orphan(pfs: int, obj: int) -> bytes:
    """The note that an object without a name still waits to be reaped."""
    return _wide(pfs, ROOT, 0, ORPHAN, obj)


def orphans(pfs: int) -> tuple[bytes, bytes]:
    """The range of a pseudo-filesystem's orphans."""
    return _head(pfs, ROOT, 0, ORPHAN), _head(pfs, ROOT, 0, ORPHAN + 1)


def orphan_object(key: bytes) -> int:
    """The object of an orphan's key."""
    return int.from_bytes(key[HEAD_SIZE:], "big")


def counter(pfs: int, name: bytes) -> bytes:
    """A counter of a pseudo-filesystem, for example the next free object id."""
    return _head(pfs, ROOT, 0, COUNTER) + name + b"\0"


def snapshot(pfs: int, name: bytes) -> bytes:
    """A named tid."""
    return _head(pfs, ROOT, 0, SNAPSHOT) + name + b"\0"


def snapshots(pfs: int) -> tuple[bytes, bytes]:
    """The range of a pseudo-filesystem's snapshots."""
    return _head(pfs, ROOT, 0, SNAPSHOT), _head(pfs, ROOT, 0, SNAPSHOT + 1)


def snapshot_name(key: bytes) -> bytes:
    """The name in a snapshot's key."""
    return key[HEAD_SIZE:-1]


def config(pfs: int, name: bytes) -> bytes:
    """A setting of a pseudo-filesystem."""
    return _head(pfs, ROOT, 0, CONFIG) + name + b"\0"


def outcome(session: bytes, sequence: int) -> bytes:
    """What became of a transaction of a client session, which has a name of SESSION_SIZE bytes."""
    assert len(session) == SESSION_SIZE
    return _head(GROUP, ROOT, 0, OUTCOME) + session + sequence.to_bytes(8, "big")


def outcomes(session: bytes, sequence: int) -> tuple[bytes, bytes]:
    """The range of the outcomes of a session's transactions below a sequence."""
    return outcome(session, 0), outcome(session, sequence)


def all_in(pfs: int, locality: int) -> tuple[bytes, bytes]:
    """The range of all records of a locality: every inode, every name."""
    return _head(pfs, locality, 0, 0), _head(pfs, locality + 1, 0, 0)


def whole(pfs: int) -> tuple[bytes, bytes]:
    """The range of all records of a pseudo-filesystem."""
    return _head(pfs, 0, 0, 0), _head(pfs, 0xFF, 0, 0)
