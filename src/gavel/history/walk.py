"""Every version there is, in an order that does not change: the live ones by key, then the closed ones by key and time.

A version that is closed moves from the first part into the second, to a place that depends on its key. So one that
exists all the while is met once, unless it is closed meanwhile: then it is met twice, or once.

What cannot be read is passed over: these walks are for upkeep, which does what it can; check and scrub tell of damage.
"""

from __future__ import annotations

from collections.abc import Iterator

from gavel.btree.sweep import sweep
from gavel.btree.tree import BTree, Slice
from gavel.history.accounting import next_data_key, stored
from gavel.history.past import split_key
from gavel.history.versions import Version
from gavel.keys.records import is_data

LIVE, CLOSED = b"c", b"p"  # the first byte of a cursor


def walk(
    current: BTree, past: BTree, cursor: bytes, data_only: bool, closed_only: bool
) -> Iterator[tuple[Version, bytes]]:
    """Versions from a cursor on, each with the cursor of what follows it; exact whatever is applied meanwhile."""
    part, at = cursor[:1], cursor[1:]
    if part != CLOSED and not closed_only:
        for key, tid, value in _records(current, at, data_only):
            yield Version(key, tid, None, value), LIVE + key + b"\0"
        at = b""
    elif part != CLOSED:
        at = b""
    for place, tid, value in _records(past, at, data_only):
        key, deleted = split_key(place)
        yield Version(key, tid, deleted, value), CLOSED + place + b"\0"


def data_in(tree: BTree) -> int:
    """How many stored bytes all records of a tree refer to, counted afresh."""
    return sum(stored(keys, values) for keys, _, values in leaves_of_data(tree))


def _records(tree: BTree, start: bytes, data_only: bool) -> Iterator[tuple[bytes, int, bytes]]:
    """The records of a tree from a key on."""
    for keys, tids, values in leaves_of_data(tree, start) if data_only else sweep(tree, start):
        for key, tid, value in zip(keys, tids, values, strict=True):
            if not data_only or is_data(key):
                yield key, tid, value


def leaves_of_data(tree: BTree, start: bytes = b"") -> Iterator[Slice]:
    """Leaves from a key on, all with data records and few without."""
    at: bytes | None = start
    while at is not None:
        beyond = None
        for found in sweep(tree, next_data_key(at)):
            yield found
            last = found[0][-1]
            if not is_data(last):
                beyond = last + b"\0"
                break
        at = beyond
