"""What a client may do where, by its leases: read or also write, and since when nobody else has changed anything.

Invariant: pieces are sorted, disjoint and not empty; neighbours that say the same are one. Ranges are of record keys.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from gavel.coherency.events import Tokens
from gavel.keys.ranges import Range


class Piece(NamedTuple):
    """A range that may be read, and written if it is `exclusive`; others have changed nothing there after `tid`."""

    lo: bytes
    hi: bytes
    exclusive: bool
    tid: int
    tokens: Tokens = ()  # of the masters behind it, when it was granted


class Rights:
    """The pieces of one client."""

    def __init__(self) -> None:
        self._los: list[bytes] = []
        self._his: list[bytes] = []
        self._terms: list[tuple[bool, int, Tokens]] = []  # exclusive, tid, tokens
        self._lo = self._hi = b""  # where writable() has found that it is

    def __bool__(self) -> bool:
        return bool(self._los)

    def grant(self, lo: bytes, hi: bytes, exclusive: bool, tid: int, tokens: Tokens = ()) -> None:
        """A lease on [lo, hi) stands. What may be written may be written still."""
        at = lo
        for piece in self.pieces(lo, hi):
            if at < piece.lo:
                self._put(at, piece.lo, (exclusive, tid, tokens))
            self._put(piece.lo, piece.hi, (exclusive or piece.exclusive, max(tid, piece.tid), tokens or piece.tokens))
            at = piece.hi
        if at < hi:
            self._put(at, hi, (exclusive, tid, tokens))
        self._join(lo, hi)

    def lower(self, lo: bytes, hi: bytes) -> None:
        """[lo, hi) may be read only."""
        for piece in self.pieces(lo, hi):
            self._put(piece.lo, piece.hi, (False, piece.tid, ()))
        self._join(lo, hi)

    def remove(self, lo: bytes, hi: bytes) -> None:
        """Nothing may be done in [lo, hi)."""
        self._cut(lo)
        self._cut(hi)
        first, last = bisect_left(self._los, lo), bisect_left(self._los, hi)
        for own in (self._los, self._his, self._terms):
            del own[first:last]

    def pieces(self, lo: bytes, hi: bytes) -> list[Piece]:
        """What there is of [lo, hi), cut to it."""
        return [
            Piece(max(lo, self._los[at]), min(hi, self._his[at]), *self._terms[at])
            for at in range(bisect_right(self._his, lo), bisect_left(self._los, hi))
        ]

    def lacks(self, lo: bytes, hi: bytes, exclusive: bool = False) -> list[Range]:
        """The parts of [lo, hi) that may not be read; or written, if `exclusive`."""
        found: list[Range] = []
        for piece in self.pieces(lo, hi):
            if exclusive and not piece.exclusive:
                continue
            if lo < piece.lo:
                found.append((lo, piece.lo))
            lo = piece.hi
        if lo < hi:
            found.append((lo, hi))
        return found

    def covers(self, lo: bytes, hi: bytes) -> bool:
        """Whether all of [lo, hi) may be read."""
        return not self.lacks(lo, hi)

    def writable(self, key: bytes) -> bool:
        """Whether a key may be written."""
        if self._lo <= key < self._hi:
            return True
        at = bisect_right(self._los, key) - 1
        if at < 0 or key >= self._his[at] or not self._terms[at][0]:
            return False
        self._lo, self._hi = self._los[at], self._his[at]
        return True

    @property
    def here(self) -> Range:
        """The piece that holds the key of the last writable() that said yes."""
        return self._lo, self._hi

    def _cut(self, key: bytes) -> None:
        self._lo = self._hi = b""
        at = bisect_right(self._los, key) - 1
        if at >= 0 and self._los[at] < key < self._his[at]:
            self._los.insert(at + 1, key)
            self._his.insert(at, key)
            self._terms.insert(at, self._terms[at])

    def _put(self, lo: bytes, hi: bytes, terms: tuple[bool, int, Tokens]) -> None:
        self.remove(lo, hi)
        at = bisect_left(self._los, lo)
        self._los.insert(at, lo)
        self._his.insert(at, hi)
        self._terms.insert(at, terms)

    def _join(self, lo: bytes, hi: bytes) -> None:
        at = max(bisect_right(self._los, lo) - 2, 0)
        while at + 1 < len(self._los) and self._los[at] <= hi:
            if self._his[at] == self._los[at + 1] and self._terms[at] == self._terms[at + 1]:
                self._his[at] = self._his.pop(at + 1)
                del self._los[at + 1], self._terms[at + 1]
            else:
                at += 1
