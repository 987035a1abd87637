"""What a client may take for true, and change, by its leases; and what is held, opened and capped accordingly.

Invariants: what is open in Held lies under a lease, and is at least as new as that lease was told to be; `rights` (by
record keys) and `leases` (by lease keys) say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gavel.cache.held import Held
from gavel.cache.rights import Rights
from gavel.coherency.events import Tokens
from gavel.coherency.messages import NONE, Granted, X
from gavel.coherency.space import lease_range, levels, record_ranges
from gavel.keys.ranges import Range, just


class Ground:
    """See the module. `tokens` and `covers` are those of the holder, for lease ranges."""

    def __init__(
        self,
        held: Held,
        tokens: Callable[[list[Range]], Tokens | None],
        covers: Callable[[bytes, bytes, int], bool],
    ) -> None:
        self._covers = covers
        self.held = held
        self.rights = Rights()
        self.leases = Rights()
        self._tokens = tokens
        self._known: tuple[Range, Tokens] | None = None  # a piece, and the tokens of all of it

    def changed(self) -> None:
        """Tokens may be others than before."""
        self._known = None

    def granted(self, ranges: Iterable[Granted]) -> None:
        """Leases stand."""
        for lo, hi, mode, tid in ranges:
            tokens = self._tokens([(lo, hi)]) if mode == X else None
            self.leases.grant(lo, hi, mode == X, tid, tokens or ())
            for low, high in record_ranges(lo, hi):
                self.rights.grant(low, high, mode == X, tid)
                self.open(low, high)

    def raised(self, lo: bytes, hi: bytes) -> None:
        """A lease range that was held for reading may be written by now, and so may what is around it, perhaps."""
        for low, high in levels(lo, hi):
            if not self._covers(low, high, X):
                break
            lo, hi = low, high
        for piece in self.leases.pieces(lo, hi):
            if not piece.exclusive:
                self.granted([Granted(piece.lo, piece.hi, X, piece.tid)])

    def open(self, lo: bytes, hi: bytes) -> None:
        """What is known of these records, and new enough, stays true while leases stand over it."""
        for piece in self.rights.pieces(lo, hi):
            self.held.open(piece.lo, piece.hi, piece.tid)

    def empty(self, objects: Range) -> None:
        """Nobody has ever used these objects: it is known that there is nothing of them."""
        for lo, hi in record_ranges(*objects):
            for piece in self.rights.pieces(lo, hi):
                self.held.take(piece.lo, piece.hi, piece.tid, [])
                self.held.open(piece.lo, piece.hi, piece.tid)

    def withdraw(self, lo: bytes, hi: bytes, to: int, tid: int, own: Callable[[bytes, bytes], list[bytes]]) -> None:
        """No more than this mode counts in a lease range; what is known there, and may be changed, is true at `tid`.

        But for what this client has written there itself, and does not know the outcome of: `own` names it by range.
        """
        if to == NONE:
            self.leases.remove(lo, hi)
        else:
            self.leases.lower(lo, hi)
        for low, high in record_ranges(lo, hi):
            if to == NONE:
                self.held.cap(low, high, tid)
                for key in own(low, high):
                    self.held.drop(*just(key))
                self.rights.remove(low, high)
            else:
                self.rights.lower(low, high)

    def writable(self, writes: dict[bytes, bytes | None], made: list[Range]) -> Tokens | None:
        """The tokens under which these may be written now, and objects be `made`; None if they may not."""
        rights = self.rights
        here: Range | None = None
        alone = not made
        for key in writes:
            if not rights.writable(key):
                return None
            if here is None:
                here = rights.here
            elif here != rights.here:
                alone = False
        assert here is not None
        if alone:
            if self._known is not None and self._known[0] == here:
                return self._known[1]
            found = self._tokens([lease_range(*here)])
            if found is not None:
                self._known = here, found
                return found
        return self._tokens([*made, *(lease_range(*just(key)) for key in writes)])

    def before(self, writes: Iterable[bytes], made: list[Range]) -> Tokens | None:
        """The tokens under which these could be written when they were granted, though that is being recalled."""
        ranges = [*made, *(lease_range(*just(key)) for key in writes)]
        found = [piece.tokens for lo, hi in ranges for piece in self.leases.pieces(lo, hi)]
        return found[0] if found and found[0] and all(one == found[0] for one in found) else None
