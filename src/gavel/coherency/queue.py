"""Who waits at a master, oldest first: asks, and transactions that were refused for a while.

Invariant: who waits stands behind everybody older that wants something in conflict, so neither readers nor writers
starve; nobody waits behind who came later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from gavel.coherency.messages import Age, Want, X
from gavel.coherency.table import RangeMap

Place = tuple[Age, int]
"""where somebody stands; lower is first, and no two are equal"""

_MANY = b""  # in place of a session's name: more than one


class Entry(Protocol):
    """Somebody who waits."""

    @property
    def place(self) -> Place:
        """Where it stands."""
        ...

    @property
    def wants(self) -> Sequence[Want]:
        """What it wants, and in which mode."""
        ...


class Ahead:
    """What some of those want that wait: for each range the highest mode, and who."""

    __slots__ = ("_wanted",)

    def __init__(self) -> None:
        self._wanted: RangeMap[tuple[int, bytes]] = RangeMap()

    def add(self, entry: Entry) -> None:
        """One more of them."""
        session = entry.place[0].session
        for lo, hi, mode in entry.wants:
            pieces = self._wanted.whole(lo, hi)
            self._wanted.put([(low, high, _join(old, mode, session)) for low, high, old in pieces])

    def blocks(self, session: bytes, lo: bytes, hi: bytes, mode: int) -> bool:
        """Whether somebody else wants something in [lo, hi) that is in conflict with this mode."""
        return any(who != session and X in (mode, wanted) for _, _, (wanted, who) in self._wanted.over(lo, hi))


def _join(old: tuple[int, bytes] | None, mode: int, session: bytes) -> tuple[int, bytes]:
    if old is None:
        return mode, session
    return max(old[0], mode), session if old[1] == session else _MANY


class Intent:
    """A transaction that was refused for a while: new grants keep out of its way until it has come again."""

    __slots__ = ("place", "until", "wants")

    def __init__(self, place: Place, wants: Sequence[Want], until: int) -> None:
        self.place, self.wants, self.until = place, wants, until


class Queue:
    """See the module."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.copy())

    def add(self, entry: Entry) -> None:
        """Somebody begins to wait."""
        at = bisect_left(self._places, entry.place)
        self._places.insert(at, entry.place)
        self._entries.insert(at, entry)

    def remove(self, entry: Entry) -> None:
        """Waits no more; nothing if it did not."""
        at = bisect_left(self._places, entry.place)
        if at < len(self._places) and self._entries[at] is entry:
            del self._places[at], self._entries[at]

    def older(self, place: Place) -> Ahead:
        """What those want that stand before a place."""
        return _of(self._entries[: bisect_left(self._places, place)])

    def all(self) -> Ahead:
        """What everybody here wants."""
        return _of(self._entries)


def _of(entries: Iterable[Entry]) -> Ahead:
    ahead = Ahead()
    for entry in entries:
        ahead.add(entry)
    return ahead
