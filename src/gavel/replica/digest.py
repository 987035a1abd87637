"""A sum over a history up to a tid, the same on every master that has come so far, whatever was pruned or moved there.

It goes over every version that began by then and is seen in a state that is kept, in portable form. Two masters that
have executed the same transactions up to the tid, and agree on the horizon, have the same sum. Outcomes of sessions
(unversioned) are no part of it: a master that has caught up may lack some. For checkers, not for every day: it reads
everything.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_128

from gavel.history.history import History
from gavel.history.horizon import Horizon
from gavel.keys.records import UNVERSIONED, is_data
from gavel.transaction import portable

_NEVER: Final = 2**64 - 1


def digest(history: History, upto: int, held: Horizon | None = None) -> bytes:
    """The sum of the history up to a tid, seen from a horizon (the history's own one, if none is given).

    To compare two masters of which one has come further, give the further one's horizon to both.
    """
    held = held or Horizon(history.horizon, history.kept)
    found = []
    for version, _ in history.walk(b""):
        key, created, deleted, value = version
        if created > upto or key >= UNVERSIONED:
            continue
        ended = deleted if deleted is not None and deleted <= upto else _NEVER
        if not held.needless(created, ended):
            found.append((key, created, ended, portable.own(value) if is_data(key) else value))
    found.sort()
    total = xxh3_128()
    for key, created, ended, value in found:
        total.update(b"%d %d %d %d " % (len(key), created, ended, len(value)))
        total.update(key)
        total.update(value)
    return total.digest()
