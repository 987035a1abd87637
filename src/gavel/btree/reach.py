"""Getting at everything that a batch is going to edit, before anything is edited or logged."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from gavel.btree.tree import BTree


def reach(tree: BTree, keys: list[bytes]) -> list[bytes]:
    """Read every node that lies between the root and these sorted keys; returns which of the keys are there.

    Nodes in memory cannot be damaged any more, so a merge of these keys right afterwards succeeds (those that the
    pool had to forget meanwhile have at least been verified a moment before). Raises Damaged, DeviceFailed.
    """
    found: list[bytes] = []
    i, count = 0, len(keys)
    while i < count:
        first = keys[i]
        node, upper = tree.root, None
        while node.level:
            at = bisect_right(node.keys, first)
            if at < len(node.keys):
                upper = node.keys[at]
            node = node.values[at]
            if node.keys is None:
                tree.pool.load(node)
        j = i + 1
        if upper is None:
            j = count
        elif j < count and keys[j] < upper:
            j = bisect_left(keys, upper, j + 1)
        _there(node.keys, keys, i, j, found)
        i = j
    return found


def _there(stored: list[bytes], keys: list[bytes], i: int, j: int, found: list[bytes]) -> None:
    """Add to `found` which of keys[i:j] are among the stored ones."""
    at = bisect_left(stored, keys[i])
    if at == len(stored) or stored[at] > keys[j - 1]:
        return
    run = keys[i:j]
    if stored[at : at + j - i] == run:
        found += run
        return
    for key in run:
        at = bisect_left(stored, key, at)
        if at == len(stored):
            return
        if stored[at] == key:
            found.append(key)
