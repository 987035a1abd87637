"""POSIX through the kernel: what programs see of a mounted volume."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gavel.mount import abi
from gavel.mount.table import NEVER
from tests.integration.mount_daemon import Served, eventually, needs_mount

pytestmark = [needs_mount, pytest.mark.mounts]

libc = ctypes.CDLL(None, use_errno=True)
PUNCH, KEEP, ZERO, COLLAPSE = 2, 1, 16, 8
EXCHANGE, NOREPLACE = 2, 1


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    base = tmp_path_factory.mktemp("posix")
    (base / "mnt").mkdir()
    with Served(base / "mnt", base / "volume") as served:
        yield served


@pytest.fixture
def here(served: Served, request: pytest.FixtureRequest) -> Path:
    directory = served.directory / request.node.name
    directory.mkdir()
    return directory


def fails(code: int, function: object, *args: object, **kwargs: object) -> None:
    assert callable(function)
    with pytest.raises(OSError) as caught:
        function(*args, **kwargs)
    assert caught.value.errno == code, errno.errorcode[caught.value.errno or 0]


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        raise OSError(ctypes.get_errno(), "fallocate")


def renameat2(old: Path, new: Path, flags: int) -> None:
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def let_in(path: Path) -> None:
    """Let other users come to a path."""
    for above in path.parents:
        mode = stat.S_IMODE(above.stat().st_mode)
        if not mode & 1:
            above.chmod(mode | 0o11)


def test_files_hold_what_was_written(here: Path) -> None:
    for size in (0, 1, 255, 256, 4095, 4096, 4097, 131072, 3 << 20):
        content = os.urandom(size)
        (here / str(size)).write_bytes(content)
        assert (here / str(size)).read_bytes() == content
        drop_caches()
        assert (here / str(size)).read_bytes() == content
        assert (here / str(size)).stat().st_size == size


def test_create_modes(here: Path) -> None:
    path = here / "f"
    old = os.umask(0o027)
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        os.write(fd, b"x")
        os.close(fd)
        (here / "d").mkdir()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE((here / "d").stat().st_mode) == 0o750
    fails(errno.EEXIST, os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    # A file made without the right to write it can be written by who made it.
    fd = os.open(here / "ro", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400)
    assert os.write(fd, b"once") == 4
    os.close(fd)


def test_truncate_on_open_and_append(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"a" * 10000)
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.close(fd)
    first, second = (os.open(path, os.O_WRONLY | os.O_APPEND) for _ in range(2))
    for number in range(100):
        os.write((first, second)[number % 2], b"%02d" % number)
    os.close(first)
    os.close(second)
    drop_caches()
    assert path.read_bytes() == b"".join(b"%02d" % number for number in range(100))


def test_an_unlinked_file_lives_while_it_is_open(here: Path, served: Served) -> None:
    path = here / "f"
    path.write_bytes(b"before")
    fd = os.open(path, os.O_RDWR)
    path.unlink()
    assert not path.exists()
    assert os.fstat(fd).st_nlink == 0
    os.pwrite(fd, b"after and more", 0)
    os.fsync(fd)
    drop_caches()
    assert os.pread(fd, 100, 0) == b"after and more"
    assert served.ask("orphans") >= 1
    os.close(fd)
    eventually(lambda: served.ask("orphans") == 0)


def test_a_removed_directory_lives_while_it_is_open(here: Path, served: Served) -> None:
    path = here / "d"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    path.rmdir()
    assert os.listdir(fd) == []
    fails(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)
    eventually(lambda: served.ask("orphans") == 0)


def test_a_thousand_removed_files_are_reaped(here: Path, served: Served) -> None:
    for number in range(1000):
        (here / str(number)).write_bytes(b"x" * 300)
    for number in range(1000):
        (here / str(number)).unlink()
    eventually(lambda: served.ask("orphans") == 0)


def test_rename_while_open_and_over_open(here: Path, served: Served) -> None:
    (here / "a").write_bytes(b"a")
    (here / "b").write_bytes(b"b")
    with open(here / "a", "rb+") as a, open(here / "b", "rb") as b:
        os.rename(here / "a", here / "b")
        assert a.read() == b"a" and b.read() == b"b"
        a.write(b"more")
    assert (here / "b").read_bytes() == b"amore"
    assert os.listdir(here) == ["b"]
    eventually(lambda: served.ask("orphans") == 0)


def test_rename_flags(here: Path) -> None:
    (here / "a").write_bytes(b"a")
    (here / "d").mkdir()
    (here / "d" / "x").write_bytes(b"x")
    fails(errno.EEXIST, renameat2, here / "a", here / "d", NOREPLACE)
    renameat2(here / "a", here / "d", EXCHANGE)
    assert (here / "d").read_bytes() == b"a"
    assert (here / "a" / "x").read_bytes() == b"x"
    fails(errno.ENOENT, renameat2, here / "a", here / "none", EXCHANGE)
    fails(errno.EINVAL, os.rename, here / "a", here / "a" / "below")
    (here / "e").mkdir()
    fails(errno.ENOTEMPTY, os.rename, here / "e", here / "a")
    fails(errno.ENOTDIR, os.rename, here / "e", here / "d")
    fails(errno.EISDIR, os.rename, here / "d", here / "e")


def test_links(here: Path) -> None:
    (here / "a").write_bytes(b"a")
    os.link(here / "a", here / "b")
    assert (here / "a").stat().st_nlink == 2
    assert (here / "a").stat().st_ino == (here / "b").stat().st_ino
    (here / "a").unlink()
    assert (here / "b").stat().st_nlink == 1
    fails(errno.EPERM, os.link, here, here / "c")
    os.symlink("b", here / "s")
    assert os.readlink(here / "s") == "b"
    assert (here / "s").read_bytes() == b"a"
    os.symlink("x" * 4095, here / "long")
    assert os.readlink(here / "long") == "x" * 4095
    fails(errno.ELOOP, os.open, here / "s", os.O_RDONLY | os.O_NOFOLLOW)


def test_tmpfile_gets_a_name(here: Path, served: Served) -> None:
    fd = os.open(here, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"content")
    assert os.listdir(here) == []
    source, follow = f"/proc/self/fd/{fd}".encode(), 0x400
    assert libc.linkat(-100, source, -100, os.fsencode(here / "named"), follow) == 0
    os.close(fd)
    drop_caches()
    assert (here / "named").read_bytes() == b"content"
    assert (here / "named").stat().st_nlink == 1
    os.close(os.open(here, os.O_TMPFILE | os.O_RDWR, 0o640))
    eventually(lambda: served.ask("orphans") == 0)


def test_mmap(here: Path) -> None:
    path = here / "f"
    path.write_bytes(bytes(10000))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 10000) as mapped:
        mapped[4090:4100] = b"0123456789"
        assert os.pread(file.fileno(), 10, 4090) == b"0123456789"
        mapped.flush()
    drop_caches()
    assert path.read_bytes()[4090:4100] == b"0123456789"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[4090:4100] == b"0123456789"


def test_holes(here: Path) -> None:
    path = here / "f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * 65536, 0)
    os.pwrite(fd, b"y" * 65536, 1 << 20)
    # Seen before anything was written back.
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 65536
    assert os.lseek(fd, 65536, os.SEEK_DATA) == 1 << 20
    os.fsync(fd)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 65536
    assert os.fstat(fd).st_blocks == 256
    fallocate(fd, PUNCH | KEEP, 4096, 8192)
    assert os.pread(fd, 16384, 0) == b"x" * 4096 + bytes(8192) + b"x" * 4096
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 4096
    fallocate(fd, ZERO, 0, 4096)
    assert os.pread(fd, 4096, 0) == bytes(4096)
    fallocate(fd, 0, 0, 2 << 20)
    assert os.fstat(fd).st_size == 2 << 20
    fallocate(fd, KEEP, 0, 4 << 20)
    assert os.fstat(fd).st_size == 2 << 20
    fails(errno.EOPNOTSUPP, fallocate, fd, COLLAPSE, 0, 4096)
    fails(errno.ENXIO, os.lseek, fd, 3 << 20, os.SEEK_DATA)
    os.close(fd)


def test_seek_sees_what_another_has_not_yet_written_back(here: Path) -> None:
    path = here / "f"
    writer = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(writer, 1 << 20)
    assert os.lseek(writer, 0, os.SEEK_HOLE) == 0
    os.pwrite(writer, b"z" * 4096, 8192)
    reader = os.open(path, os.O_RDONLY)
    assert os.lseek(reader, 0, os.SEEK_DATA) == 8192
    assert os.lseek(reader, 8192, os.SEEK_HOLE) == 12288
    os.close(writer)
    os.close(reader)


def test_copy_file_range(here: Path) -> None:
    content = os.urandom(1 << 20)
    (here / "a").write_bytes(content)
    source, target = os.open(here / "a", os.O_RDONLY), os.open(here / "b", os.O_RDWR | os.O_CREAT)
    done = 0
    while done < len(content):
        done += os.copy_file_range(source, target, len(content) - done, done, done)
    assert os.copy_file_range(source, target, 10, len(content), 0) == 0
    os.close(source)
    os.close(target)
    assert (here / "b").read_bytes() == content
    drop_caches()
    assert (here / "b").read_bytes() == content


def test_the_largest_file(here: Path) -> None:
    path = here / "f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 2**63 - 1)
    os.pwrite(fd, b"!", 2**63 - 2)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 2**63 - 1
    assert os.pread(fd, 1, 2**63 - 2) == b"!"
    assert os.lseek(fd, 0, os.SEEK_DATA) >= 2**63 - 4096 - 1
    os.close(fd)
    path.unlink()


def test_xattrs(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"x")
    fails(errno.ENODATA, os.getxattr, path, "user.a")
    os.setxattr(path, "user.a", b"1")
    os.setxattr(path, "user.empty", b"")
    os.setxattr(path, "user.big", b"v" * 65536)
    assert os.getxattr(path, "user.a") == b"1"
    assert os.getxattr(path, "user.empty") == b""
    assert os.getxattr(path, "user.big") == b"v" * 65536
    assert sorted(os.listxattr(path)) == ["user.a", "user.big", "user.empty"]
    fails(errno.EEXIST, os.setxattr, path, "user.a", b"2", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, path, "user.b", b"2", os.XATTR_REPLACE)
    os.removexattr(path, "user.a")
    fails(errno.ENODATA, os.removexattr, path, "user.a")
    fails(errno.EOPNOTSUPP, os.setxattr, path, "nothing.a", b"")
    os.symlink("f", here / "s")
    assert os.listxattr(here / "s", follow_symlinks=False) == []


def test_the_mount_says_what_it_is(here: Path, served: Served) -> None:
    assert os.getxattr(here, "gavel.socket") == b"/s"
    assert os.getxattr(here, "gavel.volume") == os.fsencode(served.volume)
    assert os.listxattr(here) == []
    fails(errno.ENODATA, os.getxattr, here, "gavel.other")
    with pytest.raises(OSError):
        os.setxattr(here, "gavel.socket", b"")


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, bits, who & 0xFFFFFFFF) for tag, bits, who in entries
    )


def test_acls(here: Path) -> None:
    wide = acl((1, 6, -1), (2, 6, 4321), (4, 4, -1), (16, 6, -1), (32, 0, -1))
    path = here / "f"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    reader = ["import os,sys", "os.setgid(4321)", "os.setuid(4321)", "print(open(sys.argv[1]).read())"]
    command = [sys.executable, "-c", ";".join(reader), str(path)]
    let_in(path)
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    os.setxattr(path, "system.posix_acl_access", wide)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert subprocess.run(command, capture_output=True, check=False).stdout == b"secret\n"
    path.chmod(0o600)  # takes the mask away
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    os.setxattr(here, "system.posix_acl_default", wide)
    old = os.umask(0o077)
    try:
        (here / "heir").write_bytes(b"")
        (here / "sub").mkdir()
    finally:
        os.umask(old)
    assert stat.S_IMODE((here / "heir").stat().st_mode) == 0o660
    assert os.getxattr(here / "sub", "system.posix_acl_default") == wide
    fails(errno.EACCES, os.setxattr, path, "system.posix_acl_default", wide)


def test_names(here: Path) -> None:
    names = [b"n" * 255, b"\xff\xfe not utf-8", "größe".encode(), b" ", b"-", b"a\nb", b"@", b"a@@b"]
    for name in names:
        fd = os.open(os.fsencode(here) + b"/" + name, os.O_CREAT | os.O_WRONLY)
        os.close(fd)
    assert sorted(os.listdir(os.fsencode(here))) == sorted(names)
    fails(errno.ENAMETOOLONG, os.open, os.fsencode(here) + b"/" + b"n" * 256, os.O_CREAT)
    fails(errno.ENAMETOOLONG, os.stat, os.fsencode(here) + b"/" + b"n" * 256)


def test_paths_deeper_than_path_max(here: Path) -> None:
    name = "d" * 200
    fds = [os.open(here, os.O_RDONLY)]
    for _ in range(30):
        os.mkdir(name, dir_fd=fds[-1])
        fds.append(os.open(name, os.O_RDONLY, dir_fd=fds[-1]))
    fd = os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fds[-1])
    os.write(fd, b"deep")
    os.close(fd)
    fd = os.open("f", os.O_RDONLY, dir_fd=fds[-1])
    assert os.read(fd, 10) == b"deep"
    os.close(fd)
    os.unlink("f", dir_fd=fds[-1])
    for fd in reversed(fds[:-1]):
        os.close(fds.pop())
        os.rmdir(name, dir_fd=fd)
    os.close(fds[0])


def test_listing_while_it_changes(here: Path) -> None:
    stay = {f"stay{number}" for number in range(5000)}
    go = [f"go{number}" for number in range(5000)]
    for name in [*stay, *go]:
        os.mknod(here / name)
    seen: list[str] = []
    with os.scandir(here) as entries:
        for count, one in enumerate(entries):
            seen.append(one.name)
            if count % 2 == 0 and go:
                os.unlink(here / go.pop())
                os.mknod(here / f"new{count}")
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)
    assert set(os.listdir(here)) >= stay


def test_locks_between_processes(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"x" * 100)
    attempt = (
        "import fcntl,sys\nf=open(sys.argv[1],'r+')\n"
        "try:\n getattr(fcntl,sys.argv[2])(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\nexcept BlockingIOError:\n sys.exit(7)\n"
    )
    for kind in ("flock", "lockf"):
        command = [sys.executable, "-c", attempt, str(path), kind]
        with open(path, "r+") as file:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX)
            assert subprocess.run(command, check=False).returncode == 7
            getattr(fcntl, kind)(file, fcntl.LOCK_UN)
            assert subprocess.run(command, check=False).returncode == 0


def test_special_files(here: Path) -> None:
    os.mkfifo(here / "fifo")
    os.mknod(here / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(here / "block", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(here / "socket"))
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.path.relpath(here / "socket"))
    drop_caches()
    kinds = [stat.S_IFMT((here / name).stat().st_mode) for name in ("fifo", "null", "block", "socket")]
    assert kinds == [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]
    assert (here / "null").stat().st_rdev == os.makedev(1, 3)
    assert (here / "block").stat().st_rdev == os.makedev(259, 70000)
    assert (here / "null").read_bytes() == b""


def test_times_to_the_nanosecond(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"x")
    os.utime(path, ns=(1_111_111_111_123_456_789, -5_000_000_001))
    drop_caches()
    assert path.stat().st_atime_ns == 1_111_111_111_123_456_789
    assert path.stat().st_mtime_ns == -5_000_000_001
    before = here.stat().st_mtime_ns
    (here / "g").write_bytes(b"")
    assert here.stat().st_mtime_ns > before
    stated = subprocess.run(["stat", "-c", "%W", str(path)], capture_output=True, check=True)
    assert int(stated.stdout) > 1_600_000_000


def test_set_id_bits_and_owners(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"x")
    path.chmod(0o6755)
    os.chown(path, 1234, 1234)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    path.chmod(0o6777)
    here.chmod(0o777)
    writer = "import os,sys;os.setgid(4321);os.setuid(4321);f=os.open(sys.argv[1],1);os.write(f,b'y')"
    let_in(path)
    subprocess.run([sys.executable, "-c", writer, str(path)], check=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    (here / "d").mkdir()
    os.chown(here / "d", -1, 777)
    (here / "d").chmod(0o2775)
    (here / "d" / "f").write_bytes(b"")
    (here / "d" / "d").mkdir()
    assert (here / "d" / "f").stat().st_gid == 777
    assert stat.S_IMODE((here / "d" / "d").stat().st_mode) & stat.S_ISGID


def test_programs_run(here: Path) -> None:
    path = here / "script"
    path.write_text("#!/bin/sh\necho $1\n")
    path.chmod(0o755)
    assert subprocess.run([str(path), "hello"], capture_output=True, check=True).stdout == b"hello\n"
    program = here / "true"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    assert subprocess.run([str(program)], check=False).returncode == 0


def test_statvfs_and_sync(here: Path) -> None:
    space = os.statvfs(here)
    assert space.f_bsize == 4096 and space.f_namemax == 255
    assert 0 < space.f_bavail <= space.f_blocks
    fd = os.open(here / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    fd = os.open(here, os.O_RDONLY)
    os.fsync(fd)
    assert libc.syncfs(fd) == 0
    os.close(fd)


def test_ioctl_is_refused_clearly(here: Path) -> None:
    fd = os.open(here, os.O_RDONLY)
    fails(errno.ENOTTY, fcntl.ioctl, fd, 0x80086601, b"\0" * 8)
    os.close(fd)


def test_every_request_that_the_kernel_sends_has_been_seen(served: Served) -> None:
    """Last in this module on purpose: what the tests above made the kernel ask."""
    seen = {(opcode, code) for opcode, code, _ in served.ask("seen")}
    opcodes = {opcode for opcode, _ in seen}
    wanted = {
        "LOOKUP", "FORGET", "GETATTR", "SETATTR", "READLINK", "SYMLINK", "MKNOD", "MKDIR", "UNLINK", "RMDIR", "LINK",
        "READ", "WRITE", "STATFS", "FSYNC", "SETXATTR", "GETXATTR", "LISTXATTR", "REMOVEXATTR", "READDIR", "FSYNCDIR",
        "IOCTL", "FALLOCATE", "READDIRPLUS", "RENAME2", "LSEEK", "TMPFILE", "STATX", "OPEN", "OPENDIR", "CREATE",
        "FLUSH",
    }  # fmt: skip
    missing = {name for name in wanted if getattr(abi, name) not in opcodes}
    assert not missing
    assert opcodes & {abi.COPY_FILE_RANGE, abi.COPY_FILE_RANGE_64}
    refused = {opcode for opcode, code in seen if code == errno.ENOSYS}
    assert refused <= set(NEVER)
    unknown = opcodes - {
        getattr(abi, name) for name in dir(abi) if name.isupper() and isinstance(getattr(abi, name), int)
    }
    assert not unknown
    assert not {opcode for opcode, code in seen if code == errno.EIO}


def test_only_root_is_told_of_trusted_attributes(here: Path) -> None:
    path = here / "file"
    path.touch()
    os.setxattr(path, "trusted.secret", b"1")
    os.setxattr(path, "user.open", b"1")
    assert sorted(os.listxattr(path)) == ["trusted.secret", "user.open"]
    fd = os.open(path, os.O_RDONLY)
    try:
        os.seteuid(65534)
        told = os.listxattr(fd)
    finally:
        os.seteuid(0)
        os.close(fd)
    assert told == ["user.open"]
