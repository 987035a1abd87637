"""What a daemon logs: events with their fields, each once, and garbage not without end."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from gavel.errors import BadRequest
from gavel.node import logs
from gavel.node.directory import CONFIGURATION, Directory
from gavel.node.joining import create
from gavel.node.news import News


@pytest.fixture(autouse=True)
def restored() -> Any:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_json_lines_have_events_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", 7)
    logs.event("member lost", "node 2 cannot be reached", level=logging.WARNING, peer=2, when=b"x")
    logging.getLogger("gavel.link").info("the link with %s is over", "node 3")
    try:
        raise ValueError("a bug")
    except ValueError:
        logging.getLogger("gavel.node").exception("it broke")
    first, second, third = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["time"].endswith("Z") and first["message"] == "node 2 cannot be reached"
    assert (first["level"], first["node"], first["event"], first["peer"]) == ("warning", 7, "member lost", 2)
    assert (second["event"], second["message"]) == ("link", "the link with node 3 is over")
    assert "ValueError: a bug" in third["trace"]


def test_text_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", 7)
    logs.event("member lost", "node 2 cannot be reached, 100%", peer=2)
    assert capsys.readouterr().err.endswith("INFO gavel.event: node 2 cannot be reached, 100%\n")


def test_what_says_the_same_over_and_over_is_cut_short() -> None:
    now = [0.0]
    few = logs.Few(lambda: now[0])

    def said(text: str, name: str = "gavel.link") -> logging.LogRecord:
        return logging.LogRecord(name, logging.INFO, "", 0, text, (), None)

    passed = [few.filter(said("garbage from %s")) for _ in range(100)]
    assert sum(passed) == 20
    assert few.filter(said("something else")) and few.filter(said("garbage from %s", "gavel.other"))
    now[0] = 61
    again = said("garbage from %s")
    assert few.filter(again) and again.msg == "garbage from %s (and 80 more like it in the last 61 s)"


def status(up: list[int], catch_up: Any = None, roles: str = "mmw") -> Any:
    names = {"m": "master", "w": "witness", "s": "slave"}
    members = [{"node": node, "role": names[role], "up": node in up} for node, role in enumerate(roles, 1)]
    return {"members": members, "catch_up": catch_up}


def test_news_are_told_once() -> None:
    news = News(1)

    def told(*args: Any, **more: Any) -> list[str]:
        return [one.name for one in news.look(status(*args, **more))]

    assert told([1, 2, 3]) == told([1, 2, 3]) == []
    assert told([1, 2]) == ["member lost"]
    assert told([1]) == ["member lost", "quorum lost"]
    assert told([1]) == []
    assert told([1, 2]) == ["member back", "quorum regained"]
    assert told([1, 2, 3]) == ["member back"]
    assert news.look({"failure": "its disk is full"}) == []
    assert told([1, 2, 3]) == []


def test_slaves_have_no_say_in_a_quorum() -> None:
    news = News(1)
    assert [one.name for one in news.look(status([1, 2], roles="mmss"))] == ["member lost", "member lost"]


def test_catching_up_is_news_when_it_takes_a_while() -> None:
    news = News(1)
    behind = {"from_tid": 5, "total": 1000, "peer": 2}
    steps = [None, behind, None, {**behind, "total": 0}, behind, behind, behind, None, None]
    told = [[one.name for one in news.look(status([1, 2, 3], one))] for one in steps]
    assert told == [[], [], [], [], [], ["catching up"], [], ["caught up"], []]
    assert not news.behind
    for _ in range(2):
        news.look(status([1, 2, 3], behind))
    assert news.behind


def test_a_style_that_there_is_not_is_refused(tmp_path: Path) -> None:
    made = create(str(tmp_path / "a"), "127.0.0.1:7400")
    assert made.settings.log == "text"
    path = made.path / CONFIGURATION
    path.write_text(path.read_text().replace('log = "text"', 'log = "json"'))
    assert Directory(made.path).settings.log == "json"
    path.write_text(path.read_text().replace('log = "json"', 'log = "xml"'))
    with pytest.raises(BadRequest, match="text, json"):
        Directory(made.path)
