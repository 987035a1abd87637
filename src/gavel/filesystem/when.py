"""WHEN: how people name a moment of the past, and the tid it stands for.

    0x0123456789abcdef                  a tid (shorter numbers are read as they stand, not as prefixes)
    2026  2026-11  2026-11-22           the start of that year, month, day (its first midnight)
    2026-11-22T10  …T10:00  …T10:00:00.5   that instant exactly, not a second later; a blank may stand for the T
    2026-11-22T10:00Z  …+01:00  …-0530  the same with its offset from UTC, else local time
    -5m  -1h30m                         ago; s, m, h, d (24 hours), w
    name                                a snapshot
    now, or nothing                     the present

A moment stands for everything whose tid was issued up to and including that microsecond. A local time that occurred
twice means the first (write the offset for the second); one that the clocks skipped is read with the offset that held
before, so a day without midnight begins where it really began (both are fold=0 of PEP 495).

Pure: the present, the time zone and the snapshots are parameters. Nothing but BadWhen is ever raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from gavel.errors import BadWhen
from gavel.keys import tid as tids
from gavel.limits import NAME_MAX

_TID = re.compile(r"0[xX]([0-9a-fA-F]+)")
_AGO = re.compile(r"-(?:[0-9]+[smhdw])+")
_ISO = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[Tt ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?)?"
    r"([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?)?)?"
)
_LIKE_ISO = re.compile(r"[0-9]{4}[-0-9TtZz:.,+ ]*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORMS = "is no time: write a tid (0x…), a date or time (2026-11-22T10:00), a time ago (-5m) or a snapshot's name"


def parse(text: str, now: int, zone: tzinfo, snapshot: Callable[[str], int | None], beginning: int, last: int) -> int:
    """The tid to look as of: never below `beginning`, never above `last`, the tid of the latest commit.

    `now` in ns since 1970; `snapshot` gives the tid of a snapshot's name, or None. Raises BadWhen: not understood,
    no such snapshot, in the future, before the beginning (named in the message).
    """
    if text in ("", "now"):
        return last
    if len(text) > NAME_MAX:
        raise BadWhen(text[:40] + "…", "is too long for a time")
    number = _TID.fullmatch(text)
    if number:
        tid = int(number[1], 16)
        if tid > last:
            raise BadWhen(text, f"is in the future: the last change is {tids.text(last)}")
    elif is_form(text):
        present = max(now // 1000, tids.micros(last))
        moment = _ago(text, present) if text[0] == "-" else _moment(text, zone)
        if moment > present:
            raise BadWhen(text, f"is in the future: it is {_clock(present, zone)}")
        tid = min(tids.end_of(moment), last) if moment >= 0 else -1
    else:
        found = snapshot(text)
        if found is None:
            raise BadWhen(text, f"{_FORMS}; `gavel snapshot list` shows the names")
        tid = min(found, last)
    if tid < beginning:
        began = f"{_clock(tids.micros(beginning), zone)} ({tids.text(beginning)})"
        raise BadWhen(text, f"is before the beginning: this volume was made at {began}")
    return tid


def is_form(text: str) -> bool:
    """Whether the text reads as a moment rather than as a name, well-formed or not; no snapshot may be called so."""
    return text in ("", "now") or text[0] == "-" or bool(_TID.fullmatch(text) or _LIKE_ISO.fullmatch(text))


def show(tid: int, zone: tzinfo) -> str:
    """The time of a tid for people, to the microsecond, such that parse() of it includes the tid."""
    return _clock(tids.micros(tid), zone)


def _clock(micros: int, zone: tzinfo) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
        return moment.astimezone(zone).isoformat(timespec="microseconds")
    except (OverflowError, ValueError):
        return f"{micros} µs after 1970"


def _ago(text: str, present: int) -> int:
    if not _AGO.fullmatch(text):
        raise BadWhen(text, "is no time ago: write a number and s, m, h, d or w, as in -5m or -1h30m")
    seconds = sum(int(count) * _SECONDS[unit] for count, unit in re.findall("([0-9]+)([smhdw])", text))
    return present - seconds * 1_000_000


def _moment(text: str, zone: tzinfo) -> int:
    """Microseconds since 1970 of an ISO date or time, or a prefix of one."""
    parts = _ISO.fullmatch(text)
    if not parts:
        raise BadWhen(text, "is no time: write it as 2026-11-22T10:00:00, or as much of it from the left as you need")
    year, month, day, hour, minute, second = (
        int(part) if part else least for part, least in zip(parts.groups(), (1, 1, 1, 0, 0, 0), strict=False)
    )
    fraction = int((parts[7] or "").ljust(6, "0")[:6])
    try:
        where = _offset(parts[8]) if parts[8] else zone
        moment = datetime(year, month, day, hour, minute, second, fraction, where)
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise BadWhen(text, f"is no time of the calendar: {error}") from None


def _offset(text: str) -> tzinfo:
    if text in "Zz":
        return UTC
    digits = text[1:].replace(":", "")
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return timezone(-ahead if text[0] == "-" else ahead)
