"""Names with `@@` in them: the ways from the present into the past and back.

`name@@when` and `@@when` are looked up as any other name, when no real one is in the way; what they lead to are nodes
of a view. `@@` alone, and `name@@`, are the present: symlinks, since the kernel wants a directory to have one place.
"""

from __future__ import annotations

import errno
import os

from gavel.errors import BadWhen
from gavel.filesystem import directory, path
from gavel.filesystem import inode as inodes
from gavel.filesystem.inode import Inode
from gavel.mount.nodes import BRIEFLY, Nodes
from gavel.mount.replies import FOREVER
from gavel.mount.session import Reply
from gavel.mount.views import FIRST, View
from gavel.transaction.transaction import Transaction

_LINK_MODE = 0o120777


class PastNames:
    """Answers LOOKUPs of names that hold `@@`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def lookup(self, parent: int, name: bytes) -> Reply:
        """The entry of `name@@when` in a directory, or ENOENT; what is no WHEN is simply no name."""
        base, text = path.split(name)
        assert text is not None
        obj = self._nodes.place(parent).object
        if not text:
            return self._present(parent, name, base, obj)
        try:
            at, lives = self._moment(os.fsdecode(text))
        except BadWhen:
            return errno.ENOENT
        try:
            found = self._nodes.engine.read_at(at, _find, obj, base)
        except OSError as error:
            return errno.ENOENT if error.errno == errno.ESTALE else error.errno or errno.EIO
        if found is None:
            return errno.ENOENT
        then, inode = found
        if parent < FIRST:
            for way in self._nodes.views.way(parent, name):
                self._nodes.let_go(*way)
        node = self._nodes.views.enter(View(then, at), parent, name, inode.is_dir)
        return self._nodes.replies.entry(node, inode, lives)

    def moment(self, text: str) -> int:
        """The tid that a WHEN stands for; raises BadWhen."""
        return self._moment(text)[0]

    def _moment(self, text: str) -> tuple[int, int]:
        """The tid, and for how many seconds the text will go on to mean it."""
        at = self._nodes.moment(text)
        return at, FOREVER if text[0].isdigit() else BRIEFLY

    def _present(self, parent: int, name: bytes, base: bytes, obj: int) -> Reply:
        """A symlink to what the name is today; in a view to its absolute path, since ".." leads back into the view."""
        read = self._nodes.engine.read
        now = None
        if base:
            found = read(directory.lookup, obj, base)
            if found is None:
                return errno.ENOENT
            now = found[1]
        if parent < FIRST:
            target = base or b"."
        else:
            above = read(path.path_of, obj)
            if above is None:
                return errno.ENOENT
            target = os.path.join(os.fsencode(self._nodes.directory + above.rstrip("/")), base).rstrip(b"/")
        node = self._nodes.views.enter(View(0, 0, target), parent, name, False)
        return self._nodes.replies.entry(node, symlink_inode(target, now), BRIEFLY)


def _find(tx: Transaction, obj: int, base: bytes) -> tuple[int, Inode] | None:
    """What a directory held under a name; without one, the directory itself."""
    if base:
        return directory.lookup(tx, obj, base)
    return obj, inodes.read(tx, obj)


def symlink_inode(target: bytes, like: Inode | None = None) -> Inode:
    """The inode of a symlink that is not on the volume; its times are those of what it leads to."""
    moment = like.mtime if like is not None else 0
    size = len(target)
    return Inode(_LINK_MODE, 1, 0, 0, size, 0, moment, moment, moment, moment, 0, 0, target=target)
