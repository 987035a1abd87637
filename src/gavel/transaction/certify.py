"""The certification at commit: did anything that a transaction read change after its freeze point?

Backplane's rule, on ranges: a transaction that read [lo, hi) as of F collides with any version created or closed in
[lo, hi) after F. Its own earlier commits count too; a session that builds on them names their tid as freeze point.
"""

from __future__ import annotations

from typing import Protocol

from gavel.errors import Collision, FreezePruned, HistoryPruned
from gavel.history.horizon import KEY
from gavel.keys.ranges import RangeSet


class Changes(Protocol):
    """What certification asks of the history."""

    def changed(self, lo: bytes, hi: bytes, since: int) -> tuple[bytes, int] | None:
        """Key and tid of a change in [lo, hi) after `since`; None when there was none. Raises HistoryPruned."""


def collision(history: Changes, freeze: int, reads: RangeSet) -> Collision | None:
    """The first collision in key order; None when the transaction may commit.

    A freeze point that a horizon has passed is a collision with what moved it: nobody can tell any more.
    """
    for lo, hi in reads:
        try:
            found = history.changed(lo, hi, freeze)
        except HistoryPruned as gone:
            return FreezePruned(KEY, gone.horizon, freeze)
        if found is not None:
            key, tid = found
            return Collision(key, tid, freeze)
    return None
