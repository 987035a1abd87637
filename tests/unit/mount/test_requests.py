"""Requests and their replies, as the kernel would send and read them."""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import Any

from gavel.client.fs import Fs
from gavel.filesystem.caller import Caller
from gavel.mount import abi
from gavel.mount.outside import Outside
from gavel.mount.past import symlink_inode
from gavel.mount.replies import FOREVER, Replies
from gavel.mount.table import NEVER, REFUSED
from gavel.mount.views import FIRST
from tests.unit.mount.kernel import CAPABILITY, Kernel


def test_sizes_of_the_kernels_structures() -> None:
    sizes = {
        abi.IN_HEADER: 40, abi.OUT_HEADER: 16, abi.ENTRY_OUT: 128, abi.ATTR_OUT: 104, abi.OPEN_OUT: 16,
        abi.DIRENT: 24, abi.DIRENTPLUS: 152, abi.STATX_OUT: 288, abi.STATFS_OUT: 80, abi.INIT_OUT: 64,
        abi.SETATTR_IN: 88, abi.READ_IN: 40, abi.WRITE_IN: 40, abi.FALLOCATE_IN: 32, abi.LSEEK_IN: 24,
        abi.COPY_FILE_RANGE_IN: 56, abi.SETXATTR_IN: 16, abi.STATX_IN: 24, abi.PRUNE_OUT: 16,
    }  # fmt: skip
    for struct, size in sizes.items():
        assert struct.size == size


def test_only_what_is_listed_is_refused_for_good() -> None:
    kernel = Kernel()
    zeros = bytes(200)
    for opcode in range(abi.OPCODES):
        reply = kernel.ask(opcode, 1, zeros)
        assert (reply == errno.ENOSYS) == (opcode in NEVER), opcode
        if opcode in REFUSED:
            assert reply == REFUSED[opcode]


def test_entries_carry_the_object_as_node() -> None:
    kernel = Kernel()
    made = kernel.mknod(1, b"f")
    assert made == kernel.lookup(1, b"f")
    node = kernel.node(made)
    assert isinstance(made, bytes)
    fields = abi.ENTRY_OUT.unpack(made)
    assert fields[6] == node and fields[15] == 0o100644 and fields[16] == 1
    assert kernel.lookup(1, b"none") == Replies(FOREVER).no_name and kernel.node(Replies(FOREVER).no_name) == 0
    assert kernel.mknod(1, b"f") == errno.EEXIST
    assert kernel.lookup(1, b"n" * 256) == errno.ENAMETOOLONG


def test_the_umask_is_applied_here() -> None:
    kernel = Kernel()
    reply = kernel.mknod(1, b"f", 0o100666)
    assert isinstance(reply, bytes)
    assert abi.ENTRY_OUT.unpack(reply)[15] == 0o100644


def test_write_and_read() -> None:
    kernel = Kernel()
    node = kernel.node(kernel.mknod(1, b"f"))
    assert kernel.write(node, 0, b"hello") == abi.SIZE_OUT.pack(5, 0)
    assert kernel.write(node, 10, b"x" * 100_000) == abi.SIZE_OUT.pack(100_000, 0)
    assert kernel.read(node, 0, 20) == b"hello" + bytes(5) + b"x" * 10
    assert kernel.read(node, 99_990, 4096) == b"x" * 20
    assert kernel.read(node, 200_000) == b""
    # Less of a payload than was announced is not written.
    assert kernel.ask(abi.WRITE, node, abi.WRITE_IN.pack(0, 0, 100, 0, 0, 0, 0) + b"short") == errno.EINVAL
    assert kernel.read(node, 0, 5) == b"hello"


def test_setattr_changes_what_is_marked() -> None:
    kernel = Kernel()
    node = kernel.node(kernel.mknod(1, b"f"))
    kernel.write(node, 0, b"x" * 100)

    def setattr(valid: int, size: int = 0, mtime: tuple[int, int] = (0, 0), mode: int = 0) -> tuple[int, ...]:
        body = abi.SETATTR_IN.pack(valid, 0, 0, size, 0, 0, mtime[0], 0, 0, mtime[1], 0, mode, 0, 5, 6, 0)
        reply = kernel.ask(abi.SETATTR, node, body)
        assert isinstance(reply, bytes)
        return abi.ATTR_OUT.unpack(reply)

    assert setattr(abi.SET_SIZE, size=7)[4] == 7
    fields = setattr(abi.SET_MTIME | abi.SET_CTIME, mtime=(-3, 999))
    assert fields[7] == -3 and fields[10] == 999 and fields[4] == 7
    assert setattr(abi.SET_MODE, mode=0o100600)[12] == stat.S_IFREG | 0o600
    fields = setattr(abi.SET_UID | abi.SET_GID)
    assert fields[14:16] == (5, 6) and fields[12] == stat.S_IFREG | 0o600
    assert setattr(abi.SET_MTIME | abi.SET_MTIME_NOW)[7] > 1_000_000


def test_xattrs_by_size_and_by_value() -> None:
    kernel = Kernel()
    node = kernel.node(kernel.mknod(1, b"f"))

    def get(name: bytes, size: int) -> object:
        return kernel.ask(abi.GETXATTR, node, abi.GETXATTR_IN.pack(size, 0) + name + b"\0")

    assert get(CAPABILITY, 0) == errno.ENODATA
    assert get(b"system.posix_acl_access", 0) == errno.ENODATA
    assert get(b"gavel.socket", 0) == abi.SIZE_OUT.pack(2, 0)
    assert get(b"gavel.socket", 100) == b"/s"
    assert get(b"gavel.none", 100) == errno.ENODATA
    for extended in (False, True):
        kernel.attributes.extended = extended
        head = abi.SETXATTR_IN.pack(5, 0, 0, 0) if extended else abi.GETXATTR_IN.pack(5, 0)
        assert kernel.ask(abi.SETXATTR, node, head + b"user.a\0v\0lue") == b""
        assert get(b"user.a", 100) == b"v\0lue"
    assert get(b"user.a", 3) == errno.ERANGE
    assert kernel.ask(abi.SETXATTR, node, abi.SETXATTR_IN.pack(50, 0, 0, 0) + b"user.a\0v") == errno.EINVAL
    assert kernel.ask(abi.LISTXATTR, node, abi.GETXATTR_IN.pack(0, 0)) == abi.SIZE_OUT.pack(7, 0)
    assert kernel.ask(abi.LISTXATTR, node, abi.GETXATTR_IN.pack(100, 0)) == b"user.a\0"
    assert kernel.ask(abi.REMOVEXATTR, node, b"user.a\0") == b""
    assert kernel.ask(abi.LISTXATTR, node, abi.GETXATTR_IN.pack(100, 0)) == b""


def test_a_listing_is_whole_whatever_the_size_of_replies() -> None:
    kernel = Kernel()
    directory = kernel.node(kernel.mkdir(1, b"d"))
    names = {b"%d" % number * (1 + number % 40) for number in range(300)}
    nodes = {name: kernel.node(kernel.mknod(directory, name)) for name in names}
    for plus in (False, True):
        for size in (512, 4096, 1 << 20):
            found = kernel.entries(directory, size, plus)
            assert len(found) == len(names) + 2
            assert {name for name, _, _ in found} == names | {b".", b".."}
            assert [cookie for _, cookie, _ in found] == sorted(cookie for _, cookie, _ in found)
            if plus:
                assert all(own == nodes.get(name, 0) for name, _, own in found)


def test_an_orphan_is_reaped_when_the_kernel_has_forgotten_it() -> None:
    kernel = Kernel()
    held = True

    def ask(objects: list[int], answer: object) -> None:
        assert callable(answer)
        answer([] if held else objects)

    kernel.reaper.ask = ask
    node = kernel.node(kernel.mknod(1, b"f"))
    kernel.write(node, 0, b"x" * 1000)
    kernel.ask(abi.UNLINK, 1, b"f\0")
    assert kernel.read(node) == b"x" * 1000
    forget = abi.FORGET_IN.pack(1)
    assert kernel.ask(abi.FORGET, node, forget) is None
    kernel.loop.run()
    assert kernel.read(node) == b"x" * 1000  # a FORGET that does not mean it
    held = False
    batch = abi.BATCH_FORGET_IN.pack(2, 0) + abi.FORGET_ONE.pack(12345, 1) + abi.FORGET_ONE.pack(node, 1)
    assert kernel.ask(abi.BATCH_FORGET, 0, batch) is None
    kernel.loop.run()
    assert kernel.ask(abi.GETATTR, node, bytes(16)) == errno.ESTALE
    assert not kernel.reaper.orphans


def test_orphans_wait_while_requests_keep_coming() -> None:
    kernel = Kernel()
    kernel.reaper.ask = lambda objects, answer: answer(objects)
    quiet = False
    asked = 0

    def busy() -> bool:
        nonlocal asked, quiet
        asked += 1
        quiet = asked > 5
        return not quiet

    kernel.reaper.busy = busy
    node = kernel.node(kernel.mknod(1, b"f"))
    kernel.ask(abi.UNLINK, 1, b"f\0")
    kernel.ask(abi.FORGET, node, abi.FORGET_IN.pack(1))
    kernel.loop.run()
    assert asked > 5
    assert kernel.ask(abi.GETATTR, node, bytes(16)) == errno.ESTALE


def forgotten_and_due(kernel: Kernel, node: int) -> None:
    """Remove a file, and have the kernel say that it does not hold it; it is not reaped yet."""
    kernel.ask(abi.UNLINK, 1, b"f\0")
    kernel.ask(abi.FORGET, node, abi.FORGET_IN.pack(1))
    ((ask, arguments),) = kernel.loop.waiting
    kernel.loop.waiting.clear()
    ask(*arguments)


def test_a_file_that_was_brought_back_and_removed_again_is_not_reaped_on_an_old_answer() -> None:
    """Found by the soak: requests kept coming, so it was still due when undo brought it back, and a program opened it.

    That removed it and went on writing to it; it was reaped under its hands, and close() said EIO.
    """
    kernel = Kernel()
    kernel.reaper.ask = lambda objects, answer: answer(objects)
    node = kernel.node(kernel.mknod(1, b"f"))
    kernel.write(node, 0, b"one")
    then = kernel.tid()
    forgotten_and_due(kernel, node)
    fs = Fs(kernel.system.engine, Caller(0, 0), reaping=False)
    fs.undo("/", then)
    assert kernel.node(kernel.lookup(1, b"f")) == node
    kernel.ask(abi.UNLINK, 1, b"f\0")
    kernel.loop.run()
    assert kernel.write(node, 3, b" two") == abi.SIZE_OUT.pack(4, 0)
    assert kernel.read(node) == b"one two"
    assert node in kernel.reaper.orphans
    kernel.ask(abi.FORGET, node, abi.FORGET_IN.pack(1))
    kernel.loop.run()
    assert kernel.ask(abi.GETATTR, node, bytes(16)) == errno.ESTALE


def test_an_answer_that_comes_too_late_is_void() -> None:
    kernel = Kernel()
    answers = []
    kernel.reaper.ask = lambda objects, answer: answers.append((objects, answer))
    node = kernel.node(kernel.mknod(1, b"f"))
    then = kernel.tid()
    forgotten_and_due(kernel, node)
    Fs(kernel.system.engine, Caller(0, 0), reaping=False).undo("/", then)
    kernel.ask(abi.UNLINK, 1, b"f\0")
    ((objects, answer),) = answers
    answer(objects)
    kernel.loop.run()
    assert isinstance(kernel.ask(abi.GETATTR, node, bytes(16)), bytes)


class Silent:
    """A notifier that tells nobody anything."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: None


def test_what_undo_brings_back_is_no_orphan_any_more() -> None:
    """Its times would not be kept: those of orphans are not."""
    kernel = Kernel()
    kernel.reaper.ask = lambda objects, answer: None
    engine: Any = kernel.system.engine
    outside = Outside(engine, Silent(), kernel.reaper, "/mnt", set())  # type: ignore[arg-type]
    engine.on_outside.append(outside.changed)
    node = kernel.node(kernel.mknod(1, b"f"))
    then = kernel.tid()
    kernel.ask(abi.UNLINK, 1, b"f\0")
    before = kernel.tid()
    fs = Fs(engine, Caller(0, 0), reaping=False)
    fs.undo("/", then)
    assert kernel.reaper.orphans == set()
    fs.undo("/", before)
    assert kernel.reaper.orphans == {node}


def test_a_forget_that_says_nothing_is_not_answered() -> None:
    assert Kernel().ask(abi.FORGET, FIRST) is None


def test_settling_leaves_a_file_alone_that_has_taken_the_name_meanwhile(tmp_path: Path) -> None:
    kernel = Kernel()
    notifier: Any = Silent()
    notifier.holds = lambda obj: True
    engine: Any = kernel.system.engine
    outside = Outside(engine, notifier, kernel.reaper, "/mnt", set())
    path = tmp_path / "f"
    path.write_bytes(b"another one's")
    inode = symlink_inode(b"four")  # of which the size counts
    outside._settle(path.stat().st_ino + 1, inode, str(path))
    assert path.read_bytes() == b"another one's"
    outside._settle(path.stat().st_ino, inode, str(path))
    assert path.read_bytes() == b"anot"


def test_the_past_has_nodes_of_its_own_until_it_is_forgotten() -> None:
    kernel = Kernel()
    directory = kernel.node(kernel.mkdir(1, b"d"))
    node = kernel.node(kernel.mknod(directory, b"f"))
    kernel.write(node, 0, b"then")
    when = b"0x%016x" % kernel.tid()
    kernel.write(node, 0, b"now!")
    past = kernel.node(kernel.lookup(1, b"d@@" + when))
    assert past >= FIRST
    assert kernel.node(kernel.lookup(1, b"d@@" + when)) == past
    assert kernel.node(kernel.lookup(1, b"@@" + when)) != past
    then = kernel.node(kernel.lookup(past, b"f"))
    assert kernel.read(then) == b"then" and kernel.read(node) == b"now!"
    assert kernel.write(then, 0, b"no") == errno.EROFS
    assert kernel.mknod(past, b"x") == errno.EROFS
    assert kernel.lookup(past, b"none") == Replies(FOREVER).no_name
    listed = {name: own for name, _, own in kernel.entries(past, plus=True)}
    assert listed == {b".": 0, b"..": 0, b"f": then}
    assert kernel.ask(abi.GETXATTR, then, abi.GETXATTR_IN.pack(0, 0) + CAPABILITY + b"\0") == abi.SIZE_OUT.pack(20, 0)
    assert kernel.ask(abi.GETXATTR, then, abi.GETXATTR_IN.pack(20, 0) + CAPABILITY + b"\0") == errno.ENODATA
    for one, lookups in ((past, 2), (then, 2)):
        kernel.ask(abi.FORGET, one, abi.FORGET_IN.pack(lookups))
    assert len(kernel.nodes.views) == 1  # the root of "@@when"
    assert kernel.ask(abi.GETATTR, then, bytes(16)) == errno.ESTALE


def test_the_present_from_the_past_is_a_symlink() -> None:
    kernel = Kernel()
    directory = kernel.node(kernel.mkdir(1, b"d"))
    kernel.mknod(directory, b"f")
    past = kernel.node(kernel.lookup(1, b"d@@0x%016x" % kernel.tid()))
    for parent, name, target in (
        (1, b"d@@", b"d"),
        (1, b"@@", b"."),
        (past, b"f@@", b"/mnt/d/f"),
        (past, b"@@", b"/mnt/d"),
    ):
        node = kernel.node(kernel.lookup(parent, name))
        assert kernel.ask(abi.READLINK, node) == target
        reply = kernel.ask(abi.GETATTR, node, bytes(16))
        assert isinstance(reply, bytes) and stat.S_ISLNK(abi.ATTR_OUT.unpack(reply)[12])
        assert kernel.ask(abi.LISTXATTR, node, abi.GETXATTR_IN.pack(0, 0)) == abi.SIZE_OUT.pack(0, 0)
    assert kernel.lookup(1, b"none@@") == errno.ENOENT


def test_what_is_no_time_is_no_name() -> None:
    kernel = Kernel()
    for name in (b"@@x", b"a@@2999-01-01", b"@@-5parsecs", b"@@\xff", b"@@0x1"):
        assert kernel.lookup(1, name) == errno.ENOENT
    assert kernel.node(kernel.mknod(1, b"a@@b")) < FIRST
    assert kernel.node(kernel.lookup(1, b"a@@b")) < FIRST


def test_a_mount_of_the_past_as_a_whole() -> None:
    now = Kernel()
    node = now.node(now.mknod(1, b"f"))
    now.write(node, 0, b"then")
    tid = now.tid()
    now.write(node, 0, b"now!")
    then = Kernel(tid, now.system)
    assert then.node(then.lookup(1, b"f")) == node
    assert then.read(node) == b"then"
    assert then.mkdir(1, b"d") == errno.EROFS
    assert then.ask(abi.FSYNC, node, bytes(16)) == b""
