"""The certification at commit: did anything that a transaction read change after its freeze point?

Backplane's rule, on ranges: a transaction that read [lo, hi) as of F collides with any version created or closed in
[lo, hi) after F. Its own earlier commits count too; a session that builds on them names their tid as freeze point.
"""

from __future__ import annotations

from typing import Protocol

from gavel.errors import Collision
from gavel.keys.ranges import RangeSet


class Changes(Protocol):
    """What certification asks of the history."""

    def changed(self, lo: bytes, hi: bytes, since: int) -> tuple[bytes, int] | None:
        """Key and tid of a change in [lo, hi) after `since`; None when there was none."""


def collision(history: Changes, freeze: int, reads: RangeSet) -> Collision | None:
    """The first collision in key order; None when the transaction may commit."""
    for lo, hi in reads:
        found = history.changed(lo, hi, freeze)
        if found is not None:
            key, tid = found
            return Collision(key, tid, freeze)
    return None
