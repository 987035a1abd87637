"""A volume that is full: what was promised stays, and there is a way back."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

import gavel
from gavel.errors import VolumeFull
from gavel.limits import BIG_BLOCK, VOLUME_MIN


def fill(fs: gavel.Fs, prefix: str, size: int) -> list[str]:
    """Files of this size until there is no room; their names."""
    noise, names = Random(prefix), list[str]()
    while True:
        name = f"{prefix}{len(names):05}"
        try:
            fs.write_bytes(name, noise.randbytes(size))
        except VolumeFull:
            if fs.exists(name):
                fs.unlink(name)
            return names
        names.append(name)


def test_deleting_pruning_and_reblocking_work_on_a_full_volume(tmp_path: Path) -> None:
    with gavel.open(tmp_path / "disk.gavel", create=True, size=VOLUME_MIN) as fs:
        names = fill(fs, "large", 1_000_000) + fill(fs, "small", 10_000) + fill(fs, "tiny", 3000)
        with pytest.raises(VolumeFull, match="delete files and prune"):
            fs.write_bytes("more", bytes(range(256)) * 4000)
        kept = {name: fs.read_bytes(name) for name in names[1::2]}
        held = sum(len(fs.read_bytes(name)) for name in names[::2])
        for name in names[::2]:
            fs.unlink(name)
        fs.prune(everything=True)
        fs.reblock()
        assert fs.info().free > held - BIG_BLOCK  # a part of one is always open
        more = Random(9).randbytes(int(0.5 * held))
        fs.write_bytes("more", more)
        fs.sync()
    with gavel.open(tmp_path / "disk.gavel") as fs:
        assert {name: fs.read_bytes(name) for name in kept} == kept
        assert fs.read_bytes("more") == more
        assert fs.check(deep=True) == []


def test_what_a_checkpoint_frees_is_no_reason_to_be_full(tmp_path: Path) -> None:
    """What was written and replaced before it was ever committed dies with the next checkpoint: that comes first."""
    with gavel.open(tmp_path / "disk.gavel", create=True, size=VOLUME_MIN) as fs:
        for n in range(20):
            fs.write_bytes("file", Random(n).randbytes(4_000_000))
        assert fs.read_bytes("file") == Random(19).randbytes(4_000_000)
        assert fs.check(deep=True) == []
