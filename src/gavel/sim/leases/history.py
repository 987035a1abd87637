"""What clients of a run with leases did and saw, key by key, and whether one copy could have answered it all.

It is plain data, so that a checker can be given a false one and must say so. Values are unique; their order is known
from the tids of the transactions that brought them to the masters, so linearizability is a matter of looking whether
any operation saw, or wrote, what is older than what was seen or written before it began.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

Version = tuple[int, int]  # tid of the transaction, place among the values of the key in it
NEVER: Final = 1 << 62


@dataclass(slots=True)
class Write:
    """A value that a client wrote."""

    key: bytes
    client: str
    began: int
    ended: int | None = None  # when it was acknowledged
    version: Version | None = None  # if it came to the masters
    reported: bool = False  # the client said that it is lost
    died: bool = False  # the client was lost before it knew


class Read(NamedTuple):
    """A value that a client read; None: none was ever written."""

    key: bytes
    value: bytes | None
    client: str
    began: int
    ended: int


@dataclass(slots=True)
class History:
    """All of a run."""

    writes: dict[bytes, Write] = field(default_factory=dict)  # by value
    reads: list[Read] = field(default_factory=list)
    final: dict[bytes, bytes | None] = field(default_factory=dict)  # what the masters hold in the end
    waiting: list[str] = field(default_factory=list)  # who was not answered in time


def check(history: History) -> list[str]:
    """What does not hold; nothing if all does."""
    return [*_live(history), *_kept(history), *_linear(history)]


def _live(history: History) -> list[str]:
    return [f"live: {who}" for who in history.waiting]


def _kept(history: History) -> list[str]:
    """What was acknowledged is there, or was reported lost; what was reported lost is not."""
    found = []
    last: dict[bytes, tuple[Version, bytes]] = {}
    for value, write in history.writes.items():
        if write.version is None:
            if write.ended is not None and not write.reported and not write.died:
                found.append(f"kept: {value!r} of {write.client} was acknowledged, and is lost")
        else:
            if write.reported:
                found.append(f"fenced: {value!r} of {write.client} was reported lost, and is there")
            last[write.key] = max(last.get(write.key, ((0, 0), b"")), (write.version, value))
    for key, (version, value) in last.items():
        if key in history.final and history.final[key] != value:
            found.append(f"kept: {key!r} ends as {history.final[key]!r}, not {value!r} of {version}")
    return found


def _linear(history: History) -> list[str]:
    found: list[str] = []
    events: dict[bytes, list[tuple[int, int, Version, str]]] = {}
    for value, write in history.writes.items():
        if write.version is not None:
            ended = write.ended if write.ended is not None else NEVER
            what = f"{write.client} writes {value!r}"
            events.setdefault(write.key, []).append((write.began, ended, write.version, what))
    for read in history.reads:
        version: Version | None = (0, 0)
        if read.value is not None:
            source = history.writes[read.value]
            version = source.version
            if version is None:  # lost: only who wrote it may have seen it
                if source.client != read.client:
                    found.append(f"linear: {read.client} read {read.value!r}, which is lost")
                continue
        what = f"{read.client} reads {read.value!r}"
        assert version is not None
        events.setdefault(read.key, []).append((read.began, read.ended, version, what))
    for key, happened in sorted(events.items()):
        found += _inversions(key, happened)[:3]
    return found


def _inversions(key: bytes, events: list[tuple[int, int, Version, str]]) -> list[str]:
    """Operations that ended before others began, and are of a later version."""
    found = []
    ends = sorted(events, key=lambda event: event[1])
    newest: tuple[Version, str, int] = ((-1, 0), "", 0)
    at = 0
    for began, _, version, what in sorted(events):
        while at < len(ends) and ends[at][1] < began:
            newest = max(newest, (ends[at][2], ends[at][3], ends[at][1]))
            at += 1
        if newest[0] > version:
            ms = newest[2] / 1e6, began / 1e6
            found.append(f"linear: {key!r}: {what} from {ms[1]:.3f} ms, after {newest[1]} until {ms[0]:.3f} ms")
    return found
