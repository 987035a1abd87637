import errno
from typing import cast

import pytest

from gavel.filesystem.diff import diff
from gavel.filesystem.namespace import EXCHANGE
from tests.unit.filesystem.engine_scenario import EngineScenario
from tests.unit.filesystem.scenario import Scenario


@pytest.fixture(params=[Scenario, EngineScenario])
def fs(request: pytest.FixtureRequest) -> Scenario:
    fs = cast(Scenario, request.param())
    fs.mkdir("/d")
    fs.mkdir("/d/sub")
    fs.write("/d/f", b"f" * 1000)
    fs.write("/d/sub/g", b"g")
    fs.mkdir("/other")
    return fs


def told(fs: Scenario, t0: int, path: str = "/d", t1: int | None = None) -> list[str]:
    rows = []
    for row in diff(fs, path.encode(), t0, fs.last_tid if t1 is None else t1):
        moved = f"{row.old_path} -> " if row.old_path is not None else ""
        rows.append(" ".join([row.kind, moved + row.path, *row.what]))
    return rows


def test_nothing(fs: Scenario) -> None:
    assert told(fs, fs.last_tid) == []
    assert told(fs, fs.last_tid, "/") == []


def test_added_removed_changed(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.write("/d/new", b"n")
    fs.mkdir("/d/dir")
    fs.write("/d/dir/in", b"n")
    fs.write("/d/f", b"F", offset=10)
    fs.remove("/d/sub")
    fs.write("/other/x", b"not in the tree")
    assert told(fs, t0) == [
        "added dir",
        "added dir/in",
        "changed f written",
        "added new",
        "removed sub",
        "removed sub/g",
    ]
    assert told(fs, fs.last_tid, t1=t0) == []
    rows = {row.path: row for row in diff(fs, b"/d", t0, fs.last_tid)}
    assert rows["f"].before is not None
    assert rows["f"].after is not None
    assert rows["f"].before.size == rows["f"].after.size == 1000
    assert rows["f"].before.mtime < rows["f"].after.mtime
    assert rows["new"].before is None
    assert rows["sub/g"].after is None


def test_what_comes_and_goes_in_between_is_nothing(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.write("/d/tmp", b"1")
    fs.remove("/d/tmp")
    fs.move("/d/f", "/d/x")
    fs.move("/d/x", "/d/f")
    assert told(fs, t0) == []


def test_attributes(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.chmod("/d/f", 0o600)
    fs.chown("/d/sub", 7)
    fs.setxattr("/d/sub/g", "user.a", b"1")
    fs.chmod("/d", 0o700)
    assert told(fs, t0) == ["changed . mode", "changed f mode", "changed sub owner", "changed sub/g xattrs"]
    t1 = fs.last_tid
    fs.touch("/d/f")
    fs.truncate("/d/sub/g", 0)
    assert told(fs, t1) == ["changed f times", "changed sub/g truncated"]


def test_renamed(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.move("/d/f", "/d/sub/f2")
    fs.write("/d/sub/f2", b"more", offset=1000)
    assert told(fs, t0) == ["renamed f -> sub/f2 written"]


def test_a_moved_directory_is_told_once(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.move("/d/sub", "/d/moved")
    fs.write("/d/moved/g", b"changed")
    assert told(fs, t0) == ["renamed sub -> moved", "changed moved/g written"]


def test_in_and_out_of_the_tree(fs: Scenario) -> None:
    fs.write("/other/x", b"x")
    t0 = fs.last_tid
    fs.move("/d/sub", "/other/sub")
    fs.move("/other/x", "/d/x")
    assert told(fs, t0) == ["renamed sub -> /other/sub", "renamed /other/x -> x"]
    assert told(fs, t0, "/") == ["renamed other/x -> d/x", "renamed d/sub -> other/sub"]


def test_replaced_by_renaming(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.save("/d/f", b"f" * 999 + b"!")
    assert told(fs, t0) == ["changed f written"]
    t1 = fs.last_tid
    fs.save("/d/f", b"f" * 999 + b"!")
    assert told(fs, t1) == ["changed f times"]
    assert told(fs, t1, "/d/f") == ["changed . times"]


def test_renamed_over_another(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.move("/d/f", "/d/sub/g")
    assert told(fs, t0) == ["removed sub/g", "renamed f -> sub/g"]


def test_swapped(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.move("/d/f", "/d/sub", EXCHANGE)
    assert told(fs, t0) == ["renamed sub -> f", "renamed f -> sub"]


def test_made_anew(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.remove("/d")
    assert told(fs, t0) == ["removed .", "removed f", "removed sub", "removed sub/g"]
    fs.mkdir("/d")
    fs.write("/d/f", b"f" * 1000)
    fs.symlink("/d/sub", "x")
    assert told(fs, t0) == ["changed f times", "changed sub type", "removed sub/g"]


def test_another_tree_of_that_name(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.move("/d", "/old")
    assert told(fs, t0) == []
    assert told(fs, t0, "/old") == []
    assert told(fs, t0, "/") == ["renamed d -> old"]


def test_links(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.link("/d/f", "/d/sub/f2")
    assert told(fs, t0) == ["added sub/f2 link"]
    t1 = fs.last_tid
    fs.remove("/d/f")
    assert told(fs, t1) == ["removed f link"]


def test_a_file_changed_through_a_name_elsewhere(fs: Scenario) -> None:
    fs.link("/d/f", "/other/f")
    t0 = fs.last_tid
    fs.write("/other/f", b"X" * 300)
    assert told(fs, t0) == ["changed f written"]
    assert told(fs, t0, "/other") == ["changed f written"]


def test_symlink_target(fs: Scenario) -> None:
    fs.symlink("/d/l", "a")
    t0 = fs.last_tid
    fs.remove("/d/l")
    fs.symlink("/d/l", "b")
    assert told(fs, t0) == ["changed l target"]


def test_a_single_file(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.write("/d/f", b"1")
    assert told(fs, t0, "/d/f") == ["changed . written"]
    fs.remove("/d/f")
    assert told(fs, t0, "/d/f") == ["removed ."]


def test_what_is_in_neither(fs: Scenario) -> None:
    with pytest.raises(OSError) as caught:
        diff(fs, b"/nothing", fs.created_tid, fs.last_tid)
    assert caught.value.errno == errno.ENOENT


def test_costs_what_changed(fs: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        fs.write(f"/d/{number}", b"x")
    t0 = fs.last_tid
    fs.write("/d/7", b"y")
    reads = []
    get_at = fs.get_at
    monkeypatch.setattr(fs, "get_at", lambda key, at: reads.append(key) or get_at(key, at))
    changes = list(fs.changes(t0, fs.last_tid))
    reads.clear()
    monkeypatch.setattr(fs, "changes", lambda t0, t1, lo, hi: iter([c for c in changes if lo <= c.key < hi]))
    assert told(fs, t0) == ["changed 7 written"]
    assert len(reads) < 30
