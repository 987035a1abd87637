"""What people are told of a node that catches up, or cannot, and what they may set."""

from pathlib import Path

import pytest

from gavel.cli.cluster import _left, _state
from gavel.errors import BadRequest
from gavel.node.directory import Directory
from gavel.node.report import _behind, _catch_up

NODE = """\
cluster = "000102030405060708090a0b0c0d0e0f"
node = 2
role = "master"
name = "two"
listen = "127.0.0.1:7400"
address = "127.0.0.1:7400"
"""
TOLD = {"peer": 1, "from_tid": 5 << 40, "to_tid": 0, "position": 25, "total": 100, "left_ms": 90_400, "horizon": 0}


def test_how_far_it_is_and_how_long_it_takes() -> None:
    found = _catch_up(TOLD)
    assert found is not None and found["done"] == 0.25
    assert _left(found) == ", 90 s left"
    assert _left({**found, "left_ms": 600_000}) == ", 10 min left"
    assert _left({**found, "left_ms": None}) == ""
    one = {"up": True, "catch_up": found, "problem": None, "lag_ms": 3, "rtt_us": 0}
    assert _state(one)[0] == "catching up, 25%, 90 s left"


def test_who_was_away_for_too_long_is_told_what_to_do() -> None:
    assert _behind(None, 3) == _behind(TOLD, 3) == ""
    problem = _behind({**TOLD, "horizon": 6 << 40}, 3)
    assert "away for too long" in problem and "gavel cluster remove 3" in problem
    one = {"up": True, "catch_up": {**TOLD, "horizon": 6 << 40}, "problem": problem, "lag_ms": 3, "rtt_us": 0}
    assert _state(one)[0].startswith("up")


@pytest.mark.parametrize(("line", "rate"), [("", 0), ("catch_up_rate = 30", 30), ("catch_up_rate = -1", 0)])
def test_the_rate_is_set_in_the_configuration(tmp_path: Path, line: str, rate: int) -> None:
    (tmp_path / "node.toml").write_text(NODE + line)
    assert Directory(tmp_path).settings.catch_up_rate == rate


def test_a_rate_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(NODE + 'catch_up_rate = "fast"')
    with pytest.raises(BadRequest):
        _ = Directory(tmp_path).settings
