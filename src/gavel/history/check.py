"""What must hold of a history, beyond the structure of its trees. Problems are sentences; none means sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gavel.btree.checker import check_tree
from gavel.btree.tree import BTree
from gavel.errors import Damaged
from gavel.history.past import TID_SIZE, split_key


def problems(current: BTree, past: BTree, last_tid: Callable[[], int], deep: bool) -> Iterator[str]:
    """All that is wrong; "" between pieces of work, where the trees may be edited."""
    for name, tree in (("current", current), ("past", past)):
        for problem in check_tree(tree, loaded_only=not deep):
            yield f"{name}: {problem}" if problem else ""
        yield ""
    if not deep:
        return
    try:
        yield from young(current, past, last_tid)
        yield from closed_in_order(past)
        yield from live_after_past(current, past)
    except Damaged as damage:
        yield str(damage)


def young(current: BTree, past: BTree, last_tid: Callable[[], int]) -> Iterator[str]:
    """Nothing is younger than the last tid applied."""
    for name, tree in (("current", current), ("past", past)):
        if tree.bound > last_tid():
            yield f"{name}: something is younger (0x{tree.bound:016x}) than the last tid 0x{last_tid():016x}"


def closed_in_order(past: BTree) -> Iterator[str]:
    """A closed version lasted, and began when the one before it had ended."""
    last_key, last_deleted = b"", 0
    for keys, tids, _ in past.slices():
        for stored, created in zip(keys, tids, strict=True):
            if len(stored) <= TID_SIZE:
                yield f"past: {stored.hex()} is no key of a closed version"
                continue
            key, deleted = split_key(stored)
            if created >= deleted:
                yield f"past: {key.hex()} was true from 0x{created:016x} to 0x{deleted:016x}"
            if key == last_key and created < last_deleted:
                yield f"past: versions of {key.hex()} overlap at 0x{created:016x}"
            last_key, last_deleted = key, deleted
        yield ""


def live_after_past(current: BTree, past: BTree) -> Iterator[str]:
    """The live version of a key began when its last closed one had ended, or later."""
    for keys, _, _ in past.slices():
        newest: dict[bytes, int] = {}
        for stored in keys:
            key, deleted = split_key(stored)
            newest[key] = deleted
        for key, deleted in newest.items():
            live = current.find(key)
            if live is not None and live[0] < deleted:
                yield f"{key.hex()} is live since 0x{live[0]:016x} and was closed at 0x{deleted:016x}"
        yield ""
