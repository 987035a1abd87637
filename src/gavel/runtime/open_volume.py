"""The files and devices of a volume, found and opened as one; and how a file becomes a member, and ceases to be one.

Further members are looked for beside the first one under the name they had, then where they were last known: so a
set of files that was moved or copied as a whole finds itself and not the originals.
"""

from __future__ import annotations

import logging
import os
import secrets

from gavel.errors import BadRequest, DeviceFailed, GavelError, MemberMissing
from gavel.limits import BIG_BLOCK
from gavel.media.device import Device
from gavel.media.members import Member, check_name, clear_name, unpack_table
from gavel.media.recovery import newest_header
from gavel.media.span import SpanDevice
from gavel.runtime.engine import Engine, Waiter
from gavel.runtime.file_device import FileDevice
from gavel.runtime.recognise import recognise

log = logging.getLogger("gavel.members")


def open_device(path: str, *, read_only: bool = False) -> SpanDevice:
    """The volume at `path`, which is its first file or device, with all its members; close it after use.

    Raises FileNotFoundError, PermissionError, NotAVolume, NewerFormat, Damaged, VolumeBusy, DeviceFailed, and
    MemberMissing for a member that is not there or is another one.
    """
    span = SpanDevice(FileDevice(path, read_only=read_only))
    try:
        header = newest_header(span)
        for member in unpack_table(header.members, header.big_blocks)[1:]:
            span.attach(member.base * BIG_BLOCK, _open_member(path, member, header.identity, read_only))
    except BaseException:
        span.close()
        raise
    return span


def _open_member(first: str, member: Member, volume: bytes, read_only: bool) -> FileDevice:
    beside = os.path.join(os.path.dirname(os.path.abspath(first)), os.path.basename(member.path))
    problem: GavelError = MemberMissing(member.identity, member.path, "no such file or device")
    for path in dict.fromkeys((beside, member.path)):
        try:
            device = FileDevice(path, read_only=read_only)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                problem = MemberMissing(member.identity, path, error.strerror or str(error))
            continue
        try:
            check_name(device, volume, member)
        except MemberMissing as error:
            problem = error
            device.close()
        except BaseException:
            device.close()
            raise
        else:
            return device
    raise problem


def add_member(engine: Engine, path: str, waiter: Waiter, *, size: int | None = None, force: bool = False) -> Member:
    """Make a file (of `size` bytes, sparse) or block device a member of an open volume; its contents are lost.

    `waiter` hears when its room is there and durable. Raises BadRequest, also for what already holds data, unless
    `force`d; PermissionError and the like as open(2) does, VolumeBusy, ReadOnly, DeviceFull, DeviceFailed.
    """
    where = os.path.abspath(path)
    found = "" if force else recognise(where)
    if found:
        raise BadRequest(f"{where} holds {found}; use --force to overwrite it, or choose another path")
    new = not os.path.exists(where)
    if new and size is None:
        raise BadRequest(f"{where} does not exist; say how large the file shall be (--size), or name a device")
    device = FileDevice(where, create_size=size)
    try:
        member = engine.volume.grow(device, secrets.token_bytes(16), where)
    except BaseException:
        device.close()
        if new:
            os.unlink(where)
        raise
    _checkpoint_twice(engine, waiter)
    return member


def remove_member(engine: Engine, number: int, waiter: Waiter) -> None:
    """Let go of a member that was excluded and emptied (Volume.exclude, Volume.victims); `waiter` hears when it is.

    The device is closed then, its name cleared. Raises BadRequest while something of it is in use, ReadOnly.
    """
    engine.volume.drop(number, _let_go)
    _checkpoint_twice(engine, waiter)


def _checkpoint_twice(engine: Engine, waiter: Waiter) -> None:
    """A checkpoint may be under way, which knows nothing of the change; the next one after it does for sure."""

    def again(result: int | GavelError) -> None:
        if isinstance(result, GavelError):
            waiter(result)
        else:
            engine.request_checkpoint(waiter)

    engine.request_checkpoint(again)


def _let_go(device: Device) -> None:
    """It is no member any more, whatever becomes of its name; a broken disk may be why it had to go."""
    try:
        clear_name(device)
    except DeviceFailed as error:
        log.warning("%s has left the volume, but still bears its name: %s", device, error)
    finally:
        if isinstance(device, FileDevice):
            device.close()
