"""Lease keys, and how they stand to record keys.

A record key is `pfs | locality | object | type | subkey`: an object's records lie in four places. A lease key is
`pfs | object | locality | type | subkey`: one object is one range, and so is an aligned block of objects, so that few
ranges say much. Only this module knows both.
"""

from __future__ import annotations

from typing import Final

from gavel.keys.ranges import Range
from gavel.keys.records import DATA, ROOT, after

EVERYTHING: Final[Range] = (b"", b"\xff\xff\xff")  # of lease keys; no object has the top bit
BLOCKS: Final = (0, 8, 16, 24, 32)  # bits of the aligned blocks of objects that are levels

_PFS = 2  # bytes of a lease key up to and with the pfs
_OBJECT = 10  # … the object
_LOCALITY = 11  # … the locality
_OBJECTS_END = 2**64


def lease_key(key: bytes) -> bytes:
    """The lease key of a record key."""
    return key[:2] + key[3:11] + key[2:3] + key[11:]


def lease_range(lo: bytes, hi: bytes) -> Range:
    """The lease keys of a range of record keys: exact within one object's records of one locality; widened to whole
    objects within one locality; across localities to whole pseudo-filesystems."""
    if len(lo) >= _LOCALITY and (lo[:_LOCALITY] == hi[:_LOCALITY] or hi == after(lo[:_LOCALITY])):
        return lease_key(lo), lease_key(hi) if lo[:_LOCALITY] == hi[:_LOCALITY] else after(lease_key(lo)[:_LOCALITY])
    low, high = lo.ljust(_LOCALITY, b"\0"), hi.ljust(_LOCALITY, b"\0")
    if low[:3] == high[:3]:
        return low[:2] + low[3:_LOCALITY], high[:2] + _above(hi, 3, _LOCALITY)
    if len(lo) > _PFS and hi == after(lo[:3]):  # to the end of the locality, as record_ranges() has it
        return low[:2] + low[3:_LOCALITY], _pfs_end(low[:3])
    return low[:2], _pfs_end(hi if len(hi.rstrip(b"\0")) > _PFS else high[:2])


def _above(bound: bytes, start: int, stop: int) -> bytes:
    """The end of the whole objects that reach up to a bound."""
    part = bound.ljust(stop, b"\0")[start:stop]
    return part if len(bound) <= stop else after(part)


def _pfs_end(bound: bytes) -> bytes:
    """The end of the whole pseudo-filesystems that reach up to a bound."""
    if len(bound) <= _PFS:
        return bound.ljust(_PFS, b"\0")
    number = int.from_bytes(bound[:_PFS], "big") + 1
    return number.to_bytes(_PFS, "big") if number < 2**16 else EVERYTHING[1]


def record_ranges(lo: bytes, hi: bytes) -> list[Range]:
    """The ranges of record keys that a range of lease keys covers: one for each locality, and more at ragged ends."""
    if (lo, hi) == EVERYTHING:
        return [EVERYTHING]
    found: list[Range] = []
    for low, high, whole in _parts(lo, hi, _PFS):
        if whole:
            found.append((low, high))
            continue
        for first, last, objects in _parts(low, high, _OBJECT):
            if objects:
                pfs = first[:_PFS]
                for locality in range(ROOT, DATA + 1):
                    mark = pfs + locality.to_bytes(1, "big")
                    found.append((mark + first[_PFS:], mark + last[_PFS:] if last[:_PFS] == pfs else after(mark)))
            else:
                found += _within(first, last)
    return found


def _within(lo: bytes, hi: bytes) -> list[Range]:
    """The same for a range of lease keys within one object, which may reach to its end."""
    pfs, obj = lo[:_PFS], lo[_PFS:_OBJECT]
    found: list[Range] = []
    for locality in range(ROOT, DATA + 1):
        mark = pfs + obj + locality.to_bytes(1, "big")
        first, last = max(lo, mark), min(hi, after(mark))
        if first < last:
            prefix = pfs + mark[_OBJECT:] + obj
            stop = after(prefix) if last == after(mark) else prefix + last[_LOCALITY:]
            found.append((prefix + first[_LOCALITY:], stop))
    return found


def _parts(lo: bytes, hi: bytes, width: int) -> list[tuple[bytes, bytes, bool]]:
    """[lo, hi) cut at the borders between prefixes of a width: (lo, hi, whether these are whole prefixes)."""
    start = lo.ljust(width, b"\0") if len(lo) <= width else _next(lo, width)
    stop = hi.ljust(width, b"\0") if len(hi) <= width else hi[:width]
    if lo[:width] == hi[:width] and len(lo) > width:
        return [(lo, hi, False)]
    cut = [(lo, start, False)] if len(lo) > width else []
    if start < stop:
        cut.append((start, stop, True))
    if len(hi) > width and stop < hi:
        cut.append((stop, hi, False))
    return cut


def _next(key: bytes, width: int) -> bytes:
    """The border after a key's prefix; of the last one, the end of everything."""
    number = int.from_bytes(key[:width], "big") + 1
    return number.to_bytes(width, "big") if number < 1 << 8 * width else EVERYTHING[1]


def levels(lo: bytes, hi: bytes) -> list[Range]:
    """Ever wider ranges around one of lease keys: itself, its object, aligned blocks of 2^8, 2^16, 2^24 and 2^32
    objects, its pseudo-filesystem, everything; as far as they contain it and differ."""
    found = [(lo, hi)]
    low, pfs = lo.ljust(_OBJECT, b"\0"), lo.ljust(_PFS, b"\0")[:_PFS]
    end = _pfs_end(pfs + b"\0")
    if hi <= end:
        first = int.from_bytes(low[_PFS:_OBJECT], "big")
        for bits in BLOCKS:
            block = first >> bits
            start = pfs + (block << bits).to_bytes(8, "big")
            top = block + 1 << bits
            stop = pfs + top.to_bytes(8, "big") if top < _OBJECTS_END else end
            if start <= lo and hi <= stop and (start, stop) != found[-1]:
                found.append((start, stop))
        if (pfs, end) != found[-1]:
            found.append((pfs, end))
    if found[-1] != EVERYTHING:
        found.append(EVERYTHING)
    return found


def object_of(lo: bytes, hi: bytes) -> bytes | None:
    """The pfs and object that a range of lease keys lies within; None if it is wider."""
    mark = lo[:_OBJECT]
    return mark if len(mark) == _OBJECT and (hi[:_OBJECT] == mark or hi == after(mark)) else None


def described(lo: bytes, hi: bytes) -> str:
    """A range of lease keys for people: how wide it is, and of what."""
    pfs, obj = _numbers(lo)
    if (lo, hi) == EVERYTHING:
        return "everything"
    if len(lo) <= _PFS and (lo, hi) == (lo.ljust(_PFS, b"\0"), _pfs_end(lo + b"\0")):
        return f"pfs {pfs}"
    if object_of(lo, hi) is not None:
        part = "" if len(lo) == _OBJECT and hi == after(lo) else "a part of "
        return f"{part}object {obj:#x} of pfs {pfs}"
    start = f"object {obj:#x} of pfs {pfs}" if lo else "the beginning"
    if hi == EVERYTHING[1]:
        return f"from {start} to the end"
    if hi == _pfs_end(lo[:_PFS] + b"\0"):
        return f"from {start} to its end"
    last_pfs, last = _numbers(hi)
    return f"from {start} to before object {last:#x}" + ("" if lo and last_pfs == pfs else f" of pfs {last_pfs}")


def _numbers(key: bytes) -> tuple[int, int]:
    """The pfs and the object that a bound lies in, or at the beginning of."""
    whole = key[:_OBJECT].ljust(_OBJECT, b"\0")
    return int.from_bytes(whole[:_PFS], "big"), int.from_bytes(whole[_PFS:], "big")
