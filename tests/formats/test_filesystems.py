"""The tree and the history that a release has written, this one must read, change, prune and check."""

from __future__ import annotations

from pathlib import Path

import pytest

import gavel
from gavel.media import layout
from tests.formats.golden_filesystem import LARGE, path_of, unpack

VERSIONS = range(1, layout.VERSION + 1)


def test_every_version_has_its_golden_filesystem() -> None:
    assert all(path_of(version).exists() for version in VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_filesystem_has_its_present_and_its_past(version: int, tmp_path: Path) -> None:
    volume = tmp_path / "old.gavel"
    unpack(version, volume)
    with gavel.open(volume, read_only=True) as fs:
        assert fs.volume_format().version == version
        _holds(fs)
    with gavel.open(volume) as fs:
        assert fs.volume_format().version == layout.VERSION
        _holds(fs)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_filesystem_goes_on(version: int, tmp_path: Path) -> None:
    volume = tmp_path / "old.gavel"
    unpack(version, volume)
    with gavel.open(volume) as fs:
        fs.write_bytes("/home/anna/letter", b"Dear Dora")
        fs.undo("/home/anna/letter")
        assert fs.read_bytes("/home/anna/letter") == b"Dear Cleo"
        fs.prune(everything=True)
        assert fs.as_of("first").read_bytes("/home/ann/large") == LARGE
        fs.reblock()
    with gavel.open(volume) as fs:
        _holds(fs)
        fs.snapshot_delete("first")
        assert fs.prune(everything=True).versions > 0
        assert fs.info().history == 0
        assert fs.check(deep=True) == []


def _holds(fs: gavel.Fs) -> None:
    assert sorted(fs.listdir("/home")) == ["anna", "letter", "new"]
    assert sorted(fs.listdir("/home/anna")) == ["letter", "link"]
    assert fs.read_bytes("/home/anna/link") == fs.read_bytes("/home/letter") == b"Dear Cleo"
    assert fs.read_bytes("/home/new") == b"new" * 2000
    assert fs.getxattr("/home/letter", "user.mood") == b"good"
    assert (fs.stat("/home/letter").st_mode & 0o777, fs.stat("/home/letter").st_nlink) == (0o640, 2)
    then = fs.as_of("first")
    assert sorted(then.listdir("/home/ann")) == ["large", "letter", "link"]
    assert then.read_bytes("/home/ann/large") == LARGE
    assert then.read_bytes("/home/letter") == b"Dear Ben"
    assert fs.check(deep=True) == []
