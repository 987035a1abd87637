"""Golden volumes: what a release has written, kept as text, so that every later one must read it.

`python -m tests.formats.golden` writes the volumes of the current format version, one in clear and one encrypted. It
is done once per version, by hand; an existing file is never overwritten, because volumes in the world look like it.

A file holds base64 of zlib of rows: the offset (u64, little-endian) and the bytes of each 512-byte sector that is not
zero. Everything else of the volume's 96 MiB is zeros.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.cipher import FORMAT_ENTROPY, Key, Passphrase
from gavel.media.volume import Volume
from gavel.sim.device import SECTOR, SimDevice

HERE = Path(__file__).parent
SIZE = 12 * BIG_BLOCK  # not VOLUME_MIN: what was written stays as it is


NAMES = ["1", "2", "2-encrypted", "3", "3-encrypted"]
KEYS: dict[str, Key] = {f"{n}-encrypted": Passphrase("the Norns spin", cost=5) for n in (2, 3)}


def path_of(name: str) -> Path:
    return HERE / f"volume-{name}.txt"


def load(name: str) -> SimDevice:
    packed = zlib.decompress(base64.b64decode(path_of(name).read_text()))
    device = SimDevice(SIZE)
    for at in range(0, len(packed), 8 + SECTOR):
        device.write(int.from_bytes(packed[at : at + 8], "little"), [packed[at + 8 : at + 8 + SECTOR]])
    device.sync()
    return device


def save(device: SimDevice, name: str) -> None:
    rows = []
    for sector, data in sorted(device._sectors.items()):
        if any(data):
            rows.append((sector * SECTOR).to_bytes(8, "little") + data)
    text = base64.encodebytes(zlib.compress(b"".join(rows), 9)).decode()
    with path_of(name).open("x") as file:
        file.write(text)


def payload(n: int) -> bytes:
    """Node and file contents that can be told from each other."""
    return bytes([n]) * (n * 37 + 1)


def build(key: Key | None = None) -> SimDevice:
    """A volume of two lives, three checkpoints, a big-block chain, and a log tail after the last checkpoint."""
    device = SimDevice(SIZE)
    Volume.format(
        device,
        identity=bytes(range(16)),
        salt=0x0123_4567_89AB_CDEF,
        label="götterdämmerung",
        created_tid=7,
        key=key,
        entropy=bytes(range(100, 100 + FORMAT_ENTROPY)),
    )
    volume = Volume.open(device, key=key)
    assert not list(volume.replay())
    places = [volume.append_data(payload(n)) for n in range(1, 6)]
    for n, place in enumerate(places, 1):
        volume.add_live(place, len(payload(n)) + volume.overhead)
    addresses: list[int] = []
    _checkpoint(volume, device, addresses, 10)
    size = 1 << 20 if key is None else 100  # sealed zeros cannot be packed, so there is no chain
    volume.append_data(bytes(size))
    for _ in range(8):
        volume.append(16, bytes(size))
    _checkpoint(volume, device, addresses, 20)
    volume.flush()
    device.sync()
    volume = Volume.open(device, key=key)
    assert not list(volume.replay())
    volume.append(16, b"first of the tail")
    volume.append_data(payload(200))
    volume.append(17, b"second of the tail")
    volume.flush()
    device.sync()
    volume.synced(volume.written)
    volume.append(239, b"")
    volume.flush()
    device.sync()
    return device


def _checkpoint(volume: Volume, device: SimDevice, addresses: list[int], first: int) -> None:
    volume.freeze()
    addresses += [volume.save_node(payload(n)) for n in range(first, first + 3)]
    volume.finish(b"".join(address.to_bytes(8, "little") for address in addresses), first)
    device.sync()
    volume.publish()
    device.sync()
    volume.retire()


if __name__ == "__main__":
    save(build(), str(layout.VERSION))
    save(build(KEYS[f"{layout.VERSION}-encrypted"]), f"{layout.VERSION}-encrypted")
