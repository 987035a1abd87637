import errno
from typing import cast

import pytest

from gavel.filesystem import data, namespace
from gavel.filesystem.file_history import file_history, holders, object_history
from gavel.filesystem.namespace import EXCHANGE
from tests.unit.filesystem.engine_scenario import EngineScenario
from tests.unit.filesystem.scenario import ME, Scenario


@pytest.fixture(params=[Scenario, EngineScenario])
def fs(request: pytest.FixtureRequest) -> Scenario:
    return cast(Scenario, request.param())


def told(fs: Scenario, path: str) -> list[tuple[int, str | None, str]]:
    return [(row.tid, row.path, " ".join(row.what)) for row in file_history(fs, path.encode())]


def test_everything_that_can_happen_to_a_file(fs: Scenario) -> None:
    steps = [
        (fs.write("/f", b"x" * 1000), "created"),
        (fs.write("/f", b"y" * 500, offset=800), "written"),
        (fs.truncate("/f", 900), "truncated"),
        (fs.truncate("/f", 2000), "extended"),
        (fs.chmod("/f", 0o600), "mode"),
        (fs.chown("/f", 5), "owner"),
        (fs.setxattr("/f", "user.a", b"1"), "xattrs"),
        (fs.setxattr("/f", "user.a", b"2"), "xattrs"),
        (fs.touch("/f"), "times"),
        (fs.link("/f", "/g"), "linked"),
        (fs.remove("/g"), "unlinked"),
        (fs.remove("/f"), "deleted"),
    ]
    assert [(tid, what) for tid, _, what in told(fs, "/f")] == steps
    rows = file_history(fs, b"/f")
    assert [row.size for row in rows] == [1000, 1300, 900] + [2000] * 9
    assert rows[4].mode == 0o100600


def test_short_files_are_inline_and_told_the_same(fs: Scenario) -> None:
    fs.write("/f", b"hello")
    fs.truncate("/f", 3)
    fs.write("/f", b"lo", offset=3)
    assert [what for _, _, what in told(fs, "/f")] == ["created", "truncated", "written"]


def test_a_hole_is_punched(fs: Scenario) -> None:
    fs.write("/f", b"x" * 10_000)
    fs.do(data.fallocate, fs.obj("/f"), 3, 1000, 1000)
    assert told(fs, "/f")[-1][2] == "punched"


def test_across_renames(fs: Scenario) -> None:
    fs.mkdir("/d")
    a = fs.write("/d/a", b"1")
    b = fs.move("/d/a", "/d/b")
    w = fs.write("/d/b", b"2")
    assert told(fs, "/d/b") == [(a, "/d/a", "created"), (b, "/d/b", "renamed"), (w, "/d/b", "written")]
    assert file_history(fs, b"d/b")[1].old_path == "/d/a"
    assert told(fs, "/d/a") == [(a, "/d/a", "created"), (b, "/d/b", "renamed")]


def test_a_moved_directory_keeps_the_history_below(fs: Scenario) -> None:
    fs.mkdir("/d")
    a = fs.write("/d/f", b"1")
    fs.move("/d", "/e")
    w = fs.write("/e/f", b"2")
    assert [row[0] for row in told(fs, "/e/f")] == [a, w]
    assert [row[0] for row in told(fs, "/d/f")] == [a]


def test_an_editor_that_saves_by_renaming(fs: Scenario) -> None:
    tids = [fs.write("/f", b"1"), fs.save("/f", b"2"), fs.save("/f", b"3")]
    rows = told(fs, "/f")
    assert " ".join(what for _, _, what in rows) == "created created deleted renamed created deleted renamed"
    assert [tid for tid, path, what in rows if path == "/f" and what in ("created", "renamed")] == tids
    assert len(holders(fs, b"/f")) == 3


def test_deleted_and_made_again(fs: Scenario) -> None:
    fs.mkdir("/d")
    fs.write("/d/f", b"1")
    first = fs.obj("/d/f")
    fs.remove("/d")
    assert [what for _, _, what in told(fs, "/d/f")] == ["created", "deleted"]
    fs.mkdir("/d")
    fs.write("/d/f", b"2")
    assert [what for _, _, what in told(fs, "/d/f")] == ["created", "deleted", "created"]
    found = holders(fs, b"/d/f")
    assert [holder.object for holder in found] == [first, fs.obj("/d/f")]
    assert found[0].until <= found[1].since
    assert fs.obj("/d/f", found[0].until - 1) == first


def test_still_open_when_deleted() -> None:
    fs = Scenario(reap=False)
    fs.write("/f", b"1")
    obj = fs.obj("/f")
    gone = fs.remove("/f")
    fs.run(data.write, obj, 0, b"nobody sees this")
    assert told(fs, "/f")[-1] == (gone, "/f", "deleted")
    assert len(told(fs, "/f")) == 2


def test_swapped(fs: Scenario) -> None:
    fs.write("/a", b"1")
    fs.write("/b", b"2")
    fs.move("/a", "/b", EXCHANGE)
    assert [what for _, path, what in told(fs, "/a") if path == "/a"] == ["created", "renamed"]


def test_directories(fs: Scenario) -> None:
    fs.mkdir("/d")
    fs.write("/d/f", b"1")
    fs.mkdir("/d/e")
    fs.chmod("/d", 0o700)
    assert [what for _, _, what in told(fs, "/d")] == ["created", "entries", "entries", "mode"]
    assert told(fs, "/")[0][1:] == ("/", "created")


def test_what_never_was(fs: Scenario) -> None:
    for path in (b"/nothing", b"/nothing/below"):
        with pytest.raises(OSError) as caught:
            file_history(fs, path)
        assert caught.value.errno == errno.ENOENT
    assert object_history(fs, 999) == []


def test_odd_names(fs: Scenario) -> None:
    fs.do(namespace.create, 1, b"\xff", 0o100644, ME)
    assert file_history(fs, b"//./x/../\xff")[0].path == "/\udcff"
