"""When there may be something to do below an inner element: what lets a prune pass over all else.

The records of a *dated* tree ended at tids, which their keys tell. A *calendar* says which of them are needless: those
that ended at or below its horizon, and that none of the tids holds which it keeps below the horizon. A Due says that

    nothing below is needless as long as the horizon is below `low` and there are `count` kept tids in [first, last]

which goes on being true when records are removed, and whatever happens elsewhere. It may be too careful and never the
other way round: UNKNOWN is always right, and it is what goes for nodes of older formats, which say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from gavel.btree.node import Node

NEVER: Final = 2**64 - 1  # above every tid

Ends = Callable[[list[bytes], int], int]  # the lowest tid, at or above a given one, at which a record of these ended


class Due(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """See the module; where nothing is held there is no count, and `first` and `last` are 0."""

    low: int
    first: int = 0
    last: int = 0
    count: int = 0


UNKNOWN: Final = Due(0)


class Calendar(Protocol):
    """What decides what is needless."""

    def due(self, due: Due) -> bool:
        """Whether there may be something needless where this holds."""

    def over(self, dues: Sequence[Due]) -> Due:
        """What holds of several subtrees together, none of which is due."""


def lowered(due: Due, tid: int) -> Due:
    """What holds when a record has come in that ended at `tid`."""
    return Due(tid, due.first, due.last, due.count) if tid < due.low else due


def parted(due: Due, pieces: list[Node], ends: Ends) -> list[Due]:
    """What holds of each piece of a node of which `due` did."""
    return [_of_piece(due, piece, ends) for piece in pieces]


def _of_piece(due: Due, piece: Node, ends: Ends) -> Due:
    if not piece.level:
        held = due.count and ends(piece.keys, 0) < due.low
        low = ends(piece.keys, due.low)
        return Due(low, due.first, due.last, due.count) if held else Due(low)
    below: list[Due] = piece.dues
    return due if any(each.count for each in below) else Due(min(each.low for each in below))


def joined(left: Due, right: Due) -> Due:
    """What holds of two neighbours that have become one.

    Counts of different tids, or taken at different times, say nothing together, even if one range contains the other.
    """
    low = min(left.low, right.low)
    if not right.count or (left.first, left.last, left.count) == (right.first, right.last, right.count):
        return Due(low, left.first, left.last, left.count)
    return UNKNOWN if left.count else Due(low, right.first, right.last, right.count)
