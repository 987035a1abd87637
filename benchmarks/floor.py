"""The floor: an in-memory filesystem in pure Python on /dev/fuse, to measure the mount against.

It stands for what this language and the kernel's protocol cost by themselves: dicts and bytearrays, no durability, no
history. It is honest and well made (one blocking loop, one buffer, precompiled structs, write-back cache, long
lifetimes, readdirplus) and speaks the plain protocol: LOOKUP, CREATE, OPEN, FLUSH and RELEASE are all answered. It
shares no code with gavel, so it stays the same when the mount changes.

`python -m benchmarks.floor DIR` serves DIR in the foreground until it is unmounted; `with Floor(DIR):` does so in a
process of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct

HEADER_IN = Struct("<IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extensions, padding
HEADER_OUT = Struct("<IiQ")
ATTR = "QQQQQQIIIIIIIIII"
ENTRY_OUT = Struct("<QQQQII" + ATTR)
ATTR_OUT = Struct("<QII" + ATTR)
OPEN_OUT = Struct("<QII")
INIT_IN = Struct("<IIII")
INIT_OUT = Struct("<IIIIHHIIHHIIH22x")
SETATTR_IN = Struct("<IIQQQQQQIIIIIIII")
READ_IN = Struct("<QQIIQII")
WRITE_IN = Struct("<QQIIQII")
CREATE_IN = Struct("<IIII")
MKNOD_IN = Struct("<IIII")
FALLOCATE_IN = Struct("<QQQII")
STATFS_OUT = Struct("<QQQQQIIII24x")
DIRENT = Struct("<QQII")
TWO_WORDS, TWO_LONGS, LONG = Struct("<II"), Struct("<QQ"), Struct("<Q")

ASYNC_READ, BIG_WRITES, DO_READDIRPLUS, READDIRPLUS_AUTO = 1 << 0, 1 << 5, 1 << 13, 1 << 14
WRITEBACK_CACHE, PARALLEL_DIROPS, MAX_PAGES, CACHE_SYMLINKS = 1 << 16, 1 << 18, 1 << 22, 1 << 23
HANDLE_KILLPRIV_V2 = 1 << 28
WANTED = (
    ASYNC_READ | BIG_WRITES | DO_READDIRPLUS | READDIRPLUS_AUTO | WRITEBACK_CACHE | PARALLEL_DIROPS | MAX_PAGES
) | (CACHE_SYMLINKS | HANDLE_KILLPRIV_V2)
KEEP_CACHE, CACHE_DIR = 1 << 1, 1 << 3
WRITE_KILL_SUIDGID, SETATTR_KILL_SUIDGID = 1 << 2, 1 << 11
REQUEST_BYTES = 1 << 20
FOREVER = 86400
BILLION = 1_000_000_000

libc = ctypes.CDLL(None, use_errno=True)


class Node:
    __slots__ = ("atime", "children", "ctime", "data", "gid", "ino", "lookups", "mode", "mtime", "nlink", "parent")
    __slots__ += ("rdev", "uid", "xattrs")

    def __init__(self, ino: int, mode: int, uid: int, gid: int, parent: int) -> None:
        self.ino, self.mode, self.uid, self.gid, self.parent = ino, mode, uid, gid, parent
        self.mtime = self.ctime = self.atime = time.time_ns()
        self.nlink = 1
        self.rdev = 0
        self.lookups = 0
        self.data = bytearray()
        self.xattrs: dict[bytes, bytes] = {}
        self.children: dict[bytes, Node] | None = None
        if stat.S_ISDIR(mode):
            self.nlink = 2
            self.children = {}

    def attr(self) -> tuple[int, ...]:
        size = len(self.data)
        atime, mtime, ctime = divmod(self.atime, BILLION), divmod(self.mtime, BILLION), divmod(self.ctime, BILLION)
        head = (self.ino, size, (size + 511) >> 9, atime[0], mtime[0], ctime[0], atime[1], mtime[1], ctime[1])
        return (*head, self.mode, self.nlink, self.uid, self.gid, self.rdev, 4096, 0)


class Fail(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class Server:
    """Answers one mount's requests, one after the other."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.buffer = bytearray(REQUEST_BYTES + 65536)
        root = Node(1, stat.S_IFDIR | 0o755, os.getuid(), os.getgid(), 1)
        self.nodes = {1: root}
        self.last = 1
        self.listings: dict[int, list[tuple[bytes, Node]]] = {}
        self.handles = 0
        self.handlers: dict[int, Callable[[int, memoryview], bytes | None]] = {
            1: self.lookup, 2: self.forget, 3: self.getattr, 4: self.setattr, 5: self.readlink, 6: self.symlink,
            8: self.mknod, 9: self.mkdir, 10: self.unlink, 11: self.rmdir, 12: self.rename, 13: self.link,
            14: self.open, 15: self.read, 16: self.write, 17: self.statfs, 18: self.nothing, 20: self.nothing,
            21: self.setxattr, 22: self.getxattr, 23: self.listxattr, 24: self.removexattr, 25: self.nothing,
            26: self.init, 27: self.opendir, 28: self.readdir, 29: self.releasedir, 30: self.nothing, 35: self.create,
            36: self.silence, 38: self.nothing, 42: self.batch_forget, 43: self.fallocate, 44: self.readdirplus,
            45: self.rename2,
        }  # fmt: skip
        self.uid = self.gid = 0

    def serve(self) -> None:
        """Answer until the mount is gone."""
        buffer, fd, handlers = self.buffer, self.fd, self.handlers
        view = memoryview(buffer)
        while True:
            try:
                length = os.readv(fd, (buffer,))
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            _, opcode, unique, node, self.uid, self.gid, _, _, _ = HEADER_IN.unpack_from(buffer)
            handler = handlers.get(opcode)
            code, payload = 0, b""
            if handler is None:
                code = -errno.ENOSYS
            else:
                try:
                    answer = handler(node, view[40:length])
                    if answer is None:
                        continue
                    payload = answer
                except Fail as failure:
                    code = -failure.code
                except KeyError:
                    code = -errno.ENOENT
            try:
                os.write(fd, HEADER_OUT.pack(16 + len(payload), code, unique) + payload)
            except OSError as error:
                if error.errno != errno.ENOENT:  # the asking process was killed
                    return

    def init(self, node: int, body: memoryview) -> bytes:
        _, minor, readahead, flags = INIT_IN.unpack_from(body)
        both = flags & (WANTED | 1 << 30)
        return INIT_OUT.pack(7, min(minor, 36), readahead, both, 64, 48, REQUEST_BYTES, 1, 256, 0, 0, 0, 0)

    def entry(self, node: Node) -> bytes:
        node.lookups += 1
        return ENTRY_OUT.pack(node.ino, 0, FOREVER, FOREVER, 0, 0, *node.attr())

    def children(self, node: int) -> dict[bytes, Node]:
        children = self.nodes[node].children
        if children is None:
            raise Fail(errno.ENOTDIR)
        return children

    def lookup(self, node: int, body: memoryview) -> bytes:
        found = self.children(node).get(bytes(body[:-1]))
        if found is None:
            raise Fail(errno.ENOENT)
        return self.entry(found)

    def drop(self, node: int, count: int) -> None:
        found = self.nodes.get(node)
        if found is not None:
            found.lookups -= count
            if found.lookups <= 0 and found.nlink == 0:
                del self.nodes[node]

    def forget(self, node: int, body: memoryview) -> None:
        self.drop(node, LONG.unpack_from(body)[0])

    def batch_forget(self, node: int, body: memoryview) -> None:
        count = TWO_WORDS.unpack_from(body)[0]
        for one, lookups in TWO_LONGS.iter_unpack(body[8 : 8 + 16 * count]):
            self.drop(one, lookups)

    def getattr(self, node: int, body: memoryview) -> bytes:
        return ATTR_OUT.pack(FOREVER, 0, 0, *self.nodes[node].attr())

    def setattr(self, node: int, body: memoryview) -> bytes:
        fields = SETATTR_IN.unpack_from(body)
        valid, found = fields[0], self.nodes[node]
        if valid & 1:
            found.mode = fields[11]
        if valid & 2:
            found.uid = fields[13]
        if valid & 4:
            found.gid = fields[14]
        if valid & 8:
            size = fields[3]
            if size <= len(found.data):
                del found.data[size:]
            else:
                found.data.extend(bytes(size - len(found.data)))
            found.mtime = time.time_ns()
        if valid & SETATTR_KILL_SUIDGID:
            found.mode &= ~(stat.S_ISUID | stat.S_ISGID)
        now = time.time_ns()
        if valid & 16:
            found.atime = now if valid & 128 else fields[5] * BILLION + fields[8]
        if valid & 32:
            found.mtime = now if valid & 256 else fields[6] * BILLION + fields[9]
        found.ctime = fields[7] * BILLION + fields[10] if valid & 1024 else now
        return ATTR_OUT.pack(FOREVER, 0, 0, *found.attr())

    def readlink(self, node: int, body: memoryview) -> bytes:
        return bytes(self.nodes[node].data)

    def make(self, parent: int, name: bytes, mode: int) -> Node:
        children = self.children(parent)
        if name in children:
            raise Fail(errno.EEXIST)
        self.last += 1
        made = Node(self.last, mode, self.uid, self.gid, parent)
        self.nodes[made.ino] = children[name] = made
        above = self.nodes[parent]
        above.mtime = above.ctime = made.mtime
        if made.children is not None:
            above.nlink += 1
        return made

    def symlink(self, node: int, body: memoryview) -> bytes:
        name, target, _ = bytes(body).split(b"\0")
        made = self.make(node, name, stat.S_IFLNK | 0o777)
        made.data[:] = target
        return self.entry(made)

    def mknod(self, node: int, body: memoryview) -> bytes:
        mode, rdev, _, _ = MKNOD_IN.unpack_from(body)
        made = self.make(node, bytes(body[16:-1]), mode)
        made.rdev = rdev
        return self.entry(made)

    def mkdir(self, node: int, body: memoryview) -> bytes:
        mode, _ = TWO_WORDS.unpack_from(body)
        return self.entry(self.make(node, bytes(body[8:-1]), stat.S_IFDIR | mode))

    def create(self, node: int, body: memoryview) -> bytes:
        _, mode, _, _ = CREATE_IN.unpack_from(body)
        made = self.make(node, bytes(body[16:-1]), mode)
        self.handles += 1
        return self.entry(made) + OPEN_OUT.pack(self.handles, KEEP_CACHE, 0)

    def take(self, parent: int, name: bytes) -> Node:
        gone = self.children(parent).pop(name)
        above = self.nodes[parent]
        above.mtime = above.ctime = gone.ctime = time.time_ns()
        if gone.children is not None:
            gone.nlink = 0
            above.nlink -= 1
        else:
            gone.nlink -= 1
        if gone.nlink == 0 and gone.lookups == 0:
            del self.nodes[gone.ino]
        return gone

    def unlink(self, node: int, body: memoryview) -> bytes:
        self.take(node, bytes(body[:-1]))
        return b""

    def rmdir(self, node: int, body: memoryview) -> bytes:
        name = bytes(body[:-1])
        if self.children(self.children(node)[name].ino):
            raise Fail(errno.ENOTEMPTY)
        self.take(node, name)
        return b""

    def rename(self, node: int, body: memoryview) -> bytes:
        old, new, _ = bytes(body[8:]).split(b"\0")
        return self.move(node, old, LONG.unpack_from(body)[0], new, 0)

    def rename2(self, node: int, body: memoryview) -> bytes:
        target, flags = Struct("<QI").unpack_from(body)
        old, new, _ = bytes(body[16:]).split(b"\0")
        return self.move(node, old, target, new, flags)

    def move(self, node: int, old: bytes, target: int, new: bytes, flags: int) -> bytes:
        if flags & ~1:
            raise Fail(errno.EINVAL)
        source, destination = self.children(node), self.children(target)
        moved, replaced = source[old], destination.get(new)
        if replaced is moved:
            return b""
        if replaced is not None:
            if flags & 1:
                raise Fail(errno.EEXIST)
            if replaced.children:
                raise Fail(errno.ENOTEMPTY)
            self.take(target, new)
        del source[old]
        destination[new] = moved
        now = time.time_ns()
        for above in (self.nodes[node], self.nodes[target]):
            above.mtime = above.ctime = now
        moved.ctime = now
        if moved.children is not None and node != target:
            self.nodes[node].nlink -= 1
            self.nodes[target].nlink += 1
            moved.parent = target
        return b""

    def link(self, node: int, body: memoryview) -> bytes:
        found, name, children = self.nodes[LONG.unpack_from(body)[0]], bytes(body[8:-1]), self.children(node)
        if name in children:
            raise Fail(errno.EEXIST)
        children[name] = found
        found.nlink += 1
        above = self.nodes[node]
        above.mtime = above.ctime = found.ctime = time.time_ns()
        return self.entry(found)

    def open(self, node: int, body: memoryview) -> bytes:
        self.handles += 1
        return OPEN_OUT.pack(self.handles, KEEP_CACHE, 0)

    def read(self, node: int, body: memoryview) -> bytes:
        _, offset, size, _, _, _, _ = READ_IN.unpack_from(body)
        return bytes(memoryview(self.nodes[node].data)[offset : offset + size])

    def write(self, node: int, body: memoryview) -> bytes:
        _, offset, size, flags, _, _, _ = WRITE_IN.unpack_from(body)
        found = self.nodes[node]
        data = found.data
        if offset > len(data):
            data.extend(bytes(offset - len(data)))
        data[offset : offset + size] = body[40 : 40 + size]
        found.mtime = found.ctime = time.time_ns()
        if flags & WRITE_KILL_SUIDGID:
            found.mode &= ~(stat.S_ISUID | stat.S_ISGID)
        return TWO_WORDS.pack(size, 0)

    def statfs(self, node: int, body: memoryview) -> bytes:
        free = 1 << 24
        return STATFS_OUT.pack(free, free, free, len(self.nodes), free, 4096, 255, 4096, 0)

    def nothing(self, node: int, body: memoryview) -> bytes:
        return b""

    def silence(self, node: int, body: memoryview) -> None:
        return None

    def setxattr(self, node: int, body: memoryview) -> bytes:
        size, _ = TWO_WORDS.unpack_from(body)
        name, value = bytes(body[8:]).split(b"\0", 1)
        self.nodes[node].xattrs[name] = value[:size]
        return b""

    def sized(self, size: int, value: bytes) -> bytes:
        if size == 0:
            return TWO_WORDS.pack(len(value), 0)
        if len(value) > size:
            raise Fail(errno.ERANGE)
        return value

    def getxattr(self, node: int, body: memoryview) -> bytes:
        value = self.nodes[node].xattrs.get(bytes(body[8:-1]))
        if value is None:
            raise Fail(errno.ENODATA)
        return self.sized(TWO_WORDS.unpack_from(body)[0], value)

    def listxattr(self, node: int, body: memoryview) -> bytes:
        names = b"".join(name + b"\0" for name in self.nodes[node].xattrs)
        return self.sized(TWO_WORDS.unpack_from(body)[0], names)

    def removexattr(self, node: int, body: memoryview) -> bytes:
        if self.nodes[node].xattrs.pop(bytes(body[:-1]), None) is None:
            raise Fail(errno.ENODATA)
        return b""

    def opendir(self, node: int, body: memoryview) -> bytes:
        found = self.nodes[node]
        self.handles += 1
        names = [(b".", found), (b"..", self.nodes[found.parent])]
        self.listings[self.handles] = names + list(self.children(node).items())
        return OPEN_OUT.pack(self.handles, KEEP_CACHE | CACHE_DIR, 0)

    def releasedir(self, node: int, body: memoryview) -> bytes:
        del self.listings[LONG.unpack_from(body)[0]]
        return b""

    def readdir(self, node: int, body: memoryview) -> bytes:
        return self.listing(body, False)

    def readdirplus(self, node: int, body: memoryview) -> bytes:
        return self.listing(body, True)

    def listing(self, body: memoryview, plus: bool) -> bytes:
        handle, offset, size, _, _, _, _ = READ_IN.unpack_from(body)
        listing = self.listings[handle]
        parts, room = [], size
        while offset < len(listing):
            name, found = listing[offset]
            need = 24 + (len(name) + 7 & ~7) + (128 if plus else 0)
            if need > room:
                break
            room -= need
            offset += 1
            if plus:
                parts.append(self.entry(found) if name not in (b".", b"..") else bytes(128))
            parts.append(DIRENT.pack(found.ino, offset, len(name), found.mode >> 12))
            parts.append(name + bytes(-len(name) & 7))
        return b"".join(parts)

    def fallocate(self, node: int, body: memoryview) -> bytes:
        _, offset, length, mode, _ = FALLOCATE_IN.unpack_from(body)
        data = self.nodes[node].data
        if mode == 0:
            data.extend(bytes(max(0, offset + length - len(data))))
        elif mode == 3:
            end = min(len(data), offset + length)
            data[offset:end] = bytes(max(0, end - offset))
        else:
            raise Fail(errno.EOPNOTSUPP)
        return b""


def attach(directory: str) -> int:
    """Mount, as root; return the descriptor that the requests come from."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},default_permissions,allow_other"
    flags = 2 | 4  # MS_NOSUID, MS_NODEV
    if libc.mount(b"floor", os.fsencode(directory), b"fuse.floor", flags, options.encode()):
        code = ctypes.get_errno()
        raise OSError(code, f"cannot mount on {directory}: {os.strerror(code)}")
    return fd


def detach(directory: str) -> None:
    """Unmount, lazily, whatever still uses it."""
    libc.umount2(os.fsencode(directory), 2)


class Floor:
    """The floor on a directory, served by a process of its own; a context manager."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = str(directory)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Floor:
        before = os.stat(self.directory).st_dev
        here = Path(__file__).resolve()
        self.process = subprocess.Popen([sys.executable, str(here), self.directory])
        deadline = time.monotonic() + 20
        while os.stat(self.directory).st_dev == before:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the floor did not mount; it needs root and /dev/fuse")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        detach(self.directory)
        assert self.process is not None
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> None:
    directory = sys.argv[1]
    fd = attach(directory)
    signal.signal(signal.SIGTERM, lambda *_: detach(directory))
    try:
        Server(fd).serve()
    finally:
        detach(directory)


if __name__ == "__main__":
    main()
