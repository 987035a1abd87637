"""The volume of a node: made with it, or one that exists already and grows into a cluster without being copied."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from gavel.errors import BadRequest
from gavel.node.layout import VOLUME

if TYPE_CHECKING:
    from gavel.media.cipher import Key

DEFAULT_SIZE = 64 * 1024**3  # what a volume may grow to; its file is sparse


def make(directory: Path, size: int | None, key: Key | None) -> None:
    """A volume for the first master, with the root directory of a filesystem in it; durable when this returns."""
    from gavel.client.volumes import format_volume

    format_volume(directory / VOLUME, size=size or DEFAULT_SIZE, label=directory.name[:32], key=key)


def make_empty(directory: Path, size: int | None, key: Key | None, created: int) -> None:
    """A volume for a node that gets everything from the others; durable when this returns.

    `created`: the tid at which their history begins, and so its own.
    """
    from gavel.media.cipher import FORMAT_ENTROPY
    from gavel.media.volume import Volume
    from gavel.runtime.file_device import FileDevice

    device = FileDevice(str(directory / VOLUME), create_size=size or DEFAULT_SIZE)
    try:
        Volume.format(
            device,
            identity=secrets.token_bytes(16),
            salt=secrets.randbits(63) + 1,
            label=directory.name[:32],
            created_tid=created,
            key=key,
            entropy=secrets.token_bytes(FORMAT_ENTROPY),
        )
    finally:
        device.close()


def check_adoptable(volume: Path) -> Path:
    """A volume that can be the first master's, by its absolute path; raises NotAVolume, BadRequest while mounted."""
    from gavel.node import places
    from gavel.runtime.open_volume import open_device

    for process in places.processes_of(str(volume)):
        raise BadRequest(f"{volume} is mounted at {process.directory}; unmount it first")
    open_device(str(volume), read_only=True).close()
    return volume.absolute()


def adopt(directory: Path, volume: Path) -> None:
    """Have a volume, which stays where it is, be the first master's."""
    os.symlink(volume, directory / VOLUME)
