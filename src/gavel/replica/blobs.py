"""File data on its way between masters: what a client stages at one is passed on to all, and what is lacking asked for.

Invariants: what is passed on is the message that came, not a copy; what a vote names and is not here is asked for,
of one peer after the other and less and less often, until it comes. While file data comes at all, what is lacking may
be on its way behind it: then it is asked for later, and at no time all at once, so that a link that is slow is not
given everything twice.
"""

from __future__ import annotations

from collections.abc import Callable

from gavel.effects import Effect, Observe, Send
from gavel.errors import BadRequest, GavelError
from gavel.limits import WANT_NS
from gavel.replica.peers import Lost, Want
from gavel.replica.staging import Staging
from gavel.transaction.requests import Stage

_SLOWEST = 6  # doublings of WANT_NS
_PATIENT = 50  # times that something is asked for; a minute
_ON_ITS_WAY_NS = 10 * WANT_NS  # so long other file data that comes is a reason not to ask
_AT_ONCE = 16  # extents asked for at a time, 2 MiB


class _Lacking:
    """When to ask for a blob (again), and how often that was done."""

    __slots__ = ("at", "since", "times")

    def __init__(self, now: int) -> None:
        self.since = now
        self.at = now + WANT_NS
        self.times = 0


class Blobs:
    """What comes, goes, and is lacking. `arrived` and `gone` tell the quorum of what was lacking; `now` is the owner's
    to set. `peers` says which of the others can be reached and keep data."""

    def __init__(
        self,
        staging: Staging,
        effects: list[Effect],
        peers: Callable[[], list[int]],
        arrived: Callable[[bytes], None],
        gone: Callable[[bytes], None],
    ) -> None:
        self.now = 0
        self._staging = staging
        self._effects = effects
        self._peers = peers
        self._arrived = arrived
        self._gone = gone
        self._lacking: dict[bytes, _Lacking] = {}
        self._again = 0  # when ask() was said to be called again
        self._more = False  # something is lacking since
        self._came = 0  # when some file data last did

    def stage(self, blob: Stage) -> None:
        """A client hands it over: keep it, and pass it on. Raises BadRequest, VolumeFull, DeviceFull, DeviceFailed."""
        if self._take(blob):
            self._effects.extend(Send(peer, blob) for peer in self._peers())

    def received(self, peer: int, blob: Stage) -> None:
        """A peer hands it over. One for which there is no room, or that is not what it says, is not here then."""
        try:
            self._take(blob)
        except GavelError as error:
            if not error.retry and not isinstance(error, BadRequest):
                raise
            self._effects.append(Observe("file data not taken", {"peer": peer, "error": str(error)}))

    def _take(self, blob: Stage) -> bool:
        self._came = self.now
        name = self._staging.take(blob, self.now)
        if name is None:
            return False
        if self._lacking.pop(name, None) is not None:
            self._arrived(name)
        return True

    def wanted(self, peer: int, want: Want) -> None:
        """A peer lacks something: send it, or say that it is not here. Raises Damaged, DeviceFailed."""
        lost = []
        for name in want.blobs:
            blob = self._staging.load(name)
            if blob is not None:
                self._effects.append(Send(peer, blob))
            else:
                lost.append(name)
        if lost:
            self._effects.append(Send(peer, Lost(lost)))

    def lost(self, lost: Lost) -> None:
        """A peer has not got what is lacking here: if that is since it was executed there, this master catches up."""
        for name in lost.blobs:
            if name in self._lacking:
                self._gone(name)

    def lacks(self, names: list[bytes]) -> list[bytes]:
        """Which of these are not here; they are on their way, or are asked for after limits.WANT_NS."""
        lacking = self._staging.lacks(names) if names else names
        for name in lacking:
            if name not in self._lacking:
                self._lacking[name] = _Lacking(self.now)
                self._more = True
        return lacking

    def _due(self, lacking: _Lacking) -> int:
        """When to ask for it."""
        return max(lacking.at, min(self._came + WANT_NS, lacking.since + _ON_ITS_WAY_NS))

    def ask(self) -> list[int]:
        """Ask for what is due; when to do that again (ns), unless that was said before."""
        if not self._lacking or (self.now < self._again and not self._more) or not (peers := self._peers()):
            return []
        self._more = False
        asked: dict[int, list[bytes]] = {}
        due = [(lacking.times, name) for name, lacking in self._lacking.items() if self._due(lacking) <= self.now]
        due.sort(key=lambda one: one[0])  # what was never asked for first
        for times, name in due[:_AT_ONCE]:
            asked.setdefault(peers[times % len(peers)], []).append(name)
            self._lacking[name].times += 1
        for _, name in due:
            lacking = self._lacking[name]
            lacking.at = self.now + (WANT_NS << min(lacking.times, _SLOWEST))
        self._effects.extend(Send(peer, Want(names)) for peer, names in asked.items())
        for names in asked.values():
            for name in names:
                if self._lacking[name].times > _PATIENT:
                    del self._lacking[name]  # perhaps never needed any more; else it is named again
        if not self._lacking:
            return []
        at = min(map(self._due, self._lacking.values()))
        if self.now < self._again <= at:
            return []
        self._again = at
        return [at]
