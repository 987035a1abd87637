"""Half-open key ranges and what a transaction read and wrote.

Invariants of a RangeSet: its ranges are sorted, not empty, and neither overlap nor touch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

Range = tuple[bytes, bytes]


def just(key: bytes) -> Range:
    """The range that holds this one key and no other."""
    return key, key + b"\0"


class RangeSet:
    """A set of keys kept as disjoint half-open ranges."""

    __slots__ = ("_his", "_los")

    def __init__(self, ranges: list[Range] | None = None) -> None:
        self._los: list[bytes] = []
        self._his: list[bytes] = []
        for lo, hi in ranges or ():
            self.add(lo, hi)

    def add(self, lo: bytes, hi: bytes) -> None:
        """Add [lo, hi), joining what it overlaps or touches. An empty range adds nothing."""
        if lo >= hi:
            return
        first = bisect_left(self._his, lo)
        last = bisect_right(self._los, hi)
        if first < last:
            lo = min(lo, self._los[first])
            hi = max(hi, self._his[last - 1])
        self._los[first:last] = [lo]
        self._his[first:last] = [hi]

    def remove(self, lo: bytes, hi: bytes) -> None:
        """Take [lo, hi) out, cutting ranges that lie across its ends."""
        if lo >= hi:
            return
        first = bisect_right(self._his, lo)
        last = bisect_left(self._los, hi)
        if first >= last:
            return
        left, right = self._los[first], self._his[last - 1]
        kept = [(a, b) for a, b in ((left, lo), (hi, right)) if a < b]
        self._los[first:last] = [a for a, _ in kept]
        self._his[first:last] = [b for _, b in kept]

    def covers(self, lo: bytes, hi: bytes) -> bool:
        """Whether all of [lo, hi) is in the set."""
        if lo >= hi:
            return True
        at = bisect_right(self._los, lo) - 1
        return at >= 0 and hi <= self._his[at]

    def overlaps(self, lo: bytes, hi: bytes) -> bool:
        """Whether any of [lo, hi) is in the set."""
        at = bisect_right(self._his, lo)
        return lo < hi and at < len(self._los) and self._los[at] < hi

    def __contains__(self, key: bytes) -> bool:
        at = bisect_right(self._los, key) - 1
        return at >= 0 and key < self._his[at]

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._los, self._his, strict=True))

    def __len__(self) -> int:
        return len(self._los)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._los == other._los and self._his == other._his

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        inside = ", ".join(f"[{lo.hex()}, {hi.hex()})" for lo, hi in self)
        return f"RangeSet({inside})"
