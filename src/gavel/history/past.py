"""Closed versions: records that were true during [create_tid, delete_tid).

In the past tree a version's key is the record's key and eight bytes of its delete_tid, big-endian; its tid is its
create_tid. Record keys are prefix-free, so past keys sort like pairs (key, delete_tid), and the version that was
true at `at` is the first one of its key at or above `at + 1`: one seek, however long the history.

The bound of a subtree is the highest delete_tid in it, or higher: versions enter at the tid that closes them. The tree
is dated (btree/dues.py): its inner elements tell a prune where it may pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import itemgetter
from typing import Final

from gavel.btree.dues import NEVER
from gavel.btree.edit import Replaced
from gavel.btree.tree import BTree

TID_SIZE: Final = 8

Closed = tuple[bytes, int, int, bytes]  # key, create_tid, delete_tid, value

_END: Final = itemgetter(slice(-TID_SIZE, None))
_NEVER: Final = NEVER.to_bytes(TID_SIZE, "big")


def past_key(key: bytes, delete_tid: int) -> bytes:
    """Where a closed version lies in the past tree."""
    return key + delete_tid.to_bytes(TID_SIZE, "big")


def split_key(past: bytes) -> tuple[bytes, int]:
    """The record key and the delete_tid of a past key."""
    return past[:-TID_SIZE], int.from_bytes(past[-TID_SIZE:], "big")


def lowest_end(pasts: list[bytes], low: int) -> int:
    """The lowest delete_tid, at or above a tid, of these past keys; NEVER where there is none. Asked for each split."""
    lowest, bound = min(map(_END, pasts), default=_NEVER), low.to_bytes(TID_SIZE, "big")
    if lowest < bound:
        lowest = min((end for end in map(_END, pasts) if end >= bound), default=_NEVER)
    return int.from_bytes(lowest, "big")


def past_range(key: bytes) -> tuple[bytes, bytes]:
    """The past keys of all versions of one record."""
    return key + bytes(TID_SIZE), key + b"\xff" * TID_SIZE + b"\0"


def past_bounds(lo: bytes, hi: bytes) -> tuple[bytes, bytes]:
    """A range of past keys that holds those of every record in [lo, hi), and perhaps others at its ends.

    `hi` may be the end of `just(key)`: then the versions of `key` lie above it and are taken in.
    """
    return (lo, past_range(hi[:-1])[1]) if hi.endswith(b"\0") else (lo, hi)


def version_at(past: BTree, key: bytes, at: int) -> bytes | None:
    """The value of a version of `key`, closed after `at`, that was true at `at`."""
    found = past.seek(key + (at + 1).to_bytes(TID_SIZE, "big"))
    if found is None or found[1] > at or found[0][:-TID_SIZE] != key:
        return None
    return found[2]


def closed_after(past: BTree, lo: bytes, hi: bytes, since: int) -> Iterator[Closed]:
    """The versions of records in [lo, hi) that were closed after `since`, by key and then time."""
    first, last = past_bounds(lo, hi)
    for keys, tids, values in past.slices(first, last, since):
        for stored, created, value in zip(keys, tids, values, strict=True):
            key, deleted = split_key(stored)
            if deleted > since and lo <= key < hi:
                yield key, created, deleted, value


def true_at(past: BTree, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys in [lo, hi) and values of closed versions that were true at `at`. The tree must not change meanwhile.

    Of each key only the version in question is looked at; the rest of its history is sought past, not walked.
    """
    wanted = at.to_bytes(TID_SIZE, "big")
    next_tid = (at + 1).to_bytes(TID_SIZE, "big")
    start, last = past_bounds(lo, hi)
    while True:
        found = next(past.slices(start, last, at), None)
        if found is None:
            return
        keys, tids, values = found
        index = 0
        while index < len(keys):
            stored = keys[index]
            key = stored[:-TID_SIZE]
            if stored[-TID_SIZE:] <= wanted:
                start = key + next_tid
            else:
                if tids[index] <= at and lo <= key < hi:
                    yield key, values[index]
                start = past_range(key)[1]
            index = bisect_left(keys, start, index + 1)


def forget(replaced: Replaced, first: int) -> None:
    """Let what was replaced from an index on be gone instead of past."""
    del replaced.keys[first:], replaced.tids[first:], replaced.values[first:]
