"""The map counted afresh: how many bytes of every big-block the trees refer to, as nodes and as file data.

A count belongs to one moment, and others have their turn between two pieces of work. Where the trees are edited or
nodes of them written meanwhile, it is left open, for a quieter time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gavel.btree.addresses import addresses
from gavel.btree.tree import BTree
from gavel.errors import Damaged, DeviceFailed
from gavel.history.accounting import referred
from gavel.history.walk import leaves_of_data
from gavel.limits import BIG_BLOCK, SLICE_RECORDS
from gavel.media import layout


def live_bytes_counted(current: BTree, past: BTree, counted: Callable[[], Mapping[int, int]]) -> Iterator[str]:
    """The map knows how much of every big-block is alive (`counted` says, by big-block). "" between pieces of work."""
    began = _moment(current, past)
    found: dict[int, int] = {}
    try:
        for tree in (current, past):
            for piece in _pieces(tree):
                for place, size in piece:
                    found[place // BIG_BLOCK] = found.get(place // BIG_BLOCK, 0) + size
                yield ""
                if _moment(current, past) != began:
                    return
    except (Damaged, DeviceFailed) as trouble:
        yield f"the map cannot be counted afresh: {trouble}"
        return
    says = counted()
    for block in sorted({**found, **says}):
        here, there = says.get(block, 0), found.get(block, 0)
        if here != there:
            yield f"big-block {block}: the map counts {here} live bytes, the trees refer to {there}"


def _moment(current: BTree, past: BTree) -> tuple[int, ...]:
    return current.edits, past.edits, current.unwritten, past.unwritten


def _pieces(tree: BTree) -> Iterator[list[tuple[int, int]]]:
    """What a tree refers to, as (place, bytes): the data of a leaf at a time, then some nodes at a time."""
    for keys, _, values in leaves_of_data(tree):
        yield list(referred(keys, values).items())
    at: bytes | None = b""
    while at is not None:
        some, at = addresses(tree, at, SLICE_RECORDS)
        yield [layout.node_extent(address) for address in some]
