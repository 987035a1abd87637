"""What must hold of a history, beyond the structure of its trees. Problems are sentences; none means sound.

A deep check goes through both trees side by side in key order, so that it reads every node once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from operator import eq, ge
from struct import unpack
from typing import NamedTuple

from gavel.btree.checker import Placed, check_tree, checked
from gavel.btree.dues import Due
from gavel.btree.tree import BTree
from gavel.errors import Damaged, DeviceFailed
from gavel.history.accounting import stored
from gavel.history.horizon import Horizon
from gavel.history.past import TID_SIZE, past_key


class Claims(NamedTuple):
    """What a history says of itself at the moment."""

    last_tid: int
    held: Horizon
    data: tuple[int, int]  # bytes of file data that live and closed versions refer to


def problems(current: BTree, past: BTree, claims: Callable[[], Claims], deep: bool) -> Iterator[str]:
    """All that is wrong; "" between pieces of work, where the trees may be edited."""
    if deep:
        yield from young(current, past, claims)
        yield from _deep(current, past, claims)
        return
    for name, tree in (("current", current), ("past", past)):
        for problem in check_tree(tree, loaded_only=True):
            yield f"{name}: {problem}" if problem else ""
        yield ""


def _deep(current: BTree, past: BTree, claims: Callable[[], Claims]) -> Iterator[str]:
    edits = current.edits, past.edits
    live, size, sound = Live(current), 0, True
    before: Closed | None = None
    for found in checked(past, calendar=_Calendar(claims)):
        if isinstance(found, str):
            sound = sound and not found
            yield found and f"past: {found}"
            continue
        node = found.node
        size += stored(node.keys, node.values)
        leaf = closed_in(node.keys, node.tids)
        if len(leaf.keys) < len(node.keys):
            yield from keys_are_of_closed_versions(node.keys)
        yield from lasted(leaf)
        yield from in_order(leaf, before)
        yield from nothing_is_overlooked(leaf, found, claims().held)
        yield from live_after_past(leaf, live, past)
        before = leaf if leaf.keys else before
    yield from live.rest()
    if sound and live.sound and edits == (current.edits, past.edits):
        yield from data_counted(claims(), (live.size, size))


class _Calendar:
    """What is kept, as it is whenever somebody asks."""

    def __init__(self, claims: Callable[[], Claims]) -> None:
        self._claims = claims

    def due(self, due: Due) -> bool:
        """See btree.dues.Calendar."""
        return self._claims().held.due(due)

    def over(self, dues: Sequence[Due]) -> Due:
        """See btree.dues.Calendar."""
        return self._claims().held.over(dues)


def young(current: BTree, past: BTree, claims: Callable[[], Claims]) -> Iterator[str]:
    """Nothing is younger than the last tid applied."""
    last = claims().last_tid
    for name, tree in (("current", current), ("past", past)):
        if tree.bound > last:
            yield f"{name}: something is younger (0x{tree.bound:016x}) than the last tid 0x{last:016x}"


def data_counted(says: Claims, found: tuple[int, int]) -> Iterator[str]:
    """History knows how much file data live and closed versions refer to."""
    for name, counted, there in zip(("current", "past"), says.data, found, strict=True):
        if counted != there:
            yield f"{name}: {counted} bytes of file data are counted, versions refer to {there}"


class Closed(NamedTuple):
    """A leaf of the past taken apart: the versions of these keys were true from `created` to `deleted`."""

    keys: list[bytes]
    created: list[int]
    deleted: tuple[int, ...]


def closed_in(keys: list[bytes], tids: list[int]) -> Closed:
    """The versions of a leaf, without those whose key can be none."""
    if keys and min(map(len, keys)) <= TID_SIZE:
        tids = [tid for key, tid in zip(keys, tids, strict=True) if len(key) > TID_SIZE]
        keys = [key for key in keys if len(key) > TID_SIZE]
    deleted = unpack(f">{len(keys)}Q", b"".join([key[-TID_SIZE:] for key in keys]))
    return Closed([key[:-TID_SIZE] for key in keys], tids, deleted)


def keys_are_of_closed_versions(keys: list[bytes]) -> Iterator[str]:
    """A past key is a record's key and a tid."""
    yield from (f"past: {key.hex()} is no key of a closed version" for key in keys if len(key) <= TID_SIZE)


def lasted(leaf: Closed) -> Iterator[str]:
    """A closed version lasted."""
    if any(map(ge, leaf.created, leaf.deleted)):
        for key, created, deleted in zip(*leaf, strict=True):
            if created >= deleted:
                yield f"past: {key.hex()} was true from 0x{created:016x} to 0x{deleted:016x}"


def in_order(leaf: Closed, before: Closed | None) -> Iterator[str]:
    """A closed version began when the one before it had ended."""
    keys, created, deleted = leaf
    last_key, last_deleted = (before.keys[-1], before.deleted[-1]) if before is not None else (b"", 0)
    if not any(map(eq, [last_key, *keys], keys)):
        return  # each key has one version here
    for key, began, ended in zip(keys, created, deleted, strict=True):
        if key == last_key and began < last_deleted:
            yield f"past: versions of {key.hex()} overlap at 0x{began:016x}"
        last_key, last_deleted = key, ended


def nothing_is_overlooked(leaf: Closed, placed: Placed, held: Horizon) -> Iterator[str]:
    """A prune passes over no version that is needless."""
    if placed.passed and leaf.deleted and min(leaf.deleted) <= held.horizon:
        for key, created, deleted in zip(*leaf, strict=True):
            if held.needless(created, deleted):
                yield f"past: a prune passes over {key.hex()}, true from 0x{created:016x} to 0x{deleted:016x}"


class Live:
    """The current tree, checked as far as somebody has asked for its keys, which ascend."""

    def __init__(self, current: BTree) -> None:
        self.tree = current
        self.size = 0  # bytes of file data that was met
        self.sound = True
        self._found = checked(current)
        self._hi: bytes | None = b""
        self._keys: list[bytes] = []
        self._tids: list[int] = []

    def until(self, key: bytes) -> Iterator[str]:
        """Check up to the leaf that holds a key."""
        while self._hi is not None and key >= self._hi:
            found = next(self._found, None)
            if found is None:
                self._hi, self._keys = None, []
            else:
                yield from self._take(found)

    def rest(self) -> Iterator[str]:
        """Check all that is left."""
        for found in self._found:
            yield from self._take(found)

    def _take(self, found: str | Placed) -> Iterator[str]:
        if isinstance(found, str):
            self.sound = self.sound and not found
            yield found and f"current: {found}"
            return
        node = found.node
        self._keys, self._tids, self._hi = node.keys, node.tids, found.hi
        self.size += stored(node.keys, node.values)

    def created(self, key: bytes) -> int | None:
        """When the live version of a key began, as of when its leaf was read."""
        keys = self._keys
        at = bisect_left(keys, key)
        return self._tids[at] if at < len(keys) and keys[at] == key else None


def live_after_past(leaf: Closed, live: Live, past: BTree) -> Iterator[str]:
    """The live version of a key began when its last closed one had ended, or later."""
    for key, ended in dict(zip(leaf.keys, leaf.deleted, strict=True)).items():
        yield from live.until(key)
        created = live.created(key)
        if created is not None and created < ended:
            try:  # once more in both, which may have been edited in between
                found = live.tree.find(key)
                if found is None or found[0] >= ended or past.find(past_key(key, ended)) is None:
                    continue
            except (Damaged, DeviceFailed):
                continue  # which is told of elsewhere
            yield f"{key.hex()} is live since 0x{created:016x} and was closed at 0x{ended:016x}"
