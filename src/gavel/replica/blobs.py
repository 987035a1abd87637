"""File data on its way between masters: what a client stages at one is passed on to all, and what is lacking asked for.

Invariants: what is passed on is the message that came, not a copy; what a vote names and is not here is asked for,
of one peer after the other and less and less often, until it comes.
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


class _Lacking:
    """When to ask for a blob (again), and how often that was done."""

    __slots__ = ("at", "times")

    def __init__(self, at: int) -> None:
        self.at = at
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
                self._lacking[name] = _Lacking(self.now + WANT_NS)
        return lacking

    def ask(self) -> list[int]:
        """Ask for what is due; when to do that again (ns), unless that was said before."""
        if not self._lacking or not (peers := self._peers()):
            return []
        asked: dict[int, list[bytes]] = {}
        for name, lacking in self._lacking.items():
            if lacking.at <= self.now:
                asked.setdefault(peers[lacking.times % len(peers)], []).append(name)
                lacking.times += 1
                lacking.at = self.now + (WANT_NS << min(lacking.times, _SLOWEST))
        self._effects.extend(Send(peer, Want(names)) for peer, names in asked.items())
        for names in asked.values():
            for name in names:
                if self._lacking[name].times > _PATIENT:
                    del self._lacking[name]  # perhaps never needed any more; else it is named again
        if not self._lacking:
            return []
        at = min(lacking.at for lacking in self._lacking.values())
        if self.now < self._again <= at:
            return []
        self._again = at
        return [at]
