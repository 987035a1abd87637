"""A client's session with a cluster: requests that happen at most once, whichever master answers.

Events in by step(), effects out by drain() (gavel.effects). The shell keeps a connection to every master. It steps
what a connection says as Received(master, event), PeerDown when its pulse is in doubt or it has ended, PeerUp when the
doubt is over; and passes on Send(master, Question or Blob). One master is asked until it fails; then the next, and
what has no answer yet is asked there again, under the same session and number.

Invariants:
- a request is answered once: the first final answer counts, wherever it comes from;
- its number never changes; asking again is safe since masters remember what happened under it;
- it goes to a master only after the blobs that it needs went there;
- it waits for at most `patience`, then QuorumLost, or what the last master said; it may still have happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gavel.effects import Arm, Effect, Event, PeerDown, PeerUp, Received, Reply, Requested, Send, Ticked
from gavel.errors import BadPeer, BadRequest, GavelError, QuorumLost
from gavel.limits import BACKOFF_MAX_MS, BACKOFF_MS, HEDGE_MS, SESSION_TICK_MS
from gavel.wire import failures
from gavel.wire.connection import Answered, Credited, Ended, Farewelled, Opened
from gavel.wire.frames import Buffer
from gavel.wire.messages import Status

_MS: Final = 1_000_000
# File data that is given a millisecond more before a request is asked of another master, too, which is sent all of it
# again: as much as comes through when several write to a machine that is short of everything.
_HEDGE_BYTES: Final = 4 * 1024


class Ask(NamedTuple):
    """Requested: ask the cluster. The Reply's result is the body of the answer (a memoryview), or the typed error."""

    ticket: Any
    body: Buffer
    needs: tuple[bytes, ...] = ()  # blobs to send ahead, staged before; let go of with the answer


class Stage(NamedTuple):
    """Requested: send file data ahead as soon as there is credit. Never replied to."""

    blob: bytes
    data: Buffer


class Unstage(NamedTuple):
    """Requested: nothing will need these blobs after all. Never replied to."""

    blobs: tuple[bytes, ...]


class Question(NamedTuple):
    """Sent: a request, with the stream to send it on."""

    stream: int
    seq: int
    body: Buffer


class Blob(NamedTuple):
    """Sent: file data."""

    blob: bytes
    data: Buffer


class _Open:
    """A request without an answer."""

    __slots__ = ("ask", "asked", "deadline", "elsewhere", "hedge_at", "last", "not_before", "seq", "size", "tries")

    def __init__(self, ask: Ask, seq: int, asked: int, deadline: int, size: int) -> None:
        self.ask, self.seq, self.deadline, self.size = ask, seq, deadline, size
        self.asked: int | None = None  # the master that it went to last
        self.tries = 0
        self.elsewhere = 0  # masters that said they cannot
        self.hedge_at = 0
        self.not_before = asked
        self.last: GavelError | None = None


class _Master:
    """One master as the session sees it."""

    __slots__ = ("blobs", "open", "requests", "room", "streams", "up")

    def __init__(self) -> None:
        self.open = self.up = False
        self.reset()

    def reset(self) -> None:
        self.requests = self.room = 0
        self.streams: dict[int, int] = {}  # stream: number of the request on its way there
        self.blobs: dict[bytes, None] = {}  # sent there on this connection

    @property
    def takes(self) -> int:
        """Requests that may be sent there now."""
        return self.requests - len(self.streams)


class Session:
    """See the module. `first` is the master to begin with; `jitter(n)` gives a number in [0, n) from outside."""

    def __init__(self, masters: int, patience_ms: int, jitter: Callable[[int], int], first: int = 0) -> None:
        assert masters and first < masters
        self.chosen = first
        self._masters = [_Master() for _ in range(masters)]
        self._patience, self._jitter = patience_ms, jitter
        self._seq = 0
        self._open: dict[int, _Open] = {}  # by number, in the order they were asked
        self._due: dict[int, None] = {}  # those that have to be sent
        self._staged: dict[bytes, Buffer] = {}
        self._unsent: dict[bytes, None] = {}  # blobs that the chosen master has not been sent
        self._effects: list[Effect] = []
        self._armed = False

    def step(self, event: Event, now: int) -> None:
        """Take in what happened at `now`, monotonic ns."""
        match event:
            case Requested(Ask() as ask):
                self._ask(ask, now)
            case Requested(Stage(blob, data)):
                self._staged[blob] = data
                self._unsent[blob] = None
            case Requested(Unstage(blobs)):
                self._unstage(blobs)
            case Received(master, Answered() as answer):
                self._answered(master, answer, now)
            case Received(master, Credited(room)):
                self._masters[master].room = room
            case Received(master, Opened(peer)):
                self._opened(master, peer.requests, peer.window)
            case Received(master, Farewelled()):
                self._masters[master].requests = 0
                self._lost(master, now)
            case Received(master, Ended()):
                self._masters[master].open = False
                self._lost(master, now)
            case PeerDown(master):
                self._lost(master, now)
            case PeerUp(master):
                self._again(master)
            case Ticked():
                self._ticked(now)
            case _:
                raise BadRequest(f"a session has no use for {event!r}")
        self._pump(now)

    def drain(self) -> list[Effect]:
        """What is to be done now, in order."""
        effects, self._effects = self._effects, []
        return effects

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._open)

    @property
    def awaited(self) -> list[int]:
        """The masters that have a request and have not answered it."""
        return [number for number, one in enumerate(self._masters) if one.streams]

    def usable(self, master: int) -> bool:
        """Whether requests may be sent to a master."""
        one = self._masters[master]
        return one.up and one.requests > 0

    def add(self) -> int:
        """One more master is known, not connected yet; its number."""
        self._masters.append(_Master())
        return len(self._masters) - 1

    # What is asked for here.

    def _ask(self, ask: Ask, now: int) -> None:
        if not all(blob in self._staged for blob in ask.needs):
            raise BadRequest("a request needs file data that was not staged; stage it first")
        self._seq += 1
        size = sum(len(self._staged[blob]) for blob in ask.needs)
        self._open[self._seq] = _Open(ask, self._seq, now, now + self._patience * _MS, size)
        self._due[self._seq] = None
        self._arm(now)

    def _unstage(self, blobs: tuple[bytes, ...]) -> None:
        for blob in blobs:
            self._staged.pop(blob, None)
            self._unsent.pop(blob, None)
            for master in self._masters:
                master.blobs.pop(blob, None)

    def _arm(self, now: int) -> None:
        if not self._armed:
            self._armed = True
            self._effects.append(Arm(now + SESSION_TICK_MS * _MS))

    # What masters say.

    def _opened(self, master: int, requests: int, window: int) -> None:
        one = self._masters[master]
        one.reset()
        one.open = one.up = True
        one.requests, one.room = requests, window
        if master == self.chosen or not self.usable(self.chosen):
            self._choose(master)

    def _again(self, master: int) -> None:
        """The doubt about a master is over; what was asked of it may be answered yet."""
        self._masters[master].up = self._masters[master].open
        if self.usable(master) and not self.usable(self.chosen):
            self._choose(master)

    def _answered(self, master: int, answer: Answered, now: int) -> None:
        seq = self._masters[master].streams.pop(answer.stream, None)
        one = None if seq is None else self._open.get(seq)
        if one is None:
            return  # answered before by another master, or given up
        if answer.status == Status.DONE:
            self._finish(one, answer.body)
            return
        try:
            problem = failures.decode(answer.body)
        except BadPeer as error:
            problem = error
        if answer.status == Status.FAILED:
            self._finish(one, problem)
        else:
            self._elsewhere(master, one, problem, now)

    def _elsewhere(self, master: int, one: _Open, problem: GavelError, now: int) -> None:
        """A master cannot do it: the next one, and after a round of them all a pause."""
        one.last = problem
        one.elsewhere += 1
        for blob in one.ask.needs:
            self._masters[master].blobs.pop(blob, None)  # perhaps that was the reason
        if one.asked != master:
            return  # another one works on it
        one.asked = None
        rounds, rest = divmod(one.elsewhere, len(self._masters))
        if rest == 0:
            wait = min(BACKOFF_MS << min(rounds, 16), BACKOFF_MAX_MS) * _MS
            one.not_before = now + wait // 2 + self._jitter(wait // 2)
        if master == self.chosen:
            self._turn_from(master)
        self._due[one.seq] = None

    def _finish(self, one: _Open, result: object) -> None:
        del self._open[one.seq]
        self._due.pop(one.seq, None)
        self._unstage(one.ask.needs)
        self._effects.append(Reply(one.ask, result))

    # Which master.

    def _lost(self, master: int, now: int) -> None:
        """A master is in doubt, gone, or going: what it has not answered is asked of the next one."""
        one = self._masters[master]
        one.up = False
        if not one.open:
            one.reset()
        if master == self.chosen:
            self._turn_from(master)
        if not self.usable(self.chosen) and one.open:
            return  # there is nobody else: the answer may still come from there
        for waiting in self._open.values():
            if waiting.asked == master:
                waiting.asked = None
                self._due[waiting.seq] = None

    def _turn_from(self, master: int) -> None:
        """Choose the next usable master after this one; stay if there is none."""
        count = len(self._masters)
        for step in range(1, count):
            other = (master + step) % count
            if self.usable(other):
                self._choose(other)
                return
        if master == self.chosen:
            self._choose(master)

    def _choose(self, master: int) -> None:
        self.chosen = master
        sent = self._masters[master].blobs
        self._unsent = {blob: None for blob in self._staged if blob not in sent}
        for one in self._open.values():
            if one.asked is not None and not self._masters[one.asked].up and one.asked != master:
                one.asked = None
            if one.asked is None:
                self._due[one.seq] = None

    # Sending.

    def _pump(self, now: int) -> None:
        """Send what can be sent: blobs as far as the credit goes, then requests whose blobs have gone."""
        if not self.usable(self.chosen):
            return
        master = self._masters[self.chosen]
        while self._unsent:
            blob = next(iter(self._unsent))
            data = self._staged[blob]
            if len(data) > master.room:
                break
            del self._unsent[blob]
            master.room -= len(data)
            master.blobs[blob] = None
            self._effects.append(Send(self.chosen, Blob(blob, data)))
        if not self._due:
            return
        sent = []
        for seq in self._due:
            one = self._open[seq]
            if master.takes <= 0:
                break
            if now >= one.not_before and all(blob in master.blobs for blob in one.ask.needs):
                self._send(one, master, now)
                sent.append(seq)
        for seq in sent:
            del self._due[seq]

    def _send(self, one: _Open, master: _Master, now: int) -> None:
        stream = one.seq & 0xFFFFFFFF
        one.asked = self.chosen
        one.tries += 1
        one.hedge_at = now + (HEDGE_MS << min(one.tries - 1, 6)) * _MS + one.size // _HEDGE_BYTES * _MS
        if stream in master.streams:
            return  # it has been asked there already, and may still answer
        master.streams[stream] = one.seq
        self._effects.append(Send(self.chosen, Question(stream, one.seq, one.ask.body)))

    def _ticked(self, now: int) -> None:
        """Give up what has waited for too long; ask another master, too, where one takes its time."""
        self._armed = False
        for one in list(self._open.values()):
            if now >= one.deadline:
                self._finish(one, one.last or QuorumLost(self._patience))
            elif one.asked is not None and now >= one.hedge_at and self._hedge(one):
                one.asked = None
                self._due[one.seq] = None
        if self._open:
            self._arm(now)

    def _hedge(self, one: _Open) -> bool:
        """Whether there is another master than the one that was asked; it is the chosen one then."""
        assert one.asked is not None
        if one.asked == self.chosen:
            self._turn_from(self.chosen)
        return one.asked != self.chosen and self.usable(self.chosen)
