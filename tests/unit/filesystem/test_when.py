from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gavel.errors import BadWhen
from gavel.filesystem import when
from gavel.keys import tid as tids

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BEGAN = datetime(2009, 5, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


LAST = tids.make(micros(NOW) - 1_000_000, 3)
BEGINNING = tids.make(micros(BEGAN))
SNAPSHOTS = {"release": tids.make(micros(datetime(2020, 1, 1, tzinfo=UTC))), "old": 5}


def parse(text: str, zone: tzinfo = BERLIN) -> int:
    return when.parse(text, micros(NOW) * 1000, zone, SNAPSHOTS.get, BEGINNING, LAST)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026", datetime(2025, 12, 31, 23)),
        ("2026-11", datetime(2026, 10, 31, 23)),
        ("2026-11-22", datetime(2026, 11, 21, 23)),
        ("2026-11-22T10", datetime(2026, 11, 22, 9)),
        ("2026-11-22T10:05", datetime(2026, 11, 22, 9, 5)),
        ("2026-11-22 10:05", datetime(2026, 11, 22, 9, 5)),
        ("2026-11-22t10:05:06", datetime(2026, 11, 22, 9, 5, 6)),
        ("2026-11-22T10:05:06.5", datetime(2026, 11, 22, 9, 5, 6, 500_000)),
        ("2026-11-22T10:05:06,123456789", datetime(2026, 11, 22, 9, 5, 6, 123_456)),
        ("2026-11-22T10:05Z", datetime(2026, 11, 22, 10, 5)),
        ("2026-11-22T10+05:30", datetime(2026, 11, 22, 4, 30)),
        ("2026-11-22T01:05:06-0330", datetime(2026, 11, 22, 4, 35, 6)),
        ("2026-07-01T10:00", datetime(2026, 7, 1, 8)),
        ("-5m", datetime(2026, 11, 22, 11, 55)),
        ("-1h30m", datetime(2026, 11, 22, 10, 30)),
        ("-90s", datetime(2026, 11, 22, 11, 58, 30)),
        ("-2d", datetime(2026, 11, 20, 12)),
        ("-1w", datetime(2026, 11, 15, 12)),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    assert parse(text) == tids.end_of(micros(moment.replace(tzinfo=UTC)))


@pytest.mark.parametrize("text", ["", "now", "-0s", "-1s"])
def test_the_present_is_the_last_commit(text: str) -> None:
    assert parse(text) == LAST


def test_tids() -> None:
    assert parse(tids.text(LAST)) == LAST
    assert parse(tids.text(BEGINNING).replace("0x0", "0X")) == BEGINNING


def test_snapshots() -> None:
    assert parse("release") == SNAPSHOTS["release"]


def test_what_is_shown_is_understood_and_includes_the_tid() -> None:
    shown = when.show(LAST, BERLIN)
    assert shown == "2026-11-22T12:59:59.000000+01:00"
    assert parse(shown) == LAST


def test_ambiguous_and_skipped_local_times() -> None:
    first, second = parse("2026-10-25T02:30"), parse("2026-10-25T02:30+01:00")
    assert tids.micros(second) - tids.micros(first) == 3_600_000_000
    assert parse("2026-03-29T02:30") == parse("2026-03-29T03:30")
    no_midnight = ZoneInfo("America/Sao_Paulo")
    assert parse("2018-11-04", no_midnight) == parse("2018-11-04T01:00", no_midnight)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2027", "in the future"),
        ("2026-11-22T13:00:01", "in the future"),
        ("9999-12-31T23:59:59-23", "in the future"),
        ("0xffffffffffffffff", "in the future: the last change is 0x"),
        ("0x" + "f" * 100, "in the future"),
        ("0x0", "before the beginning: this volume was made at 2009-05-01T02:00:00.000000+02:00 (0x"),
        ("2009", "before the beginning"),
        ("0001-01-01T00:00+14", "before the beginning"),
        ("-9999999w", "before the beginning"),
        ("old", "before the beginning"),
        ("0000", "of the calendar"),
        ("2026-13", "of the calendar"),
        ("2026-02-29", "of the calendar"),
        ("2026-11-22T25", "of the calendar"),
        ("2026-11-22T10:00:60", "of the calendar"),
        ("2026-11-22T10+99", "of the calendar"),
        ("2026-1", "write it as 2026-11-22T10:00:00"),
        ("20261122", "write it as"),
        ("2026-11-22T10:00:00.", "write it as"),
        ("-5", "is no time ago"),
        ("-5y", "is no time ago"),
        ("-m", "is no time ago"),
        ("--5m", "is no time ago"),
        ("-\u0665m", "is no time ago"),
        ("nightly", "is no time: write a tid"),
        ("0xg", "is no time"),
        ("@", "is no time"),
        ("9" * 300, "too long"),
        ("-" + "9" * 200 + "s", "before the beginning"),
    ],
)
def test_what_is_refused_and_why(text: str, why: str) -> None:
    with pytest.raises(BadWhen) as caught:
        parse(text)
    assert why in str(caught.value)
    assert text[:40] in caught.value.when


@pytest.mark.parametrize("offset", [timedelta(hours=23, minutes=59), timedelta(hours=-23, minutes=-59)])
@pytest.mark.parametrize("text", ["0001", "9999-12-31T23:59:59.999999", "9999", "0001-01-01T00:00"])
def test_the_ends_of_the_calendar(text: str, offset: timedelta) -> None:
    with pytest.raises(BadWhen):
        parse(text, timezone(offset))


PIECES = st.sampled_from(
    [*"0123456789-:TZtz.,+ xwdhmsf@", "20", "2026", "0x", "now", "-1", "11", "\ud800", "é", "²", "\0"]
)
ZONES = st.sampled_from([UTC, BERLIN, ZoneInfo("America/Sao_Paulo"), timezone(timedelta(hours=14))])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=24).map("".join)), ZONES)
def test_nothing_but_bad_when_is_ever_raised(text: str, zone: tzinfo) -> None:
    try:
        found = parse(text, zone)
    except BadWhen:
        found = LAST
    assert BEGINNING <= found <= LAST


@settings(max_examples=100, deadline=None)
@given(st.integers(BEGINNING, LAST), ZONES)
def test_every_tid_is_found_again_by_its_time(tid: int, zone: tzinfo) -> None:
    found = parse(when.show(tid, zone), zone)
    assert min(LAST, tids.end_of(tids.micros(tid))) == found >= tid
