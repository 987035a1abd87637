"""The command line on real mounts: life, looking back, getting back, and everything that can be in the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gavel
from gavel.cli import output
from gavel.errors import VolumeBusy
from gavel.mount import mounted
from gavel.node import access, places, umount
from tests.integration.mount_daemon import eventually, needs_mount

pytestmark = [needs_mount, pytest.mark.mounts]

ROOT = Path(__file__).parents[2]


class Shell:
    """Runs commands in a directory; what they have mounted there goes at the end of the test."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def run(self, *arguments: str, cwd: Path | None = None, code: int = 0) -> str:
        """The output of a `gavel` command that ends with this code; of one that fails, its error."""
        done = subprocess.run(
            [sys.executable, "-m", "gavel", *arguments],
            cwd=cwd or self.base,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def json(self, *arguments: str, cwd: Path | None = None) -> Any:
        return json.loads(self.run(*arguments, "--json", cwd=cwd))

    def json_failing(self, *arguments: str) -> Any:
        """What a command prints that fails and says so in JSON."""
        command = [sys.executable, "-m", "gavel", *arguments, "--json"]
        done = subprocess.run(command, cwd=self.base, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == output.FAILED, done.stderr + done.stdout
        return json.loads(done.stdout)

    def tid(self, path: str = "mnt") -> str:
        return self.run("tid", path).strip()

    def clean(self) -> None:
        for one in mounted.listing():
            if one.directory.startswith(str(self.base)):
                subprocess.run(["umount", "-l", one.directory], stderr=subprocess.DEVNULL, check=False)
        for process in places.running():
            if process.volume.startswith(str(self.base)):
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Shell]:
    """A volume, and a directory to mount it on."""
    shell = Shell(tmp_path)
    (tmp_path / "mnt").mkdir()
    gavel.format_volume(tmp_path / "disk.gavel", size=512 * 1024**2, label="test")
    try:
        yield shell
    finally:
        shell.clean()


@pytest.fixture
def shell(empty: Shell) -> Iterator[Shell]:
    """The volume, mounted."""
    empty.run("mount", "disk.gavel", "mnt")
    yield empty
    if mounted.at(empty.base / "mnt") is not None:
        empty.run("umount", "mnt")


def test_a_day_in_the_life(shell: Shell) -> None:
    top = shell.base / "mnt"
    (top / "d").mkdir()
    (top / "d" / "f").write_text("one\n")
    (top / "gone").write_text("here")
    first = shell.tid()
    with open(top / "d" / "f", "a") as file:
        file.write("two\n")
    (top / "gone").unlink()
    assert [one["changes"] for one in shell.json("history", "mnt/d/f")["versions"]] == [["created"], ["written"]]
    assert [one["changes"] for one in shell.json("history", "mnt/gone")["versions"]] == [["created"], ["deleted"]]
    assert len(shell.json("log", "mnt/d")["transactions"]) == 2
    found = shell.json("diff", "mnt", first)["differences"]
    assert [(one["change"], one["path"]) for one in found] == [("changed", "d/f"), ("removed", "gone")]
    assert "+two" in shell.run("diff", "mnt/d/f", first)
    second = shell.tid()
    shell.run("undo", "mnt", "--to", first)
    assert (top / "d" / "f").read_text() == "one\n", "the kernel sees it at once"
    assert (top / "gone").read_text() == "here"
    shell.run("undo", "mnt", "--to", second)
    assert not (top / "gone").exists() and (top / "d" / "f").read_text() == "one\ntwo\n"
    shell.run("undo", "mnt/gone")
    assert (top / "gone").read_text() == "here"
    assert shell.json("check", "mnt", "--deep")["sound"] is True
    info = shell.json("info", "mnt")
    assert (info["mounted"], info["label"], info["live"] < 100) == (str(top), "test", True)
    assert shell.run("umount", "mnt") == ""
    assert shell.json("check", "disk.gavel", "--deep")["sound"] is True
    with gavel.open(shell.base / "disk.gavel") as fs:
        assert fs.read_text("gone") == "here"


def test_tid_covers_what_the_kernel_still_holds(shell: Shell) -> None:
    content = os.urandom(3_000_000)
    with open(shell.base / "mnt" / "a", "wb", buffering=0) as file:
        file.write(content)
        tid = shell.tid()
        file.seek(0)
        file.write(bytes(len(content)))
    assert (shell.base / "mnt" / f"a@@{tid}").read_bytes() == content


def test_snapshots_are_names_in_paths(shell: Shell) -> None:
    top = shell.base / "mnt"
    (top / "f").write_text("1")
    shell.run("snapshot", "create", "mnt", "good", "--note", "so it was")
    (top / "f").write_text("2")
    assert (top / "f@@good").read_text() == "1"
    assert [one["note"] for one in shell.json("snapshot", "list", "mnt")["snapshots"]] == ["so it was"]
    shell.run("undo", "mnt/f@@good")
    assert (top / "f").read_text() == "1"
    shell.run("snapshot", "delete", "mnt", "good")
    assert "good" in shell.run("diff", "mnt", "good", code=output.USAGE)


def test_paths_of_every_kind(shell: Shell, tmp_path: Path) -> None:
    top = shell.base / "mnt"
    (top / "a b" / "c").mkdir(parents=True)
    (top / "a b" / "c" / "f").write_text("x")
    (top / "link").symlink_to("a b/c/f")
    first = shell.tid()
    (tmp_path / "way in").symlink_to(top / "a b")

    def path(argument: str, cwd: Path = top) -> str:
        found: str = shell.json("history", argument, cwd=cwd)["path"]
        return found

    assert path("a b/c/f") == path("f", top / "a b" / "c") == path("../a b/c/f", top / "a b") == "/a b/c/f"
    assert path(str(tmp_path / "way in" / "c" / "f"), tmp_path) == "/a b/c/f"
    assert path("link") == "/link", "a link is meant itself"
    assert path(".", top / "a b") == "/a b"
    assert shell.json("log", ".", cwd=top / "a b")["path"] == "/a b"
    assert shell.json("history", f"a b@@{first}/c/f", cwd=top)["versions"][0]["size"] == 1
    (top / "a b" / "c" / "f").unlink()
    (top / "a b" / "c").rmdir()
    assert path("a b/c/f") == "/a b/c/f", "its directory is gone, too"
    assert "No such file" in shell.run("history", "mnt/never/was", code=output.NOT_FOUND)
    assert shell.json("info", "disk.gavel")["mounted"] == str(top), "the volume's path leads to its mount"
    assert shell.json("history", "disk.gavel:/a b/c/f")["versions"]


def test_a_bind_mount_of_a_part(shell: Shell, tmp_path: Path) -> None:
    (shell.base / "mnt" / "part" / "deep").mkdir(parents=True)
    (shell.base / "mnt" / "part" / "deep" / "f").write_text("x")
    shell.tid()
    (tmp_path / "bound").mkdir()
    subprocess.run(["mount", "--bind", str(shell.base / "mnt" / "part"), str(tmp_path / "bound")], check=True)
    try:
        assert shell.json("history", "bound/deep/f")["path"] == "/part/deep/f"
    finally:
        subprocess.run(["umount", str(tmp_path / "bound")], check=True)


def test_a_directory_by_another_name_and_names_that_are_no_text(empty: Shell) -> None:
    (empty.base / "link").symlink_to("mnt")
    empty.run("mount", "disk.gavel", "link")
    (empty.base / "mnt" / "f").write_text("x")
    with open(os.fsencode(empty.base / "mnt") + b"/\xff\n", "w") as file:
        file.write("x")
    assert empty.json("info", "link")["mounted"] == str(empty.base / "mnt")
    assert empty.json("history", "link/f")["path"] == "/f"
    odd = os.fsdecode(b"mnt/\xff\n")
    assert empty.json("history", odd)["path"] == "/\udcff\n"
    os.unlink(os.fsencode(empty.base) + b"/mnt/\xff\n")
    assert "restore  /\\udcff\\n" in empty.run("undo", odd)
    assert os.path.exists(os.fsencode(empty.base) + b"/mnt/\xff\n")
    empty.run("umount", "link")
    assert mounted.at(empty.base / "mnt") is None


def test_one_process_at_a_time(shell: Shell) -> None:
    with pytest.raises(VolumeBusy) as info:
        gavel.open(shell.base / "disk.gavel")
    assert info.value.pid == shell.json("info", "mnt")["pid"]
    (shell.base / "other").mkdir()
    assert "in use by process" in shell.run("mount", "disk.gavel", "other", code=output.BUSY)
    assert "in use by process" in shell.run("mkfs", "disk.gavel", "--force", code=output.BUSY)
    assert "already" in shell.run("mount", "disk.gavel", "mnt", code=output.USAGE)
    assert mounted.at(shell.base / "other") is None


def test_what_cannot_be_mounted(empty: Shell, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no volume" * 1000)
    assert "not a GavelFS volume" in empty.run("mount", "text", "mnt", code=output.NOT_FOUND)
    assert "No such file" in empty.run("mount", "none", "mnt", code=output.NOT_FOUND)
    empty.run("mount", "disk.gavel", "nodir", code=output.NOT_FOUND)
    assert "future" in empty.run("mount", "disk.gavel", "mnt", "--as-of", "2199", code=output.USAGE)
    assert "beginning" in empty.run("mount", "disk.gavel", "mnt", "--as-of", "1999", code=output.USAGE)
    assert mounted.at(tmp_path / "mnt") is None
    assert not [one for one in places.running() if one.volume.startswith(str(tmp_path))]
    assert "nothing is mounted" in empty.run("umount", "mnt", code=output.USAGE)
    assert "use umount" in empty.run("umount", "/proc", code=output.USAGE)
    with gavel.open(tmp_path / "disk.gavel") as fs:
        assert fs.listdir() == []


def test_read_only_and_as_of_mounts(empty: Shell) -> None:
    with gavel.open(empty.base / "disk.gavel") as fs:
        fs.write_text("f", "old")
        first = fs.tid()
        fs.write_text("f", "new")
    (empty.base / "then").mkdir()
    empty.run("mount", "disk.gavel", "mnt", "--read-only")
    ready = empty.json("mount", "disk.gavel", "then", "--as-of", f"0x{first:016x}")
    assert (ready["as_of"], ready["read_only"]) == (f"0x{first:016x}", True)
    assert (empty.base / "mnt" / "f").read_text() == "new"
    assert (empty.base / "then" / "f").read_text() == "old"
    for path in ("mnt", "then"):
        with pytest.raises(OSError, match="Read-only"):
            (empty.base / path / "g").write_text("")
    empty.run("undo", "mnt/f", code=output.FAILED)
    assert "say which" in empty.run("umount", "disk.gavel", code=output.USAGE)
    assert "inside the mount" in empty.run("umount", "mnt/f", code=output.USAGE)
    for path in ("mnt", "then"):
        empty.run("umount", path)
    assert not [one for one in places.running() if one.volume.startswith(str(empty.base))]


def test_a_mount_in_use_is_taken_away_and_nothing_is_lost(shell: Shell) -> None:
    with open(shell.base / "mnt" / "f", "w") as file:
        file.write("while open")
        file.flush()
        found = shell.json("umount", "mnt")
        assert found["lazy"] is True and "in use" in found["note"]
        assert mounted.at(shell.base / "mnt") is None
        file.write(" and after")
    eventually(lambda: not places.alive(found["pid"]))
    with gavel.open(shell.base / "disk.gavel") as fs:
        assert fs.read_text("f") == "while open and after"


def test_a_killed_process(shell: Shell) -> None:
    (shell.base / "mnt" / "f").write_text("durable")
    shell.tid()
    pid = shell.json("info", "mnt")["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not places.alive(pid) and access.socket_of(str(shell.base / "mnt")) is None)
    assert "is gone" in shell.run("info", "mnt", code=output.USAGE)
    assert "was gone" in shell.run("umount", "mnt")
    shell.run("mount", "disk.gavel", "mnt")
    assert (shell.base / "mnt" / "f").read_text() == "durable"


def test_a_hung_process(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = shell.json("info", "mnt")["pid"]
    (shell.base / "mnt" / "f").write_text("x")
    monkeypatch.setattr(umount, "_ANSWER_SECONDS", 0.5)
    os.kill(pid, signal.SIGSTOP)
    waiting = subprocess.Popen(["stat", str(shell.base / "mnt" / "not asked before")], stderr=subprocess.DEVNULL)
    try:
        found = umount.unmount(str(shell.base / "mnt"))
        assert "did not answer" in found["note"] and str(pid) in found["note"]
        assert mounted.at(shell.base / "mnt") is None
        assert waiting.wait(30) != 0, "who waited for it is released"
    finally:
        if places.alive(pid):
            os.kill(pid, signal.SIGCONT)
        waiting.kill()
        waiting.wait()
    eventually(lambda: not places.alive(pid))


def test_sigterm_unmounts_cleanly(shell: Shell) -> None:
    (shell.base / "mnt" / "f").write_text("kept")
    pid = shell.json("info", "mnt")["pid"]
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not places.alive(pid))
    assert mounted.at(shell.base / "mnt") is None
    assert not places.place(pid).log.exists() and not places.place(pid).socket.exists()
    with gavel.open(shell.base / "disk.gavel") as fs:
        assert fs.read_text("f") == "kept"


def test_in_the_foreground(empty: Shell) -> None:
    command = [sys.executable, "-m", "gavel", "mount", "disk.gavel", "mnt", "--foreground"]
    process = subprocess.Popen(command, cwd=empty.base, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any("mounted" in line for line in process.stderr)
        (empty.base / "mnt" / "f").write_text("x")
        assert empty.json("info", "mnt")["pid"] == process.pid
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    with gavel.open(empty.base / "disk.gavel") as fs:
        assert fs.read_text("f") == "x"


def test_the_socket_is_private_and_survives_nonsense(shell: Shell) -> None:
    path = os.fsdecode(os.getxattr(shell.base / "mnt", "gavel.socket"))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert os.fsdecode(os.getxattr(shell.base / "mnt", "gavel.volume")) == str(shell.base / "disk.gavel")
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(path)
        lines = admin.makefile("rb")
        for line, kind in (
            (b"no json\n", "BadRequest"),
            (b"[1]\n", "BadRequest"),
            (b'{"call": "no such"}\n', "BadRequest"),
            (b'{"call": "history", "args": {"path": 5}}\n', ""),
            (b'{"call": "history", "args": {"nothing": 5}}\n', "BadRequest"),
            (b'{"call": "history", "args": {"path": "/never"}}\n', "FileNotFoundError"),
        ):
            admin.sendall(line)
            while "progress" in (answer := json.loads(lines.readline())):
                pass
            assert answer["error"]["kind"].startswith(kind)
        admin.sendall(b'{"call": "tid"}\n')
        assert json.loads(lines.readline())["result"]["tid"].startswith("0x")
        lines.close()


def test_long_work_does_not_stop_the_mount(shell: Shell) -> None:
    top = shell.base / "mnt"
    (top / "many").mkdir()
    for number in range(1500):
        (top / "many" / str(number)).write_text(str(number))
    first = shell.tid()
    for number in range(1500):
        (top / "many" / str(number)).unlink()
    done = threading.Event()
    seen = 0

    def work() -> None:
        nonlocal seen
        while not done.is_set():
            (top / "other").write_text("x")
            assert (top / "other").read_text() == "x"
            seen += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        result = shell.json("undo", "mnt/many", "--to", first)
        assert shell.json("check", "mnt", "--deep")["sound"] is True
    finally:
        done.set()
        worker.join()
    assert seen > 0
    assert len(result["actions"]) >= 1500
    assert sorted(os.listdir(top / "many"), key=int) == [str(number) for number in range(1500)]
    assert (top / "many" / "1234").read_text() == "1234"


def test_a_caller_that_goes_away_gives_up_its_call(shell: Shell) -> None:
    (shell.base / "mnt" / "f").write_text("x")
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(os.getxattr(shell.base / "mnt", "gavel.socket"))
        admin.sendall(b'{"call": "check", "args": {"deep": true}}\n')
    assert shell.json("check", "mnt")["sound"] is True


def test_the_demo_runs() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py")], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "That is GavelFS" in done.stdout


def fill(directory: Path) -> None:
    """Write until it is full."""
    for number in range(64):
        with open(directory / f"filler {number}", "wb") as file:
            file.write(os.urandom(1024**2))
            file.flush()
            os.fsync(file.fileno())


def test_a_full_disk_under_the_volume(tmp_path: Path) -> None:
    """Said by write and by umount, nothing durable is lost, and it goes on when there is room."""
    shell = Shell(tmp_path)
    for name in ("disk", "mnt"):
        (tmp_path / name).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(tmp_path / "disk")], check=True)
    try:
        (tmp_path / "disk" / "ballast").write_bytes(bytes(8 * 1024**2))
        shell.run("mkfs", "disk/volume", "--size", "1G")
        shell.run("mount", "disk/volume", "mnt")
        (tmp_path / "mnt" / "kept").write_bytes(b"k" * 100_000)
        shell.tid()
        with pytest.raises(OSError, match="No space"):
            fill(tmp_path / "mnt")
        assert "disk under the volume is full" in shell.run("tid", "mnt", code=output.FULL)
        assert (tmp_path / "mnt" / "kept").read_bytes() == b"k" * 100_000
        (tmp_path / "disk" / "ballast").unlink()
        shell.tid()
        (tmp_path / "mnt" / "later").write_bytes(b"l" * 100_000)
        shell.tid()
        shell.run("umount", "mnt")
        assert shell.json("check", "disk/volume", "--deep")["sound"] is True
        with gavel.open(tmp_path / "disk" / "volume") as fs:
            assert fs.stat("kept").st_size == fs.stat("later").st_size == 100_000
    finally:
        shell.clean()


def test_umount_says_when_not_everything_could_be_written(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    for name in ("disk", "mnt"):
        (tmp_path / name).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(tmp_path / "disk")], check=True)
    try:
        shell.run("mkfs", "disk/volume", "--size", "1G")
        shell.run("mount", "disk/volume", "mnt")
        pid = shell.json("info", "mnt")["pid"]
        with pytest.raises(OSError, match="No space"):
            fill(tmp_path / "disk")
        with pytest.raises(OSError, match="No space"):
            fill(tmp_path / "mnt")
        said = shell.json_failing("umount", "mnt")
        assert said["clean"] is False and places.place(pid).log.name in said["note"]
        assert "disk under the volume is full" in places.place(pid).log.read_text()
        places.place(pid).log.unlink()
    finally:
        shell.clean()


def test_upkeep_on_a_live_mount(shell: Shell) -> None:
    top = shell.base / "mnt"
    (top / "d").mkdir()
    for number in range(32):
        (top / "d" / str(number)).write_bytes(os.urandom(1024**2))
    shell.tid()
    shell.run("snapshot", "create", "mnt", "kept")
    content = {number: (top / "d" / str(number)).read_bytes() for number in range(0, 32, 4)}
    for number in range(32):
        if number not in content:
            (top / "d" / str(number)).unlink()
    before = shell.json("info", "mnt", "--snapshots")
    assert [one["bytes"] for one in before["snapshots"]] == [24 * 1024**2]
    assert "stored for /d" in shell.run("retention", "mnt/d", "all:1d")
    shell.run("snapshot", "delete", "mnt", "kept")
    assert shell.json("prune", "mnt", "--everything", "--dry-run")["bytes"] == 24 * 1024**2
    assert shell.json("prune", "mnt", "--everything")["versions"] > 0
    assert shell.json("reblock", "mnt")["damaged"] == 0
    after = shell.json("info", "mnt")
    assert after["history"] == 0 and after["free"] - before["free"] >= 23 * 1024**2
    assert os.statvfs(top).f_bavail * os.statvfs(top).f_frsize >= 23 * 1024**2
    assert shell.json("scrub", "mnt", "--limit", "1000")["damages"] == 0
    assert all((top / "d" / str(number)).read_bytes() == data for number, data in content.items())
    (top / "again").write_bytes(content[0] + content[4])
    shell.tid()
    shell.json("dedup", "mnt/d", "--simulate")
    assert "dedup" in shell.run("cleanup", "mnt", "--set", "dedup=7d/5m")
    assert [one["error"] for one in shell.json("cleanup", "mnt/d")["runs"]] == [None] * 4
    assert shell.run("compression", "d", "on", cwd=top) == "compression of /d: on\n"
    assert "already" in shell.run("upgrade", "mnt")
    assert shell.json("check", "mnt", "--deep")["sound"] is True


def test_devices_come_and_go_under_a_live_mount(shell: Shell) -> None:
    top = shell.base / "mnt"
    before = os.statvfs(top).f_blocks
    shell.run("volume", "add", "mnt", "second", "--size", "1G")
    assert os.statvfs(top).f_blocks > before
    assert [one["number"] for one in shell.json("volume", "list", "mnt")["members"]] == [0, 1]
    (top / "f").write_bytes(os.urandom(8 * 1024**2))
    content = (top / "f").read_bytes()
    shell.run("umount", "mnt")
    shell.run("mount", "disk.gavel", "mnt")
    shell.run("volume", "remove", "mnt", "second")
    (shell.base / "second").unlink()
    assert os.statvfs(top).f_blocks == before
    assert (top / "f").read_bytes() == content
    assert shell.json("check", "mnt", "--deep")["sound"] is True


def test_an_encrypted_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell(tmp_path)
    (tmp_path / "mnt").mkdir()
    monkeypatch.delenv("GAVEL_PASSPHRASE", raising=False)
    try:
        shell.run("mkfs", "disk.gavel", "--size", "256M", "--key-file", "key")
        assert "encrypted" in shell.run("mount", "disk.gavel", "mnt", code=output.USAGE)
        shell.run("mount", "disk.gavel", "mnt", "--key-file", "key")
        (tmp_path / "mnt" / "f").write_bytes(b"plain to see" * 10_000)
        assert shell.json("info", "mnt")["encryption"] == "key file"
        monkeypatch.setenv("GAVEL_NEW_PASSPHRASE", "correct horse")
        assert shell.json("rekey", "mnt") == {"encryption": "passphrase"}
        shell.run("umount", "mnt")
        assert b"plain to see" not in (tmp_path / "disk.gavel").read_bytes()
        assert "passphrase" in shell.run("mount", "disk.gavel", "mnt", "--key-file", "key", code=output.USAGE)
        monkeypatch.setenv("GAVEL_PASSPHRASE", "wrong")
        assert "does not open" in shell.run("mount", "disk.gavel", "mnt", code=output.USAGE)
        monkeypatch.setenv("GAVEL_PASSPHRASE", "correct horse")
        shell.run("mount", "disk.gavel", "mnt")
        assert (tmp_path / "mnt" / "f").read_bytes() == b"plain to see" * 10_000
        for one in places.running():
            if one.volume.startswith(str(tmp_path)):
                assert b"correct horse" not in Path(f"/proc/{one.pid}/cmdline").read_bytes()
    finally:
        shell.clean()


def test_ctrl_c_ends_the_work_in_the_mount(shell: Shell) -> None:
    (shell.base / "mnt" / "f").write_bytes(os.urandom(8 * 1024**2))
    shell.tid()
    command = [sys.executable, "-m", "gavel", "scrub", "mnt", "--limit", "0.001"]
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # also where tests run beside others
    process = subprocess.Popen(command, cwd=shell.base, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **heeding)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)  # it would take hours
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    assert shell.json("scrub", "mnt")["damages"] == 0, "nothing is in its way any more"
