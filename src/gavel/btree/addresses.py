"""Where the nodes of a tree lie on the volume, a few at a time: for those who read them all without keeping any."""

from __future__ import annotations

from bisect import bisect_right

from gavel.btree.tree import BTree


def addresses(tree: BTree, start: bytes, count: int) -> tuple[list[int], bytes | None]:
    """Addresses of up to `count` leaves from the one with `start` on, and where to go on; None at the end.

    Inner nodes come with the first leaf below them, once. Nodes not written yet are left out. The tree may be edited
    between two calls; what was there all the while is met. Raises Damaged when an inner node cannot be read.
    """
    node, after = tree.root, None
    path = [node.address]
    while node.level:
        keys = node.keys if node.keys is not None else tree.pool.load(node)
        at = bisect_right(keys, start)
        if at:
            path = []  # this node and those above came with an earlier leaf
        if node.level == 1:
            some = node.values[at : at + count]
            found = [*path, *(leaf.address for leaf in some)]
            if at + count < len(node.values):
                after = keys[at + count - 1]
            return [address for address in found if address], after
        after = keys[at] if at < len(keys) else after
        node = node.values[at]
        path.append(node.address)
    return [address for address in path if address], None
