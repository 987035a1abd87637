"""Whose turn it is, of transactions that read what others under way here write.

Of those that change the same records one at a time can win; the others would go through the votes of all masters to
learn that they have to be run again. So one that reads what another, proposed here, writes waits for that one's
outcome. Then the history shows whether it has collided: it is answered at once, and has the next turn; or it goes on.

Nothing depends on this but how much is in vain: a transaction that is proposed elsewhere, or whose writes are not seen
here (spilled), is judged in the order of tids as ever.

Invariants:
- nobody waits where nothing is under way for longer than until the next tick;
- of one txid asked for twice, the second time does not wait for the first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final

from gavel.errors import BadRequest
from gavel.transaction.requests import Asked, Submit, unpack

WARY: Final = 64  # transactions after a collision that are looked at before they are proposed


class Turns:
    """Who is under way, and who waits."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[bytes, int], list[bytes]] = {}  # keys that each writes, by session and sequence
        self._keys: list[bytes] = []  # all of these, sorted
        self._waiting: deque[Asked] = deque()
        self._next: bytes = b""  # the session that was told to run again when others waited
        self._wary = 0

    @property
    def waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def collided(self) -> None:
        """There was a collision: for a while it is worth looking whether there is one before proposing."""
        self._wary = WARY

    def wary(self) -> bool:
        """Whether to look, this time."""
        self._wary -= self._wary > 0
        return bool(self._wary)

    def waits(self, asked: Asked, submit: Submit) -> bool:
        """Whether it has to wait for one that is under way; then it is kept."""
        if not self._blocked(submit):
            return False
        if submit.session == self._next:
            self._waiting.appendleft(asked)
        else:
            self._waiting.append(asked)
        self.collided()
        return True

    def _blocked(self, submit: Submit) -> bool:
        keys = self._keys
        if not keys or (submit.session, submit.sequence) in self._under_way:
            return False
        return any(bisect_left(keys, lo) < bisect_left(keys, hi) for lo, hi, _ in submit.reads)

    def begins(self, submit: Submit) -> None:
        """It is proposed."""
        name = submit.session, submit.sequence
        if name in self._under_way:
            return
        try:
            keys = unpack(submit.body).keys if submit.body else []
        except BadRequest:
            keys = []  # it will be refused
        self._under_way[name] = keys
        for key in keys:
            insort(self._keys, key)

    def ends(self, submit: Submit) -> None:
        """It has an outcome, or none will come."""
        for key in self._under_way.pop((submit.session, submit.sequence), ()):
            del self._keys[bisect_left(self._keys, key)]

    def next(self) -> Asked | None:
        """One that waits no more."""
        for at, asked in enumerate(self._waiting):
            assert isinstance(asked.question, Submit)
            if not self._blocked(asked.question):
                del self._waiting[at]
                return asked
        return None

    def told(self, submit: Submit) -> None:
        """It was told at once to run again: its turn is the next."""
        self._next = submit.session

    def clear(self) -> list[Asked]:
        """Nobody waits any more; those who did."""
        left = list(self._waiting)
        self._waiting.clear()
        self._under_way.clear()
        self._keys.clear()
        return left
