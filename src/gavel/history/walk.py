"""Every version there is, in an order that does not change: the live ones by key, then the closed ones by key and time.

A version that is closed moves from the first part into the second, to a place that depends on its key. So one that
exists all the while is met once, unless it is closed meanwhile: then it is met twice, or once.
"""

from __future__ import annotations

from collections.abc import Iterator

from gavel.btree.tree import BTree
from gavel.history.accounting import next_data_key
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
    for stored, tid, value in _records(past, at, data_only):
        key, deleted = split_key(stored)
        yield Version(key, tid, deleted, value), CLOSED + stored + b"\0"


def _records(tree: BTree, start: bytes, data_only: bool) -> Iterator[tuple[bytes, int, bytes]]:
    """The records of a tree from a key on; of those of other localities a leaf is read now and then, no more."""
    at: bytes | None = start
    while at is not None:
        if data_only:
            at = next_data_key(at)
        for keys, tids, values in tree.slices(at):
            if data_only and not is_data(keys[-1]):
                rest = [index for index, key in enumerate(keys) if is_data(key)]
                for index in rest:
                    yield keys[index], tids[index], values[index]
                at = keys[-1] + b"\0"
                break
            for key, tid, value in zip(keys, tids, values, strict=True):
                if not data_only or is_data(key):
                    yield key, tid, value
        else:
            at = None
