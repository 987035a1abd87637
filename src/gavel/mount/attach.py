"""Attaching to the kernel: mount(2) on /dev/fuse as root, fusermount3 otherwise; and detaching, whatever is in the way.

Nothing here may be called on the thread that answers requests while a mount is up, but for `attach` itself: unmounting
and looking at a mounted directory make the kernel ask us.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import subprocess

from gavel.mount import mounted

_MS_RDONLY = 1
_MNT_DETACH = 2
_NEEDED = 2  # bytes that fusermount3 sends along with the descriptor, at most

_libc = ctypes.CDLL(None, use_errno=True)


class CannotMount(OSError):
    """The kernel or fusermount3 refused; the text says what to do."""


def attach(directory: str, source: str, *, read_only: bool = False, allow_other: bool = True) -> int:
    """Mount on a directory; returns the descriptor that requests come from, not yet answered.

    A dead mount (its daemon has gone) on the same directory is detached first. As another user than root, others are
    never let in. Raises CannotMount, and OSError for a directory that is none.
    """
    _clear_dead(directory)
    if not os.path.isdir(directory):
        raise NotADirectoryError(errno.ENOTDIR, "not a directory to mount on", directory)
    if os.geteuid() == 0:
        return _attach_as_root(directory, source, read_only, allow_other)
    return _attach_by_helper(directory, source, read_only)


def _clear_dead(directory: str) -> None:
    try:
        os.statvfs(directory)  # unlike attributes, never answered from the kernel's cache
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        detach(directory, lazy=True)


def _attach_as_root(directory: str, source: str, read_only: bool, allow_other: bool) -> int:
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise CannotMount(error.errno, f"/dev/fuse: {error.strerror}; load the fuse module (modprobe fuse)") from None
    options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},default_permissions"
    if allow_other:
        options += ",allow_other"
    flags = _MS_RDONLY if read_only else 0
    arguments = [os.fsencode(source), os.fsencode(directory), mounted.FILESYSTEM_TYPE.encode()]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()):
        code = ctypes.get_errno()
        os.close(fd)
        raise CannotMount(code, f"cannot mount on {directory}: {os.strerror(code)}")
    return fd


def _attach_by_helper(directory: str, source: str, read_only: bool) -> int:
    helper = shutil.which("fusermount3")
    if helper is None:
        raise CannotMount(errno.EPERM, "mounting needs root or fusermount3; install fuse3")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        name = source.replace("\\", "\\\\").replace(",", "\\,")
        options = f"fsname={name},subtype=gavel,default_permissions" + (",ro" if read_only else "")
        done = subprocess.run(
            [helper, "-o", options, "--", directory],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise CannotMount(errno.EPERM, f"cannot mount on {directory}: {said or 'fusermount3 failed'}")
        _, fds, _, _ = socket.recv_fds(ours, _NEEDED, 1)
    if not fds:
        raise CannotMount(errno.EPERM, f"cannot mount on {directory}: fusermount3 sent no descriptor")
    return fds[0]


def detach(directory: str, *, lazy: bool = False) -> None:
    """Unmount. Lazily: at once out of sight, and gone when the last user is; that also works on a dead mount.

    Raises OSError: EBUSY for one in use (not lazily), EINVAL where nothing is mounted, EPERM.
    """
    if os.geteuid() == 0:
        if _libc.umount2(os.fsencode(directory), _MNT_DETACH if lazy else 0):
            code = ctypes.get_errno()
            raise OSError(code, f"cannot unmount: {os.strerror(code)}", directory)
        return
    helper = shutil.which("fusermount3")
    if helper is None:
        raise PermissionError(errno.EPERM, "unmounting needs root or fusermount3; install fuse3", directory)
    command = [helper, "-u", *(["-z"] if lazy else []), "--", directory]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise OSError(errno.EBUSY if "busy" in said else errno.EINVAL, said or "fusermount3 failed", directory)


def hand_over(directory: str) -> None:
    """Have the kernel write back what it has cached of a mount. This makes nothing durable by itself."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # dead, or shut away: then there is nothing to hand over
    try:
        _libc.syncfs(fd)
    finally:
        os.close(fd)


def flush_and_detach(directory: str) -> bool:
    """Have the kernel hand over what it has cached, then unmount; lazily if it is in use. True when nobody used it."""
    hand_over(directory)
    try:
        detach(directory)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        detach(directory, lazy=True)
        return False
    return True


def read_ahead(device: str, size: int) -> bool:
    """Ask the kernel to read ahead so many bytes on a mount ("major:minor"); best effort, tells whether it took it."""
    try:
        with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w") as setting:
            setting.write(str(size // 1024))
    except OSError:
        return False
    return True
