"""The bytes of regular files: read, write, truncate, fallocate, seek, copy, as POSIX and Linux have them.

Invariants, on top of those of extent_map.py:
- no data record ends beyond the inode's size, therefore a write at or after it needs no look at the records;
- the inode's `used` is the sum of what the file's data records show;
- holes cost nothing: nothing here loops over one, however large (only read() makes buffers for what was asked).

Functions raise OSError: ESTALE for an object that is gone, EISDIR and EINVAL for one that is not a regular file,
EFBIG beyond 2**63 - 1 bytes. Nothing is durable when they return; that is a matter of the commit.
"""

from __future__ import annotations

import errno
import stat

from gavel.filesystem import compression, extent_map, xattr
from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.limits import COPY_RECORDS_MAX, EXTENT_MAX, FILE_SIZE_MAX, INLINE_MAX, MIB
from gavel.media import extents
from gavel.media.extents import Extent
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Buffer, Miss

SEEK_DATA, SEEK_HOLE = 3, 4  # as in <unistd.h> of Linux

# Bits of fallocate's mode, as in <linux/falloc.h>.
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 0x01, 0x02, 0x08, 0x10, 0x20
_FALLOCATE_MODES = frozenset({0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE})

_TYPE = 0o170000  # the bits of a mode that tell the type
_ZEROS = memoryview(bytes(MIB))


def read(tx: Transaction, obj: int, offset: int, size: int) -> list[Buffer]:
    """Up to `size` bytes from `offset` on, as buffers to be joined or written one after the other.

    Less comes back only at the end of the file. Nothing is copied: buffers are slices of what the view loaded and of
    one shared buffer of zeros. Raises Miss naming every extent that is lacking, Damaged for one that does not verify.
    """
    file = _regular(tx, obj)
    if offset < 0 or size < 0:
        raise failure(errno.EINVAL)
    end = min(offset + size, file.size)
    if offset < end:
        # What was written in one go ends at a border of EXTENT_MAX or at the end of the file: where a read lies in
        # such a record, a get finds it at a third of what a scan costs.
        border = min(offset - offset % EXTENT_MAX + EXTENT_MAX, file.size)
        if end <= border:
            value = tx.get(records.extent(tx.pfs, obj, border))
            if value is not None and (start := border - extents.view_size(value)) <= offset:
                return [_shown(tx, value, offset - start, end - start)]
    parts: list[Buffer] = []
    lacking: list[Extent] = []
    at = offset
    for start, stop, value in extent_map.pieces(tx, obj, offset, end) if at < end else ():
        if start > at:
            _zeros(parts, start - at)
            at = start
        stop = min(stop, end)
        try:
            parts.append(_shown(tx, value, at - start, stop - start))
        except Miss as miss:
            lacking.extend(miss.extents)
        at = stop
    if lacking:
        raise Miss((), tuple(lacking))
    if at < end:
        _zeros(parts, end - at)
    return parts


def write(tx: Transaction, obj: int, offset: int, data: Buffer, kill_suidgid: bool = False) -> Inode:
    """Write bytes at `offset`, over what is there; beyond the end the file grows, with a hole where nothing was.

    The buffer may be reused when this returns. `kill_suidgid` clears the set-id bits as a write by an unprivileged
    caller does. Returns the inode as it is then. Raises VolumeFull from staging.
    """
    file = _regular(tx, obj)
    size = len(data)
    end = offset + size
    if offset < 0:
        raise failure(errno.EINVAL)
    if end > FILE_SIZE_MAX:
        raise failure(errno.EFBIG)
    if not size:
        return file
    if offset < file.size:
        file.used -= extent_map.clear(tx, obj, offset, end)
    elif size < INLINE_MAX and offset == file.size:
        offset, data = _with_tail(tx, obj, offset, data)
    extent_map.fill(tx, obj, offset, data, compression.codec(file))
    file.used += size
    if end > file.size:
        file.size = end
    if kill_suidgid:
        file.mode &= ~stat.S_ISUID if not file.mode & stat.S_IXGRP else ~(stat.S_ISUID | stat.S_ISGID)
    return _changed(tx, obj, file)


def truncate(tx: Transaction, obj: int, size: int) -> Inode:
    """Make the file exactly `size` bytes long; what is cut off is gone, what is added reads as zeros.

    Extents across the new end are narrowed, never rewritten. Costs a scan of the records that go.
    """
    file = _regular(tx, obj)
    if size < 0:
        raise failure(errno.EINVAL)
    if size > FILE_SIZE_MAX:
        raise failure(errno.EFBIG)
    if size < file.size:
        file.used -= extent_map.clear(tx, obj, size, file.size)
    file.size = size
    return _changed(tx, obj, file)


def fallocate(tx: Transaction, obj: int, mode: int, offset: int, length: int) -> Inode:
    """Linux fallocate: extend (0), KEEP_SIZE, punch a hole, zero a range; other modes are EOPNOTSUPP.

    Nothing is reserved, since every write goes to a new place on the volume: mode 0 sets the size, KEEP_SIZE alone
    changes nothing. A zeroed range becomes a hole.
    """
    file = _regular(tx, obj)
    if offset < 0 or length <= 0:
        raise failure(errno.EINVAL)
    if mode not in _FALLOCATE_MODES:
        raise failure(errno.EOPNOTSUPP)
    end = offset + length
    if end > FILE_SIZE_MAX:
        raise failure(errno.EFBIG)
    if mode == KEEP_SIZE:
        return file
    if mode and offset < file.size:
        file.used -= extent_map.clear(tx, obj, offset, min(end, file.size))
    if not mode & KEEP_SIZE and end > file.size:
        file.size = end
    return _changed(tx, obj, file)


def seek(tx: Transaction, obj: int, offset: int, whence: int) -> int:
    """The first offset at or after `offset` that is data (SEEK_DATA) or in a hole (SEEK_HOLE).

    The end of the file counts as a hole. ENXIO where `offset` is not inside the file or no data follows.
    """
    file = _regular(tx, obj)
    if whence not in (SEEK_DATA, SEEK_HOLE):
        raise failure(errno.EINVAL)
    if not 0 <= offset < file.size:
        raise failure(errno.ENXIO)
    at = offset
    for start, end, _ in extent_map.pieces(tx, obj, offset, file.size):
        if whence == SEEK_DATA:
            return max(start, offset)
        if start > at:
            return at
        at = end
    if whence == SEEK_DATA:
        raise failure(errno.ENXIO)
    return at


def copy_range(tx: Transaction, src: int, src_offset: int, dst: int, dst_offset: int, length: int) -> int:
    """Copy bytes between files, or within one, by sharing extents; returns how many were copied.

    Holes stay holes. Stops at the end of the source, and after COPY_RECORDS_MAX records (call again for the rest).
    EINVAL where the ranges overlap within one file.
    """
    source = _regular(tx, src)
    target = _regular(tx, dst) if dst != src else source
    if src_offset < 0 or dst_offset < 0 or length < 0:
        raise failure(errno.EINVAL)
    stop = min(src_offset + length, source.size)
    if stop <= src_offset:
        return 0
    if dst_offset + stop - src_offset > FILE_SIZE_MAX:
        raise failure(errno.EFBIG)
    if src == dst and abs(src_offset - dst_offset) < stop - src_offset:
        raise failure(errno.EINVAL)
    taken: list[extent_map.Piece] = []
    for piece in extent_map.pieces(tx, src, src_offset, stop):
        if len(taken) == COPY_RECORDS_MAX:
            stop = piece.start
            break
        taken.append(extent_map.narrow(piece, src_offset, stop))
    shift, end = dst_offset - src_offset, stop + dst_offset - src_offset
    if dst_offset < target.size:
        target.used -= extent_map.clear(tx, dst, dst_offset, end)
    for piece in taken:
        tx.put(records.extent(tx.pfs, dst, piece.end + shift), piece.value)
        target.used += piece.end - piece.start
    target.size = max(target.size, end)
    _changed(tx, dst, target)
    return stop - src_offset


def drop_single(tx: Transaction, obj: int, file: Inode) -> bool:
    """Delete the data of a file about to go if it is a single record up to its end, as most are; tells whether it was.

    A get instead of a scan. That there is no other record is known from `used`; the inode is left as it is.
    """
    key = records.extent(tx.pfs, obj, file.size)
    value = tx.get(key)
    if value is None or extents.view_size(value) != file.used:
        return False
    tx.delete(key)
    return True


def drop(tx: Transaction, obj: int, limit: int) -> bool:
    """Delete up to `limit` of an object's data records; True when none is left.

    Keeps `used` right if the inode still exists; size and times stay. Callers slice the end of huge files by it.
    """
    gone = 0
    finished = True
    for count, (key, value) in enumerate(tx.scan(*records.extents(tx.pfs, obj))):
        if count == limit:
            finished = False
            break
        tx.delete(key)
        gone += extents.view_size(value)
    kept = tx.get(records.inode(tx.pfs, obj))
    if gone and kept is not None:
        file = inodes.decode(kept)
        file.used -= gone
        inodes.write(tx, obj, file)
    return finished


def _regular(tx: Transaction, obj: int) -> Inode:
    file = inodes.read(tx, obj)
    kind = file.mode & _TYPE
    if kind != stat.S_IFREG:
        raise failure(errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL)
    return file


def _changed(tx: Transaction, obj: int, file: Inode) -> Inode:
    """Take note that the content changed; file capabilities do not outlive that."""
    if file.xattrs:
        xattr.drop_capability(tx, obj, file)
    file.mtime = file.ctime = tx.now
    inodes.write(tx, obj, file)
    return file


def _with_tail(tx: Transaction, obj: int, offset: int, data: Buffer) -> tuple[int, Buffer]:
    """Join a short append with the inline record it follows, so that a file of short lines has few records."""
    key = records.extent(tx.pfs, obj, offset)
    tail = tx.get(key) if offset else None
    if tail is None or tail[0] != extents.INLINE or len(tail) - 1 + len(data) > INLINE_MAX:
        return offset, data
    tx.delete(key)
    return offset - len(tail) + 1, tail[1:] + bytes(data)


def _shown(tx: Transaction, value: bytes, lo: int, hi: int) -> Buffer:
    """The bytes [lo, hi) of what a data record shows."""
    extent, skip, _, inline = extents.decode(value)
    if extent is None:
        return memoryview(inline)[lo:hi]
    raw = tx.load(extent)
    if skip + lo == 0 and hi == len(raw):
        return raw
    return memoryview(raw)[skip + lo : skip + hi]


def _zeros(parts: list[Buffer], size: int) -> None:
    while size > 0:
        parts.append(_ZEROS[:size])
        size -= MIB
