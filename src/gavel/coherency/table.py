"""A map from disjoint half-open ranges of keys to values: what a session holds at a master, or a client of whom.

Invariants: ranges are sorted, not empty and disjoint; neighbours that touch have different values. So its size is the
number of borders that mean something, never that of what lies between them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Value = TypeVar("Value")


class RangeMap(Generic[Value]):
    """See the module."""

    __slots__ = ("_his", "_los", "_values")

    def __init__(self) -> None:
        self._los: list[bytes] = []
        self._his: list[bytes] = []
        self._values: list[Value] = []

    def __len__(self) -> int:
        return len(self._los)

    def __iter__(self) -> Iterator[tuple[bytes, bytes, Value]]:
        return iter(zip(self._los, self._his, self._values, strict=True))

    def values(self) -> list[Value]:
        """The value of each range, in order."""
        return self._values

    def get(self, key: bytes) -> Value | None:
        """The value at a key."""
        at = bisect_right(self._los, key) - 1
        return self._values[at] if at >= 0 and key < self._his[at] else None

    def over(self, lo: bytes, hi: bytes) -> list[tuple[bytes, bytes, Value]]:
        """The parts of ranges that lie in [lo, hi), in order."""
        first = bisect_right(self._his, lo)
        last = bisect_left(self._los, hi, first)
        found = list(zip(self._los[first:last], self._his[first:last], self._values[first:last], strict=True))
        if found:
            low, high, value = found[0]
            if low < lo:
                found[0] = lo, high, value
            low, high, value = found[-1]
            if hi < high:
                found[-1] = low, hi, value
        return found

    def whole(self, lo: bytes, hi: bytes) -> list[tuple[bytes, bytes, Value | None]]:
        """[lo, hi) in parts, in order and without holes; None where there is nothing."""
        found: list[tuple[bytes, bytes, Value | None]] = []
        for low, high, value in self.over(lo, hi):
            if lo < low:
                found.append((lo, low, None))
            found.append((low, high, value))
            lo = high
        if lo < hi:
            found.append((lo, hi, None))
        return found

    def overlaps(self, lo: bytes, hi: bytes) -> bool:
        """Whether there is anything in [lo, hi)."""
        at = bisect_right(self._his, lo)
        return at < len(self._los) and self._los[at] < hi

    def touches(self, lo: bytes, hi: bytes, values: tuple[Value, ...]) -> bool:
        """Whether one of these values is anywhere in [lo, hi)."""
        first = bisect_right(self._his, lo)
        return any(value in values for value in self._values[first : bisect_left(self._los, hi, first)])

    def at_least(self, lo: bytes, hi: bytes, value: Value) -> bool:
        """Whether all of [lo, hi) has this value or a higher one."""
        at = bisect_right(self._los, lo) - 1
        if at < 0:
            return False
        his, values = self._his, self._values
        while lo < his[at] and values[at] >= value:  # type: ignore[operator]
            lo = his[at]
            if hi <= lo:
                return True
            at += 1
            if at == len(his) or self._los[at] != lo:
                return False
        return False

    def set(self, lo: bytes, hi: bytes, value: Value | None) -> None:
        """Let all of [lo, hi) have this value; None: nothing."""
        self.put([(lo, hi, value)])

    def change(self, lo: bytes, hi: bytes, to: Callable[[Value | None], Value | None]) -> bool:
        """Give each part of [lo, hi), holes included, the value that `to` makes of its own; whether any changed."""
        old = self.whole(lo, hi)
        new = [(low, high, to(value)) for low, high, value in old]
        if new == old:
            return False
        self.put(new)
        return True

    def put(self, parts: list[tuple[bytes, bytes, Value | None]]) -> None:
        """Replace what is in these parts, which follow each other without holes."""
        lo, hi = parts[0][0], parts[-1][1]
        if lo >= hi:
            return
        first = bisect_left(self._his, lo)  # what only touches is taken in, too, so that it can be joined
        last = bisect_right(self._los, hi, first)
        pieces: list[tuple[bytes, bytes, Value | None]] = []
        if first < last:
            low, high, value = self._los[first], self._his[last - 1], self._values[last - 1]
            if low < lo:
                pieces.append((low, lo, self._values[first]))
            pieces += parts
            if hi < high:
                pieces.append((hi, high, value))
        else:
            pieces = parts
        los: list[bytes] = []
        his: list[bytes] = []
        values: list[Value] = []
        for low, high, new in pieces:
            if new is None:
                continue
            if values and values[-1] == new and his[-1] == low:
                his[-1] = high
            else:
                los.append(low)
                his.append(high)
                values.append(new)
        self._los[first:last] = los
        self._his[first:last] = his
        self._values[first:last] = values
