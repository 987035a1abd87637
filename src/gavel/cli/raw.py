"""A volume as it lies there, for commands that must work when it cannot be opened: show, recover."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gavel.errors import GavelError
    from gavel.media.cipher import Cipher, Key
    from gavel.media.device import Device
    from gavel.media.layout import Header


class Raw(NamedTuple):
    """The device, what header there is, and what opens sealed texts (None: nothing is sealed, or no header left).

    `problem`: why there is no header.
    """

    device: Device
    header: Header | None
    cipher: Cipher | None
    problem: GavelError | None = None


@contextmanager
def opened(path: str, key_file: Path | None) -> Iterator[Raw]:
    """A volume, read-only, with all members that are there. A mounted one may be looked at, too, as it changes.

    Raises FileNotFoundError, PermissionError, BadRequest, KeyNeeded, WrongKey, NewerFormat.
    """
    from gavel.errors import Damaged, DeviceFailed, MemberMissing, NotAVolume
    from gavel.media.cipher import open_cipher
    from gavel.media.recovery import newest_header
    from gavel.media.span import SpanDevice
    from gavel.runtime.file_device import FileDevice
    from gavel.runtime.open_volume import open_device

    try:
        device = open_device(path, read_only=True)
    except (Damaged, DeviceFailed, NotAVolume, MemberMissing) as problem:
        if isinstance(problem, MemberMissing):
            print(f"gavel: {problem}; going on without it", file=sys.stderr)
        device = SpanDevice(FileDevice(path, read_only=True))
    try:
        header: Header | None = None
        why: GavelError | None = None
        try:
            header = newest_header(device)
        except (Damaged, DeviceFailed, NotAVolume) as problem:
            why = problem
        cipher = None
        if header is not None and header.lock:
            cipher = open_cipher(header.lock, key_for(header.lock, key_file), header.identity)
        yield Raw(device, header, cipher, why)
    finally:
        device.close()


def key_for(lock: bytes, key_file: Path | None) -> Key | None:
    """The key that a lock wants: from the file that was named, else from where keys.find() looks."""
    from gavel.media.cipher import lock_kind
    from gavel.node import keys

    return keys.find(lock_kind(lock)) if key_file is None else keys.from_file(str(key_file))
