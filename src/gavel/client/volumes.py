"""Making and opening volumes: a sparse file or a block device, formatted, recognised, wired to an engine."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
import time

from gavel.client.fs import Fs, close_at_exit
from gavel.client.paths import AnyPath
from gavel.errors import BadRequest
from gavel.filesystem import superblock
from gavel.filesystem.caller import Caller
from gavel.keys import tid
from gavel.limits import VOLUME_MIN
from gavel.media.cipher import FORMAT_ENTROPY, Key
from gavel.media.span import SpanDevice
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine
from gavel.runtime.file_device import FileDevice
from gavel.runtime.open_volume import open_device
from gavel.runtime.recognise import recognise

DEFAULT_SIZE = 64 * 1024**3  # bytes a fresh volume may grow to; a sparse file takes what is written


def format_volume(
    path: AnyPath, *, size: int | None = None, label: str = "", force: bool = False, key: Key | None = None
) -> None:
    """Make a volume in a file, which is created if need be, or on a block device; durable when it returns.

    With a `key` (media.cipher: Passphrase or KeyFile) it is encrypted, and opens with that only.
    Refuses with BadRequest what already holds data, naming it, unless `force`d, and sizes under limits.VOLUME_MIN.
    """
    where = os.fsdecode(os.fspath(path))
    if os.path.isdir(where):
        raise BadRequest(f"{where} is a directory; a volume is a file or a block device")
    found = "" if force else recognise(where)
    if found:
        raise BadRequest(f"{where} holds {found}; use --force to overwrite it, or choose another path")
    size = _size_for(where, size)
    device = FileDevice(where, create_size=size)
    try:
        now = time.time_ns()
        Volume.format(
            device,
            identity=secrets.token_bytes(16),
            salt=secrets.randbits(63) + 1,
            label=label,
            created_tid=tid.make(now // 1000),
            key=key,
            entropy=secrets.token_bytes(FORMAT_ENTROPY),
        )
        engine = Engine(device, key=key)
        try:
            engine.write(superblock.make_root, caller())
        finally:
            engine.close_now()
    finally:
        device.close()


def _size_for(where: str, size: int | None) -> int | None:
    """The size to make a file; None for a block device, which has one."""
    if _is_block_device(where):
        if size is not None:
            raise BadRequest(f"{where} is a device and has a size of its own; leave --size out")
        return None
    wanted = DEFAULT_SIZE if size is None else size
    if wanted < VOLUME_MIN:
        raise BadRequest(f"a volume needs at least {VOLUME_MIN // 1024**2} MiB; ask for more")
    return wanted


def _is_block_device(where: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(where).st_mode)
    except FileNotFoundError:
        return False


def caller() -> Caller:
    """This process, as the owner of what it makes."""
    return Caller(os.geteuid(), os.getegid(), _umask())


def _umask() -> int:
    """The umask of this process, read without setting it, which other threads would notice."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


def open_engine(
    path: AnyPath,
    *,
    read_only: bool = False,
    loop: asyncio.AbstractEventLoop | None = None,
    key: Key | None = None,
) -> tuple[Engine, SpanDevice]:
    """An engine on the volume at `path`, and its device (all members), which is the caller's to close after it."""
    device = open_device(os.fsdecode(os.fspath(path)), read_only=read_only)
    try:
        return Engine(device, loop=loop, read_only=read_only, key=key), device
    except BaseException:
        device.close()
        raise


def open_fs(
    path: AnyPath,
    *,
    create: bool = False,
    size: int | None = None,
    label: str = "",
    read_only: bool = False,
    key: Key | None = None,
) -> Fs:
    """Open a volume, an encrypted one by its `key`; with `create`, one is made first where there is none yet.

    Raises FileNotFoundError, NotAVolume, NewerFormat, Damaged, KeyNeeded, WrongKey, VolumeBusy (another process, or a
    mount, has it open).
    """
    if create:
        create_if_missing(path, size, label, key)
    engine, device = open_engine(path, read_only=read_only, key=key)
    return close_at_exit(Fs(engine, caller(), on_close=device.close))


def create_if_missing(path: AnyPath, size: int | None, label: str, key: Key | None = None) -> None:
    """Make a volume where the path names nothing or an empty file; leave alone what is there."""
    where = os.fsdecode(os.fspath(path))
    try:
        empty = os.stat(where).st_size == 0 and not _is_block_device(where)
    except FileNotFoundError:
        empty = True
    if empty:
        format_volume(where, size=size, label=label, key=key)
