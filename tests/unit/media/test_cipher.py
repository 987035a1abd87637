"""Locks, sealed texts, and what an encrypted volume lets be seen."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from gavel.errors import BadRequest, Damaged, GavelError, KeyNeeded, WrongKey
from gavel.limits import BIG_BLOCK, SCRYPT_COST_MAX
from gavel.media import layout
from gavel.media.cipher import (
    FORMAT_ENTROPY,
    LOCK,
    LOCK_ENTROPY,
    Cipher,
    Key,
    KeyFile,
    Passphrase,
    make_lock,
    open_lock,
)
from gavel.media.extents import describe, restore
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.unit.media.volumes import IDENTITY, SALT, SIZE, checkpoint, sync

ENTROPY = Random(1).randbytes(FORMAT_ENTROPY)
FILE = KeyFile(bytes(range(32)))
WORDS = Passphrase("corréct horse", cost=4)
SECRET = b"nobody may see this anywhere on the device "


def make(key: Key = FILE) -> SimDevice:
    device = SimDevice(SIZE, sector=4096)
    Volume.format(device, identity=IDENTITY, salt=SALT, label="x", created_tid=1, key=key, entropy=ENTROPY)
    return device


def opened(device: SimDevice, key: Key | None = FILE, **options: Any) -> tuple[Volume, list[tuple[int, int, bytes]]]:
    volume = Volume.open(device, key=key, **options)
    return volume, list(volume.replay())


@pytest.mark.parametrize("key", [FILE, WORDS])
def test_a_volume_opens_with_its_key_and_gives_back_what_it_took(key: Key) -> None:
    device = make(key)
    volume, _ = opened(device, key)
    assert volume.locked_by == ("key file" if key is FILE else "passphrase")
    data = SECRET * 3000
    extent = describe(data, volume.append_data(data))._replace(stored=len(data) + volume.overhead)
    small = volume.append_data(SECRET)
    assert volume.read(small, len(SECRET) + volume.overhead) == SECRET  # still pending
    volume.append(16, SECRET)
    volume.add_live(extent.place, extent.stored)
    node = volume.save_node(SECRET * 10)
    assert volume.load_node(node) == SECRET * 10
    sync(volume, device)
    checkpoint(volume, device, SECRET)
    assert volume.roots == SECRET
    volume.append(17, b"after " + SECRET)
    sync(volume, device)
    volume, frames = opened(device.crash(Random(2)), key)
    assert [(kind, body) for kind, _, body in frames] == [(17, b"after " + SECRET)]
    assert restore(extent, volume.read(extent.place, extent.stored)) == data
    assert (volume.load_node(node), volume.roots) == (SECRET * 10, SECRET)
    assert volume.check() == []


def test_nothing_of_it_stands_in_clear() -> None:
    device = make()
    volume, _ = opened(device)
    extent = describe(SECRET * 3000, volume.append_data(SECRET * 3000))
    volume.append_data(SECRET)
    volume.append(16, SECRET + extent.sum)
    volume.save_node(SECRET + extent.sum)
    sync(volume, device)
    checkpoint(volume, device, SECRET)
    medium = b"".join(data for _, data in sorted(device._sectors.items()))
    assert SECRET not in medium and extent.sum not in medium and FILE.key not in medium
    assert ENTROPY[:32] not in medium, "the data key"
    clear = SimDevice(SIZE, sector=4096)
    Volume.format(clear, identity=IDENTITY, salt=SALT, label="x", created_tid=1)
    volume = Volume.open(clear)
    list(volume.replay())
    volume.append_data(SECRET)
    sync(volume, clear)
    assert any(SECRET in data for data in clear._sectors.values()), "the search above would have found nothing anyhow"


@pytest.mark.parametrize(
    ("key", "given", "error", "words"),
    [
        (FILE, None, KeyNeeded, "give the key file"),
        (WORDS, None, KeyNeeded, "give the passphrase"),
        (FILE, KeyFile(bytes(32)), WrongKey, "check it"),
        (WORDS, Passphrase("correct horse", 4), WrongKey, "check it"),
        (WORDS, FILE, WrongKey, "wants a passphrase"),
        (FILE, WORDS, WrongKey, "wants a key file"),
    ],
)
def test_another_key_or_none_is_a_clear_error(key: Key, given: Key | None, error: type[GavelError], words: str) -> None:
    with pytest.raises(error, match=words):
        Volume.open(make(key), key=given)


def test_keys_that_cannot_be_are_refused_and_never_shown() -> None:
    for bad in (KeyFile(b"short"), Passphrase(""), Passphrase("x", 0), Passphrase("x", SCRYPT_COST_MAX + 1)):
        with pytest.raises(BadRequest):
            make(bad)
    device = SimDevice(SIZE, sector=4096)
    Volume.format(device, identity=IDENTITY, salt=SALT, label="x", created_tid=1)
    with pytest.raises(BadRequest, match="not encrypted"):
        Volume.open(device, key=FILE)
    assert "horse" not in repr(WORDS) and repr(FILE.key)[2:-1] not in repr(FILE)


def test_a_passphrase_is_the_same_however_its_letters_are_composed() -> None:
    opened(make(WORDS), Passphrase("corre\u0301ct horse"))


def test_a_lock_that_asks_for_too_much_is_not_believed() -> None:
    lock = make_lock(WORDS, bytes(32), IDENTITY, bytes(LOCK_ENTROPY))
    kind, cost, blocks, *rest = LOCK.unpack(lock)
    for changed in ((3, cost, blocks), (kind, 63, blocks), (kind, cost, 255), (kind, cost, 0), (kind, 0, blocks)):
        with pytest.raises(Damaged):
            open_lock(LOCK.pack(*changed, *rest), WORDS, IDENTITY)
    with pytest.raises(Damaged):
        open_lock(lock[:-1], WORDS, IDENTITY)
    with pytest.raises(WrongKey):
        open_lock(lock, WORDS, bytes(16))  # a lock of another volume


def test_a_text_opens_only_as_what_and_where_it_was_sealed() -> None:
    cipher = Cipher(bytes(32))
    cipher.begin(3, b"12345678")
    sealed = cipher.seal(b"GvNd", 1, 4096, b"text")
    assert len(sealed) == 4 + layout.SEAL_SIZE
    assert Cipher(bytes(32)).open("it", b"GvNd", 1, 4096, sealed) == b"text"
    flipped = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for args in [
        (b"GvLf", 1, 4096, sealed),
        (b"GvNd", 2, 4096, sealed),
        (b"GvNd", 1, 8192, sealed),
        (b"GvNd", 1, 4096, sealed[:-1]),
        (b"GvNd", 1, 4096, b""),
        *((b"GvNd", 1, 4096, wrong) for wrong in flipped),
    ]:
        with pytest.raises(Damaged, match="it at byte"):
            cipher.open("it", *args)
    assert cipher.seal(b"GvNd", 1, 4096, b"text") != sealed


def test_sealing_before_a_life_of_ones_own_is_durable_is_a_bug() -> None:
    volume = Volume.open(make(), key=FILE, read_only=True)
    list(volume.replay())
    assert volume._cipher is not None
    with pytest.raises(AssertionError):
        volume._cipher.seal(b"GvLf", 16, 0, b"")


def test_bytes_changed_with_their_sums_put_right_are_found() -> None:
    """What CRC and XXH3 cannot: somebody who knows the format and not the key."""
    device = make()
    volume, _ = opened(device)
    node = volume.save_node(b"a node")
    place = volume.append_data(b"file bytes")
    sync(volume, device)
    offset, size = layout.node_extent(node)
    raw = bytearray(device.read(offset, size))
    length = int.from_bytes(raw[4:8], "little")
    payload = bytes(raw[24 : 24 + length - 1]) + bytes([raw[24 + length - 1] ^ 1])
    device.write(offset, [layout.seal(layout.NODE_MAGIC, length, SALT ^ offset, 1, payload)])
    with pytest.raises(Damaged, match="tree node"):
        Volume.open(device, key=FILE).load_node(node)
    device.rot(place + 25)
    with pytest.raises(Damaged, match="file data"):
        volume.read(place, len(b"file bytes") + volume.overhead)


def test_copies_of_one_volume_never_seal_under_one_key_twice() -> None:
    """Both count the same lives; the seed tells them apart."""
    device = make()
    sealed = []
    for seed in (b"11111111", b"22222222"):
        copy = device.crash(keep=1.0)
        volume, _ = opened(copy, seed=seed)
        place = volume.append_data(bytes(100))
        sync(volume, copy)
        sealed.append(copy.read(place, 136))
    assert sealed[0][:4] == sealed[1][:4] and sealed[0][12:20] == sealed[1][12:20]
    assert sealed[0][20:] != sealed[1][20:]


def test_rekey_wraps_the_data_key_anew_and_two_checkpoints_later_the_old_lock_is_gone() -> None:
    device = make(WORDS)
    volume, _ = opened(device, WORDS)
    place = volume.append_data(SECRET)
    volume.add_live(place, len(SECRET) + volume.overhead)
    sync(volume, device)
    old = device.read(layout.LOCK_AT, LOCK.size)
    volume.rekey(volume.new_lock(FILE, bytes(LOCK_ENTROPY)))
    assert volume.locked_by == "key file"
    opened(device.crash(Random(1)), WORDS)
    checkpoint(volume, device)
    with pytest.raises(WrongKey):
        opened(device.crash(Random(1)), WORDS)
    checkpoint(volume, device)
    assert not [1 for slot in range(4) if device.read(layout.slot_offset(slot) + layout.LOCK_AT, LOCK.size) == old]
    volume, _ = opened(device)
    assert volume.read(place, len(SECRET) + volume.overhead) == SECRET
    with pytest.raises(BadRequest):
        volume.new_lock(KeyFile(b""), bytes(LOCK_ENTROPY))


def test_a_volume_in_clear_has_no_key_to_change() -> None:
    device = SimDevice(12 * BIG_BLOCK, sector=4096)
    Volume.format(device, identity=IDENTITY, salt=SALT, label="x", created_tid=1)
    volume = Volume.open(device)
    list(volume.replay())
    with pytest.raises(BadRequest, match="not encrypted"):
        volume.rekey(volume.new_lock(FILE, bytes(LOCK_ENTROPY)))
    assert (volume.locked_by, volume.overhead) == ("", 0)
