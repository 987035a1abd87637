"""Where the processes behind mounts leave their notes, and how paths are told apart."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gavel
from gavel.errors import BadRequest, NotAVolume
from gavel.node import access, places
from gavel.node.access import Mounted, Offline

SIZE = 128 * 1024**2


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of our own; the first choice cannot be made."""
    own = tmp_path / "run"
    monkeypatch.setattr(places, "_candidates", lambda: [tmp_path / "missing" / "run", own])
    return own


def test_the_directory_is_private(runtime: Path) -> None:
    assert places.runtime_directory() == runtime
    assert runtime.stat().st_mode & 0o777 == 0o700
    runtime.chmod(0o755)
    with pytest.raises(BadRequest, match="private"):
        places.runtime_directory()


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert places._candidates()[0] == Path("/run/gavel")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert places._candidates()[0] == Path("/run/user/1000/gavel")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    (last,) = places._candidates()
    assert last.name == "gavel-1000"


def test_notes_of_the_living_and_the_dead(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.write_bytes(b"")
    here = places.place(os.getpid())
    places.announce(here, str(volume), "/somewhere")
    (found,) = places.processes_of(str(volume))
    assert (found.pid, found.directory, found.socket) == (os.getpid(), "/somewhere", str(here.socket))
    (tmp_path / "link").symlink_to(volume)
    assert places.processes_of(str(tmp_path / "link")) == [found], "by whatever path"
    assert places.processes_of(str(tmp_path / "other")) == []

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    there = places.place(ended.pid)
    places.announce(there, str(volume), "/elsewhere")
    (there.note.parent / "junk.json").write_text("not json")
    there.log.write_text("old")
    os.utime(there.log, (0, 0))
    assert places.running() == [found]
    assert not there.note.exists() and not there.log.exists()
    places.withdraw(here)
    places.withdraw(here)
    assert places.running() == []


def test_who_is_alive() -> None:
    assert places.alive(os.getpid())
    assert not places.alive(2**22 + 1)
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.read() == b""
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not places.alive(child.pid), "a zombie has ended"
    child.communicate()


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("volumes") / "a:b.gavel"
    gavel.format_volume(path, size=SIZE)
    return str(path)


def test_what_an_argument_means(volume: str, tmp_path: Path) -> None:
    assert access.locate(volume) == Offline(volume, "/")
    assert access.locate(f"{volume}:/inner/path") == Offline(volume, "/inner/path")
    assert access.locate(f"{volume}:/") == Offline(volume, "/")
    assert access.locate(f"{volume}:/with:/colons") == Offline(volume, "/with:/colons")
    with pytest.raises(FileNotFoundError) as info:
        access.locate(str(tmp_path / "none:/x"))
    assert info.value.errno == errno.ENOENT
    with pytest.raises(NotAVolume):
        access.locate(str(tmp_path))
    (tmp_path / "file").write_text("GAVEL, but no volume")
    with pytest.raises(NotAVolume):
        access.locate(str(tmp_path / "file"))


def test_a_volume_with_a_rotten_first_header_is_still_one(volume: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with open(volume, "rb") as source:
        copy.write_bytes(b"rot" * 100 + source.read(9 * 1024**2)[300:])
    assert access.looks_like_volume(str(copy))
    assert not access.looks_like_volume(str(tmp_path))


def test_a_mounted_volume_is_reached_through_its_mount(volume: str) -> None:
    here = places.place(os.getpid())
    places.announce(here, volume, "/somewhere")
    try:
        assert access.locate(volume) == Mounted(str(here.socket), "/somewhere", "/")
        assert access.locate(f"{volume}:/x") == Mounted(str(here.socket), "/somewhere", "/x")
        with pytest.raises(BadRequest, match="does not answer"):
            access.connect(access.locate(volume))
    finally:
        places.withdraw(here)


def test_notes_are_plain_json(volume: str) -> None:
    here = places.place(os.getpid())
    places.announce(here, volume, "/a b\n")
    assert json.loads(here.note.read_text())["directory"] == "/a b\n"
    places.withdraw(here)
