"""A small filesystem with a past, worked on by paths: what tests of looking back are written in."""

from __future__ import annotations

import stat
from typing import Any

from gavel.filesystem import attributes, data, directory, namespace, orphans, path, restore, superblock, undo, xattr
from gavel.filesystem import inode as inodes
from gavel.filesystem.caller import Caller
from gavel.keys.records import ROOT_OBJECT
from gavel.transaction.transaction import Transaction
from tests.unit.filesystem.memory_history import MemoryHistory

ME = Caller(1000, 1000)


class Scenario(MemoryHistory):
    """Each call is a transaction of its own, a second after the last; it returns the tid. `reap` as shells do it."""

    def __init__(self, *, reap: bool = True) -> None:
        super().__init__()
        self.reap = reap
        self.run(superblock.make_root, ME)
        self.created_tid = self.last_tid

    def do(self, op: Any, *args: Any, **more: Any) -> int:
        self.run(op, *args, **more)
        tid = self.last_tid
        if self.reap:
            for obj in orphans.listed(self.begin()):
                while not self.run(orphans.reap, obj, seconds=0.001):
                    pass
        return tid

    # By path.
    def obj(self, text: str, at: int | None = None) -> int:
        return path.resolve(self.begin(at), ROOT_OBJECT, text.encode(), follow=False)[0]

    def split(self, text: str) -> tuple[int, bytes]:
        head, _, name = text.strip("/").rpartition("/")
        return self.obj(head), name.encode()

    def write(self, text: str, content: bytes, offset: int = 0) -> int:
        def op(tx: Transaction) -> None:
            parent, name = self.split(text)
            found = directory.lookup(tx, parent, name)
            obj = found[0] if found else namespace.create(tx, parent, name, 0o100644, ME)[0]
            if not offset:
                data.truncate(tx, obj, 0)
            data.write(tx, obj, offset, content)

        return self.do(op)

    def save(self, text: str, content: bytes) -> int:
        """As many editors save: write a new file, rename it over the old one."""
        self.write(text + ".tmp", content)
        return self.move(text + ".tmp", text)

    def mkdir(self, text: str) -> int:
        return self.do(namespace.mkdir, *self.split(text), 0o755, ME)

    def remove(self, text: str) -> int:
        """As rm -r, one transaction for each name."""
        tx = self.begin()
        obj, inode = path.resolve(tx, ROOT_OBJECT, text.encode(), follow=False)
        if not inode.is_dir:
            return self.do(namespace.unlink, *self.split(text))
        for entry in list(directory.entries(tx, obj)):
            self.remove(f"{text}/{entry.name.decode()}")
        return self.do(namespace.rmdir, *self.split(text))

    def move(self, old: str, new: str, flags: int = 0) -> int:
        return self.do(namespace.rename, *self.split(old), *self.split(new), flags)

    def link(self, old: str, new: str) -> int:
        return self.do(namespace.link, self.obj(old), *self.split(new))

    def symlink(self, text: str, target: str) -> int:
        return self.do(namespace.symlink, *self.split(text), target.encode(), ME)

    def truncate(self, text: str, size: int) -> int:
        return self.do(data.truncate, self.obj(text), size)

    def chmod(self, text: str, mode: int) -> int:
        return self.do(attributes.setattr, self.obj(text), attributes.Changes(mode=mode))

    def chown(self, text: str, uid: int) -> int:
        return self.do(attributes.setattr, self.obj(text), attributes.Changes(uid=uid))

    def touch(self, text: str) -> int:
        return self.do(attributes.setattr, self.obj(text), attributes.Changes(mtime=self.micros * 1000 + 1))

    def setxattr(self, text: str, name: str, value: bytes) -> int:
        return self.do(xattr.set, self.obj(text), name.encode(), value)

    def read(self, text: str, at: int | None = None) -> bytes:
        return b"".join(data.read(self.begin(at), self.obj(text, at), 0, 1 << 30))

    def listing(self, at: int | None = None, top: str = "") -> dict[str, tuple[object, ...]]:
        """Everything that can be seen of a tree, but for ctime and atime."""
        tx = self.begin(at)
        found: dict[str, tuple[object, ...]] = {}
        todo = [(self.obj(top, at), top)]
        while todo:
            obj, here = todo.pop()
            inode = inodes.read(tx, obj)
            content = b"".join(data.read(tx, obj, 0, 1 << 30)) if inode.is_file else b""
            names = xattr.list(tx, obj)
            found[here or "/"] = (
                obj, stat.filemode(inode.mode), inode.nlink, inode.uid, inode.gid, inode.size, inode.used, inode.mtime,
                inode.btime, inode.target, inode.rdev, content, {name: xattr.get(tx, obj, name) for name in names},
            )  # fmt: skip
            if inode.is_dir:
                todo += [(entry.object, f"{here}/{entry.name.decode()}") for entry in directory.entries(tx, obj)]
        return found

    def undo(self, text: str, to: int | None = None) -> list[str]:
        """Undo; returns the plan as lines."""
        plan = undo.plan(self, text.encode(), to)
        for piece in restore.slices(self, plan):
            self.do(piece)
        lines = []
        for action in plan.actions:
            path = f"{action.old_path} -> {action.path}" if action.old_path else action.path
            lines.append(" ".join([action.kind, path, *action.what]))
        return lines
