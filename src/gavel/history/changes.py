"""What changed after a tid, told by the bounds in the inner nodes: subtrees that did not change are not read."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from operator import itemgetter

from gavel.btree.tree import BTree
from gavel.history.past import closed_after, past_bounds, split_key
from gavel.history.versions import Change

Dated = tuple[bytes, int, int | None, bytes]  # key, create_tid, delete_tid, value


def changed_since(current: BTree, past: BTree, lo: bytes, hi: bytes, since: int) -> tuple[bytes, int] | None:
    """The key and tid of one change in [lo, hi) after `since`: a version that is live since, or one closed since."""
    for keys, tids, _ in current.slices(lo, hi, since):
        youngest = max(tids)
        if youngest > since:
            return keys[tids.index(youngest)], youngest
    for key, _, deleted, _ in closed_after(past, lo, hi, since):
        return key, deleted
    return None


def newest_within(current: BTree, past: BTree, lo: bytes, hi: bytes) -> int:
    """A tid at or above every change in [lo, hi) that the trees know of."""
    return max(
        current.youngest(lo, hi, lambda keys, tids: max(tids)),
        past.youngest(*past_bounds(lo, hi), lambda keys, tids: max(split_key(key)[1] for key in keys)),
    )


def changes_between(current: BTree, past: BTree, t0: int, t1: int, lo: bytes, hi: bytes) -> Iterator[Change]:
    """Every change in (t0, t1] to keys in [lo, hi), by key and tid; begins anew behind what it told after an edit."""
    told = t0
    while True:
        edits = current.edits
        for change in _walk(current, past, t0, lo, hi):
            if change.tid > t1 or (change.key == lo and change.tid <= told):
                continue
            lo, told = change.key, change.tid
            yield change
            if current.edits != edits:
                break
        else:
            return


def _walk(current: BTree, past: BTree, t0: int, lo: bytes, hi: bytes) -> Iterator[Change]:
    """All changes after t0, as long as neither tree is edited.

    Versions come by key and time. Each one began with a change, of the value before it if that was closed at this
    very tid; a version closed without a successor ended with one.
    """
    last: Dated | None = None
    closed: Iterator[Dated] = closed_after(past, lo, hi, t0)
    live: Iterator[Dated] = _live_since(current, lo, hi, t0)
    for version in merge(closed, live, key=itemgetter(0)):
        key, created, _, value = version
        old: bytes | None = None
        if last is not None and last[2] is not None:
            if last[0] == key and last[2] == created:
                old = last[3]
            else:
                yield Change(last[0], last[2], last[3], None)
        if created > t0:
            yield Change(key, created, old, value)
        last = version
    if last is not None and last[2] is not None:
        yield Change(last[0], last[2], last[3], None)


def _live_since(current: BTree, lo: bytes, hi: bytes, t0: int) -> Iterator[Dated]:
    for keys, tids, values in current.slices(lo, hi, t0):
        for key, tid, value in zip(keys, tids, values, strict=True):
            if tid > t0:
                yield key, tid, None, value
