"""The commands about upkeep, members and keys, on a volume that is not mounted."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import gavel
from gavel.cli import output
from gavel.cli.main import run
from gavel.media import layout
from gavel.node import keys
from tests.unit.cli.test_offline import ROOT, SIZE, Command, documented, gavel_, loaded

__all__ = ["gavel_"]  # a fixture

MIB = 1024**2
COMMANDS = (
    "retention", "prune", "reblock", "scrub", "dedup", "cleanup", "compression", "volume", "rekey", "upgrade", "show",
    "recover",
)  # fmt: skip


@pytest.fixture
def aged(tmp_path: Path) -> str:
    """A volume with 24 MiB, of which the present has a third, a snapshot two."""
    path = tmp_path / "aged.gavel"
    with gavel.open(path, create=True, size=SIZE) as fs:
        fs.mkdir("d")
        for number in range(24):
            fs.write_bytes(f"d/{number}", os.urandom(MIB))
        fs.tid()
        for number in range(0, 24, 3):
            fs.remove(f"d/{number}")
        fs.snapshot_create("kept")
        fs.tid()
        for number in range(1, 24, 3):
            fs.remove(f"d/{number}")
        fs.tid()
    return str(path)


def test_space_comes_back(gavel_: Command, aged: str) -> None:
    before = loaded(gavel_("info", aged, "--snapshots", "--json"))
    assert set(before) == documented("info") | {"snapshots"}
    assert [(one["name"], one["bytes"] // MIB) for one in before["snapshots"]] == [("kept", 8)]
    assert "8.0 MiB" in gavel_("info", aged, "--snapshots").splitlines()[-1]
    planned = loaded(gavel_("prune", aged, "--everything", "--dry-run", "--json"))
    assert set(planned) == documented("prune")
    assert (planned["dry_run"], planned["kept"], planned["bytes"] // MIB) == (True, 1, 8)
    assert "would go" in gavel_("prune", aged, "--everything", "--dry-run")
    assert "dropped" in gavel_("prune", aged, "--everything")
    assert "has been pruned" in gavel_("diff", aged, before["created_tid"], code=output.NOT_FOUND)
    gavel_("snapshot", "delete", aged, "kept")
    assert loaded(gavel_("prune", aged, "--everything", "--json"))["versions"] > 0
    done = loaded(gavel_("reblock", aged, "--json"))
    assert set(done) == documented("reblock") and done["damaged"] == 0
    after = loaded(gavel_("info", aged, "--json"))
    assert (after["live"] // MIB, after["history"]) == (8, 0)
    assert after["free"] - before["free"] >= 8 * MIB
    assert "came back" in gavel_("reblock", aged)
    assert "all is well" in gavel_("check", aged, "--deep")


def test_retention(gavel_: Command, aged: str) -> None:
    found = loaded(gavel_("retention", f"{aged}:/d", "--json"))
    assert set(found) == documented("retention")
    assert (found["path"], found["policy"], found["stored_for"]) == ("/d", "all:forever", None)
    assert "stored for /d" in gavel_("retention", f"{aged}:/d", "all:1d, daily:60d")
    assert "all:1d,daily:60d" in gavel_("retention", f"{aged}:/d")
    assert loaded(gavel_("retention", aged, "--json"))["policies"] == [
        {"directory": "/", "policy": "all:forever"},
        {"directory": "/d", "policy": "all:1d,daily:60d"},
    ]
    assert "/d" in gavel_("retention", aged), "what else counts is told"
    assert "the default" in gavel_("retention", f"{aged}:/d", "--forget")
    assert "no step of a policy" in gavel_("retention", aged, "much", code=output.USAGE)
    assert "not both" in gavel_("retention", aged, "all:1d", "--forget", code=output.USAGE)
    assert "Not a directory" in gavel_("retention", f"{aged}:/d/2", "all:1d", code=output.NOT_FOUND)
    assert "No such file" in gavel_("prune", f"{aged}:/none", code=output.NOT_FOUND)
    assert "root" in gavel_("prune", f"{aged}:/d", "--everything", code=output.USAGE)


def test_scrub(gavel_: Command, aged: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = loaded(gavel_("scrub", aged, "--limit", "10000", "--json"))
    assert set(found) == documented("scrub")
    assert (found["bytes"] // MIB, found["damages"], found["damaged"]) == (24, 0, [])
    assert "nothing of it damaged" in gavel_("scrub", aged)
    with gavel.open(aged) as fs:
        fs.write_bytes("victim", b"V" * 100_000)
    with open(aged, "r+b") as file:
        content = file.read(64 * MIB)
        file.seek(content.index(b"V" * 100_000) + 5)
        file.write(b"rot")
    assert run(["scrub", aged]) == output.DAMAGED
    told = capsys.readouterr().out
    assert "/victim" in told and "1 place damaged" in told
    assert run(["scrub", aged, "--json"]) == output.DAMAGED
    (one,) = loaded(capsys.readouterr().out)["damaged"]
    assert (one["path"], one["until_tid"]) == ("/victim", None)


def test_dedup_and_compression(gavel_: Command, aged: str) -> None:
    content = os.urandom(MIB)
    for name in ("one", "two"):
        with gavel.open(aged) as fs:
            fs.write_bytes(name, content)
    planned = loaded(gavel_("dedup", aged, "--simulate", "--json"))
    assert set(planned) == documented("dedup") and planned["bytes"] == MIB
    assert "would save 1.0 MiB" in gavel_("dedup", aged, "--simulate")
    assert "1.0 MiB less" in gavel_("dedup", aged)
    assert loaded(gavel_("dedup", aged, "--json"))["duplicates"] == 0
    assert set(loaded(gavel_("compression", f"{aged}:/d", "--json"))) == documented("compression")
    assert "default" in gavel_("compression", f"{aged}:/d")
    assert gavel_("compression", f"{aged}:/d", "on") == "compression of /d: on\n"
    before = loaded(gavel_("info", aged, "--json"))["live"]
    with gavel.open(aged) as fs:
        assert (fs.compression("d"), fs.compression("/"), fs.set_compression("/", "off")) == ("on", "default", "off")
        fs.write_bytes("d/zeros and ones", b"0" * MIB + b"1" * MIB)
    assert loaded(gavel_("info", aged, "--json"))["live"] - before < MIB
    assert loaded(gavel_("compression", f"{aged}:/d", "inherit", "--json"))["choice"] == "off"
    assert run(["compression", aged, "perhaps"]) == output.USAGE


def test_cleanup(gavel_: Command, aged: str) -> None:
    shown = gavel_("cleanup", aged, "--show")
    due = {one["task"]: one["next_time"] for one in loaded(gavel_("cleanup", aged, "--show", "--json"))["tasks"]}
    with gavel.open(aged) as fs:
        made = datetime.fromtimestamp((fs.created_tid >> 8) / 1e6, UTC)
    days = {
        task: when and round((datetime.fromisoformat(when) - made) / timedelta(days=1)) for task, when in due.items()
    }
    assert days == {"prune": 1, "dedup": None, "reblock": 1, "scrub": 30}, "also before the first run"
    assert re.search(r"^scrub +30d +1h", shown, re.M) and re.search(r"^dedup +never", shown, re.M)
    found = loaded(gavel_("cleanup", aged, "--set", "dedup=7d/5m", "--set", "scrub=never", "--json"))
    assert set(found) == documented("cleanup --show")
    tasks = {one["task"]: (one["every"], one["budget"]) for one in found["tasks"]}
    assert (tasks["dedup"], tasks["scrub"]) == ((7 * 86400, 300), (None, 3600))
    for wrong in ("dedup", "=1d", "nothing=1d", "dedup=soon", "dedup=1s"):
        assert gavel_("cleanup", aged, "--set", wrong, code=output.USAGE)
    ran = loaded(gavel_("cleanup", aged, "--json"))
    assert set(ran) == documented("cleanup")
    assert [(one["task"], one["error"]) for one in ran["runs"]] == [("prune", None), ("dedup", None), ("reblock", None)]
    assert "bytes verified" in gavel_("cleanup", aged, "--only", "scrub")
    assert "no task" in gavel_("cleanup", aged, "--only", "nothing", code=output.USAGE)
    assert "bytes verified" in gavel_("cleanup", aged, "--show")


def test_members(gavel_: Command, aged: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    assert "say how large" in gavel_("volume", "add", aged, other, code=output.USAGE)
    added = loaded(gavel_("volume", "add", aged, other, "--size", "256M", "--json"))
    assert set(added) == documented("volume add") and (added["number"], added["path"]) == (1, other)
    listed = loaded(gavel_("volume", "list", aged, "--json"))["members"]
    assert [(one["path"], one["size"]) for one in listed] == [(aged, SIZE), (other, 2 * SIZE)]
    assert other in gavel_("volume", "list", aged)
    assert "on 2 devices" in gavel_("info", aged)
    with gavel.open(aged) as fs:
        for number in range(100):  # more than the first one has room for
            fs.write_bytes(f"more {number}", os.urandom(MIB))
        fs.sync()
        assert any(one.live for one in fs.volume_list() if one.number == 1)
        content = fs.read_bytes("more 99")
    assert "full" in gavel_("volume", "remove", aged, other, code=output.FULL)
    with gavel.open(aged) as fs:
        assert [one.leaving for one in fs.volume_list()] == [False, False]
        for number in range(80):
            fs.remove(f"more {number}")
    gavel_("prune", aged, "--everything")
    assert "not part of the volume" in gavel_("volume", "remove", aged, "1")
    os.unlink(other)
    with gavel.open(aged, read_only=True) as fs:
        assert fs.read_bytes("more 99") == content
    assert "all is well" in gavel_("check", aged, "--deep")
    for which in ("0", "7", other):
        assert gavel_("volume", "remove", aged, which, code=output.USAGE)


def test_a_missing_device_is_named(gavel_: Command, aged: str, tmp_path: Path) -> None:
    gavel_("volume", "add", aged, str(tmp_path / "other"), "--size", "128M")
    os.rename(tmp_path / "other", tmp_path / "elsewhere")
    assert "other" in gavel_("info", aged, code=output.NOT_FOUND)


def test_encryption(gavel_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, file = str(tmp_path / "secret.gavel"), str(tmp_path / "key")
    monkeypatch.delenv("GAVEL_PASSPHRASE", raising=False)
    assert "no passphrase" in gavel_("mkfs", path, "--size", "128M", "--encrypt", code=output.USAGE)
    monkeypatch.setenv("GAVEL_PASSPHRASE", "correct horse")
    assert "keep it safe" in gavel_("mkfs", path, "--size", "128M", "--encrypt")
    assert loaded(gavel_("info", path, "--json"))["encryption"] == "passphrase"
    assert "AES-256" in gavel_("info", path)
    assert "all is well" in gavel_("check", path, "--deep")
    monkeypatch.setenv("GAVEL_PASSPHRASE", "wrong")
    assert "does not open" in gavel_("info", path, code=output.USAGE)
    monkeypatch.delenv("GAVEL_PASSPHRASE")
    told = gavel_("history", f"{path}:/", code=output.USAGE)
    assert "encrypted" in told and "GAVEL_PASSPHRASE" in told, "what to do where there is no terminal"
    monkeypatch.setenv("GAVEL_PASSPHRASE", "correct horse")
    monkeypatch.setenv("GAVEL_NEW_PASSPHRASE", "battery staple")
    assert loaded(gavel_("rekey", path, "--json")) == {"encryption": "passphrase"}
    assert "does not open" in gavel_("tid", path, code=output.USAGE)
    monkeypatch.setenv("GAVEL_PASSPHRASE", "battery staple")
    assert "the new key file opens" in gavel_("rekey", path, "--new-key-file", file)
    assert os.stat(file).st_mode & 0o777 == 0o600 and os.stat(file).st_size == 32
    assert "GAVEL_KEY_FILE" in gavel_("tid", path, code=output.USAGE)
    assert gavel_("check", path, "--key-file", file)
    monkeypatch.setenv("GAVEL_KEY_FILE", file)
    assert gavel_("tid", path).startswith("0x")
    with gavel.open(path, key=keys.from_file(file)) as fs:
        assert fs.volume_format().encryption == "key file"
    gavel_("mkfs", str(tmp_path / "second"), "--size", "128M", "--key-file", file)
    assert "not encrypted" in gavel_("info", _plain(tmp_path), "--key-file", file, code=output.USAGE)
    assert "not encrypted" in gavel_("rekey", _plain(tmp_path), code=output.USAGE)


def _plain(directory: Path) -> str:
    path = directory / "plain.gavel"
    if not path.exists():
        gavel.format_volume(path, size=SIZE)
    return str(path)


def test_a_passphrase_is_asked_for_without_echo_and_twice(
    gavel_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, answers = str(tmp_path / "secret.gavel"), ["one", "other", "one", "one", "one"]
    monkeypatch.delenv("GAVEL_PASSPHRASE", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
    assert "differ" in gavel_("mkfs", path, "--size", "128M", "--encrypt", code=output.USAGE)
    assert not os.path.exists(path)
    gavel_("mkfs", path, "--size", "128M", "--encrypt")
    assert gavel_("tid", path).startswith("0x") and answers == []


def test_upgrade(gavel_: Command, tmp_path: Path, aged: str) -> None:
    now = loaded(gavel_("upgrade", aged, "--json"))
    assert set(now) == documented("upgrade") and now["before"] == now["version"]
    assert "already" in gavel_("upgrade", aged)
    _make_older(aged)
    assert "version 1" in gavel_("info", aged)
    assert gavel_("info", aged, "--json") and "version 1" in gavel_("info", aged), "looking changes nothing"
    assert f"was of format 1 and is of format {layout.VERSION}" in gavel_("upgrade", aged)
    assert "all is well" in gavel_("check", aged, "--deep")


def _make_older(path: str) -> None:
    """Have the headers say what the former release said; the volume has nothing that it did not know."""
    with open(path, "r+b") as file:
        for slot in range(layout.SLOTS):
            file.seek(layout.slot_offset(slot))
            header = layout.unpack_header(file.read(layout.SLOT_SIZE))
            assert isinstance(header, layout.Header)
            file.seek(layout.slot_offset(slot))
            file.write(layout.pack_header(header._replace(version=1)))


def test_an_interrupted_job_ends_in_order(
    aged: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: object, *args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gavel.runtime.jobs.Job.wait_now", interrupt)
        assert run(["scrub", aged]) == 130
        assert run(["prune", aged, "--everything"]) == 130
    assert capsys.readouterr().out == ""
    assert run(["check", aged, "--deep"]) == 0


def test_every_command_is_in_the_guide_and_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    guide = (ROOT / "docs/guide/commands.md").read_text().split("## Exit codes")[0]
    for command in COMMANDS:
        assert f"| `gavel {command} " in guide and f"\n  {command} " in text, command
