"""Making an empty volume on a device.

Invariants: nothing is found on the device as a volume before the header, which is written last, after a sync of all
that it reaches; the places where other formats keep their signatures are cleared first.
"""

from __future__ import annotations

from typing import Final

from gavel.errors import BadRequest
from gavel.limits import BIG_BLOCK, VOLUME_MIN
from gavel.media import layout
from gavel.media.blockmap import BlockMap
from gavel.media.checkpoint import write_header, write_map
from gavel.media.cipher import FORMAT_ENTROPY, KEY_SIZE, LOCK_ENTROPY, Cipher, Key, make_lock
from gavel.media.device import Device
from gavel.media.layout import CLEAN, HEADER, LOG, MARK, MARK_BODY, Header
from gavel.media.log import Log

_WIPED: Final = 128 * 1024  # where other formats keep their signatures: a device must not look like two things


def make_volume(
    device: Device, identity: bytes, salt: int, label: str, created_tid: int, key: Key | None, entropy: bytes
) -> None:
    """See Volume.format."""
    size = device.size()
    if size < VOLUME_MIN:
        raise BadRequest(f"a volume needs at least {VOLUME_MIN} bytes, {device} has {size}; give it more")
    if size > layout.VOLUME_MAX:
        raise BadRequest(f"a volume can have at most {layout.VOLUME_MAX} bytes, not {size}; give it less")
    if len(label.encode()) > layout.LABEL_MAX:
        raise BadRequest(f"a label has at most {layout.LABEL_MAX} bytes; choose a shorter one")
    assert len(identity) == 16 and 0 < salt < 1 << 64
    lock, cipher = _locked(key, identity, entropy) if key is not None else (b"", None)
    device.write(0, [bytes(_WIPED)])
    for slot in range(1, layout.SLOTS):
        device.write(layout.slot_offset(slot), [bytes(layout.SLOT_SIZE)])
    device.sync()
    blockmap = BlockMap(size // BIG_BLOCK)
    blockmap.assign(0, HEADER)
    blockmap.fill(0, BIG_BLOCK)
    log = Log(device, blockmap, salt, 0, 0)
    log.start(blockmap.take(LOG, 0) * BIG_BLOCK, 0, 0, 0)
    offset = log.cursor
    log.append(MARK, MARK_BODY.pack(0), 0)
    log.write_out()
    placed = write_map(device, blockmap, blockmap, salt, 1, 0, cipher)
    device.sync()
    header = Header(
        identity, salt, 1, created_tid, created_tid, len(blockmap), BIG_BLOCK, CLEAN, offset, 1, log.sum,
        placed.sum, placed.offset, placed.length, 0, placed.block, 0, 1, label, b"", lock,
    )  # fmt: skip
    write_header(device, header)
    device.sync()


def _locked(key: Key, identity: bytes, entropy: bytes) -> tuple[bytes, Cipher]:
    """A lock around a fresh data key, and a cipher that seals under life 0, which making the volume is."""
    assert len(entropy) == FORMAT_ENTROPY, "an encrypted volume is made of fresh random bytes"
    data_key = entropy[:KEY_SIZE]
    cipher = Cipher(data_key)
    cipher.begin(0, entropy[KEY_SIZE + LOCK_ENTROPY :])
    return make_lock(key, data_key, identity, entropy[KEY_SIZE : KEY_SIZE + LOCK_ENTROPY]), cipher
