"""`gavel show` on sound volumes and on damaged ones: typed rows, and no stop at the first damage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gavel
from gavel.cli.main import run
from gavel.limits import BIG_BLOCK
from gavel.media.layout import SLOT_STRIDE

Show = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "disk.gavel"
    with gavel.open(path, create=True, size=128 * 1024**2) as fs:
        for n in range(300):
            fs.write_bytes(f"f{n}", b"%d" % n * 1000)
        fs.sync()
        fs.write_bytes("f7", b"again")
        fs.remove("f8")
    return path


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], volume: Path) -> Show:
    def call(what: str, *more: str, code: int = 0) -> list[dict[str, Any]]:
        assert run(["show", what, str(volume), *more, "--json"]) == code
        rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
        return rows

    return call


def overwrite(volume: Path, offset: int, size: int) -> None:
    with open(volume, "r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * size)


def test_header_names_every_slot(show: Show, volume: Path) -> None:
    assert sorted(row["state"] for row in show("header")) == ["copy", "newest", "older", "older"]
    overwrite(volume, SLOT_STRIDE, 100)
    rows = show("header", code=5)
    assert [row["offset"] for row in rows if "damage" in row] == [SLOT_STRIDE]
    assert len(rows) == 4


def test_a_record_by_path_and_by_key_has_all_its_versions(show: Show) -> None:
    name, *versions = show("record", "/f7")
    assert name["record"] == "inode" and len(versions) == 2
    assert [row["until"] is None for row in versions] == [False, True]
    assert versions[-1]["value"]["size"] == 5
    assert show("record", name["key"]) == [name, *versions]
    assert [row["name"] for row in show("log")] == ["mark", "quorum", "quorum"], "no transaction since the checkpoint"


def test_trees_and_nodes(show: Show) -> None:
    rows = show("tree")
    root = rows[0]
    leaves = [row for row in rows if row["level"] == 0]
    assert root["level"] == 1 and root["held"] == len(leaves) == len(rows) - 1
    children = show("node", root["address"])[1:]
    assert [row["child"] for row in children] == [row["address"] for row in leaves]
    records = show("node", leaves[0]["address"])[1:]
    assert len(records) == leaves[0]["held"] and {"counter", "inode"} <= {row["record"] for row in records}
    assert show("tree", "past")[0]["held"] > 0


def test_a_rotten_node_is_a_row_and_the_rest_is_shown(show: Show, volume: Path) -> None:
    before = show("tree")
    overwrite(volume, before[1]["offset"] + 100, 8)
    after = show("tree", code=5)
    assert [row for row in after if "damage" not in row] == before[:1] + before[2:]
    (rotten,) = [row for row in after if "damage" in row]
    assert rotten["offset"] == before[1]["offset"]
    assert "is damaged" in rotten["text"] and "gavel" not in rotten["text"], "advice is for errors, not for rows"


def test_the_map_tells_the_kind_of_each_big_block(show: Show, volume: Path) -> None:
    rows = show("map")
    assert {row["kind"] for row in rows} == {"header", "log", "tree", "map"}
    assert all(row["offset"] == row["block"] * BIG_BLOCK for row in rows)
    overwrite(volume, next(row["offset"] for row in rows if row["kind"] == "map"), 1 << 20)
    assert [row["damage"] for row in show("map", code=5)] == ["map root"]


def test_log_goes_on_behind_a_rotten_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from gavel.filesystem import namespace
    from gavel.keys.records import ROOT_OBJECT
    from gavel.media.show import Damage, FrameRow, frames
    from tests.crash.simulated import WHO, fresh

    system = fresh()
    for n in range(5):
        system.engine.write(namespace.create, ROOT_OBJECT, b"f%d" % n, 0o644, WHO)
        system.sync()
    header = system.engine.volume._header
    before = list(frames(system.device, header))
    assert all(isinstance(row, FrameRow) for row in before)
    bad = before[-3]
    system.device.rot(bad.offset + 60)
    after = list(frames(system.device, header))
    assert [row for row in after if isinstance(row, FrameRow)] == [row for row in before if row is not bad]
    (damage,) = (row for row in after if isinstance(row, Damage))
    assert damage.offset == bad.offset and "1 to" not in damage.text


def test_what_makes_no_sense_is_said(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "tree", str(volume), "neither"]) == 2
    assert run(["show", "node", str(volume)]) == 2
    assert run(["show", "record", str(volume), "xyz"]) == 2
    assert run(["show", "record", str(volume), "/nowhere"]) == 3
    said = capsys.readouterr().err
    assert "/nowhere: No such file" in said and "gavel show node" in said, "which path, and what to do"
    assert run(["show", "node", str(volume), "0xfffffffffff"]) == 5
    capsys.readouterr()
    for slot in range(4):
        overwrite(volume, slot * SLOT_STRIDE, 4096)
    assert run(["show", "log", str(volume)]) == 5
    assert "header" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * (9 << 20)])
def test_the_header_of_what_is_no_volume(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert run(["show", "header", str(path)]) == 3
    told = capsys.readouterr()
    assert not told.out and "is not a GavelFS volume" in told.err and "gavel recover" in told.err
