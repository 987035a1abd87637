"""What a path holds, for commands that must not overwrite it unasked."""

from __future__ import annotations

from typing import Final

from gavel.limits import KIB
from gavel.media import foreign, layout
from gavel.runtime.file_device import FileDevice

_SAMPLE: Final = 64 * KIB  # read at the beginning and at the end of what is not recognised


def recognise(path: str) -> str:
    """What a file or block device holds, in words ("a GavelFS volume", "data"); empty if nothing, or no such file.

    Raises PermissionError and the like as open(2) does, BadRequest for what is neither file nor device, DeviceFailed.
    """
    try:
        device = FileDevice(path, read_only=True, exclusive=False)
    except FileNotFoundError:
        return ""
    try:
        size = device.size()
        for slot in range(layout.SLOTS):
            offset = layout.slot_offset(slot)
            if offset + layout.SLOT_SIZE > size:
                break
            if device.read(offset, len(layout.HEADER_MAGIC)) == layout.HEADER_MAGIC:
                return "a GavelFS volume"
        known = foreign.recognise(device)
        if known:
            return known
        length = min(size, _SAMPLE)
        samples = device.read(0, length) + device.read(size - length, length)
        return "data" if samples.count(0) != len(samples) else ""
    finally:
        device.close()
