"""How much of the past is kept: policies of trees, the horizon, and the states below it that stay readable.

A policy says for how long each state is kept, then for how long one of each hour, day, week, month or year:

    all:1d,hourly:7d,daily:60d          spans: s, m (minutes), h, d, w, y (365 days), or forever

It is stored for a directory and counts for the tree below, down to directories with policies of their own; the root's
is `all:forever` until it is given one. The volume has one horizon, and keeps what *any* of its policies keeps: a
directory's policy is a promise about the least that is kept of it, never an order to forget.

Invariants:
- above the horizon every state can be read, below it those as of the kept tids and no others;
- the horizon never goes back, and a tid that is not kept below it never is again: what is gone stays gone;
- kept tids are those of named snapshots, and the ends of whole hours … in UTC (the state as of the last microsecond
  of the one and the first of the next), which depend on nothing but the calendar. So the state as of a whole hour
  that is kept now is kept at all later times while a policy's span reaches back to it.

Records, in the configuration of the pseudo-filesystem: `horizon` is the MessagePack of a Horizon, `retention/` with
a directory's object id in hex is its policy as text. A horizon counts from the tid of its commit on (history.horizon).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from gavel.errors import BadRequest
from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.history.horizon import Horizon, decode, encode, horizon_key
from gavel.keys import records
from gavel.keys import tid as tids
from gavel.limits import RETENTION_POINTS_MAX, RETENTION_SPAN_MAX
from gavel.transaction.transaction import Transaction

DEFAULT: Final = "all:forever"
ALL: Final = "all"
PERIODS: Final = ("hourly", "daily", "weekly", "monthly", "yearly")
FOREVER: Final = "forever"

_SECOND: Final = 1_000_000  # in microseconds, as all moments here are
_FIXED: Final = {"hourly": 3600 * _SECOND, "daily": 86_400 * _SECOND, "weekly": 7 * 86_400 * _SECOND}
_MONDAY: Final = 4 * 86_400 * _SECOND  # 1970 began on a Thursday
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 365 * 86_400}
_SPAN: Final = re.compile(r"(?:[0-9]{1,9}[smhdwy])+")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORM: Final = "write it like all:1d,hourly:7d,daily:60d"
_PREFIX: Final = b"retention/"


class Keep(NamedTuple):
    """One step of a policy: `what` is all or a period, `span` in seconds, None for ever."""

    what: str
    span: int | None


Policy = tuple[Keep, ...]  # `all` first, then by period, each at most once


class Stored(NamedTuple):
    """A policy as it is stored for a directory."""

    directory: int
    text: str


# -- policies --------------------------------------------------------------------------------------------------


def parse(text: str) -> Policy:
    """A policy from its text; raises BadRequest, which says what to write instead."""
    found: dict[str, int | None] = {}
    for part in text.replace(" ", "").split(","):
        what, colon, length = part.partition(":")
        if not colon or not what or not length:
            raise BadRequest(f"{part!r} is no step of a policy; {_FORM}")
        if what != ALL and what not in PERIODS:
            raise BadRequest(f"nothing is kept {what!r}; it is all, {', '.join(PERIODS)}")
        if what in found:
            raise BadRequest(f"{what} is there twice; leave one out")
        found[what] = span(length)
    if ALL not in found:
        raise BadRequest(f"the policy does not say how long every state is kept; {_FORM}")
    return tuple(Keep(what, found[what]) for what in (ALL, *PERIODS) if what in found)


def span(text: str) -> int | None:
    """Seconds of a span as in `36h` or `1d12h`, None for `forever`; raises BadRequest."""
    if text == FOREVER:
        return None
    if not _SPAN.fullmatch(text):
        raise BadRequest(f"{text!r} is no span of time; write a number and s, m, h, d, w or y, or {FOREVER}")
    seconds = sum(int(count) * _UNITS[unit] for count, unit in re.findall("([0-9]+)([smhdwy])", text))
    if not 0 < seconds <= RETENTION_SPAN_MAX:
        raise BadRequest(f"{text!r} is no span that a policy can have; it is above zero, at most 1000y, or {FOREVER}")
    return seconds


def show(policy: Policy) -> str:
    """The text of a policy; parse() of it gives the same policy."""
    return ",".join(f"{keep.what}:{show_span(keep.span)}" for keep in policy)


def show_span(seconds: int | None) -> str:
    """The text of a span, in the largest unit that fits."""
    if seconds is None:
        return FOREVER
    for unit in "ydhm":
        if seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


# -- what a policy keeps ---------------------------------------------------------------------------------------


def target(
    now: int, created: int, last: int, policies: Iterable[Policy], snapshots: Iterable[int], before: Horizon
) -> Horizon:
    """Where the horizon may go at `now` (microseconds since 1970), and what stays kept below it.

    `created` and `last` are the tids of the volume's making and of its newest state, `snapshots` those that are
    named. Without a policy nothing is kept but the present and the snapshots. Raises BadRequest for more than
    limits.RETENTION_POINTS_MAX states.
    """
    agreed = list(policies)
    reaches = [_reach(now, policy[0].span) for policy in agreed]
    horizon = max(before.horizon, min([last, *(max(tids.make(reach), 0) for reach in reaches)]))
    wanted = {tid for tid in snapshots if tid < horizon}
    for policy in agreed:
        for keep in policy[1:]:
            first = max(_reach(now, keep.span), tids.micros(created))
            _refuse_many(_how_many(keep.what, first, tids.micros(horizon)))  # before they are all listed
            wanted.update(map(tids.end_of, ends(keep.what, first, tids.micros(horizon))))
    there = frozenset(before.kept)
    kept = [tid for tid in sorted(wanted) if tid < horizon and (tid >= before.horizon or tid in there)]
    _refuse_many(len(kept))
    return Horizon(horizon, tuple(kept))


def _reach(now: int, seconds: int | None) -> int:
    return 0 if seconds is None else max(0, now - seconds * _SECOND)


def _how_many(what: str, first: int, last: int) -> int:
    """About how many periods end in that time, at most."""
    return max(0, last - first) // _FIXED.get(what, 28 * _FIXED["daily"])


def _refuse_many(count: int) -> None:
    if count > RETENTION_POINTS_MAX:
        raise BadRequest(
            f"that would keep {count} states, and there can be {RETENTION_POINTS_MAX}; "
            "let the policy keep fewer, or delete snapshots"
        )


def ends(what: str, first: int, last: int) -> Iterator[int]:
    """The moments in [first, last) at which a whole hour, day, week (on Sunday), month or year is over, in UTC."""
    fixed = _FIXED.get(what)
    if fixed is not None:
        offset = _MONDAY if what == "weekly" else 0
        yield from range(offset - (offset - first) // fixed * fixed, last, fixed)
        return
    moment = _EPOCH + timedelta(microseconds=first)
    year, month = moment.year, moment.month if what == "monthly" else 1
    while (end := (datetime(year, month, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)) < last:
        if end >= first:
            yield end
        month += 1 if what == "monthly" else 12
        year, month = year + (month - 1) // 12, (month - 1) % 12 + 1


# -- records ---------------------------------------------------------------------------------------------------


def read(tx: Transaction) -> Horizon:
    """What is kept as of the present."""
    return decode(tx.get(horizon_key(tx.pfs)))


def move(
    tx: Transaction,
    created: int,
    last: int,
    snapshots: Iterable[int],
    keep: tuple[int, Policy] | None = None,
    everything: bool = False,
) -> tuple[Horizon, Horizon]:
    """Let the horizon go as far as the policies allow; what was kept before, and what is now.

    `keep`: another policy in place of a directory's own, this once. `everything`: as if there were no policies.
    Raises BadRequest as target(). Writes nothing where nothing changes.
    """
    before = read(tx)
    policies = [] if everything else in_force(tx, keep)
    after = target(tx.now // 1000, created, last, policies, snapshots, before)
    if after != before:
        tx.put(horizon_key(tx.pfs), encode(after))
    return before, after


def in_force(tx: Transaction, keep: tuple[int, Policy] | None = None) -> list[Policy]:
    """All policies that count: those of directories that exist, and the root's."""
    found = {records.ROOT_OBJECT: parse(DEFAULT)}
    found.update((one.directory, parse(one.text)) for one in listing(tx))
    if keep is not None:
        found[keep[0]] = keep[1]
    return list(found.values())


def listing(tx: Transaction) -> list[Stored]:
    """The policies of directories that exist, by object id."""
    lo = records.config(tx.pfs, _PREFIX)[:-1]
    found = []
    for key, value in tx.scan(lo, records.after(lo)):
        directory = int(key[len(lo) : -1], 16)
        if _is_directory(tx, directory):
            found.append(Stored(directory, value.decode()))
    return found


def set_policy(tx: Transaction, directory: int, text: str | None) -> str:
    """Store a directory's policy, or with None forget it; what is in force there then. Raises BadRequest, ENOTDIR."""
    inode = inodes.read(tx, directory)
    if not inode.is_dir:
        raise failure(errno.ENOTDIR)
    key = _policy_key(tx.pfs, directory)
    if text is not None:
        tx.put(key, show(parse(text)).encode())
    elif tx.get(key) is not None:
        tx.delete(key)
    return policy_of(tx, directory).text


def policy_of(tx: Transaction, obj: int) -> Stored:
    """The policy in force for an object: that of the nearest directory above it that has one."""
    while True:
        value = tx.get(_policy_key(tx.pfs, obj))
        if value is not None:
            return Stored(obj, value.decode())
        if obj == records.ROOT_OBJECT:
            return Stored(obj, DEFAULT)
        obj = inodes.read(tx, obj).parent or records.ROOT_OBJECT


def _policy_key(pfs: int, directory: int) -> bytes:
    return records.config(pfs, _PREFIX + b"%x" % directory)


def _is_directory(tx: Transaction, obj: int) -> bool:
    value = tx.get(records.inode(tx.pfs, obj))
    if value is None:
        return False
    inode = inodes.decode(value)
    return inode.is_dir and inode.nlink > 0
