"""Volumes on simulated devices, as several tests want them."""

from __future__ import annotations

from gavel.limits import BIG_BLOCK
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice

SIZE = 32 * BIG_BLOCK
IDENTITY = bytes(range(16))
SALT = 0x1234_5678_9ABC_DEF0


def make(size: int = SIZE, salt: int = SALT) -> SimDevice:
    device = SimDevice(size, sector=4096)
    Volume.format(device, identity=IDENTITY, salt=salt, label="tëst", created_tid=77)
    return device


def reopen(device: SimDevice, read_only: bool = False) -> tuple[Volume, list[tuple[int, int, bytes]]]:
    volume = Volume.open(device, read_only=read_only)
    return volume, list(volume.replay())


def sync(volume: Volume, device: SimDevice) -> None:
    volume.flush()
    device.sync()
    volume.synced(volume.written)


def checkpoint(volume: Volume, device: SimDevice, roots: bytes = b"", last_tid: int = 0, clean: bool = False) -> None:
    volume.freeze()
    volume.finish(roots, last_tid, clean)
    device.sync()
    volume.publish()
    device.sync()
    volume.retire()
