"""What a release has written, this one must read: one golden volume per format version."""

from __future__ import annotations

from random import Random

import pytest

from gavel.errors import Damaged, NewerFormat, WrongKey
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.layout import unpack_header
from gavel.media.volume import Volume
from gavel.sim.device import SECTOR, SimDevice
from tests.formats.golden import KEYS, NAMES, load, path_of, payload
from tests.unit.media.volumes import checkpoint


def test_every_version_has_its_golden_volume() -> None:
    assert {int(name.split("-")[0]) for name in NAMES} == set(range(1, layout.VERSION + 1))
    assert all(path_of(name).exists() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_volume_opens_replays_and_goes_on(name: str) -> None:
    device = load(name)
    volume = Volume.open(device, key=KEYS.get(name))
    assert volume.version == int(name.split("-")[0])
    assert (volume.label, volume.identity) == ("götterdämmerung", bytes(range(16)))
    assert (volume.created_tid, volume.last_tid, volume.clean) == (7, 20, False)
    frames = list(volume.replay())
    assert [(kind, body) for kind, _, body in frames] == [
        (16, b"first of the tail"),
        (17, b"second of the tail"),
        (239, b""),
    ]
    assert [sequence for _, sequence, _ in frames] == [frames[0][1], frames[0][1] + 2, frames[0][1] + 3]
    roots = volume.roots
    addresses = [int.from_bytes(roots[at : at + 8], "little") for at in range(0, len(roots), 8)]
    assert [volume.load_node(address) for address in addresses] == [payload(n) for n in (10, 11, 12, 20, 21, 22)]
    place = BIG_BLOCK + 2 * layout.frame_size(8) + layout.DATA_AT
    for n in range(1, 6):
        stored = len(payload(n)) + volume.overhead
        assert volume.read(place, stored) == payload(n)
        place += layout.frame_size(layout.DIGEST_SIZE + stored)
    assert volume.check() == []
    volume.append(16, b"more")
    volume.flush()
    device.sync()
    assert list(Volume.open(device.crash(Random(1)), key=KEYS.get(name)).replay())[-1][2] == b"more"


@pytest.mark.parametrize("name", [name for name in NAMES if int(name.split("-")[0]) < layout.VERSION])
def test_a_volume_of_a_former_version_becomes_one_of_this_when_it_is_opened_for_writing(name: str) -> None:
    device, key, version = load(name), KEYS.get(name), int(name.split("-")[0])
    before = dict(device._sectors)
    volume = Volume.open(device, read_only=True, key=key)
    list(volume.replay())
    assert device._sectors == before and volume.version == version
    found = set()
    random = Random(1)

    def cut(device: SimDevice) -> None:
        for keep in (None, 0.0, 1.0):
            volume = Volume.open(device.crash(random, keep), key=key)
            found.add(volume.version)
            assert len(list(volume.replay())) == 3 and volume.check() == []
            assert volume.version == layout.VERSION

    device.on_write = cut
    volume = Volume.open(device, key=key)
    assert len(list(volume.replay())) == 3
    device.on_write = None
    assert (volume.version, volume.check(), found) == (layout.VERSION, [], {version, layout.VERSION})
    roots = volume.roots
    checkpoint(volume, device, roots, 30)
    volume = Volume.open(device.crash(Random(1)), key=key)
    assert not list(volume.replay())
    assert (volume.version, volume.roots, volume.last_tid) == (layout.VERSION, roots, 30)
    assert volume.load_node(int.from_bytes(roots[:8], "little")) == payload(10)


def test_a_volume_of_a_version_to_come_is_newer_and_not_damaged() -> None:
    device = load("2")
    header = unpack_header(device.read(0, layout.SLOT_SIZE))
    assert isinstance(header, layout.Header)
    device.write(0, [layout.pack_header(header._replace(version=layout.VERSION + 1))])
    with pytest.raises(NewerFormat, match=f"format {layout.VERSION + 1}, this gavel knows formats up to"):
        Volume.open(device)


@pytest.mark.parametrize("name", NAMES)
def test_rot_anywhere_is_found_or_harmless(name: str) -> None:
    """One byte of the golden volume flips: opening it says so, or everything that is read is as it was."""
    random = Random(name)
    golden = load(name)
    written = sorted(sector for sector, data in golden._sectors.items() if any(data))
    whole = [body for _, _, body in Volume.open(golden, read_only=True, key=KEYS.get(name)).replay()]
    found = 0
    for _ in range(250):
        device = golden.crash(keep=1.0)
        device.rot(random.choice(written) * SECTOR + random.randrange(SECTOR), random.randrange(1, 256))
        try:
            volume = Volume.open(device, key=KEYS.get(name))
            assert [body for _, _, body in volume.replay()] in (whole, whole[:2])  # the last was never synced
            roots = volume.roots
            for at, n in zip(range(0, len(roots), 8), (10, 11, 12, 20, 21, 22), strict=True):
                assert volume.load_node(int.from_bytes(roots[at : at + 8], "little")) == payload(n)
        except (Damaged, WrongKey):
            found += 1
    assert found > 50
