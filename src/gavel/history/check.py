"""What must hold of a history, beyond the structure of its trees. Problems are sentences; none means sound."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from operator import ge
from struct import unpack
from typing import NamedTuple

from gavel.btree.checker import check_tree
from gavel.btree.overdue import passed_over
from gavel.btree.tree import BTree
from gavel.errors import Damaged
from gavel.history.accounting import stored
from gavel.history.horizon import Horizon
from gavel.history.past import TID_SIZE, past_key
from gavel.history.walk import leaves_of_data


def problems(
    current: BTree,
    past: BTree,
    last_tid: Callable[[], int],
    held: Callable[[], Horizon],
    data: Callable[[], tuple[int, int]],
    deep: bool,
) -> Iterator[str]:
    """All that is wrong; "" between pieces of work, where the trees may be edited.

    `last_tid`, `held` and `data` give what the history knows of itself at that moment.
    """
    sound = True
    for name, tree in (("current", current), ("past", past)):
        for problem in check_tree(tree, loaded_only=not deep):
            sound = sound and not problem
            yield f"{name}: {problem}" if problem else ""
        yield ""
    if not deep:
        return
    try:
        yield from young(current, past, last_tid)
        yield from _of_the_past(current, past, held)
        if sound:
            yield from data_counted(current, past, data)
    except Damaged as damage:
        yield str(damage)


def _of_the_past(current: BTree, past: BTree, held: Callable[[], Horizon]) -> Iterator[str]:
    live, before = Live(current), None
    for leaf in closed_versions(past):
        if isinstance(leaf, str):
            yield leaf
            continue
        yield from lasted(leaf)
        yield from in_order(leaf, before)
        yield from live_after_past(leaf, live)
        yield from nothing_is_overlooked(leaf, past, held())
        before = leaf if leaf.keys else before
        yield ""


def young(current: BTree, past: BTree, last_tid: Callable[[], int]) -> Iterator[str]:
    """Nothing is younger than the last tid applied."""
    for name, tree in (("current", current), ("past", past)):
        if tree.bound > last_tid():
            yield f"{name}: something is younger (0x{tree.bound:016x}) than the last tid 0x{last_tid():016x}"


def data_counted(current: BTree, past: BTree, data: Callable[[], tuple[int, int]]) -> Iterator[str]:
    """History knows how much file data live and closed versions refer to; left open where the trees are edited."""
    edits, found = (current.edits, past.edits), [0, 0]
    for number, tree in enumerate((current, past)):
        for keys, _, values in leaves_of_data(tree):
            found[number] += stored(keys, values)
            yield ""
            if edits != (current.edits, past.edits):
                return
    for name, counted, there in zip(("current", "past"), data(), found, strict=True):
        if counted != there:
            yield f"{name}: {counted} bytes of file data are counted, versions refer to {there}"


class Closed(NamedTuple):
    """A leaf of the past taken apart: the versions of these keys were true from `created` to `deleted`."""

    keys: list[bytes]
    created: list[int]
    deleted: tuple[int, ...]


def closed_versions(past: BTree) -> Iterator[Closed | str]:
    """Every leaf of the past; a sentence for each key in it that cannot be one of a closed version."""
    for keys, tids, _ in past.slices():
        if min(map(len, keys)) <= TID_SIZE:
            yield from (f"past: {key.hex()} is no key of a closed version" for key in keys if len(key) <= TID_SIZE)
            tids = [tid for key, tid in zip(keys, tids, strict=True) if len(key) > TID_SIZE]
            keys = [key for key in keys if len(key) > TID_SIZE]
        deleted = unpack(f">{len(keys)}Q", b"".join([key[-TID_SIZE:] for key in keys]))
        yield Closed([key[:-TID_SIZE] for key in keys], tids, deleted)


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
    for key, began, ended in zip(keys, created, deleted, strict=True):
        if key == last_key and began < last_deleted:
            yield f"past: versions of {key.hex()} overlap at 0x{began:016x}"
        last_key, last_deleted = key, ended


def nothing_is_overlooked(leaf: Closed, past: BTree, held: Horizon) -> Iterator[str]:
    """A prune passes over no version that is needless."""
    if not leaf.deleted or min(leaf.deleted) > held.horizon:
        return
    if passed_over(past, past_key(leaf.keys[0], leaf.deleted[0]), held):
        for key, created, deleted in zip(*leaf, strict=True):
            if held.needless(created, deleted):
                yield f"past: a prune passes over {key.hex()}, true from 0x{created:016x} to 0x{deleted:016x}"


class Live:
    """The live versions of keys that are asked for in ascending order: a descent for each leaf, not for each key."""

    def __init__(self, current: BTree) -> None:
        self._current = current
        self._edits = -1
        self._keys: list[bytes] = []
        self._tids: list[int] = []

    def among(self, wanted: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
        """Those of the keys, which ascend, that have a live version, and when it began."""
        current = self._current
        keys, tids, edits = self._keys, self._tids, self._edits
        last, at = (keys[-1] if keys else b""), 0
        for key in wanted:
            if key > last or edits != current.edits:
                edits = self._edits = current.edits
                keys, tids, _ = next(current.slices(key), ([], [], []))
                self._keys, self._tids = keys, tids
                last, at = (keys[-1] if keys else b"\xff" * len(key)), 0
            at = bisect_left(keys, key, at)
            if at < len(keys) and keys[at] == key:
                yield key, tids[at]


def live_after_past(leaf: Closed, live: Live) -> Iterator[str]:
    """The live version of a key began when its last closed one had ended, or later."""
    newest = dict(zip(leaf.keys, leaf.deleted, strict=True))
    for key, created in live.among(newest):
        if created < newest[key]:
            yield f"{key.hex()} is live since 0x{created:016x} and was closed at 0x{newest[key]:016x}"
