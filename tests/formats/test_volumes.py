"""What a release has written, this one must read: one golden volume per format version."""

from __future__ import annotations

from random import Random

import pytest

from gavel.errors import Damaged
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.volume import Volume
from gavel.sim.device import SECTOR
from tests.formats.golden import load, path_of, payload


def test_every_version_has_its_golden_volume() -> None:
    assert all(path_of(version).exists() for version in range(1, layout.VERSION + 1))


@pytest.mark.parametrize("version", range(1, layout.VERSION + 1))
def test_a_golden_volume_opens_replays_and_goes_on(version: int) -> None:
    device = load(version)
    volume = Volume.open(device)
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
        assert volume.read(place, len(payload(n))) == payload(n)
        place += layout.frame_size(layout.DIGEST_SIZE + len(payload(n)))
    assert volume.check() == []
    volume.append(16, b"more")
    volume.flush()
    device.sync()
    assert list(Volume.open(device.crash(Random(1))).replay())[-1][2] == b"more"


@pytest.mark.parametrize("version", range(1, layout.VERSION + 1))
def test_rot_anywhere_is_found_or_harmless(version: int) -> None:
    """One byte of the golden volume flips: opening it says so, or everything that is read is as it was."""
    random = Random(version)
    golden = load(version)
    written = sorted(sector for sector, data in golden._sectors.items() if any(data))
    whole = [body for _, _, body in Volume.open(golden, read_only=True).replay()]
    found = 0
    for _ in range(250):
        device = golden.crash(keep=1.0)
        device.rot(random.choice(written) * SECTOR + random.randrange(SECTOR), random.randrange(1, 256))
        try:
            volume = Volume.open(device)
            assert [body for _, _, body in volume.replay()] in (whole, whole[:2])  # the last was never synced
            roots = volume.roots
            for at, n in zip(range(0, len(roots), 8), (10, 11, 12, 20, 21, 22), strict=True):
                assert volume.load_node(int.from_bytes(roots[at : at + 8], "little")) == payload(n)
        except Damaged:
            found += 1
    assert found > 50
