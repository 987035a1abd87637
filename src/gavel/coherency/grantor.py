"""A master's part in leases: who holds what here, who waits for what, and which transactions may be voted for.

See docs/internals/coherency.md. Invariants: what a client believes that this master grants it is a part of what is
recorded here; nothing is granted over what another session holds in conflict, nor over a write that was admitted and is
not executed; all is in memory only, and a restart is followed by a grace.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

from gavel.coherency.admission import INTENT_NS, Admission, Transactions
from gavel.coherency.contention import Heat
from gavel.coherency.host import Host, Note, Tell
from gavel.coherency.messages import (
    ABSURD,
    CROWDED,
    FLOOD,
    NONE,
    WANTED,
    Age,
    Alive,
    Ask,
    FromClient,
    Grant,
    Granted,
    Leave,
    Refused,
    Release,
    Renewed,
    S,
    Token,
    Want,
    X,
)
from gavel.coherency.queue import Ahead, Queue
from gavel.coherency.rules import ALL, Rules
from gavel.coherency.sessions import Recalling, Session, Waiting
from gavel.coherency.space import levels
from gavel.keys.ranges import Range
from gavel.limits import (
    LEASE_ASKS_MAX,
    LEASE_DRIFT,
    LEASE_RANGES_MAX,
    LEASE_SESSIONS_MAX,
    LEASE_TERM_NS,
    LEASE_TOTAL_MAX,
)

__all__ = ["Admission", "Grantor", "Host", "Note", "Tell"]

GRACE_NS: Final = LEASE_TERM_NS + 2 * LEASE_TERM_NS // LEASE_DRIFT
ASK_NS: Final = 2 * LEASE_TERM_NS  # for how long an ask waits that is not said again; clients do, three times a term
CROWD: Final = LEASE_RANGES_MAX // 16  # ranges asked back at once when there are too many


class Grantor:
    """See the module. `now` is ns, never back, and counts while the machine sleeps.

    The shell calls `tick` at or after `wake_at`, and after each call carries out `drain()`.
    """

    def __init__(self, incarnation: int, host: Host, rules: Rules = ALL) -> None:
        self._incarnation = incarnation
        self._host = host
        self._rules = rules
        self._sessions: dict[bytes, Session] = {}
        self._queue = Queue()
        self._transactions = Transactions(self._sessions, self._queue, host.clock, self._wanted, rules)
        self._blocks = self._transactions.blocks
        self._heat = Heat()
        self._epoch = 0
        self._voters: list[int] = []
        self._acting = False
        self._grace_until = 0
        self._tokens = self._numbers = self._grants = self._recalls = self._refusals = 0
        self._out: list[Tell | Note] = []
        self.wake_at: int | None = None

    def drain(self) -> list[Tell | Note]:
        """What is to be said and noted since the last call, in order."""
        out, self._out = self._out, []
        return out

    # Clients.

    def hear(self, session: bytes, message: FromClient, now: int) -> None:
        """A client said this."""
        if self.wake_at is not None and now >= self.wake_at:
            self.tick(now)
        kind = type(message)
        if kind is Release:
            self._release(session, message, now)  # type: ignore[arg-type]
        elif kind is Leave:
            self._forget(session, now)
        elif self._acting or not self._rules.seal_stops:
            known = self._known(session, message.after, now)  # type: ignore[union-attr]
            if known is not None and not known.ended:
                if kind is Alive:
                    self._renew(known, message, now)  # type: ignore[arg-type]
                else:
                    self._ask(known, message, now)  # type: ignore[arg-type]

    def _known(self, name: bytes, after: int, now: int) -> Session | None:
        """The session of this name, begun if there is none; None if there are too many."""
        session = self._sessions.get(name)
        if session is None and len(self._sessions) < LEASE_SESSIONS_MAX:
            self._tokens += self._rules.new_token or not self._tokens
            token = Token(self._incarnation, self._tokens)
            session = self._sessions[name] = Session(name, token, after, now + LEASE_TERM_NS)
            self._arm(session.until)
        elif session is None:
            self._note("lease.sessions", name, sessions=len(self._sessions))
        return session

    def _renew(self, session: Session, message: Alive, now: int) -> None:
        if not session.renew(message.working, now, self._rules.frozen):
            return
        recalls = [r.message() for r in session.recalls.values()] if self._rules.renewal_recalls else []
        host = self._host
        answer = Renewed(
            message.sent,
            session.token,
            self._epoch,
            self._voters,
            host.stable(),
            host.clock(),
            session.released,
            recalls,
        )
        self._out.append(Tell(session.name, answer))

    def _ask(self, session: Session, ask: Ask, now: int) -> None:
        if ask.after > session.released and self._rules.ask_after:
            return
        old = session.waiting.pop(ask.number, None)
        if old is not None:
            self._queue.remove(old)
        if not ask.wants:
            if old is not None:
                self._kick(now)
            return
        if any(lo >= hi or mode == NONE for lo, hi, mode in ask.wants) or ask.age[1] != session.name:
            self._refuse(session, ask, ABSURD)
        elif len(session.waiting) >= LEASE_ASKS_MAX:
            self._refuse(session, ask, FLOOD)
        else:
            waiting = Waiting(session, ask, now) if old is None else old
            if waiting.wants != ask.wants:
                waiting.reach = None
            waiting.ask, waiting.wants, waiting.since = ask, ask.wants, now
            if not self._grant(waiting, self._queue.older(waiting.place), None, now):
                session.waiting[ask.number] = waiting
                self._queue.add(waiting)

    def _refuse(self, session: Session, ask: Ask, why: int) -> None:
        self._refusals += 1
        self._out.append(Tell(session.name, Refused(ask.number, why)))
        if self._refusals.bit_count() == 1:  # a flood of them is a few lines
            self._note("lease.refused", session.name, why=why, refusals=self._refusals)

    def _release(self, name: bytes, message: Release, now: int) -> None:
        if self._rules.release_clock:
            self._host.observe(message.tid)
        session = self._sessions.get(name)
        if session is None or message.number <= session.released or message.since > session.released:
            return
        session.released = message.number
        for lo, hi, to in message.ranges:
            if lo < hi:
                session.lower(lo, hi, to)
        session.settle()
        self._kick(now)

    def _forget(self, name: bytes, now: int) -> None:
        session = self._sessions.pop(name, None)
        if session is not None:
            for waiting in session.waiting.values():
                self._queue.remove(waiting)
            self._kick(now)

    # Granting.

    def _kick(self, now: int) -> None:
        """Something was freed: grant what can be granted now, oldest first."""
        if not len(self._queue) or self.in_grace(now) or not self._acting:
            return
        ahead, everybody = Ahead(), self._queue.all()
        for entry in self._queue:
            if isinstance(entry, Waiting) and self._grant(entry, ahead, everybody, now):
                self._queue.remove(entry)
                entry.session.waiting.pop(entry.ask.number, None)
            else:
                ahead.add(entry)

    def _grant(self, waiting: Waiting, ahead: Ahead, everybody: Ahead | None, now: int) -> bool:
        """Answer an ask if nothing is in the way; else recall what is, unless it is somebody older's turn."""
        session, ask = waiting.session, waiting.ask
        if (self.in_grace(now) and self._rules.grace_grants) or not self._acting:
            return False
        if any(session.frozen(*want) for want in ask.wants):
            return False
        if self._rules.queue and any(ahead.blocks(session.name, *want) for want in ask.wants):
            return False
        clear = True
        for number, want in enumerate(ask.wants):
            for other in self._conflicts(session, want):
                clear = False
                if waiting.reach is None:
                    waiting.reach = [session.reach.of(lo, hi, now) for lo, hi, _ in ask.wants]
                lo, hi = waiting.reach[number]
                self._recall(other, Want(lo, hi, NONE if want.mode == X else S), waiting.place[0], WANTED, now)
        if not clear or (self._rules.grants_wait and any(self._blocks.over(lo, hi) for lo, hi, _ in ask.wants)):
            return False
        held = ask.hold and not any(self._heat.hot(lo, hi, now) for lo, hi, _ in ask.wants)
        ranges = [Want(*want) for want in ask.wants]
        if held:
            if ask.wide:
                everybody = self._queue.all() if everybody is None else everybody
                ranges = [self._widen(session, want, everybody, now) for want in ranges]
            for want in ranges:
                session.raise_to(*want)
        granted = [Granted(lo, hi, mode, self._host.newest(lo, hi)) for lo, hi, mode in ranges]
        clock = self._host.clock()
        answer = Grant(ask.number, session.token, held, granted, clock, session.released)
        self._out.append(Tell(session.name, answer))
        self._grants += 1
        if held:
            self._bound(session, now)
        return True

    def _conflicts(self, session: Session, want: Want) -> list[Session]:
        """The other sessions that hold something against this want."""
        to = NONE if want.mode == X else S
        return [
            other for other in self._sessions.values() if other is not session and other.above(want.lo, want.hi, to)
        ]

    def _widen(self, session: Session, want: Want, everybody: Ahead, now: int) -> Want:
        """The widest level around a want that takes nothing from anybody and is in nobody's way."""
        for lo, hi in reversed(levels(want.lo, want.hi)[1:]):
            wide = Want(lo, hi, want.mode)
            if not (
                self._conflicts(session, wide)
                or everybody.blocks(session.name, *wide)
                or session.frozen(*wide)
                or self._blocks.over(lo, hi)
                or self._heat.hot(lo, hi, now)
            ):
                return wide
        return want

    def _recall(self, other: Session, wanted: Want, age: Age, why: int, now: int) -> None:
        for recall in other.recalls.values():
            if recall.lo <= wanted.lo and wanted.hi <= recall.hi and recall.to <= wanted.mode:
                if age < recall.age:
                    recall.age = age
                    self._out.append(Tell(other.name, recall.message()))
                return
        if other.ended:
            return
        self._numbers += 1
        self._recalls += 1
        recall = Recalling(self._numbers, wanted, age, why, now, other.until)
        other.recalls[recall.number] = recall
        self._arm(recall.deadline)
        self._out.append(Tell(other.name, recall.message()))
        if self._heat.note(wanted.lo, wanted.hi, now):
            self._note("lease.hot", other.name, lo=wanted.lo, hi=wanted.hi)

    def _wanted(self, other: Session, wanted: Want, age: Age, now: int) -> None:
        self._recall(other, wanted, age, WANTED, now)

    def _bound(self, session: Session, now: int) -> None:
        """Have ranges given up if the session, or this master, has too many."""
        if len(session.held) <= LEASE_RANGES_MAX:
            if self._grants % 64 or sum(len(s.held) for s in self._sessions.values()) <= LEASE_TOTAL_MAX:
                return
            session = max(self._sessions.values(), key=lambda s: len(s.held))
        if any(recall.why == CROWDED for recall in session.recalls.values()):
            return
        pieces = [(lo, hi) for lo, hi, _ in session.held]
        pieces = [piece for piece in pieces if piece[0] >= session.crowd][:CROWD] or pieces[:CROWD]
        session.crowd = pieces[-1][1]
        young = Age(self._host.clock(), b"")
        self._recall(session, Want(pieces[0][0], pieces[-1][1], NONE), young, CROWDED, now)
        self._note("lease.crowded", session.name, ranges=len(session.held))

    # Transactions.

    def admit(
        self, session: bytes, reads: Sequence[Range], writes: Sequence[bytes], tokens: Sequence[Token] | None, now: int
    ) -> Admission:
        """Whether a proposal may be made for a transaction of this session, which read these lease ranges and writes
        these lease keys. `tokens`: those of this master that it names (one, or [] if it names only those of others);
        None if it names none at all, so was not made under leases.

        BUSY recalls what is in its way and keeps new grants away from there for a while. Asked before a proposal, not
        after one. A refusal is a promise without a proposal: what was accepted before is still told.
        """
        if self.wake_at is not None and now >= self.wake_at:
            self.tick(now)
        if (self.in_grace(now) and self._rules.grace) or not self._acting:
            return Admission.BUSY
        verdict = self._transactions.admit(session, reads, sorted(writes), tokens, now)
        if verdict is Admission.BUSY:
            self._arm(now + INTENT_NS)
        return verdict

    def block(self, transaction: Hashable, writes: Sequence[bytes] | None) -> None:
        """The transaction was admitted here, before a restart perhaps, or carried into this epoch: nothing new is
        granted over these lease keys (None: unknown, so over anything) until unblock(). The last call counts."""
        self._blocks.add(transaction, writes)

    def unblock(self, transaction: Hashable, now: int) -> None:
        """It was executed here, or is known never to happen. Nothing if it was not blocked."""
        if self._blocks.remove(transaction):
            self._kick(now)

    # The master's own life.

    def tick(self, now: int) -> None:
        """Time has passed."""
        for session in list(self._sessions.values()):
            if session.until <= now:
                self._expire(session)
            elif any(recall.deadline <= now for recall in session.recalls.values()):
                self._note("lease.overdue", session.name, recalls=len(session.recalls))
                if self._rules.overdue_ends:
                    self._end(session, now)
                else:
                    session.take(now)
            for waiting in [w for w in session.waiting.values() if w.since + ASK_NS <= now]:
                self._queue.remove(waiting)
                del session.waiting[waiting.ask.number]
        self._transactions.tick(now)
        self._kick(now)
        times = [session.until for session in self._sessions.values()]
        times += [recall.deadline for session in self._sessions.values() for recall in session.recalls.values()]
        times += [w.since + ASK_NS for session in self._sessions.values() for w in session.waiting.values()]
        times += self._transactions.times()
        if now < self._grace_until:
            times.append(self._grace_until)
        self.wake_at = min(times, default=None)

    def _expire(self, session: Session) -> None:
        del self._sessions[session.name]
        for waiting in session.waiting.values():
            self._queue.remove(waiting)
        if len(session.held):
            self._note("lease.expired", session.name, ranges=len(session.held))

    def _end(self, session: Session, now: int) -> None:
        session.end(now)
        for waiting in session.waiting.values():
            self._queue.remove(waiting)
        session.waiting.clear()

    def start_grace(self, now: int) -> None:
        """This master knows no leases though there may be some: it (re)started, or entered an epoch as a new voter."""
        self._grace_until = now + GRACE_NS
        self._arm(self._grace_until)

    def in_grace(self, now: int) -> bool:
        """Whether nothing may be granted, proposed, accepted or answered as of now."""
        return now < self._grace_until

    def enter(self, epoch: int, voters: Sequence[int], now: int) -> None:
        """The epoch in which this master acts, and whose majority counts. Until the first call, and between
        seal() and the next one, nobody is renewed and nothing is granted."""
        self._epoch, self._voters, self._acting = epoch, list(voters), True
        self._kick(now)

    def seal(self) -> None:
        """This master votes no more in its epoch."""
        self._acting = False

    def recorded(self, session: bytes, key: bytes) -> tuple[Token, int] | None:
        """What a session holds at a key, and under which token; None if it is not known here."""
        found = self._sessions.get(session)
        return None if found is None else (found.token, found.held.get(key) or NONE)

    def status(self, now: int) -> dict[str, Any]:
        """For people: sessions, what each holds, who waits, recalls, memory."""
        return {
            "grace_ns": max(self._grace_until - now, 0),
            "waiting": len(self._queue),
            "blocked": len(self._blocks),
            "hot": self._heat.count(now),
            "grants": self._grants,
            "recalls": self._recalls,
            "refusals": self._refusals,
            "sessions": [
                {
                    "session": session.name,
                    "token": tuple(session.token),
                    "left_ns": session.until - now,
                    "ended": session.ended,
                    "ranges": len(session.held),
                    "bytes": sum(len(lo) + len(hi) + RANGE_BYTES for lo, hi, _ in session.held),
                    "held": list(session.held)[:SHOWN],
                    "recalls": len(session.recalls),
                    "waiting": len(session.waiting),
                }
                for session in self._sessions.values()
            ],
        }

    def _arm(self, at: int) -> None:
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at

    def _note(self, name: str, session: bytes, **fields: Any) -> None:
        self._out.append(Note(name, session, fields))


RANGE_BYTES: Final = 2 * 33 + 3 * 8  # of memory that a range costs besides its keys
SHOWN: Final = 64  # ranges of a session that are shown to people
