"""What clients saw, and whether any one order of what happened explains it: strict serializability, by black box.

A history is what was asked, when it began and ended, and what was seen. Nothing here knows how masters work, so
nothing they say is believed, but for `told`, which compares the tids that they gave with what was seen. Each check
returns what is wrong as sentences; nothing if all is well.

- `register`: one register that is read and written whole. Values are written once each, so the writes and reads of
  a value are one cluster, and an order exists if and only if no two clusters must each come before the other (Gibbons
  and Korach, "Testing Shared Memories", 1997).
- `lists`: transactions that read several lists and append to some. Every list says in which order its appends
  happened, so who came before whom is known, and an order exists if and only if that has no cycle.
- `told`: the tids that those were told are such an order.

Who ended before another one began comes before it, in all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

NEVER: Final = float("inf")  # when something ended of which nobody knows whether it happened
ALWAYS: Final = float("-inf")


class Access(NamedTuple):
    """A read or a write of a whole register. One that ended NEVER may have happened, or may yet."""

    began: float
    ended: float
    write: bool
    value: str
    by: str = ""


def register(accesses: Iterable[Access], initial: str) -> list[str]:
    """Whether a register is linearizable. Each value is written once."""
    writes = {initial: Access(ALWAYS, ALWAYS, True, initial, "the beginning")}
    wrong = []
    clusters: dict[str, list[Access]] = {initial: [writes[initial]]}
    known = [one for one in accesses if one.write or one.ended != NEVER]
    for one in known:
        if one.write:
            assert one.value not in writes, f"{one.value!r} is written twice: the history says nothing"
            writes[one.value] = one
            clusters[one.value] = [one]
    for one in known:
        if not one.write:
            if one.value not in writes:
                wrong.append(f"{one.by} read {one.value!r}, which nobody wrote")
                continue
            clusters[one.value].append(one)
            if one.ended < writes[one.value].began:
                wrong.append(f"{one.by} read {one.value!r} before {writes[one.value].by} wrote it")
    return wrong + _clashes([_zone(value, cluster) for value, cluster in clusters.items()])


class _Zone(NamedTuple):
    """All who saw one value: by `first_end` one of them is over, at `last_begin` one has not begun yet."""

    first_end: float
    last_begin: float
    value: str


def _zone(value: str, cluster: list[Access]) -> _Zone:
    return _Zone(min(one.ended for one in cluster), max(one.began for one in cluster), value)


def _clashes(zones: list[_Zone]) -> list[str]:
    """Pairs of which each has one that ends before one of the other begins.

    One of a pair has its own order in time (first_end < last_begin). Such zones must not overlap; the others are
    points that can be chosen, but not if all there is to choose from lies inside of such a one.
    """
    long = sorted(zone for zone in zones if zone.first_end < zone.last_begin)
    wrong = [_clash(one, two) for one, two in pairwise(long) if two.first_end < one.last_begin]
    ends = [zone.first_end for zone in long]
    for zone in zones:
        if zone.first_end >= zone.last_begin:
            at = bisect_left(ends, zone.last_begin) - 1  # the last that has an end before this one's last begins
            if at >= 0 and zone.first_end < long[at].last_begin:
                wrong.append(_clash(long[at], zone))
    return wrong


def _clash(one: _Zone, two: _Zone) -> str:
    return f"{one.value!r} was there before {two.value!r}, and again after it"


Status = Literal["committed", "aborted", "unknown"]


class Transaction(NamedTuple):
    """What one transaction saw of some lists before its own appends, at most one to each list, each value its own.

    `tid` is that of its commit, or of the state that it saw if it appended nothing; 0 if it was told none.
    """

    name: str
    began: float
    ended: float
    status: Status
    reads: Mapping[str, tuple[str, ...]]
    appends: Mapping[str, str]
    tid: int = 0


Lists = Mapping[str, Sequence[str]]


def lists(transactions: Iterable[Transaction], final: Lists) -> list[str]:
    """Whether transactions over lists, which in the end are `final`, are strictly serializable."""
    history = list(transactions)
    wrong = [*_appended(history, final), *_prefixes(history, final)]
    if wrong:
        return wrong  # there is no order of appends to speak of
    happened = [one for one in history if one.status == "committed" or _visible(one, final)]
    cycle = _cycle(happened, _edges(happened, final))
    return [f"these happened before one another in a circle: {cycle}"] if cycle else []


def _visible(one: Transaction, final: Lists) -> bool:
    return any(value in final[key] for key, value in one.appends.items())


def _appended(history: list[Transaction], final: Lists) -> Iterator[str]:
    """What was appended is there once, whole; what was given up is not."""
    by = {(key, value): one for one in history for key, value in one.appends.items()}
    for key, values in final.items():
        for value, count in Counter(values).items():
            if count > 1:
                yield f"{value!r} is in {key} {count} times"
            if (key, value) not in by:
                yield f"{value!r} is in {key}, and nobody appended it"
            elif by[key, value].status == "aborted":
                yield f"{value!r} is in {key}, and {by[key, value].name} was told that it never happened"
    for one in history:
        there = [value in final[key] for key, value in one.appends.items()]
        if one.status == "committed" and not all(there):
            yield f"{one.name} was acknowledged, and is lost: {dict(one.appends)}"
        elif any(there) and not all(there):
            yield f"half of {one.name} is there: {dict(one.appends)}"


def _prefixes(history: list[Transaction], final: Lists) -> Iterator[str]:
    """Every list that was seen is the beginning of what it is in the end."""
    for one in history:
        for key, seen in one.reads.items():
            if one.status != "aborted" and tuple(final[key][: len(seen)]) != seen:
                yield f"{one.name} saw {key} as {_short(seen)}, in the end it begins {_short(final[key][: len(seen)])}"


def _short(values: Sequence[str]) -> str:
    return f"{'... ' if len(values) > 3 else ''}{list(values[-3:])} ({len(values)})"


def _edges(happened: list[Transaction], final: Lists) -> dict[int, set[int]]:
    """Who comes before whom; numbers from len(happened) on are moments in time."""
    writer = {(key, value): at for at, one in enumerate(happened) for key, value in one.appends.items()}
    after: dict[int, set[int]] = defaultdict(set)
    for key, values in final.items():
        order = [writer[key, value] for value in values]
        for earlier, later in pairwise(order):
            after[earlier].add(later)
        for at, one in enumerate(happened):
            if key in one.reads:
                seen = len(one.reads[key])
                if seen and order[seen - 1] != at:
                    after[order[seen - 1]].add(at)
                if seen < len(order) and order[seen] != at:
                    after[at].add(order[seen])
    _moments(happened, after)
    return after


def _moments(happened: list[Transaction], after: dict[int, set[int]]) -> None:
    """Whoever ended comes before the moment of its end, that before the next, and that before who begins later."""
    ends = sorted((one.ended, at) for at, one in enumerate(happened) if one.ended != NEVER)
    times = [end for end, _ in ends]
    first = len(happened)
    for number, (_, at) in enumerate(ends):
        after[at].add(first + number)
        if number:
            after[first + number - 1].add(first + number)
    for at, one in enumerate(happened):
        before = bisect_left(times, one.began)
        if before:
            after[first + before - 1].add(at)


def _cycle(happened: list[Transaction], after: dict[int, set[int]]) -> str:
    """The names on some cycle, empty if there is none."""
    before = Counter(two for others in after.values() for two in others)
    free = [one for one in range(2 * len(happened)) if not before[one]]
    rest = set(range(2 * len(happened)))
    while free:
        one = free.pop()
        rest.discard(one)
        for two in after.get(one, ()):
            before[two] -= 1
            if not before[two]:
                free.append(two)
    if not rest:
        return ""
    back: dict[int, int] = {}
    for one in sorted(rest):
        for two in after.get(one, ()):
            back.setdefault(two, one) if two in rest else None
    path, at = dict[int, int](), min(rest)
    while at not in path:
        path[at] = len(path)
        at = back[at]
    cycle = [*[one for one in path if path[one] >= path[at]], at]
    return " after ".join(happened[one].name if one < len(happened) else "(time)" for one in cycle)


def told(transactions: Iterable[Transaction], final: Lists) -> list[str]:
    """Whether the tids that transactions were told are an order that explains what they saw, and when they ran."""
    history = [one for one in transactions if one.status == "committed"]
    return [*_unique(history), *_in_order(history, final), *_saw(history, final), *_in_time(history)]


def _unique(history: list[Transaction]) -> Iterator[str]:
    names: dict[int, str] = {}
    for one in history:
        if one.appends:
            other = names.setdefault(one.tid, one.name)
            if other != one.name or not one.tid:
                yield f"{one.name} and {other} both happened at {one.tid:#x}"


def _tids(history: list[Transaction], final: Lists) -> dict[str, list[int]]:
    """For each list the tids of its appends; of those who were told none, 0."""
    by = {(key, value): one.tid for one in history for key, value in one.appends.items()}
    return {key: [by.get((key, value), 0) for value in values] for key, values in final.items()}


def _in_order(history: list[Transaction], final: Lists) -> Iterator[str]:
    for key, tids in _tids(history, final).items():
        known = [tid for tid in tids if tid]
        for one, two in pairwise(known):
            if one >= two:
                yield f"what was appended to {key} at {two:#x} comes after what was appended at {one:#x}"


def _saw(history: list[Transaction], final: Lists) -> Iterator[str]:
    """Everybody saw what was appended up to its freeze point, and no more. One that appends saw all below its tid."""
    tids = _tids(history, final)
    for one in history:
        point = one.tid - 1 if one.appends else one.tid
        for key, seen in one.reads.items():
            late = [tid for tid in tids[key][: len(seen)] if tid > point]
            missed = [tid for tid in tids[key][len(seen) :] if 0 < tid <= point]
            if late or missed:
                which = f"{late[0]:#x}, which is later" if late else f"nothing of {missed[0]:#x}, which is earlier"
                yield f"{one.name} at {one.tid:#x} saw of {key} {which}"


def _in_time(history: list[Transaction]) -> Iterator[str]:
    """Tids grow with time; two who only read may have seen the same state."""
    ends = sorted((one.ended, one.tid) for one in history)
    times = [end for end, _ in ends]
    highest = [0]
    for _, tid in ends:
        highest.append(max(highest[-1], tid))
    for one in history:
        past = highest[bisect_left(times, one.began)]
        if one.tid < past or (one.appends and one.tid == past):
            yield f"{one.name} at {one.tid:#x} began when what is at {past:#x} had ended"
