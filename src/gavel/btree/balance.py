"""Splitting nodes that grew, joining nodes that shrank.

Both work on nodes of the current edition only and on nothing but their lists; the caller keeps the parent right.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

from gavel.btree.node import CHILD_OVERHEAD, NODE_JOINED, NODE_MAX, NODE_PACKED, Node, leaf_sizes, separator, size_of


def split(node: Node) -> tuple[list[bytes], list[Node]]:
    """Cut a node of at least two records or children into pieces, itself the first; separators, then pieces.

    Where the last fresh keys continued a sequence, what is up to its end is packed, as nothing will be put between it,
    and what lies behind it goes apart: it will not grow with the sequence. Otherwise the pieces are even and have room
    to grow. No piece is empty; one of two or more records fits NODE_MAX.
    """
    if node.level:
        ends = list(accumulate(len(key) + CHILD_OVERHEAD for key in (b"", *node.keys)))
    else:
        ends = list(accumulate(leaf_sizes(node)))
    return _cut(node, _packed(ends, node.hot) if node.hot >= 0 else _even(ends))


def _packed(ends: list[int], hot: int) -> list[int]:
    """Where pieces start that are full up to the sequence's end at `hot`, and those of what lies behind it.

    Without the cut behind the sequence each split would take a thin slice off what lies behind, again and again.
    """
    end = min(max(hot, 1), len(ends))
    starts, done = [0], 0
    while ends[end - 1] - done > NODE_PACKED:
        cut = max(bisect_right(ends, done + NODE_PACKED, starts[-1], end), starts[-1] + 1)
        if cut >= end:
            break
        starts.append(cut)
        done = ends[cut - 1]
    if end < len(ends) and (len(starts) == 1 or ends[-1] - done > NODE_JOINED):
        base = ends[end - 1]
        starts += [end + start for start in _even([at - base for at in ends[end:]])]
    return starts if len(starts) > 1 else [0, len(ends) - 1]


def _even(ends: list[int]) -> list[int]:
    """Where pieces of much the same size start, as few as leave a quarter of each free."""
    starts, done = [0], 0
    while not done or ends[-1] - done > NODE_JOINED:
        rest = ends[-1] - done
        room = -(-rest // max(2, -(-rest // NODE_JOINED)))
        cut = bisect_left(ends, done + room, starts[-1]) + 1
        if cut - starts[-1] > 1 and ends[cut - 1] - done > NODE_MAX:
            cut -= 1  # a huge record: let the next piece begin with it
        if cut >= len(ends):
            break
        starts.append(cut)
        done = ends[cut - 1]
    return starts


def _cut(node: Node, starts: list[int]) -> tuple[list[bytes], list[Node]]:
    inner = node.level > 0
    keys, tids, values, dues, hot = node.keys, node.tids, node.values, node.dues, node.hot
    ends = [*starts[1:], len(values)]
    separators = [keys[start - 1] if inner else separator(keys[start - 1], keys[start]) for start in starts[1:]]
    pieces = [node]
    for start, end in zip(starts[1:], ends[1:], strict=True):
        piece = Node(node.level, 0, node.edition)
        piece.fill(keys[start : end - inner], tids[start:end], values[start:end], 0)
        if dues is not None:
            piece.dues = dues[start:end]
        piece.hot = hot - start if start <= hot <= end else -1
        piece.size = size_of(piece)
        pieces.append(piece)
    end = ends[0]
    del keys[end - inner :], tids[end:], values[end:]
    if dues is not None:
        del dues[end:]
    node.size = size_of(node)
    node.hot = hot if 0 <= hot <= end else -1
    return separators, pieces


def join(left: Node, right: Node, between: bytes) -> bool:
    """Move all of the right neighbour into the left one, if both fit well; `between` is their separator."""
    if left.size + right.size > NODE_JOINED:
        return False
    if left.level:
        left.keys.append(between)
        left.size += len(between)
    left.keys += right.keys
    left.tids += right.tids
    left.values += right.values
    if left.dues is not None:
        left.dues += right.dues
    left.size += right.size
    left.hot = -1
    right.drop()
    return True


def emptied(node: Node) -> bool:
    """Whether nothing is left in a node, nor below it. Looks only where everything was just edited."""
    while node.level:
        if len(node.values) != 1:
            return False
        node = node.values[0]
        if node.keys is None:
            return False
    return not node.keys
