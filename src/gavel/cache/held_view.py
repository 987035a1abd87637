"""What a client of a cluster holds, as the view that a transaction reads from.

Invariants: what is lacking is named together with the state that it is lacking of; nothing is staged into the past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gavel.cache.held import Held
from gavel.cache.places import Places
from gavel.errors import ReadOnly
from gavel.media.extents import RAW, Extent
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Buffer, Miss

States = Callable[[int], Held]  # what is held of the state as of a tid; of the present for 0


class HeldView:
    """What is held, as a View. `at` of 0 is the present; elsewhere something can be staged only if it is `writable`."""

    __slots__ = ("_held", "_places", "_states", "_writable", "at", "staged")

    def __init__(self, states: States, places: Places, at: int = 0, writable: bool = False) -> None:
        self._states, self._places, self.at = states, places, at
        self._writable = writable or not at
        self._held = states(at)
        self.staged: list[Extent] = []

    def get(self, key: bytes) -> bytes | None:
        """See View.get."""
        try:
            return self._held.get(key)
        except Miss as miss:
            raise Miss(miss.ranges, at=self.at) from None

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See View.scan."""
        try:
            yield from self._held.scan(lo, hi)
        except Miss as miss:
            raise Miss(miss.ranges, at=self.at) from None

    def past(self, at: int) -> HeldView:
        """The view of a past state."""
        return HeldView(self._states, self._places, at)

    def load(self, extent: Extent) -> Buffer:
        """See View.load."""
        return self._places.load(extent)

    def stage(self, data: Buffer, codec: int = RAW) -> Extent:
        """See View.stage; raises ReadOnly for a view of the past."""
        if not self._writable:
            raise ReadOnly("the past cannot be changed; `gavel undo` brings it back")
        self.staged.append(self._places.stage(data, codec))
        return self.staged[-1]

    def share(self, extent: Extent) -> None:
        """See View.share: masters find what a record refers to by the tid it was read at, or say that it is gone."""
        if not self._writable:
            raise ReadOnly("the past cannot be changed; `gavel undo` brings it back")

    def unstage(self) -> None:
        """Forget what was staged and is not committed."""
        for extent in self.staged:
            self._places.unstage(extent)
        self.staged.clear()


def past_of(tx: Transaction, at: int) -> Transaction:
    """A transaction that reads the state as of `at` beside one on what is held."""
    assert isinstance(tx.view, HeldView)
    return Transaction(tx.view.past(at), tx.now, tx.pfs)
