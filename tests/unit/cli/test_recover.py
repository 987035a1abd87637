"""`gavel recover` from a volume file to a directory of the host."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gavel
from gavel.cli.main import run
from gavel.client.volumes import format_volume, open_fs
from gavel.filesystem.acl import ACCESS, Ace, encode
from gavel.media.cipher import KeyFile
from gavel.media.layout import SLOT_STRIDE, SLOTS

SIZE = 128 * 1024**2
FILES = {f"d{n % 3}/f{n}": b"%d " % n * (n * 37) for n in range(40)}
Recover = Callable[..., dict[str, Any]]


@pytest.fixture
def recover(capsys: pytest.CaptureFixture[str]) -> Recover:
    def call(volume: Path, directory: Path, *more: str, code: int = 0) -> dict[str, Any]:
        assert run(["recover", str(volume), str(directory), *more, "--json"]) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def fill(fs: gavel.Fs) -> None:
    for d in range(3):
        fs.makedirs(f"d{d}")
    for path, content in FILES.items():
        fs.write_bytes(path, content)
    fs.symlink("../elsewhere", "d1/link")
    fs.link("d0/f3", "d1/second")
    fs.chmod("d0/f6", 0o640)
    fs.setxattr("d0/f6", "user.colour", b"blue")
    fs.write_bytes("d0/f0", b"first")
    fs.sync()
    fs.write_bytes("d0/f0", b"")
    fs.write_bytes("gone", b"gone" * 100)
    fs.sync()
    fs.remove("gone")


def wipe(volume: Path, slots: range = range(SLOTS)) -> None:
    with open(volume, "r+b") as file:
        for slot in slots:
            file.seek(slot * SLOT_STRIDE)
            file.write(bytes(4096))


def read(directory: Path) -> dict[str, bytes]:
    found = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "disk.gavel"
    with gavel.open(path, create=True, size=SIZE) as fs:
        fill(fs)
    return path


def test_files_links_modes_and_times_come_back(volume: Path, tmp_path: Path, recover: Recover) -> None:
    with gavel.open(volume, read_only=True) as fs:
        when = fs.stat("d0/f6").st_mtime_ns
    wipe(volume)
    told = recover(volume, tmp_path / "out")
    out = tmp_path / "out" / "files"
    assert read(out) == {**FILES, "d1/second": FILES["d0/f3"]}
    assert os.readlink(out / "d1" / "link") == "../elsewhere"
    assert os.path.samefile(out / "d0" / "f3", out / "d1" / "second")
    assert stat.S_IMODE((out / "d0" / "f6").stat().st_mode) == 0o640 and (out / "d0" / "f6").stat().st_mtime_ns == when
    try:
        colour = os.getxattr(out / "d0" / "f6", "user.colour")
    except OSError:
        colour = b"blue" if told["refused"] else b""
    assert colour == b"blue"
    assert told["certain"] and (told["partial"], told["lost"]) == (0, 0)
    assert {one["state"] for one in told["files"]} == {"whole"}


def test_access_lists_and_special_files_come_back(tmp_path: Path, recover: Recover) -> None:
    acl = encode([Ace(1, 6), Ace(2, 4, 1234), Ace(4, 4), Ace(16, 6), Ace(32, 0)])
    path = tmp_path / "disk.gavel"
    with gavel.open(path, create=True, size=SIZE) as fs:
        fs.write_bytes("shared", b"x")
        fs.setxattr("shared", ACCESS.decode(), acl)
        for name, mode, device in (("pipe", stat.S_IFIFO, 0), ("null", stat.S_IFCHR, os.makedev(1, 3))):
            fs.mknod(name, mode, device)
            fs.chmod(name, 0o620)
    wipe(path)
    owner = os.geteuid() == 0
    told = recover(path, tmp_path / "out", code=0 if owner else 5)
    out = tmp_path / "out" / "files"
    assert told["refused"] or os.getxattr(out / "shared", ACCESS) == acl
    assert stat.S_ISFIFO((out / "pipe").stat().st_mode) and stat.S_IMODE((out / "pipe").stat().st_mode) == 0o620
    states = {one["path"]: one["state"] for one in told["files"]}
    assert states == {"files/shared": "whole", "files/pipe": "whole", "files/null": "whole" if owner else "lost"}
    assert not owner or (out / "null").stat().st_rdev == os.makedev(1, 3)


def test_past_states_on_request(volume: Path, tmp_path: Path, recover: Recover) -> None:
    told = recover(volume, tmp_path / "out", "--history")
    past = read(tmp_path / "out" / "history")
    assert told["states"] == len(past)
    assert b"gone" * 100 in past.values() and b"first" in past.values()
    assert all("@@0x" in name for name in past)


def test_what_is_damaged_is_told_by_file(volume: Path, tmp_path: Path, recover: Recover) -> None:
    raw = volume.read_bytes()
    at = raw.index(FILES["d0/f39"])
    with open(volume, "r+b") as file:
        file.seek(at + 10)
        file.write(b"?")
    told = recover(volume, tmp_path / "out", code=5)
    (bad,) = (one for one in told["files"] if one["state"] != "whole")
    assert bad["path"] == "files/d0/f39" and bad["state"] == "lost" and bad["missing"] == len(FILES["d0/f39"])
    assert not (tmp_path / "out" / "files" / "d0" / "f39").exists()
    assert run(["recover", str(volume), str(tmp_path / "again")]) == 5


def test_the_directory_must_be_empty(volume: Path, tmp_path: Path, recover: Recover) -> None:
    assert run(["recover", str(volume), str(tmp_path)]) == 2


def test_what_never_was_a_volume_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1 << 20))
    assert run(["recover", str(tmp_path / "file"), str(tmp_path / "out")]) == 3


def test_an_encrypted_volume_needs_its_key_and_one_header(
    tmp_path: Path, recover: Recover, capsys: pytest.CaptureFixture[str]
) -> None:
    path, key_file, key = tmp_path / "disk.gavel", tmp_path / "key", os.urandom(32)
    key_file.write_bytes(key)
    format_volume(path, size=SIZE, key=KeyFile(key))
    with open_fs(path, key=KeyFile(key)) as fs:
        fill(fs)
    assert run(["recover", str(path), str(tmp_path / "none")]) != 0
    wipe(path, range(SLOTS - 1))
    recover(path, tmp_path / "out", "--key-file", str(key_file))
    assert read(tmp_path / "out" / "files") == {**FILES, "d1/second": FILES["d0/f3"]}
    wipe(path)
    capsys.readouterr()
    assert run(["recover", str(path), str(tmp_path / "lost"), "--key-file", str(key_file)]) == 2
    assert "encrypted" in capsys.readouterr().err
