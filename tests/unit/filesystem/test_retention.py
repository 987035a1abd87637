"""Policies: their text, what they keep, where they are stored, and the horizon they allow."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gavel.errors import BadRequest, Damaged
from gavel.filesystem import retention, snapshots
from gavel.filesystem.retention import Keep, ends, parse, show
from gavel.history.horizon import Horizon, decode
from gavel.keys import tid as tids
from gavel.keys.records import ROOT_OBJECT
from gavel.transaction.transaction import Transaction
from tests.unit.filesystem.scenario import Scenario

HOUR, DAY = 3600, 86_400


def micros(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def kept(policy: str, now: str, created: str = "2020-01-01", before: Horizon = Horizon(), named: tuple[int, ...] = ()) -> Horizon:  # fmt: skip # noqa: B008, E501
    moment = micros(now)
    return retention.target(moment, tids.make(micros(created)), tids.make(moment), [parse(policy)], named, before)


def dates(horizon: Horizon) -> list[str]:
    return [
        datetime.fromtimestamp(tids.micros(tid) / 1e6, UTC).isoformat(sep=" ", timespec="minutes")[:16]
        for tid in horizon.kept
    ]


def test_a_policy_is_parsed_and_shown() -> None:
    policy = parse("daily:60d, all:1d,hourly:7d")
    assert policy == (Keep("all", DAY), Keep("hourly", 7 * DAY), Keep("daily", 60 * DAY))
    assert show(policy) == "all:1d,hourly:7d,daily:60d"
    assert show(parse("all:forever")) == "all:forever"
    assert show(parse("all:90m,weekly:1d12h,monthly:1y,yearly:forever")) == (
        "all:90m,weekly:36h,monthly:1y,yearly:forever"
    )
    assert show(parse("all:7s")) == "all:7s"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no step"),
        ("all", "no step"),
        ("all:", "no step"),
        ("hourly:7d", "every state"),
        ("all:1d,all:2d", "twice"),
        ("all:1d,minutely:7d", "minutely"),
        ("all:1", "span"),
        ("all:1x", "span"),
        ("all:-1d", "span"),
        ("all:0d", "above zero"),
        ("all:1001y", "above zero"),
        ("all:1d,,daily:2d", "no step"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        parse(text)


def test_ends_of_periods_are_those_of_the_calendar() -> None:
    first, last = micros("2024-02-27T22:30"), micros("2024-03-05")

    def found(what: str, until: int = last) -> list[str]:
        return [datetime.fromtimestamp(end / 1e6, UTC).strftime("%Y-%m-%d %H:%M") for end in ends(what, first, until)]

    assert found("hourly")[:2] == ["2024-02-27 23:00", "2024-02-28 00:00"]
    assert found("daily")[:3] == ["2024-02-28 00:00", "2024-02-29 00:00", "2024-03-01 00:00"]
    assert found("weekly") == ["2024-03-04 00:00"]
    assert found("monthly") == ["2024-03-01 00:00"]
    assert found("yearly", micros("2026-06-01")) == ["2025-01-01 00:00", "2026-01-01 00:00"]
    assert found("monthly", micros("2025-02-01"))[-2:] == ["2024-12-01 00:00", "2025-01-01 00:00"]
    assert list(ends("daily", micros("2024-03-01"), micros("2024-03-02"))) == [micros("2024-03-01")]
    assert list(ends("monthly", 0, 1)) == [0]


def test_what_a_policy_keeps() -> None:
    found = kept("all:1d,hourly:26h,daily:3d", "2024-05-10T12:30")
    assert found.horizon == tids.make(micros("2024-05-09T12:30"))
    assert dates(found) == ["2024-05-08 00:00", "2024-05-09 00:00", "2024-05-09 11:00", "2024-05-09 12:00"]
    assert found.readable(found.horizon)
    assert found.readable(tids.end_of(micros("2024-05-08")))
    assert not found.readable(tids.end_of(micros("2024-05-08")) + 1)
    assert not found.readable(tids.end_of(micros("2024-05-09T10:00")))


def test_for_ever_is_for_ever_and_nothing_is_kept_from_before_the_beginning() -> None:
    assert kept("all:forever", "2024-05-10") == Horizon()
    found = kept("all:1d,monthly:forever", "2024-05-10", created="2024-02-10")
    assert dates(found) == ["2024-03-01 00:00", "2024-04-01 00:00", "2024-05-01 00:00"]


def test_named_snapshots_are_kept_and_what_is_gone_is_not_kept_again() -> None:
    named = tids.make(micros("2024-05-01T07:00"))
    first = kept("all:1d", "2024-05-10", named=(named,))
    assert first.kept == (named,)
    wider = kept("all:3d,daily:30d", "2024-05-10T01:00", before=first, named=(named, named + 1))
    assert wider.horizon == first.horizon, "it never goes back"
    assert wider.kept == (named,)
    later = kept("all:1d,daily:30d", "2024-05-12T01:00", before=wider)
    assert dates(later) == ["2024-05-09 00:00", "2024-05-10 00:00", "2024-05-11 00:00"]


def test_without_policies_the_present_and_the_snapshots_are_kept() -> None:
    last, named = tids.make(10**15), tids.make(10**14)
    found = retention.target(2 * 10**15, 0, last, [], [named, last], Horizon())
    assert found == Horizon(last, (named,))


def test_the_horizon_is_not_beyond_the_newest_state() -> None:
    last = tids.make(micros("2024-01-01"))
    found = retention.target(micros("2024-05-10"), 0, last, [parse("all:1d")], [], Horizon())
    assert found.horizon == last


def test_what_any_policy_keeps_is_kept() -> None:
    now = micros("2024-05-10T12:00")
    both = [parse("all:1d,hourly:50h"), parse("all:2d,daily:4d")]
    found = retention.target(now, 0, tids.make(now), both, [], Horizon())
    assert found.horizon == tids.make(micros("2024-05-08T12:00"))
    assert dates(found) == ["2024-05-07 00:00", "2024-05-08 00:00", "2024-05-08 10:00", "2024-05-08 11:00"]
    assert retention.target(now, 0, tids.make(now), [*both, parse("all:forever")], [], Horizon()) == Horizon()


def test_too_many_states_are_refused_without_counting_them_one_by_one() -> None:
    with pytest.raises(BadRequest, match="states"):
        kept("all:1d,hourly:1000y", "2024-05-10", created="1971-01-01")


def test_what_several_policies_keep_counts_once() -> None:
    now, hourly = micros("2024-06-01"), parse("all:1d,hourly:200d")
    found = retention.target(now, 0, tids.make(now), [hourly, hourly], [], Horizon())
    assert len(found.kept) == 199 * 24, "each alone is below the bound, twice their number is above"


def test_the_nearest_kept_states_are_named() -> None:
    horizon = Horizon(100, (10, 20, 30))
    assert horizon.nearest(5) == (10,)
    assert horizon.nearest(15) == (10, 20)
    assert horizon.nearest(40) == (30, 100)


def test_a_record_that_is_not_one_is_damage() -> None:
    assert decode(None) == Horizon()
    with pytest.raises(Damaged):
        decode(b"\xc1")


# -- stored ----------------------------------------------------------------------------------------------------


def test_a_policy_counts_for_the_tree_below() -> None:
    scenario = Scenario()
    for path in ("/a", "/a/b", "/a/b/c"):
        scenario.mkdir(path)
    scenario.write("/a/b/c/f", b"x")
    scenario.do(retention.set_policy, scenario.obj("/a"), "all:7d")
    scenario.do(retention.set_policy, scenario.obj("/a/b/c"), " daily:9d , all:1d")
    tx = scenario.begin()
    assert retention.policy_of(tx, ROOT_OBJECT) == (ROOT_OBJECT, "all:forever")
    assert retention.policy_of(tx, scenario.obj("/a/b")) == (scenario.obj("/a"), "all:7d")
    assert retention.policy_of(tx, scenario.obj("/a/b/c/f")) == (scenario.obj("/a/b/c"), "all:1d,daily:9d")
    assert [one.text for one in retention.listing(tx)] == ["all:7d", "all:1d,daily:9d"]
    scenario.do(retention.set_policy, scenario.obj("/a/b/c"), None)
    scenario.do(retention.set_policy, scenario.obj("/a/b/c"), None)
    assert retention.policy_of(scenario.begin(), scenario.obj("/a/b/c/f")).text == "all:7d"


def test_only_directories_have_policies_and_only_sensible_ones() -> None:
    scenario = Scenario()
    scenario.write("/f", b"x")
    with pytest.raises(NotADirectoryError):
        scenario.do(retention.set_policy, scenario.obj("/f"), "all:1d")
    with pytest.raises(BadRequest):
        scenario.do(retention.set_policy, ROOT_OBJECT, "all")


def test_the_policy_of_a_directory_goes_with_it() -> None:
    scenario = Scenario()
    scenario.mkdir("/a")
    scenario.do(retention.set_policy, scenario.obj("/a"), "all:1d")
    assert len(retention.in_force(scenario.begin())) == 2
    scenario.remove("/a")
    assert retention.in_force(scenario.begin()) == [parse("all:forever")]


def test_the_horizon_moves_by_a_transaction() -> None:
    scenario = Scenario()
    for n in range(10):
        scenario.write("/f", b"%d" % n)
    named = scenario.last_tid
    scenario.do(snapshots.create, "one", named)
    moved: list[tuple[Horizon, Horizon]] = []

    def move(tx: Transaction, **how: object) -> None:
        moved.append(retention.move(tx, scenario.created_tid, scenario.last_tid, [named], **how))  # type: ignore[arg-type]

    scenario.do(move)
    assert moved[-1] == (Horizon(), Horizon()), "the root keeps everything"
    scenario.do(move, keep=(ROOT_OBJECT, parse("all:1s")))
    first = moved[-1][1]
    assert first.horizon > named
    assert first.kept == (named,)
    last = scenario.last_tid
    scenario.do(move, everything=True)
    assert moved[-1] == (first, Horizon(last, (named,)))
    assert retention.read(scenario.begin()) == Horizon(last, (named,))
