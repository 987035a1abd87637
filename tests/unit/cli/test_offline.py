"""The commands on a volume that is not mounted."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gavel
from gavel.cli import output
from gavel.cli.main import run

ROOT = Path(__file__).parents[3]
SIZE = 128 * 1024**2


class Volume:
    """A volume with a little history: what the tests look at."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        with gavel.open(path, create=True, size=SIZE, label="shelf") as fs:
            fs.makedirs("d/e")
            fs.write_text("d/f", "one\n")
            fs.write_bytes(b"\xff", b"x")
            self.first = f"0x{fs.tid():016x}"
            fs.write_text("d/f", "one\ntwo\n")
            fs.write_text("gone", "here")
            self.second = f"0x{fs.tid():016x}"
            fs.remove("gone")
            fs.rename("d/e", "d/g")
            self.removed = f"0x{fs.tid():016x}"
            fs.snapshot_create("named", note="so it was")
            self.third = f"0x{fs.tid():016x}"


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return Volume(tmp_path_factory.mktemp("cli") / "disk.gavel")


@pytest.fixture
def own(tmp_path: Path) -> Volume:
    """A volume to be changed."""
    return Volume(tmp_path / "own.gavel")


@pytest.fixture
def gavel_(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that succeeds; what it prints."""

    def command(*arguments: str, code: int = 0) -> str:
        found = run(list(arguments))
        out, err = capsys.readouterr()
        assert found == code, err
        if not code:
            assert err == ""
            return out
        assert out == "" and err.count("\n") == 1 and err.startswith("gavel: "), err
        assert "Traceback" not in err
        return err

    return command


Command = Callable[..., str]


def loaded(text: str) -> Any:
    return json.loads(text)


def documented(command: str) -> set[str]:
    """The keys that the guide promises for a command: those at the top."""
    guide = (ROOT / "docs/guide/commands.md").read_text()
    (row,) = re.findall(rf"^\| [^|]*`{command}`[^|]* \| (.*) \|$", guide.split("## JSON")[1], re.M)
    return set(re.findall(r"`(\w+)`", re.sub(r"\[[^]]*(\[[^]]*\][^]]*)*\]", "", row)))


def test_info(gavel_: Command, volume: Volume) -> None:
    found = loaded(gavel_("info", volume.path, "--json"))
    assert set(found) == documented("info")
    assert (found["label"], found["size"], found["mounted"], found["pid"]) == ("shelf", SIZE, None, None)
    assert found["last_tid"] == volume.third
    text = gavel_("info", volume.path)
    assert "shelf" in text and "128.0 MiB" in text and "not mounted" in text


def test_tid(gavel_: Command, volume: Volume) -> None:
    assert gavel_("tid", volume.path) == volume.third + "\n"
    found = loaded(gavel_("tid", volume.path, "--json"))
    assert set(found) == documented("tid") and found["tid"] == volume.third


def test_history(gavel_: Command, volume: Volume) -> None:
    found = loaded(gavel_("history", f"{volume.path}:/d/f", "--json"))
    assert set(found) == documented("history")
    assert [(one["tid"], one["size"], one["changes"]) for one in found["versions"]] == [
        (volume.first, 4, ["created"]),
        (volume.second, 8, ["written"]),
    ]
    text = gavel_("history", f"{volume.path}:/gone")
    assert "created" in text and "deleted" in text and volume.removed in text


def test_log(gavel_: Command, volume: Volume) -> None:
    found = loaded(gavel_("log", volume.path, "--json"))
    assert set(found) == documented("log")
    assert [one["tid"] for one in found["transactions"]] == [volume.removed, volume.second, volume.first]
    assert found["more"] is False
    moved = [path for path in found["transactions"][0]["paths"] if path["changes"] == ["renamed"]]
    assert [(one["old_path"], one["path"]) for one in moved] == [("/d/e", "/d/g")]
    one = loaded(gavel_("log", f"{volume.path}:/d", "--limit", "1", "--json"))
    assert one["more"] is True and len(one["transactions"]) == 1
    rest = loaded(gavel_("log", f"{volume.path}:/d", "--until", one["until"], "--json"))
    assert [entry["tid"] for entry in rest["transactions"]] == [volume.second, volume.first]
    since = loaded(gavel_("log", volume.path, "--since", volume.second, "--json"))
    assert [entry["tid"] for entry in since["transactions"]] == [volume.removed]
    text = gavel_("log", volume.path, "-n", "2")
    assert "/d/e -> /d/g" in text and "there are more" in text
    assert "\\udcff" in gavel_("log", volume.path), "names that are no text are shown as escapes"


def test_diff(gavel_: Command, volume: Volume) -> None:
    found = loaded(gavel_("diff", volume.path, volume.first, "--json"))
    assert set(found) == documented("diff")
    assert [(one["change"], one["path"]) for one in found["differences"]] == [("changed", "d/f"), ("renamed", "d/g")]
    text = gavel_("diff", f"{volume.path}:/d/f", volume.first, volume.second)
    assert "+two" in text and "4 B -> 8 B" in text
    assert gavel_("diff", volume.path, "now") == "no difference\n"
    assert "removed  gone" in gavel_("diff", volume.path, volume.second, "named")


def test_undo(gavel_: Command, own: Volume) -> None:
    planned = gavel_("undo", own.path, "--to", own.first, "--dry-run")
    assert "change   /d/f" in planned and "move     /d/g -> /d/e" in planned
    assert gavel_("tid", own.path) == own.third + "\n", "nothing was done"
    found = loaded(gavel_("undo", own.path, "--to", own.second, "--json"))
    assert set(found) == documented("undo")
    assert ("restore", "/gone") in [(one["action"], one["path"]) for one in found["actions"]]
    with gavel.open(own.path, read_only=True) as fs:
        assert fs.read_text("gone") == "here" and fs.is_dir("d/e")
    assert "takes that back" in gavel_("undo", own.path, "--to", found["before_tid"])
    assert "nothing to do" in gavel_("undo", own.path, "--to", found["before_tid"])
    with gavel.open(own.path, read_only=True) as fs:
        assert not fs.exists("gone") and fs.is_dir("d/g")


def test_snapshots(gavel_: Command, own: Volume) -> None:
    made = loaded(gavel_("snapshot", "create", own.path, "then", "--when", own.first, "--note", "n", "--json"))
    assert set(made) == documented("snapshot create")
    assert (made["name"], made["tid"], made["note"]) == ("then", own.first, "n")
    listed = loaded(gavel_("snapshot", "list", own.path, "--json"))
    assert [one["name"] for one in listed["snapshots"]] == ["then", "named"]
    assert "so it was" in gavel_("snapshot", "list", own.path)
    assert "forgotten" in gavel_("snapshot", "delete", own.path, "then")
    assert "then" in gavel_("snapshot", "delete", own.path, "then", code=output.USAGE)
    gavel_("snapshot", "delete", own.path, "named")
    assert "there are no snapshots" in gavel_("snapshot", "list", own.path)


def test_check(gavel_: Command, own: Volume, capsys: pytest.CaptureFixture[str]) -> None:
    found = loaded(gavel_("check", own.path, "--deep", "--json"))
    assert set(found) == documented("check") and found["sound"] is True and found["problems"] == []
    with gavel.open(own.path) as fs:
        fs.write_bytes("victim", b"V" * 100_000)
    with open(own.path, "r+b") as file:
        content = file.read(32 * 1024**2)
        file.seek(content.index(b"V" * 100_000) + 5)
        file.write(b"rot")
    assert "all is well" in gavel_("check", own.path)
    assert run(["check", own.path, "--deep"]) == output.DAMAGED
    assert "/victim" in capsys.readouterr().out
    assert run(["check", own.path, "--deep", "--json"]) == output.DAMAGED
    (problem,) = loaded(capsys.readouterr().out)["problems"]
    assert problem["where"] == "/victim" and problem["invariant"] == "data_verifies"


def test_mkfs(gavel_: Command, tmp_path: Path, volume: Volume) -> None:
    path = str(tmp_path / "new.gavel")
    made = loaded(gavel_("mkfs", path, "--size", "128M", "--label", "new", "--json"))
    assert (made["size"], made["label"]) == (SIZE, "new")
    assert "holds a GavelFS volume" in gavel_("mkfs", path, code=output.USAGE)
    assert "mount it with" in gavel_("mkfs", path, "--force", "--size", "0.125G")
    (tmp_path / "archive.zip").write_bytes(b"PK\x03\x04" + bytes(1000))
    assert "ZIP" in gavel_("mkfs", str(tmp_path / "archive.zip"), code=output.USAGE)
    assert "directory" in gavel_("mkfs", str(tmp_path), code=output.USAGE)
    assert "at least" in gavel_("mkfs", str(tmp_path / "x"), "--size", "1M", code=output.USAGE)
    for size in ("many", "-1G", "", "1e9", "5X"):
        assert "no size" in gavel_("mkfs", str(tmp_path / "x"), f"--size={size}", code=output.USAGE)
    with gavel.open(path):
        assert "in use by process" in gavel_("mkfs", path, "--force", code=output.BUSY)


def test_errors_have_their_codes(gavel_: Command, tmp_path: Path, volume: Volume) -> None:
    assert "neither a volume" in gavel_("info", str(tmp_path / "none"), code=output.NOT_FOUND)
    (tmp_path / "text").write_text("no volume")
    assert "is not a GavelFS volume" in gavel_("info", str(tmp_path / "text"), code=output.NOT_FOUND)
    assert "in no mount" in gavel_("log", str(tmp_path), code=output.NOT_FOUND)
    assert "No such file" in gavel_("history", f"{volume.path}:/never", code=output.NOT_FOUND)
    for when in ("2199", "1971-01-01", "nonsense", "0xffffffffffffffff"):
        assert when in gavel_("diff", volume.path, when, code=output.USAGE)
    assert "no time" in gavel_("undo", volume.path, "--to", "-5y", code=output.USAGE)
    assert "nothing is mounted" in gavel_("umount", str(tmp_path), code=output.USAGE)
    with gavel.open(volume.path):
        assert f"process {os.getpid()}" in gavel_("info", volume.path, code=output.BUSY)


def test_usage_errors_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("mkfs", "mount", "umount", "info", "tid", "history", "log", "diff", "undo", "snapshot", "check"):
        assert re.search(rf"^  {command}\b", text, re.M)
    assert run(["nosuch"]) == output.USAGE
    assert run(["diff", "x"]) == output.USAGE
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"gavel {gavel.__version__}"


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GAVEL_DEBUG", "1")
    assert run(["info", str(tmp_path / "none")]) == output.NOT_FOUND
    assert "Traceback" in capsys.readouterr().err


def test_exit_codes_are_documented() -> None:
    guide = (ROOT / "docs/guide/commands.md").read_text()
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", guide, re.M)}
    assert table == {*range(7), 130}
    assert set(output._CODES.values()) <= table
