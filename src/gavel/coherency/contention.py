"""What is fought over: how wide a recall reaches, and which objects are served without leases for a while.

*Reach.* The first recall for an asker is as narrow as what it needs. When it meets others nearby again and again, it
reaches for a level around, the wider the oftener: who works in a tree that somebody else holds gets it in a few steps,
and not file by file. What it takes too much the other asks back, narrowly.

*Heat.* An object that is recalled HOT_RECALLS times within HOT_WINDOW_NS bounces: for a while nothing is recorded for
it, every ask is answered once. Then leases are tried again; if it bounces still, the while is doubled.

Invariant: both memories are bounded; forgetting costs some messages and nothing else.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from gavel.coherency.space import levels, object_of
from gavel.keys.ranges import Range

HOT_RECALLS: Final = 40
HOT_WINDOW_NS: Final = 10**9
HOT_NS: Final = 100 * 10**6
HOT_DOUBLES: Final = 5  # up to 3.2 s
COOL_NS: Final = 10 * 10**9  # without a recall for so long: as if nothing had been
REACH_NS: Final = 2 * 10**9  # what was met before that says nothing about now
REACH_AFTER: Final = 2  # so many meetings within a level, and as many more for each further one, reach for all of it
REACH_LEVELS: Final = 6  # the widest is a block of 2^32 objects; never a whole pseudo-filesystem
MEETINGS: Final = 16  # remembered of an asker
OBJECTS: Final = 1024  # remembered of heat


class Heat:
    """How often each object was recalled lately."""

    __slots__ = ("_objects",)

    def __init__(self) -> None:
        self._objects: dict[bytes, tuple[int, int, int, int]] = {}  # window's start, recalls in it, hot until, doubles

    def note(self, lo: bytes, hi: bytes, now: int) -> bool:
        """Something is recalled; whether its object has just become hot by that."""
        name = object_of(lo, hi)
        if name is None:
            return False
        start, count, until, doubles = self._objects.pop(name, (now, 0, 0, 0))
        if now - max(start, until) > COOL_NS:
            doubles = 0
        if now - start > HOT_WINDOW_NS:
            start, count = now, 0
        count += 1
        heated = count >= HOT_RECALLS and until <= now
        if heated:
            until = now + (HOT_NS << doubles)
            start, count, doubles = until, 0, min(doubles + 1, HOT_DOUBLES)
        self._objects[name] = start, count, until, doubles
        if len(self._objects) > OBJECTS:
            del self._objects[next(iter(self._objects))]
        return heated

    def hot(self, lo: bytes, hi: bytes, now: int) -> bool:
        """Whether the range is of an object that is hot now."""
        if not self._objects:
            return False
        name = object_of(lo, hi)
        found = self._objects.get(name) if name is not None else None
        return found is not None and now < found[2]

    def count(self, now: int) -> int:
        """How many objects are hot."""
        return sum(until > now for _, _, until, _ in self._objects.values())


class Reach:
    """Where one asker has met others lately."""

    __slots__ = ("_met",)

    def __init__(self) -> None:
        self._met: deque[tuple[int, bytes, bytes]] = deque(maxlen=MEETINGS)

    def of(self, lo: bytes, hi: bytes, now: int) -> Range:
        """What to recall so that the asker gets [lo, hi): that, or a level around it. Remembers it."""
        reach = lo, hi
        recent = [(a, b) for at, a, b in self._met if now - at <= REACH_NS]
        for number, (low, high) in enumerate(levels(lo, hi)[1:REACH_LEVELS]):
            if sum(low <= a and b <= high for a, b in recent) >= REACH_AFTER * (number + 1):
                reach = low, high
        if reach not in recent:
            self._met.append((now, *reach))
        return reach
