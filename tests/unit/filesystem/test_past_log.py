from typing import cast

import pytest

from gavel.filesystem import log as log_module
from gavel.filesystem.log import log
from tests.unit.filesystem.engine_scenario import EngineScenario
from tests.unit.filesystem.scenario import Scenario


@pytest.fixture(params=[Scenario, EngineScenario])
def fs(request: pytest.FixtureRequest) -> Scenario:
    return cast(Scenario, request.param())


def told(fs: Scenario, tree: str = "/") -> list[tuple[int, list[str]]]:
    return [
        (entry.tid, [f"{' '.join(event.what)} {event.path}" for event in entry.events])
        for entry in log(fs, fs.obj(tree))
    ]


def test_newest_first_with_paths(fs: Scenario) -> None:
    steps = [
        (fs.mkdir("/d"), ["created /d"]),
        (fs.write("/d/f", b"1" * 1000), ["created /d/f"]),
        (fs.write("/d/f", b"2" * 1000), ["written /d/f"]),
        (fs.truncate("/d/f", 10), ["truncated /d/f"]),
        (fs.chmod("/d", 0o700), ["mode /d"]),
        (fs.move("/d/f", "/g"), ["renamed /g"]),
        (fs.link("/g", "/d/h"), ["linked /d/h"]),
        (fs.remove("/g"), ["unlinked /g"]),
        (fs.setxattr("/d/h", "user.x", b"1"), ["xattrs /d/h"]),
        (fs.move("/d", "/e"), ["renamed /e"]),
        (fs.remove("/e"), ["deleted /e"]),
    ]
    found = [row for row in told(fs) if row[0] >= steps[0][0]]
    assert found[1][1] == ["deleted /e/h"]
    del found[1]
    assert found == steps[::-1]


def test_only_the_tree(fs: Scenario) -> None:
    fs.mkdir("/a")
    fs.mkdir("/b")
    fs.write("/b/f", b"1")
    into = fs.move("/b/f", "/a/f")
    write = fs.write("/a/f", b"22")
    out = fs.move("/a/f", "/b/f")
    fs.write("/b/f", b"333")
    assert [tid for tid, _ in told(fs, "/a")][:-1] == [out, write, into]
    (row,) = [entry for entry in log(fs, fs.obj("/a")) if entry.tid == into]
    assert [(event.path, event.old_path, event.what) for event in row.events] == [("/a/f", "/b/f", ("renamed",))]
    assert [events for _, events in told(fs, "/b/f")] == [
        ["written /b/f"], ["renamed /b/f"], ["written /a/f"], ["renamed /a/f"], ["created /b/f"],
    ]  # fmt: skip


def test_a_replaced_file(fs: Scenario) -> None:
    fs.write("/f", b"1")
    fs.save("/f", b"2")
    assert told(fs)[0][1] == ["deleted /f", "renamed /f"]


def test_a_span_of_time(fs: Scenario) -> None:
    tids = [fs.write("/f", bytes([number])) for number in range(10)]
    assert [entry.tid for entry in log(fs, 1, since=tids[3], until=tids[7])] == tids[4:8][::-1]


def test_windows_are_bounded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = Scenario()
    expected = [fs.write(f"/{number % 7}", b"x" * number) for number in range(1, 60)]
    fs.micros += 10**12
    expected.append(fs.write("/late", b""))
    for bound in (1, 5, 17, 1000):
        monkeypatch.setattr(log_module, "LOG_CHANGES_MAX", bound)
        assert [entry.tid for entry in log(fs, 1)][:60] == expected[::-1]


def test_not_below_the_horizon() -> None:
    fs = Scenario()
    tids = [fs.write("/f", bytes([number])) for number in range(10)]
    fs.horizon = tids[4]
    assert [entry.tid for entry in log(fs, 1)] == tids[:4:-1]
