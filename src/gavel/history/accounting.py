"""Live bytes: which bytes of file data in the log are referred to by versions of records.

A version refers to its extent as long as it exists, live or closed; closing it moves it and changes nothing. So
applying only ever adds to the bytes of a big-block; a prune drops what it removes, a relink moves them. Beside that
history knows how many of them live versions refer to and how many closed ones, where closing does make a difference.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

from gavel.keys.records import DATA
from gavel.limits import BIG_BLOCK
from gavel.media.extents import RECORD_SIZE, reference, stored_bytes

_DATA, _PAST_DATA = bytes((DATA,)), bytes((DATA + 1,))


class Ledger(Protocol):
    """The part of a volume that keeps count."""

    def add_live(self, place: int, n: int) -> None:
        """`n` more bytes of the big-block with `place` are referred to."""

    def drop_live(self, place: int, n: int) -> None:
        """`n` bytes of the big-block with `place` are referred to no longer."""


def data_runs(keys: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where in sorted record keys those of data records are, as index ranges."""
    runs = []
    at = 0
    while at < len(keys):
        pfs = keys[at][:2]
        first = bisect_left(keys, pfs + _DATA, at)
        last = bisect_left(keys, pfs + _PAST_DATA, first)
        if first < last:
            runs.append((first, last))
        at = bisect_left(keys, pfs + b"\xff\xff", last)
    return runs


def next_data_key(key: bytes) -> bytes:
    """The first key at or above this one that can be a data record's; itself where it is one."""
    pfs, rest = key[:2].ljust(2, b"\0"), key[2:]
    if rest[:1] < _DATA:
        return pfs + _DATA
    if rest[:1] == _DATA:
        return key
    return (int.from_bytes(pfs, "big") + 1).to_bytes(2, "big") + _DATA if pfs != b"\xff\xff" else key


def live_bytes(values: Sequence[bytes | None]) -> dict[int, int]:
    """What values of data records refer to: bytes by the first place of a big-block, in order of appearance."""
    found: dict[int, int] = {}
    for value in values:
        if value is not None and len(value) == RECORD_SIZE:
            extent = reference(value)
            if extent is not None:
                place, stored = extent
                place -= place % BIG_BLOCK
                found[place] = found.get(place, 0) + stored
    return found


def without_data(keys: Sequence[bytes]) -> bool:
    """Whether sorted record keys are of one pseudo-filesystem and none as far up as data, told at a glance."""
    return not keys or (keys[-1][2:3] < _DATA and keys[0][:2] == keys[-1][:2])


def referred(keys: Sequence[bytes], values: Sequence[bytes | None]) -> dict[int, int]:
    """What records with these sorted keys refer to: bytes by the first place of a big-block."""
    found: dict[int, int] = {}
    for first, last in data_runs(keys):
        for place, size in live_bytes(values[first:last]).items():
            found[place] = found.get(place, 0) + size
    return found


def stored(keys: Sequence[bytes], values: Sequence[bytes | None]) -> int:
    """How many bytes that is."""
    return sum(stored_bytes(values[first:last]) for first, last in data_runs(keys))


def count_live(ledger: Ledger, keys: list[bytes], values: list[bytes | None], same: list[bytes]) -> int:
    """Tell the ledger what the fresh versions of a transaction refer to; `same` keys got no fresh version.

    Returns how many bytes that is.
    """
    total = 0
    for first, last in data_runs(keys):
        run: Sequence[bytes | None] = values[first:last]
        if same:
            old = frozenset(same)
            run = [value for key, value in zip(keys[first:last], run, strict=True) if key not in old]
        for place, size in live_bytes(run).items():
            ledger.add_live(place, size)
            total += size
    return total


def relink(ledger: Ledger, old: bytes, new: bytes) -> int:
    """Tell the ledger that a data record has another value; returns by how many bytes it refers to more."""
    grown = 0
    for place, size in live_bytes([new]).items():
        ledger.add_live(place, size)
        grown += size
    for place, size in live_bytes([old]).items():
        ledger.drop_live(place, size)
        grown -= size
    return grown
