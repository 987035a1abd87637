"""Which closed versions nobody can see any more."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from gavel.btree.tree import BTree
from gavel.history.past import split_key


class Needless(NamedTuple):
    """Past keys and values of versions to drop, and where to look on; None at the end."""

    keys: list[bytes]
    values: list[bytes]
    after: bytes | None


def needless(past: BTree, start: bytes, limit: int, horizon: int, kept: Sequence[int]) -> Needless:
    """Of about `limit` versions from a past key on, those that ended by the horizon and no kept state has."""
    found = Needless([], [], None)
    seen = 0
    for keys, tids, values in past.slices(start):
        for stored, created, value in zip(keys, tids, values, strict=True):
            if seen == limit:
                return found._replace(after=stored)
            seen += 1
            deleted = split_key(stored)[1]
            if deleted <= horizon:
                at = bisect_left(kept, created)
                if at == len(kept) or kept[at] >= deleted:
                    found.keys.append(stored)
                    found.values.append(value)
    return found
