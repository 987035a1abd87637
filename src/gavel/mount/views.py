"""The past in the mount's tree: node ids of objects as of a tid.

A live object's node id is its object id. A node of an as-of view has the top bit set and is kept in this table while
the kernel knows it (it says so by FORGET). Invariants: a node id is never given to something else; the same file in
the same view is one node, so hard links stay visible as such; a directory is one node for each way that led to it,
since the kernel wants a directory to have one place only.

The kernel keeps what it has looked up until it is short of memory, so the table could grow as large as the machine.
What keeps it small is `way`: of too many ways into the past the oldest are taken from the kernel.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from gavel.limits import OBJECT_ID_MAX, VIEW_NODES, VIEW_WAYS

FIRST = OBJECT_ID_MAX + 1  # every node id from here on is of a view


class View(NamedTuple):
    """What a node stands for: an object as of a tid; or, without an object, a symlink that leads to the present."""

    object: int
    at: int
    target: bytes = b""


class Views:
    """The table of the as-of nodes that the kernel knows."""

    def __init__(self) -> None:
        self._views: dict[int, View] = {}
        self._lookups: dict[int, int] = {}
        self._nodes: dict[tuple[object, ...], int] = {}
        self._keys: dict[int, tuple[object, ...]] = {}
        self._ways: dict[tuple[int, bytes], None] = {}  # names in the present that lead into the past, oldest first
        self._next = FIRST
        self.entered: list[int] | None = None  # notes each enter(), for one who may have to take it back

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, node: int) -> View:
        """What a node stands for; raises OSError ESTALE for one the kernel cannot know."""
        view = self._views.get(node)
        if view is None:
            raise OSError(errno.ESTALE, "no such node")
        return view

    def enter(self, view: View, parent: int, name: bytes, is_dir: bool) -> int:
        """The node of something the kernel has looked up, or is about to be told of; counts one lookup."""
        key: tuple[object, ...] = (view, parent, name) if is_dir or not view.object else (view,)
        node = self._nodes.get(key)
        if node is None:
            node = self._next
            self._next += 1
            self._nodes[key] = node
            self._keys[node] = key
            self._views[node] = view
            self._lookups[node] = 1
        else:
            self._lookups[node] += 1
        if self.entered is not None:
            self.entered.append(node)
        return node

    def way(self, parent: int, name: bytes) -> list[tuple[int, bytes]]:
        """The kernel goes into the past by a name in the present; returns the ways that it has to forget for that.

        With a way goes all that was looked up through it, unless it is in use. Somebody whose working directory is
        there can go on, but for its path (getcwd), which is gone. The newest way is never among them.
        """
        self._ways.pop((parent, name), None)
        few = len(self._views) <= VIEW_NODES and len(self._ways) < VIEW_WAYS
        oldest = [] if few else list(self._ways)[: (len(self._ways) + 1) // 2]
        for old in oldest:
            del self._ways[old]
        self._ways[parent, name] = None
        return oldest

    def forget(self, node: int, lookups: int) -> None:
        """The kernel gives back so many lookups; with the last the node is gone."""
        left = self._lookups.get(node)
        if left is None:
            return
        if left > lookups:
            self._lookups[node] = left - lookups
            return
        del self._lookups[node], self._views[node], self._nodes[self._keys.pop(node)]
