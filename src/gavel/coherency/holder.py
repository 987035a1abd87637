"""A client's part in leases: what it holds by a majority, until when, and what it has to give up.

See docs/internals/coherency.md. Invariants: what is believed of a master is a part of what that master recorded; a
range is held while a majority of the voters of one epoch grants it, each for a term counted from when the renewal was
asked for; what was recalled is used no more, and released only when the cache says that nothing is dirty there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gavel.coherency.events import Answered, Denied, Established, Event, Lapsed, Recalled, Tokens, ToMaster
from gavel.coherency.holdings import Holdings
from gavel.coherency.messages import (
    Age,
    Alive,
    Ask,
    FromClient,
    FromMaster,
    Grant,
    Granted,
    Leave,
    Recall,
    Refused,
    Release,
    Renewed,
    Token,
    Want,
)
from gavel.coherency.rules import ALL, Rules
from gavel.coherency.space import EVERYTHING
from gavel.coherency.standing import Masters, Standing
from gavel.coherency.table import RangeMap
from gavel.keys.ranges import Range
from gavel.limits import LEASE_RENEWALS, LEASE_TERM_NS, LEASE_WANTS_MAX

__all__ = ["Answered", "Denied", "Established", "Event", "Holder", "Lapsed", "Recalled", "ToMaster", "Tokens"]

BEAT_NS: Final = LEASE_TERM_NS // LEASE_RENEWALS
PIN_NS: Final = 50 * 10**6  # what was established is kept so long for the operation that asked; some round trips


class _Asking:
    """An ask that is not done."""

    __slots__ = ("age", "answers", "established", "hold", "number", "over", "pending", "refusals", "wants", "wide")

    def __init__(self, number: int, age: Age | None, wants: list[Want], hold: bool, wide: bool) -> None:
        self.number, self.age, self.wants, self.hold, self.wide = number, age, wants, hold, wide
        self.answers: dict[int, tuple[bool, int]] = {}  # by node: whether it is held there, a tid
        self.refusals: dict[int, int] = {}
        self.pending: dict[int, int] = {}  # by node: how often it was sent and no answer came
        self.established: int | None = None  # when
        self.over = False  # answered or denied: nothing more is to come

    def overlaps(self, lo: bytes, hi: bytes, to: int) -> bool:
        """Whether it wants more than this mode somewhere in [lo, hi)."""
        return any(want.mode > to and want.lo < hi and lo < want.hi for want in self.wants)


class _Leaving(NamedTuple):
    """What is recalled and not released."""

    want: Want
    sources: list[tuple[int, int]]


class _Deferred(NamedTuple):
    """A recall that waits for the operation that has just got, or is about to get, what it asked for."""

    recall: Recall
    limit: int


class Holder:
    """See the module. `now` is ns of a clock that also counts while the machine sleeps; never back.

    Reading: take the value, then look that clock() < valid_until. The shell calls `tick` at or after `wake_at`, and
    after each call carries out `drain()` in order.
    """

    def __init__(self, session: bytes, rules: Rules = ALL) -> None:
        self._session = session
        self._rules = rules
        self._masters = Masters(rules)
        self._holdings = Holdings(self._masters)
        self._asks: dict[int, _Asking] = {}
        self._leaving: dict[int, _Leaving] = {}
        self._deferred: dict[tuple[int, int], _Deferred] = {}
        self._answered: dict[tuple[int, int], int] = {}  # recalls by the release that answers them
        self._gained: list[Granted] = []
        self._numbers = self._releases = 0
        self._clock = 0
        self._beat_at = 0
        self._out: list[Event] = []
        self.wake_at: int | None = 0
        self.valid_until = 0
        """all that is held is held until this moment at least; 0 if nothing is"""
        self.known = 0
        """a tid up to which everything was executed at some master while all that is held was held; cap at it"""

    def drain(self) -> list[Event]:
        """What is to be done since the last call, in order."""
        out, self._out = self._out, []
        return out

    # Asking.

    def need(
        self, wants: Sequence[Want], now: int, *, after: int | None = None, hold: bool = True, wide: bool = True
    ) -> int:
        """Ask every master for these together; the number comes back in Established, Answered or Denied. `after`: an
        earlier ask of the same operation, whose age this one has. hold=False: a read or a write without a lease."""
        assert 0 < len(wants) <= LEASE_WANTS_MAX
        self._numbers += 1
        former = self._asks.get(after) if after is not None else None
        age = former.age if former is not None else self._age()
        ask = self._asks[self._numbers] = _Asking(self._numbers, age, list(wants), hold, wide)
        if not self._complete(ask, now):
            for master in self._masters:
                self._send_ask(master, ask)
        return ask.number

    def _age(self) -> Age | None:
        """That of who asks now; none before a master has said what time it is."""
        return Age(self._clock, self._session) if self._clock else None

    def done(self, number: int, now: int) -> None:
        """The operation that asked has run, or does not want it any more. Until then what was established for it is
        kept against younger ones, for a short while."""
        ask = self._asks.pop(number, None)
        if ask is not None:
            for master in self._masters:
                if ask.age is not None and ask.pending.get(master.node):  # it may wait there, before others
                    self._send(master, Ask(number, ask.age, [], False, False, master.sent))
            self._reconsider(now)

    def age(self, number: int) -> Age | None:
        """Of an ask that is not done."""
        ask = self._asks.get(number)
        return None if ask is None else ask.age

    def _send_ask(self, master: Standing, ask: _Asking) -> None:
        if ask.age is not None and master.connected:
            ask.pending[master.node] = ask.pending.get(master.node, 0) + 1
            self._send(master, Ask(ask.number, ask.age, ask.wants, ask.wide, ask.hold, master.sent))

    def _complete(self, ask: _Asking, now: int) -> bool:
        """Say so if an ask is fulfilled, or answered by a majority."""
        if ask.established is not None or ask.over:
            return True
        if ask.hold and all(self.covers(*want) for want in ask.wants):
            ask.established = now
            gained, self._gained = self._gained, []
            self._out.append(Established(ask.number, gained))
            return True
        voters, needed = self._masters.voters, self._masters.majority
        answers = [ask.answers[node] for node in voters if node in ask.answers]
        if len(answers) >= needed and not all(held for held, _ in answers):
            ask.over = True
            self._out.append(Answered(ask.number, max(tid for _, tid in answers)))
            return True
        return False

    # What is held.

    def covers(self, lo: bytes, hi: bytes, mode: int) -> bool:
        """Whether the lease range is held in this mode (or X), as of the last tick or message; see `valid_until`."""
        return self._holdings.modes.at_least(lo, hi, mode)

    def tokens(self, ranges: Sequence[Range]) -> Tokens | None:
        """The tokens under which a write to all of these is made now: those of the masters that grant X on all of them;
        None if these are no majority. The same object while nothing changed. Groups of different tokens may share
        a transaction if it names what they have in common, and that is still a majority."""
        return self._holdings.tokens(ranges, self.valid_until)

    def believes(self, master: int, key: bytes, now: int) -> tuple[Token, int] | None:
        """What a master is believed to grant at a key, and under which token; None if its term is over. For people, and
        for those who compare it with what the master has recorded."""
        standing = self._masters.of(master)
        if standing.token is None or max(standing.until.values(), default=0) <= now:
            return None
        return standing.token, self._holdings.granted_by(master, key)

    def _review(self, lo: bytes, hi: bytes, now: int, lapse: bool = True) -> None:
        """Find out what is held of [lo, hi), and report what that changes; but losses only if it is a lapse."""
        lost = self._holdings.review(lo, hi, now, self._gained)
        if lost and lapse:
            self._out.append(Lapsed(lost, self.known))
            self._holdings.lapse(lost, self.known)
        self._measure(now)

    def _measure(self, now: int) -> None:
        """Find out until when all that is held is."""
        until = self._holdings.until(now)
        self.valid_until = min(until, *(deferred.limit for deferred in self._deferred.values()), until)

    def _lower(self, want: Want, now: int) -> None:
        """Believe nobody to grant more than this any more."""
        self._holdings.lower(want)
        self._review(want.lo, want.hi, now, lapse=False)
        for ask in self._asks.values():
            if ask.overlaps(*want) and ask.established is None:
                ask.answers.clear()

    # Giving up.

    def released(self, recall: int, tid: int, now: int) -> None:
        """Nothing is dirty in what was recalled; `tid` is the highest that was seen or written there."""
        leaving = self._leaving.pop(recall, None)
        if leaving is not None:
            self._release([leaving.want], max(tid, self.known), leaving.sources)
            self._ask_again([leaving.want])
            self._reconsider(now)

    def give_up(self, ranges: Sequence[Want], tid: int, now: int) -> None:
        """Release these down to their modes, of own accord. Nothing may be dirty there that needs more."""
        for want in ranges:
            self._lower(want, now)
        self._release(list(ranges), max(tid, self.known), [])
        self._ask_again(ranges)

    def _release(self, wants: list[Want], tid: int, sources: list[tuple[int, int]]) -> None:
        self._releases += 1
        for key in sources:
            self._answered[key] = self._releases
        for master in self._masters:
            before, master.sent = master.sent, self._releases
            master.log.append((self._releases, wants))
            self._send(master, Release(self._releases, before, wants, tid))

    def _ask_again(self, wants: Sequence[Want]) -> None:
        """What was granted of these for an ask that is still open is given up: ask anew, behind who recalled it."""
        for ask in self._asks.values():
            if ask.established is None and not ask.over and any(ask.overlaps(*want) for want in wants):
                for master in self._masters:
                    self._send_ask(master, ask)

    # What happens.

    def hear(self, master: int, message: FromMaster, now: int) -> None:
        """A master said this."""
        if self.wake_at is not None and now >= self.wake_at:
            self.tick(now)
        standing = self._masters.of(master)
        kind = type(message)
        if kind is Renewed:
            self._renewed(standing, message, now)  # type: ignore[arg-type]
        elif kind is Grant:
            self._granted(standing, message, now)  # type: ignore[arg-type]
        elif kind is Recall:
            self._recalled(standing, message, now)  # type: ignore[arg-type]
        elif kind is Refused:
            self._refused(standing, message)  # type: ignore[arg-type]
        if self._gained:
            gained, self._gained = self._gained, []
            self._out.append(Established(None, gained))

    def _known_by(self, master: Standing, token: Token, released: int, now: int) -> bool:
        """Take notice of the token that a master knows us under; False if the message is an old one."""
        token = Token(*token)
        if master.token is not None and token < master.token:
            return not self._rules.same_token
        if token != master.token:
            master.begin(token, released)
            self._masters.changed()
            if self._rules.same_token:
                self._holdings.without(master.node)
                self._review(*EVERYTHING, now)
            self._tell_releases(master)
            for ask in self._asks.values():
                if ask.answers.pop(master.node, None) and ask.established is None and not ask.over:
                    self._send_ask(master, ask)
        return True

    def _renewed(self, master: Standing, message: Renewed, now: int) -> None:
        if not self._known_by(master, message.token, message.released, now):
            return
        first, self._clock = not self._clock, max(self._clock, message.clock)
        for recall in message.recalls:
            self._recalled(master, recall, now)
        self._acknowledge(master, message.released)
        self.known = max(self.known, message.tid)
        began = self._masters.renewed(master, message, now)
        if self._holdings.lacking():
            self._review(*EVERYTHING, now)
        else:
            self._measure(now)
        if first or began:
            for ask in self._asks.values():
                ask.age = ask.age or self._age()
                ask.answers.clear()
                if ask.established is None and not ask.over:
                    for other in self._masters:
                        self._send_ask(other, ask)
        for ask in list(self._asks.values()):
            self._complete(ask, now)
        self._arm(now)

    def _granted(self, master: Standing, message: Grant, now: int) -> None:
        if not self._known_by(master, message.token, message.released, now):
            return
        if message.released < master.acked and self._rules.released_since:
            return
        self._clock = max(self._clock, message.clock)
        self.known = max([self.known, *(tid for _, _, _, tid in message.ranges)])
        less = master.since(message.released) + [leaving.want for leaving in self._leaving.values()]
        if not self._rules.released_since:
            less = []
        self._acknowledge(master, message.released)
        ask = self._asks.get(message.number)
        if message.held:
            for granted in message.ranges:
                self._support_by(master, Granted(*granted), less, ask is not None, now)
        if ask is None:
            return
        ask.pending[master.node] = max(ask.pending.get(master.node, 0) - 1, 0)
        if not message.held or all(self._holdings.granted(master.node, want) for want in ask.wants):
            tids = [tid for _, _, _, tid in message.ranges]
            ask.answers[master.node] = message.held, max(tids, default=0)
        elif not any(want.lo < hi and lo < want.hi for want in ask.wants for lo, hi, _ in self._leaves()):
            self._send_ask(master, ask)
        for other in list(self._asks.values()):
            self._complete(other, now)
        self._arm(now)

    def _leaves(self) -> list[Want]:
        return [leaving.want for leaving in self._leaving.values()]

    def _support_by(self, master: Standing, granted: Granted, less: list[Want], open_ask: bool, now: int) -> None:
        """A master grants a range, less what was released since. Without an ask for it, it only joins the others."""
        parts: RangeMap[int] = RangeMap()
        parts.set(granted.lo, granted.hi, granted.mode)
        for lo, hi, to in less:
            for low, high, mode in parts.over(lo, hi):
                parts.set(low, high, min(mode, to) or None)
        for lo, hi, mode in parts:
            if open_ask:
                pieces = [(lo, hi)]
            else:
                pieces = [(a, b) for a, b, _ in self._holdings.modes.over(lo, hi)]
            for a, b in pieces:
                self._holdings.join(a, b, master.node, mode, granted.tid if self._rules.newest else 0)
                self._review(a, b, now)

    def _refused(self, master: Standing, message: Refused) -> None:
        ask = self._asks.get(message.number)
        if ask is None or ask.over or ask.established is not None:
            return
        ask.refusals[master.node] = message.why
        if len(ask.refusals) > len(self._masters.voters) - self._masters.majority:
            ask.over = True
            self._out.append(Denied(ask.number, message.why))

    def _acknowledge(self, master: Standing, released: int) -> None:
        master.acknowledge(released)
        if self._answered:
            for key in [k for k, number in self._answered.items() if k[0] == master.node and number <= released]:
                del self._answered[key]

    # Recalls.

    def _recalled(self, master: Standing, recall: Recall, now: int) -> None:
        key = master.node, recall.number
        want = Want(recall.lo, recall.hi, recall.to)
        old = self._deferred.pop(key, None)
        if key in self._answered or any(key in leaving.sources for leaving in self._leaving.values()):
            return
        for leaving in self._leaving.values():
            lo, hi, to = leaving.want
            if lo <= want.lo and want.hi <= hi and to <= want.mode:
                leaving.sources.append(key)
                return
        if not self._holdings.above(want) and not any(lo < want.hi and want.lo < hi for lo, hi, _ in self._leaves()):
            self._release([want], self.known, [key])
            return
        limit = old.limit if old is not None else max(master.until.values(), default=0)
        if now < limit and self._pinned(master.node, recall, now):
            self._deferred[key] = _Deferred(recall, limit)
            self._measure(now)
            self._arm(now)
        else:
            self._numbers += 1
            self._leaving[self._numbers] = _Leaving(want, [key])
            self._lower(want, now)
            self._out.append(Recalled(self._numbers, [(want.lo, want.hi)], want.mode))

    def _pinned(self, node: int, recall: Recall, now: int) -> bool:
        """Whether an operation here goes first: it has just got what it asked for, or is older than who recalls and
        has been granted it by that master. Before that it can get nothing there that is being recalled: both would
        wait for each other."""
        for ask in self._asks.values():
            if ask.over or ask.age is None or not ask.overlaps(recall.lo, recall.hi, recall.to):
                continue
            older = ask.age < Age(*recall.age)
            if ask.established is None:
                if older and node in ask.answers:
                    return True
            elif now < ask.established + PIN_NS and (older or not self._waits(ask.age)):
                return True
        return False

    def _waits(self, age: Age) -> bool:
        """Whether an operation waits for something else."""
        return any(ask.age == age and ask.established is None and not ask.over for ask in self._asks.values())

    def _reconsider(self, now: int) -> None:
        """Answer recalls that nothing here stands against any more."""
        for node, number in list(self._deferred):
            deferred = self._deferred.get((node, number))
            if deferred is not None:
                self._recalled(self._masters.of(node), deferred.recall, now)
        self._measure(now)
        self._arm(now)

    # Time.

    def connected(self, master: int, now: int) -> None:
        """A master can be reached (again); nothing is known of what was said before."""
        standing = self._masters.of(master)
        standing.connected = True
        if standing.token is None:
            standing.sent = standing.acked = self._releases  # there is nothing there to release
        self._beat(standing, now)
        for ask in self._asks.values():
            if master not in ask.answers and ask.established is None and not ask.over:
                self._send_ask(standing, ask)

    def disconnected(self, master: int) -> None:
        """It cannot be reached. What it granted stands until its term is over."""
        self._masters.of(master).connected = False

    def tick(self, now: int) -> None:
        """Time has passed."""
        if self.valid_until and now >= self.valid_until:
            self._reconsider(now)
            self._review(*EVERYTHING, now)
        elif self._deferred:
            self._reconsider(now)
        if now >= self._beat_at:
            known = all(master.token is not None for master in self._masters if master.connected)
            self._beat_at = now + (BEAT_NS if known else BEAT_NS // 8)  # who has not answered yet is about to act
            for master in self._masters:
                self._beat(master, now)
                for ask in self._asks.values():
                    if master.node not in ask.answers and ask.established is None and not ask.over:
                        self._send_ask(master, ask)
                self._mend(master)
        self._arm(now)

    def _beat(self, master: Standing, now: int) -> None:
        working = [number for node, number in self._deferred if node == master.node]
        for leaving in self._leaving.values():
            working += [number for node, number in leaving.sources if node == master.node]
        self._tell_releases(master)
        self._send(master, Alive(now, master.sent, working))

    def _tell_releases(self, master: Standing) -> None:
        """Say again what was released and is not known to have arrived."""
        if master.log:
            self._send(master, Release(master.sent, master.acked, master.since(master.acked), self.known))

    def _mend(self, master: Standing) -> None:
        """Ask a master for what others grant and it does not: it was away, or is new."""
        if master.token is None or master.node not in self._masters.voters or not self._clock:
            return
        missing = self._holdings.missing(master.node)
        if missing:
            if not master.repair:
                self._numbers += 1
                master.repair = self._numbers
            age = Age(self._clock, self._session)
            self._send(master, Ask(master.repair, age, missing[:LEASE_WANTS_MAX], False, True, master.sent))
        else:
            master.repair = 0

    def leave(self, now: int) -> None:
        """The client ends; nothing is dirty. Everything is given up at every master at once."""
        for master in self._masters:
            self._send(master, Leave())
        self._holdings = Holdings(self._masters)
        self._deferred.clear()
        self._leaving.clear()
        self._asks.clear()
        self.valid_until = 0

    def _send(self, master: Standing, message: FromClient) -> None:
        if master.connected:
            self._out.append(ToMaster(master.node, message))

    def _arm(self, now: int) -> None:
        times = [self._beat_at]
        if self.valid_until:
            times.append(self.valid_until)
        if self._deferred:
            times += [deferred.limit for deferred in self._deferred.values()]
            pins = [ask.established + PIN_NS for ask in self._asks.values() if ask.established is not None]
            times += [pin for pin in pins if pin > now]
        self.wake_at = min(times)
