"""What a fresh pseudo-filesystem begins with."""

from __future__ import annotations

import stat

from gavel.filesystem import inode as inodes
from gavel.filesystem.caller import Caller
from gavel.filesystem.inode import Inode
from gavel.keys.records import ROOT_OBJECT
from gavel.transaction.transaction import Transaction

ROOT_MODE = stat.S_IFDIR | 0o755


def make_root(tx: Transaction, caller: Caller) -> Inode:
    """Make the empty root directory, owned by the caller. It is its own parent and never goes away."""
    now = tx.now
    root = Inode(ROOT_MODE, 2, caller.uid, caller.gid, 0, 0, now, now, now, now, ROOT_OBJECT, 0)
    inodes.write(tx, ROOT_OBJECT, root)
    return root
