"""Lease keys, and how they stand to record keys.

A record key is `pfs | locality | object | type | subkey`: an object's records lie in four places. A lease key is
`pfs | object | locality | type | subkey`: one object is one range, and so is an aligned block of objects, so that few
ranges say much. Only this module knows both.
"""

from __future__ import annotations

from typing import Final

from gavel.keys.ranges import Range

EVERYTHING: Final[Range] = (b"", b"\xff\xff\xff")  # of lease keys; no pfs has an object with the top bit
LEVELS: Final = 8  # what levels() returns at most


def lease_range(lo: bytes, hi: bytes) -> Range:
    """The lease keys of a range of record keys: exact within one object; wider where that would be many ranges."""
    del lo, hi
    return EVERYTHING


def record_ranges(lo: bytes, hi: bytes) -> list[Range]:
    """The ranges of record keys that a range of lease keys covers, one for each locality; [] covers none whole."""
    del lo, hi
    return []


def levels(wanted: Range) -> list[Range]:
    """Ever wider ranges around one of lease keys: itself, its object, aligned blocks of 2^8, 2^16, 2^24 and 2^32
    objects, its pseudo-filesystem, everything. Doubles are left out."""
    return [wanted, EVERYTHING]


def lease_key(key: bytes) -> bytes:
    """The lease key of a record key."""
    return key[:2] + key[3:11] + key[2:3] + key[11:]
