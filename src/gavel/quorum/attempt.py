"""Coordinating: the first attempt at a transaction and every takeover are the same few steps.

    PREPARE(ballot) to all voters -> a majority of promises -> the value -> ACCEPT(ballot, value) -> a majority
    accepted: decided.

What a majority does not promise because their machines do not admit it (BUSY), or not in time because some do not, is
prepared once more without proposing: so it is decided, ABORT as a rule, and nothing that has a proposal waits for it.

Whoever knows of a transaction may do it at any time with a higher ballot; that is never unsafe, so who does it when
is a matter of patience only: masters take over one after the other, at times that differ, later each time it fails.
"""

from __future__ import annotations

from gavel.limits import TAKEOVER_MAX_MS, TAKEOVER_MIN_MS, TAKEOVER_WORST_MS
from gavel.quorum.desk import Desk
from gavel.quorum.machine import Admission
from gavel.quorum.messages import (
    ABORT,
    UNDECIDED,
    Accept,
    Accepted,
    Busy,
    Closed,
    Decided,
    Nack,
    Prepare,
    Promise,
)
from gavel.quorum.register import Register, Registers
from gavel.quorum.sizes import size_of

MS = 1_000_000


class Attempt:
    """One ballot of this coordinator about one transaction."""

    __slots__ = ("acceptances", "ballot", "begun", "promises", "refusals", "value")

    def __init__(self, ballot: int, begun: int) -> None:
        self.ballot = ballot
        self.begun = begun
        self.promises: dict[int, Promise] = {}  # by voter
        self.acceptances: dict[int, int] = {}  # by voter
        self.refusals: dict[int, bool] = {}  # by voter whose machine does not admit it: whether it is fenced
        self.value: int | None = None  # once a majority has promised


class Coordinator:
    """All attempts of this master, and when to begin them."""

    def __init__(self, desk: Desk, registers: Registers) -> None:
        self._desk = desk
        self._registers = registers

    def begin(self, register: Register) -> None:
        """Try to have it decided, under a ballot above all that are known here."""
        desk = self._desk
        if not desk.acting or register.decided != UNDECIDED:
            return
        if desk.alone:
            self._decide_alone(register)
            return
        former = register.attempt.ballot if register.attempt is not None else 0
        ballot = desk.ballot(max(register.promised, register.outbid, former))
        register.attempt = Attempt(ballot, desk.time)
        register.resume_at = 0
        body = register.body
        patient = body is not None and (register.wanted or desk.witness or not desk.machine.lacks(body))
        proposing = register.refused is Admission.GO
        asked = Prepare(register.tx, ballot, register.body if proposing else None, patient and proposing, proposing)
        for node in desk.electorate.voters:
            desk.send(node, asked)
        if asked.body is not None:
            desk.weight += size_of(asked.body)

    def _decide_alone(self, register: Register) -> None:
        """The only voter: its proposal is the decision. Nobody is told before the machine has it, so nothing is
        written here."""
        desk = self._desk
        if register.accepted:
            self._registers.learn(register.tx, register.value)
            return
        if register.body is not None and desk.machine.lacks(register.body):
            return
        if register.body is not None and desk.rules.admission:
            register.refused = desk.machine.admit(register.tx, register.body)
        able = register.body is not None and register.refused is Admission.GO
        tid = desk.clock.fresh() if able else ABORT
        self._registers.learn(register.tx, tid if tid <= register.end else ABORT)

    def _mine(self, register: Register | None, ballot: int, node: int) -> Attempt | None:
        """The attempt that an answer is about, if it still matters."""
        if register is None or register.attempt is None or register.attempt.ballot != ballot:
            return None
        return register.attempt if node in self._desk.electorate.voters else None

    def _voter(self, node: int, so_far: int) -> int:
        return node if self._desk.rules.voters_by_identity else node + so_far * 256

    def promised(self, node: int, answer: Promise) -> None:
        """A voter promised; with a majority the value is known."""
        desk = self._desk
        register = self._registers.table.get(answer.tx)
        attempt = self._mine(register, answer.ballot, node)
        if attempt is None or attempt.value is not None:
            return
        assert register is not None
        if register.body is None and answer.body is not None:
            register.body = answer.body
        attempt.promises[self._voter(node, len(attempt.promises))] = answer
        if node != desk.me:
            took = desk.time - attempt.begun
            peer = desk.peers[node]
            peer.round_trip += (took - peer.round_trip) >> 3
        if len(attempt.promises) < desk.electorate.majority:
            return
        value = self._choose(register, list(attempt.promises.values()))
        if value is None:
            self.begin(register)
            return
        attempt.value = value
        asked = Accept(register.tx, attempt.ballot, value)
        for voter in desk.electorate.voters:
            desk.send(voter, asked)

    def _choose(self, register: Register, promises: list[Promise]) -> int | None:
        """The value that these promises of a majority allow; None if it is worth asking again, now with the body."""
        rules = self._desk.rules
        if rules.highest_accepted:
            highest = max(promises, key=lambda promise: promise.accepted)
            if highest.accepted:
                return highest.value
        proposals = [promise.proposal for promise in promises]
        if 0 in proposals:
            if register.body is not None and any(promise.body is not None for promise in promises):
                return None
            if rules.all_proposed or not any(proposals):
                return ABORT
            proposals = [proposal for proposal in proposals if proposal]
        return max(proposals) if rules.highest_proposal else min(proposals)

    def accepted(self, node: int, answer: Accepted) -> None:
        """A voter accepted; a majority is the decision."""
        desk = self._desk
        register = self._registers.table.get(answer.tx)
        attempt = self._mine(register, answer.ballot, node)
        if attempt is None or attempt.value is None:
            return
        assert register is not None
        attempt.acceptances[self._voter(node, len(attempt.acceptances))] = node
        if len(attempt.acceptances) >= desk.electorate.majority:
            desk.tell(Decided(register.tx, attempt.value))
            self._registers.learn(register.tx, attempt.value)

    def refused(self, node: int, answer: Nack) -> None:
        """Somebody else is at it with a higher ballot: leave it to them for a while."""
        register = self._registers.table.get(answer.tx)
        if register is not None and self._mine(register, answer.ballot, node) is not None:
            register.attempt = None
            register.outbid = max(register.outbid, answer.promised)
            register.failures += 1
            register.resume_at = 0

    def busy(self, node: int, answer: Busy) -> None:
        """A voter's machine does not admit it: when no majority is left that may, have it over."""
        register = self._registers.table.get(answer.tx)
        attempt = self._mine(register, answer.ballot, node)
        if attempt is None or attempt.value is not None:
            return
        assert register is not None
        attempt.refusals[node] = answer.fenced
        desk = self._desk
        left = [
            voter
            for voter in desk.electorate.voters
            if voter not in attempt.refusals and (voter in attempt.promises or desk.is_up(voter))
        ]
        if len(left) < desk.electorate.majority:
            self._give_up(register, attempt)
            if desk.rules.busy_ends:
                self.begin(register)

    def _give_up(self, register: Register, attempt: Attempt) -> None:
        """From here on no voter is asked to propose for it."""
        if self._desk.rules.busy_ends:
            electorate = self._desk.electorate
            fenced = len(electorate.voters) - sum(attempt.refusals.values()) < electorate.majority
            register.refused = Admission.FENCED if fenced else Admission.BUSY

    def closed(self, answer: Closed) -> bool:
        """No vote will come from there; whether what is known here is too little to see how it ended."""
        register = self._registers.table.get(answer.tx)
        return (
            register is not None
            and register.decided == UNDECIDED
            and register.end <= answer.through
            and register.end > self._desk.durable_stable
        )

    # Takeover.

    def look(self) -> None:
        """Begin what is due: own attempts that got no answer, and what others left."""
        now = self._desk.time
        for register in list(self._registers.undecided.values()):
            if register.resume_at == 0:
                register.resume_at = now + self._delay(register)
            elif register.resume_at <= now:
                register.failures += 1
                if register.attempt is not None and register.attempt.refusals:
                    self._give_up(register, register.attempt)
                self.begin(register)

    def lost(self, node: int) -> None:
        """A coordinator can no longer be reached: what it left is due sooner."""
        for register in self._registers.undecided.values():
            if register.owner == node:
                register.resume_at = self._desk.time + self._delay(register)

    def found(self) -> None:
        """Somebody can be reached again: what had no majority for long need not wait for as long again."""
        for register in self._registers.undecided.values():
            if register.failures:
                register.failures = 0
                register.resume_at = self._desk.time if register.attempt is not None else 0

    def hasten(self, register: Register) -> None:
        """Somebody here waits for it: begin now, unless its coordinator is there."""
        if register.attempt is None and not self._desk.is_up(register.owner):
            self.begin(register)

    def _delay(self, register: Register) -> int:
        """How long to wait for its coordinator, ns: in the order of masters after it, and never twice the same."""
        desk = self._desk
        owner = register.owner
        base = max(TAKEOVER_MAX_MS * MS, 4 * desk.pace)
        if owner != desk.me and not desk.is_up(owner):
            trips = [peer.round_trip for peer in desk.peers.values() if peer.up]
            base = min(base, max(TAKEOVER_MIN_MS * MS, 3 * max(trips, default=0)))
        order = [node for node in desk.electorate.after(owner) if desk.is_up(node)]
        rank = order.index(desk.me) if owner != desk.me and desk.me in order else 0
        spread = (register.tx.seq * 7919 + desk.me * 104_729 + register.failures * 31) % 64
        delay = (base * (1 + rank) + base * spread // 128) << min(register.failures, 8)
        return min(delay, TAKEOVER_WORST_MS * MS + base * spread // 64)
