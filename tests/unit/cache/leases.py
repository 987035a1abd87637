"""Clients with leases in virtual time, before one exact history and a registry of leases that says who holds what.

Nothing of the protocol of leases is here: `Registry` grants, recalls and takes away in its own instants, and tells
clients by messages that take their time. What is tested is what a client makes of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from gavel.cache.attempts import Finished
from gavel.cache.leased import Leased
from gavel.cache.remote import Remote
from gavel.cache.rights import Rights
from gavel.cache.under_way import Asking, Forget
from gavel.cache.writeback import Ahead
from gavel.coherency.holder import Answered, Established, Lapsed, Recalled
from gavel.coherency.messages import NONE, Granted, S, Want, X
from gavel.coherency.space import EVERYTHING, lease_key, lease_range, levels
from gavel.effects import Reply
from gavel.errors import GavelError, QuorumLost
from gavel.keys.ranges import Range
from gavel.transaction import requests
from gavel.transaction.requests import Answer, Question, Submit
from gavel.transaction.transaction import Transaction
from tests.unit.cache.master import Master

MS = 1_000_000
SECOND = 1000 * MS
WALL = 1_700_000_000_000_000_000
TERM = 2 * SECOND


class Holding:
    """What a client believes; the part of coherency.Holder that a client uses."""

    def __init__(self, registry: Registry, number: int) -> None:
        self.registry, self.number = registry, number
        self.rights = Rights()  # of lease keys
        self.token = 1
        self.valid_until = 0
        self.known = 0
        self.wake_at: int | None = None
        self.out: list[Any] = []
        self.asks = count(1)
        self.open: dict[int, tuple[list[Want], bool]] = {}

    def need(
        self, wants: Sequence[Want], now: int, *, after: int | None = None, hold: bool = True, wide: bool = True
    ) -> int:
        number = next(self.asks)
        self.open[number] = list(wants), hold
        self._ask(number)
        return number

    def _ask(self, number: int) -> None:
        wants, hold = self.open[number]
        self.registry.lab.on_its_way(lambda: self.registry.ask(self, number, wants, hold), self.number)

    def ask_again(self) -> None:
        """Everything that was said to this client before is void."""
        for number in self.open:
            self._ask(number)

    def done(self, number: int, now: int) -> None:
        self.open.pop(number, None)

    def tokens(self, ranges: Sequence[Range]) -> tuple[tuple[int, int, int], ...] | None:
        if any(self.rights.lacks(lo, hi, True) for lo, hi in ranges):
            return None
        return ((1, 1, self.token),)

    def covers(self, lo: bytes, hi: bytes, mode: int) -> bool:
        return not self.rights.lacks(lo, hi, mode == X)

    def released(self, recall: int, tid: int, now: int) -> None:
        self.registry.lab.on_its_way(lambda: self.registry.released(self, recall), self.number)

    def tick(self, now: int) -> None:
        if now >= self.valid_until:
            self.lapse()

    def lapse(self) -> None:
        ranges = [Want(piece.lo, piece.hi, NONE) for piece in self.rights.pieces(*EVERYTHING)]
        self.rights = Rights()
        self.valid_until = 0
        self.wake_at = None
        if ranges:
            self.out.append(Lapsed(ranges, self.known))

    def drain(self) -> list[Any]:
        out, self.out = self.out, []
        return out

    def connected(self, master: int, now: int) -> None:
        """There is but one."""


class Registry:
    """Who holds what. Its word counts for writes; its clients learn of it later."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.held: dict[Holding, Rights] = {}
        self.ends: dict[Holding, int] = {}  # when a client's leases end that is not heard of
        self.waiting: list[tuple[Holding, int, list[Want], bool]] = []
        self.recalls: dict[tuple[Holding, int], list[tuple[Range, int]]] = {}
        self.recalled: dict[Holding, list[tuple[Range, int]]] = {}
        self.numbers = count(1)
        self.contended = 0.0  # how often an ask is answered without a lease

    def ask(self, holding: Holding, number: int, wants: list[Want], hold: bool) -> None:
        if any(one[0] is holding and one[1] == number for one in self.waiting) or number not in holding.open:
            return
        if self.lab.random.random() < self.contended:
            hold = False
        self.waiting.append((holding, number, wants, hold))
        self.look()

    def conflicts(self, holding: Holding, lo: bytes, hi: bytes, mode: int) -> list[tuple[Holding, Range, int]]:
        """Who holds what against it, and what he may keep."""
        return [
            (other, (piece.lo, piece.hi), NONE if mode == X else S)
            for other, rights in self.held.items()
            if other is not holding
            for piece in rights.pieces(lo, hi)
            if mode == X or piece.exclusive
        ]

    def look(self) -> None:
        """Grant what can be granted, in the order it was asked."""
        waiting, self.waiting = self.waiting, []
        for holding, number, wants, hold in waiting:
            against = [one for lo, hi, mode in wants for one in self.conflicts(holding, lo, hi, mode)]
            ahead = any(
                lo < b and a < hi and X in (mode, other_mode)
                for other, _, others, _ in self.waiting
                if other is not holding
                for a, b, other_mode in others
                for lo, hi, mode in wants
            )
            if against or ahead:
                self.waiting.append((holding, number, wants, hold))
                for other, part, to in against:
                    self.recall(other, part, to)
                continue
            own = [part for part, _ in self.recalled.get(holding, [])]
            if any(lo < b and a < hi for a, b in own for lo, hi, _ in wants):
                self.waiting.append((holding, number, wants, hold))  # what is being released is not granted anew
                continue
            tid = self.lab.master.tid
            if not hold:
                self.tell(holding, lambda h, n=number, t=tid: h.out.append(Answered(n, t)))  # type: ignore[misc]
                continue
            granted = [Granted(*self.widest(holding, lo, hi, mode), mode, tid) for lo, hi, mode in wants]
            for lo, hi, mode, _ in granted:
                self.held.setdefault(holding, Rights()).grant(lo, hi, mode == X, tid)
            self.renew(holding)

            def established(h: Holding, number: int = number, granted: list[Granted] = granted) -> None:
                for lo, hi, mode, tid in granted:
                    h.rights.grant(lo, hi, mode == X, tid)
                h.out.append(Established(number, granted))

            self.tell(holding, established)

    def widest(self, holding: Holding, lo: bytes, hi: bytes, mode: int) -> Range:
        found = lo, hi
        for level in levels(lo, hi):
            others = [(a, b) for one, _, wants, _ in self.waiting if one is not holding for a, b, _ in wants]
            others += [part for part, _ in self.recalled.get(holding, [])]
            if self.conflicts(holding, *level, mode) or any(a < level[1] and level[0] < b for a, b in others):
                break
            found = level
        return found

    def recall(self, holding: Holding, part: Range, to: int) -> None:
        if any(a <= part[0] and part[1] <= b and was <= to for (a, b), was in self.recalled.get(holding, [])):
            return
        number = next(self.numbers)
        self.recalls[holding, number] = [(part, to)]
        self.recalled.setdefault(holding, []).append((part, to))

        def recalled(h: Holding) -> None:
            if to == NONE:
                h.rights.remove(*part)
            else:
                h.rights.lower(*part)
            h.out.append(Recalled(number, [part], to))

        self.tell(holding, recalled)

    def released(self, holding: Holding, recall: int) -> None:
        if (holding, recall) not in self.recalls:
            return  # the session has ended since
        for part, to in self.recalls.pop((holding, recall)):
            self.recalled[holding].remove((part, to))
            if to == NONE:
                self.held[holding].remove(*part)
            else:
                self.held[holding].lower(*part)
        self.look()

    # Time.

    def renew(self, holding: Holding) -> None:
        """The client is heard of; what it holds stands until a term from now."""
        self.ends[holding] = self.lab.now + TERM
        sent, known = self.lab.now, self.lab.master.tid

        def renewed(h: Holding) -> None:
            h.valid_until = max(h.valid_until, sent + TERM * 96 // 100)
            h.wake_at = h.valid_until
            h.known = known if h.rights else max(h.known, known)

        self.tell(holding, renewed)

    def beat(self) -> None:
        """A third of a term has passed."""
        for client in self.lab.clients:
            if not client.cut:
                self.renew(client.holding)
        for holding, end in list(self.ends.items()):
            if end <= self.lab.now:
                self.end(holding)
        self.lab.later(TERM // 3, self.beat)

    def end(self, holding: Holding) -> None:
        """Nobody has heard of a client for a term: all that it holds is gone, and its token with it."""
        del self.ends[holding]
        self.held.pop(holding, None)
        self.recalled.pop(holding, None)
        for name in [name for name in self.recalls if name[0] is holding]:
            del self.recalls[name]
        self.waiting = [one for one in self.waiting if one[0] is not holding]
        holding.token += 1
        self.lab.clients[holding.number].over = True
        self.lab.ended(holding.number)
        self.look()

    def tell(self, holding: Holding, what: Callable[[Holding], None]) -> None:
        client = self.lab.clients[holding.number]

        def arrive() -> None:
            if token == holding.token:
                what(holding)
                client.core.hear(1, [])
                client.carry_out()

        token = holding.token
        self.lab.in_order(arrive, holding.number)

    def admits(self, holding: Holding, submit: Submit, writes: Sequence[bytes]) -> Answer | None:
        """What keeps a transaction out."""
        if submit.tokens and submit.tokens != [(1, 1, holding.token)]:
            return requests.Fenced()
        ranges = [(lease_key(key), lease_key(key) + b"\0", X) for key in writes]
        ranges += [(*lease_range(lo, hi), S) for lo, hi, _ in submit.reads]
        against = [one for lo, hi, mode in ranges for one in self.conflicts(holding, lo, hi, mode)]
        for other, part, to in against:
            self.recall(other, part, to)
        return requests.Busy() if against else None


class Lab:
    """So many clients, and what is behind them."""

    def __init__(
        self, clients: int = 2, seed: int = 0, slow: int = 2 * MS, kernel: bool = False, page: int = 50
    ) -> None:
        self.random = Random(seed)
        self.now = SECOND
        self.slow = slow  # the longest that a message takes
        self.master = Master(page)
        self.master.tid = 256
        self.messages = 0
        self.unanswered = 0.0  # how often the outcome of a transaction does not arrive
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._last: dict[int, int] = {}  # when the last message of the registry to a client arrives
        self.committed: Callable[[Client, Submit, int], None] = lambda client, submit, tid: None
        self.ended: Callable[[int], None] = lambda number: None
        self.registry = Registry(self)
        self.clients = [Client(self, number, kernel) for number in range(clients)]
        self.registry.beat()

    # Time.

    def later(self, after: int, what: Callable[[], None]) -> None:
        heappush(self._events, (self.now + after, next(self._order), what))

    def on_its_way(self, what: Callable[[], None], number: int) -> None:
        """A message of a client, or to one; it waits while he is cut off."""
        self.messages += 1
        self.later(self.random.randrange(self.slow // 10, self.slow), lambda: self.clients[number].past_the_cut(what))

    def in_order(self, what: Callable[[], None], number: int) -> None:
        """A message of the registry: it does not overtake another one, as a holder sees to."""
        at = max(self.now + self.random.randrange(self.slow // 10, self.slow), self._last.get(number, 0))
        self._last[number] = at
        self.later(at - self.now, lambda: self.clients[number].past_the_cut(what))

    def step(self, until: int) -> bool:
        """Let the next thing happen, if it does before this time."""
        at, wake = min(((client.core.wake_at, client.wake) for client in self.clients), key=lambda one: one[0])
        if self._events and self._events[0][0] <= max(at, self.now):
            if self._events[0][0] > until:
                self.now = until
                return False
            at, _, wake = heappop(self._events)
        if at > until:
            self.now = until
            return False
        self.now = max(self.now, at)
        wake()
        return True

    def run(self, ns: int) -> None:
        """Let so much time pass."""
        end = self.now + ns
        while self.step(end):
            pass

    def until(self, condition: Callable[[], Any], ns: int = 60 * SECOND) -> None:
        """Let time pass until something is so."""
        end = self.now + ns
        while not condition():
            assert self.step(end), "it never came to be"

    # Questions.

    def ask(self, client: Client, asking: Asking) -> None:
        def arrive() -> None:
            answer = self._answer(client, asking.question)
            if isinstance(asking.question, Submit) and self.random.random() < self.unanswered:
                self.later(SECOND, lambda: client.answered(asking.number, QuorumLost(1000)))
            else:
                self.on_its_way(lambda: client.answered(asking.number, answer), client.number)

        self.on_its_way(arrive, client.number)

    def _answer(self, client: Client, question: Question) -> Answer | GavelError:
        if not isinstance(question, Submit):
            return self.master.answer(question)
        name = question.session, question.sequence
        if name not in self.master.outcomes:
            refused = self.registry.admits(client.holding, question, self.writes(question).keys)
            if refused is not None:
                self.master.outcomes[name] = refused  # type: ignore[assignment]
                return refused
            answer = self.master.answer(question)
            if isinstance(answer, requests.Committed):
                self.committed(client, question, answer.tid)
        return self.master.outcomes[name]

    def writes(self, submit: Submit) -> requests.Writes:
        """What a transaction says."""
        blobs = [self.master.blobs[submit.session, number] for number in submit.spilled]
        return requests.unpack(submit.body or b"".join(self.master.data[total] for total in blobs))


class Client:
    """A client, and the results of its operations."""

    def __init__(self, lab: Lab, number: int, kernel: bool) -> None:
        self.lab, self.number = lab, number
        self.session = b"client-number-%02d" % number
        self.cut = self.over = False  # no message passes; and the leases are gone since
        self._held_back: list[Callable[[], None]] = []
        self.results: dict[Any, Finished] = {}
        self.saved: list[tuple[str, dict[bytes, bytes | None]]] = []
        self.forgot = 0
        self.holding = Holding(lab.registry, number)
        self.core = Leased(
            Remote(self.session), self.holding, lambda: lab.now, lambda: WALL + lab.now, lambda: 1, self._save,  # type: ignore[arg-type]
            patience_ns=900 * SECOND, kernel=kernel,
        )  # fmt: skip
        self._tickets = count(1)
        self.without: list[Any] = []  # operations that were run without leases
        whole = self.core._cleared

        def cleared(number: int) -> None:
            self.without += [work.ticket for n, work in self.core._needs.items() if n == number]
            whole(number)

        self.core._cleared = cleared  # type: ignore[method-assign]

    def _save(self, why: str, writes: dict[bytes, bytes | None]) -> str:
        self.saved.append((why, writes))
        return "somewhere"

    def past_the_cut(self, what: Callable[[], None]) -> None:
        """A message arrives, if none is cut off."""
        if self.cut:
            self._held_back.append(what)
        else:
            what()

    def join(self) -> None:
        """Messages pass again. What waited comes now; if the leases have ended meanwhile, they begin anew."""
        self.cut = False
        held_back, self._held_back = self._held_back, []
        if self.over:
            self.over = False
            self.wake()
            self.holding.ask_again()
        for what in held_back:
            what()

    def wake(self) -> None:
        self.core.tick()
        self.carry_out()

    def answered(self, number: int, answer: Answer | GavelError) -> None:
        self.core.answered(number, answer)
        self.carry_out()

    def carry_out(self) -> None:
        for effect in self.core.drain():
            match effect:
                case Asking():
                    self.lab.ask(self, effect)
                case Reply(ticket, end):
                    if callable(ticket):
                        ticket(end)
                    else:
                        self.results[ticket] = end
                case Forget(recall):
                    self.forgot += 1
                    self.lab.later(
                        self.lab.random.randrange(self.lab.slow),
                        lambda recall=recall: self._forgotten(recall),  # type: ignore[misc]
                    )
                case Ahead(stage):
                    self.lab.master.answer(stage)

    def _forgotten(self, recall: int) -> None:
        self.core.forgotten(recall)
        self.carry_out()

    def submit(self, operation: Callable[[Transaction], Any], done: Callable[[Finished], None]) -> None:
        """Begin an operation; `done` is called in the instant in which it is done."""
        end = self.core.at_once(operation)
        if end is not None:
            done(end)
        else:
            self.core.start(done, operation)
        self.carry_out()

    def start(self, operation: Callable[[Transaction], Any], at: int = 0) -> Any:
        ticket = next(self._tickets)
        self.core.start(ticket, operation, at)
        self.carry_out()
        return ticket

    def run(self, operation: Callable[[Transaction], Any]) -> Any:
        """The result of an operation, at once if that can be."""
        end = self.core.at_once(operation)
        self.carry_out()
        return self._result(end, lambda: self.start(operation))

    def sync(self) -> Any:
        def begin() -> Any:
            ticket = next(self._tickets)
            self.core.sync(ticket)
            self.carry_out()
            return ticket

        return self._result(None, begin)

    def _result(self, end: Finished | None, begin: Callable[[], Any]) -> Any:
        if end is None:
            ticket = begin()
            self.lab.until(lambda: ticket in self.results)
            end = self.results.pop(ticket)
        if end.error is not None:
            raise end.error
        return end.result
