"""The reference: a filesystem as a tree of plain objects, written to be obviously right, not to be fast.

A path is walked before the other arguments are looked at (the kernel does some of that the other way round).
Nothing that can be counted is stored: link counts are found by looking through the whole tree, ancestors by looking
through what a directory holds. An ACL is a list of (tag, permissions, id).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.contracts.adapter import CREATE, EXCHANGE, NOREPLACE, REPLACE, Status

Acl = list[tuple[int, int, int]]
OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@dataclass(eq=False)
class Node:
    number: int
    mode: int
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0
    data: bytearray = field(default_factory=bytearray)
    tail: int = 0  # zeros after the data, so that a test may ask for a TiB of them
    target: str = ""
    entries: dict[str, Node] = field(default_factory=dict)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    access: Acl | None = None
    default: Acl | None = None
    unnamed: bool = False  # made by O_TMPFILE and not linked since

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def size(self) -> int:
        return len(self.data) + self.tail

    def below(self) -> Iterator[Node]:
        """Every name's node in the tree under this one (so a node with two names comes twice)."""
        for node in self.entries.values():
            yield node
            yield from node.below()


class Model:
    """The Adapter over such a tree."""

    features = frozenset({"handles", "acl", "owners", "trusted", "umask", "sizes", "functions"})

    def __init__(self) -> None:
        self.clock = 1_700_000_000_000_000_000
        self.mask = 0o022
        self.numbers = iter(range(1, 1 << 60))
        self.root = self._node(stat.S_IFDIR | 0o755)
        self.handles: dict[int, Node] = {}

    # Finding things.

    def find(self, path: str, follow: bool) -> tuple[Node, str, Node | None]:
        """The directory a path leads to, the last name, and what it holds (None: nothing)."""
        steps = [self.root]
        parts = [part for part in path.split("/") if part]
        name, node, links = "", self.root, 0
        while parts:
            name = parts.pop(0)
            here = steps[-1]
            if not here.is_dir:
                raise error(errno.ENOTDIR)
            if len(os.fsencode(name)) > 255:
                raise error(errno.ENAMETOOLONG)
            if name == ".":
                continue
            if name == "..":
                steps = steps[:-1] or [self.root]
                continue
            found = here.entries.get(name)
            if found is None:
                if parts:
                    raise error(errno.ENOENT)
                return here, name, None
            if found.is_link and (parts or follow):
                links += 1
                if links > 40:
                    raise error(errno.ELOOP)
                if found.target.startswith("/"):
                    steps = [self.root]
                parts = [part for part in found.target.split("/") if part] + parts
                continue
            steps.append(found)
        node = steps[-1]
        return steps[-2] if len(steps) > 1 else self.root, name, node

    def get(self, path: str, follow: bool = False) -> Node:
        node = self.find(path, follow)[2]
        if node is None:
            raise error(errno.ENOENT)
        return node

    def nlink(self, node: Node) -> int:
        names = sum(other is node for other in self.root.below()) + (node is self.root)
        if node.is_dir:
            return names and 2 + sum(child.is_dir for child in node.entries.values())
        return names

    # Time and change.

    def tick(self) -> None:
        self.clock += 1000

    def umask(self, mask: int) -> None:
        self.mask = mask

    def _node(self, mode: int) -> Node:
        self.tick()
        return Node(next(self.numbers), mode, atime=self.clock, mtime=self.clock, ctime=self.clock)

    def _changed(self, *nodes: Node) -> None:
        self.tick()
        for node in nodes:
            node.ctime = self.clock

    def _edited(self, *nodes: Node) -> None:
        self._changed(*nodes)
        for node in nodes:
            node.mtime = self.clock

    # Names.

    def _make(self, path: str, mode: int, follow: bool = False) -> Node:
        parent, name, there = self.find(path, follow)
        if there is not None:
            raise error(errno.EEXIST)
        node = self._fresh(parent, mode)
        parent.entries[name] = node
        self._edited(parent)
        return node

    def _fresh(self, parent: Node, mode: int) -> Node:
        node = self._node(mode)
        if parent.mode & stat.S_ISGID:
            node.gid = parent.gid
            if node.is_dir:
                node.mode |= stat.S_ISGID
        if node.is_link:
            return node
        if parent.default is None:
            node.mode &= ~self.mask
            return node
        allowed = {OWNER: mode >> 6 & 7, GROUP: mode >> 3 & 7, MASK: mode >> 3 & 7, OTHER: mode & 7}
        if any(tag == MASK for tag, _, _ in parent.default):
            del allowed[GROUP]
        acl = [(tag, perm & allowed.get(tag, 7), who) for tag, perm, who in parent.default]
        self._apply_access(node, acl)
        if node.is_dir:
            node.default = parent.default
        return node

    def _apply_access(self, node: Node, acl: Acl) -> None:
        perms = {tag: perm for tag, perm, _ in acl}
        group = perms.get(MASK, perms[GROUP])
        node.mode = node.mode & ~0o777 | perms[OWNER] << 6 | group << 3 | perms[OTHER]
        node.access = acl if len(acl) > 3 else None

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._make(path, stat.S_IFDIR | mode & 0o1777)

    def mknod(self, path: str, mode: int, device: int = 0) -> None:
        self.find(path, False)
        if stat.S_ISDIR(mode):
            raise error(errno.EPERM)
        if stat.S_ISLNK(mode):
            raise error(errno.EINVAL)
        node = self._make(path, mode if stat.S_IFMT(mode) else mode | stat.S_IFREG)
        node.rdev = device if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0

    def symlink(self, target: str, path: str) -> None:
        self.find(path, False)
        if not target:
            raise error(errno.ENOENT)
        if len(os.fsencode(target)) > 4095:
            raise error(errno.ENAMETOOLONG)
        self._make(path, stat.S_IFLNK | 0o777).target = target

    def link(self, path: str, new: str) -> None:
        self._link(self.get(path), new)

    def _link(self, node: Node, new: str) -> None:
        parent, name, there = self.find(new, False)
        if there is not None:
            raise error(errno.EEXIST)
        if node.is_dir:
            raise error(errno.EPERM)
        if not self.nlink(node) and not node.unnamed:
            raise error(errno.ENOENT)
        node.unnamed = False
        parent.entries[name] = node
        self._edited(parent)
        self._changed(node)

    def unlink(self, path: str) -> None:
        parent, name, node = self.find(path, False)
        if node is None:
            raise error(errno.ENOENT)
        if node.is_dir:
            raise error(errno.EISDIR)
        del parent.entries[name]
        self._edited(parent)
        self._changed(node)

    def rmdir(self, path: str) -> None:
        parent, name, node = self.find(path, False)
        if node is None:
            raise error(errno.ENOENT)
        if not node.is_dir:
            raise error(errno.ENOTDIR)
        if node.entries:
            raise error(errno.ENOTEMPTY)
        del parent.entries[name]
        self._edited(parent)
        self._changed(node)

    def rename(self, path: str, new: str, flags: int = 0) -> None:
        old_parent, old_name, source = self.find(path, False)
        new_parent, new_name, target = self.find(new, False)
        if flags not in (0, NOREPLACE, EXCHANGE):
            raise error(errno.EINVAL)
        if source is None:
            raise error(errno.ENOENT)
        if target is not None and flags == NOREPLACE:
            raise error(errno.EEXIST)
        if target is None and flags == EXCHANGE:
            raise error(errno.ENOENT)
        if source is new_parent or new_parent in source.below():
            raise error(errno.EINVAL)
        if target is not None and (target is old_parent or old_parent in target.below()):
            raise error(errno.EINVAL if flags == EXCHANGE else errno.ENOTEMPTY)
        if source is target:
            return
        if flags == EXCHANGE:
            assert target is not None
            old_parent.entries[old_name] = target
        else:
            if target is not None:
                self._may_replace(source, target)
            del old_parent.entries[old_name]
        new_parent.entries[new_name] = source
        self._edited(old_parent, new_parent)
        self._changed(*(node for node in (source, target) if node is not None))

    def _may_replace(self, source: Node, target: Node) -> None:
        if source.is_dir and not target.is_dir:
            raise error(errno.ENOTDIR)
        if target.is_dir and not source.is_dir:
            raise error(errno.EISDIR)
        if target.entries:
            raise error(errno.ENOTEMPTY)

    def readlink(self, path: str) -> str:
        node = self.get(path)
        if not node.is_link:
            raise error(errno.EINVAL)
        return node.target

    def listdir(self, path: str) -> list[str]:
        node = self.get(path, True)
        if not node.is_dir:
            raise error(errno.ENOTDIR)
        return list(node.entries)

    # Attributes.

    def stat(self, path: str, follow: bool = False) -> Status:
        return self._status(self.get(path, follow))

    def _status(self, node: Node) -> Status:
        size = node.size if node.is_file else len(os.fsencode(node.target)) if node.is_link else len(node.entries)
        nlink = self.nlink(node)
        return Status(
            node.number, node.mode, nlink, node.uid, node.gid, size, node.rdev, node.atime, node.mtime, node.ctime
        )

    def chmod(self, path: str, mode: int) -> None:
        node = self.get(path, True)
        node.mode = stat.S_IFMT(node.mode) | mode & 0o7777
        if node.access is not None:
            bits = {OWNER: mode >> 6 & 7, MASK: mode >> 3 & 7, OTHER: mode & 7}
            if all(tag != MASK for tag, _, _ in node.access):
                bits[GROUP] = mode >> 3 & 7
            node.access = [(tag, bits.get(tag, perm), who) for tag, perm, who in node.access]
        self._changed(node)

    def chown(self, path: str, uid: int, gid: int) -> None:
        node = self.get(path)
        node.uid = node.uid if uid == -1 else uid
        node.gid = node.gid if gid == -1 else gid
        if not node.is_dir and (uid, gid) != (-1, -1):
            if node.mode & stat.S_IXGRP:
                node.mode &= ~stat.S_ISGID
            node.mode &= ~stat.S_ISUID
        self._changed(node)

    def utime(self, path: str, atime: int, mtime: int) -> None:
        node = self.get(path)
        self._changed(node)
        node.atime, node.mtime = atime, mtime

    def truncate(self, path: str, size: int) -> None:
        node = self.get(path, True)
        if node.is_dir:
            raise error(errno.EISDIR)
        if size < 0 or not node.is_file:
            raise error(errno.EINVAL)
        del node.data[size:]
        node.tail = size - len(node.data)
        self._edited(node)

    # Extended attributes.

    def getxattr(self, path: str, name: str) -> bytes:
        node = self.get(path)
        self._check_xattr(name)
        if name in (ACCESS, DEFAULT):
            if node.is_link:
                raise error(errno.EOPNOTSUPP)
            acl = node.access if name == ACCESS else node.default
            if acl is None:
                raise error(errno.ENODATA)
            return pack_acl(acl)
        if name not in node.xattrs:
            raise error(errno.ENODATA)
        return node.xattrs[name]

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        node = self.get(path)
        self._check_xattr(name)
        if flags & ~(CREATE | REPLACE):
            raise error(errno.EINVAL)
        if len(value) > 65536:
            raise error(errno.E2BIG)
        if name in (ACCESS, DEFAULT):
            self._set_acl(node, name, value)
            return
        if name.startswith("user.") and not (node.is_file or node.is_dir):
            raise error(errno.EPERM)
        if name in node.xattrs and flags & CREATE:
            raise error(errno.EEXIST)
        if name not in node.xattrs and flags & REPLACE:
            raise error(errno.ENODATA)
        node.xattrs[name] = value
        self._changed(node)

    def _set_acl(self, node: Node, name: str, value: bytes) -> None:
        if node.is_link:
            raise error(errno.EOPNOTSUPP)
        acl = unpack_acl(value)
        if name == DEFAULT:
            if acl and not node.is_dir:
                raise error(errno.EACCES)
            if acl or node.default:
                self._changed(node)
            node.default = acl or None
        else:
            if acl or node.access:
                self._changed(node)
            node.access = None
            if acl:
                self._apply_access(node, acl)

    def listxattr(self, path: str) -> list[str]:
        node = self.get(path)
        acls = {ACCESS: node.access, DEFAULT: node.default}
        return sorted([*node.xattrs, *(name for name, acl in acls.items() if acl is not None)])

    def removexattr(self, path: str, name: str) -> None:
        node = self.get(path)
        self._check_xattr(name)
        if name in (ACCESS, DEFAULT):
            self._set_acl(node, name, b"")
        elif name.startswith("user.") and not (node.is_file or node.is_dir):
            raise error(errno.EPERM)
        elif name not in node.xattrs:
            raise error(errno.ENODATA)
        else:
            del node.xattrs[name]
            self._changed(node)

    def _check_xattr(self, name: str) -> None:
        if not 0 < len(os.fsencode(name)) <= 255:
            raise error(errno.ERANGE)
        if name in ("user.", "trusted.", "security."):
            raise error(errno.EINVAL)
        if name not in (ACCESS, DEFAULT) and not name.startswith(("user.", "trusted.", "security.")):
            raise error(errno.EOPNOTSUPP)

    # Content and open files.

    def write(self, path: str, data: bytes) -> None:
        handle = self.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        self.pwrite(handle, data, 0)
        self.close(handle)

    def read(self, path: str) -> bytes:
        node = self.get(path, True)
        if node.is_dir:
            raise error(errno.EISDIR)
        if not node.is_file:
            raise error(errno.EINVAL)
        return bytes(node.data) + bytes(node.tail)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        node = self.find(path, follow=not exclusive and not flags & os.O_NOFOLLOW)[2]
        if node is None:
            if not flags & os.O_CREAT:
                raise error(errno.ENOENT)
            node = self._make(path, stat.S_IFREG | mode & 0o7777, follow=True)
        elif exclusive:
            raise error(errno.EEXIST)
        elif node.is_link:
            raise error(errno.ELOOP)
        elif node.is_dir and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise error(errno.EISDIR)
        elif not node.is_dir and flags & os.O_DIRECTORY:
            raise error(errno.ENOTDIR)
        elif not node.is_dir and not node.is_file:
            raise error(errno.EINVAL)  # a kernel opens pipes and devices itself
        elif flags & os.O_TRUNC:
            node.data.clear()
            node.tail = 0
            self._edited(node)
        return self._opened(node)

    def _opened(self, node: Node) -> int:
        handle = next(self.numbers)
        self.handles[handle] = node
        return handle

    def tmpfile(self, directory: str, mode: int = 0o666) -> int:
        parent = self.get(directory, True)
        if not parent.is_dir:
            raise error(errno.ENOTDIR)
        node = self._fresh(parent, stat.S_IFREG | mode)
        node.unnamed = True
        return self._opened(node)

    def close(self, handle: int) -> None:
        del self.handles[handle]

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        node = self.handles[handle]
        return (bytes(node.data) + bytes(node.tail))[offset : offset + size]

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        node = self.handles[handle]
        if data:
            size, end = node.size, offset + len(data)
            node.data.extend(bytes(max(0, end - len(node.data))))
            node.data[offset:end] = data
            node.tail = max(size, end) - len(node.data)
            self._edited(node)
        return len(data)

    def fstat(self, handle: int) -> Status:
        return self._status(self.handles[handle])

    def flink(self, handle: int, new: str) -> None:
        self._link(self.handles[handle], new)

    def readdir(self, path: str, cookie: int, count: int) -> list[tuple[int, str]]:
        raise error(errno.EOPNOTSUPP)  # a dict has no cookies


def pack_acl(acl: Acl) -> bytes:
    entries = (
        tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, perm, who in acl
    )
    return b"\2\0\0\0" + b"".join(entries)


def unpack_acl(value: bytes) -> Acl:
    if not value:
        return []
    if len(value) >= 4 and value[:4] != b"\2\0\0\0":
        raise error(errno.EOPNOTSUPP)
    if len(value) % 8 != 4:
        raise error(errno.EINVAL)
    numbers = [int.from_bytes(value[at : at + 2], "little") for at in range(4, len(value), 2)]
    acl = []
    for tag, perm, low, high in zip(*(iter(numbers),) * 4, strict=True):
        who = high << 16 | low
        acl.append((tag, perm, who if tag in (USER, NAMED_GROUP) else 0xFFFFFFFF))
    tags = [tag for tag, _, _ in acl]
    if not acl:
        return []
    once = all(tags.count(tag) == 1 for tag in (OWNER, GROUP, OTHER)) and tags.count(MASK) <= 1
    named = USER in tags or NAMED_GROUP in tags
    known = all(tag in (OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHER) for tag in tags)
    valid = all(perm <= 7 and not (tag in (USER, NAMED_GROUP) and who == 0xFFFFFFFF) for tag, perm, who in acl)
    if not (once and known and valid and tags == sorted(tags)) or (named and MASK not in tags):
        raise error(errno.EINVAL)
    return acl
