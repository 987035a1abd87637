"""Membership: epochs, each with its members, and the way from one to the next.

    SEAL(ballot) to the voters -> a majority sealed and said what it knows -> the start record -> CHOOSE(ballot,
    record) -> a majority: START.

One register, decided by the voters of an epoch, chooses the start record of the next. Anybody who votes may begin a
change, and finish one that another left half done.

Invariants:
- a sealed voter promises, accepts and vouches nothing more in its epoch;
- a start record carries every value that was or may have been decided above its `stable`; everything else that was
  undecided is void. `stable` never goes back from one record to the next;
- nobody acts in an epoch before the record is durable here, and the durable watermark has reached the record's;
- nor before it has seen the clocks of a majority: a tid of next year could never be taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nlargest

from gavel.errors import BadRequest, GavelError, Superseded
from gavel.keys.tid import end_of
from gavel.limits import CARRY_RECENT, RESEAL_MS
from gavel.quorum import entries
from gavel.quorum.catchup import CatchUps
from gavel.quorum.desk import Desk
from gavel.quorum.messages import (
    ABORT,
    FACTS,
    NO_BALLOT,
    UNDECIDED,
    Choose,
    Chosen,
    Member,
    Record,
    Seal,
    Sealed,
    Start,
    TxId,
)
from gavel.quorum.register import Registers
from gavel.quorum.requests import Reconfigure
from gavel.quorum.votes import Electorate, check
from gavel.quorum.watermark import Watermark

MS = 1_000_000


class Change:
    """One ballot of this node for the next start record."""

    __slots__ = ("acceptances", "answers", "ballot", "begun", "members", "record")

    def __init__(self, ballot: int, members: list[Member], begun: int) -> None:
        self.ballot = ballot
        self.members = members
        self.begun = begun
        self.answers: dict[int, Sealed] = {}
        self.acceptances: dict[int, Chosen] = {}
        self.record: Record | None = None


class Epochs:
    """Where this node is in the sequence of epochs."""

    def __init__(
        self, desk: Desk, registers: Registers, watermark: Watermark, catch_ups: CatchUps, acts: Callable[[], None]
    ) -> None:
        """`acts` is called whenever this node begins to act."""
        self._desk = desk
        self._registers = registers
        self._watermark = watermark
        self._catch_ups = catch_ups
        self._acts = acts
        self.record: Record | None = None  # the one this epoch started with; none for a founding epoch
        self.sealed_at: int | None = None  # the clock at that time
        self.expelled = False
        self._installed = True  # durably
        self._promised = self._accepted = NO_BALLOT
        self._backed: Record | None = None
        self._wanted: list[Member] | None = None  # as the last Seal said
        self._change: Change | None = None
        self._sealed_since = 0
        self._requests: list[Reconfigure] = []

    def judge(self) -> None:
        """See whether this node acts now; to be called when anything of it may have changed."""
        desk = self._desk
        rules = desk.rules
        able = desk.voter and self._installed and not self.expelled and not desk.mute and desk.knows_the_time
        if rules.start_reached:
            able = able and desk.durable_stable >= desk.start_stable and self._catch_ups.informed
        sealed = self.sealed_at is not None
        desk.vouching = able and not (sealed and rules.seal_vouches)
        acting = able and not (sealed and rules.seal_stops)
        if acting and not desk.acting:
            desk.acting = True
            self._acts()
        desk.acting = acting

    # The side of a voter.

    def seal(self, node: int, asked: Seal) -> None:
        """Stop voting, and say what is known."""
        desk = self._desk
        if not desk.voter or self.expelled or not self._installed or asked.ballot < self._promised:
            return
        self._promised = asked.ballot
        self._wanted = asked.members
        self._stop()
        desk.note_stable()
        known, since = self._known()
        clock = self.sealed_at or 0
        desk.promise(
            node, Sealed(asked.ballot, self._accepted, self._backed, known, clock, desk.stable, since, desk.leasing)
        )

    def _stop(self) -> None:
        desk = self._desk
        if self.sealed_at is None:
            self.sealed_at = desk.clock.tick
            self._sealed_since = desk.time
        desk.write(entries.Stopped(self._promised, self.sealed_at))
        if desk.rules.seal_stops:
            for register in self._registers.undecided.values():
                register.attempt = None
        self.judge()

    def _known(self) -> tuple[list[tuple[TxId, int, int, int]], int]:
        """Transactions whose value a start record may have to carry, and the tid above which no decision is missing.

        Those of late below the own watermark are told, too: others who stay may not be so far yet.
        """
        stable, table = self._desk.stable, self._registers.table
        found = [
            r
            for r in table.values()
            if r.end > stable and (r.decided > stable or r.decided == ABORT or (r.decided == UNDECIDED and r.accepted))
        ]
        since = min(self._registers.complete, stable)
        below = (r for r in table.values() if since < r.decided <= stable)
        lately = nlargest(CARRY_RECENT + 1, below, key=lambda register: register.decided)
        if len(lately) > CARRY_RECENT:
            since = lately.pop().decided
        return [(r.tx, r.accepted, r.value, r.decided) for r in found + lately], since

    def choose(self, node: int, asked: Choose) -> None:
        """Accept a start record."""
        desk = self._desk
        right = desk.voter and not self.expelled and self._installed and asked.record.epoch == desk.epoch + 1
        if not right or asked.ballot < self._promised:
            return
        self._promised = self._accepted = asked.ballot
        self._backed = asked.record
        self._stop()
        desk.write(entries.Backed(asked.ballot, asked.record))
        desk.promise(node, Chosen(asked.ballot))

    # The side of who wants a change.

    def begin(self, request: Reconfigure) -> GavelError | None:
        """A change is wanted here; what is wrong with it, if anything."""
        try:
            wanted = check(request.members)
        except GavelError as error:
            return error
        if any(node in self._desk.electorate.witnesses for node in wanted.masters + wanted.slaves):
            return BadRequest("a witness keeps no data; have it removed, and join as another node")
        if wanted.members != self._desk.electorate.members:
            self._requests.append(request)
            self._propose(wanted.members)
        return None

    def waits(self, request: Reconfigure) -> bool:
        """Whether the request is not answered yet."""
        return any(other is request for other in self._requests)

    def give_up(self, request: Reconfigure) -> None:
        """Its patience is over; the change may still happen."""
        self._requests = [other for other in self._requests if other is not request]

    def _propose(self, members: list[Member]) -> None:
        desk = self._desk
        if not desk.voter or self.expelled or not self._installed:
            return
        former = self._change.ballot if self._change is not None else NO_BALLOT
        ballot = desk.ballot(max(self._promised, former))
        self._change = Change(ballot, members, desk.time)
        asked = Seal(ballot, members)
        for node in desk.electorate.voters:
            desk.send(node, asked)

    def sealed(self, node: int, answer: Sealed) -> None:
        """A voter is sealed; with a majority the start record is made, or the one that may have been chosen is."""
        change, desk = self._change, self._desk
        if change is None or answer.ballot != change.ballot or change.record is not None:
            return
        if node not in desk.electorate.voters:
            return
        change.answers[node] = answer
        if len(change.answers) < desk.electorate.majority:
            return
        highest = max(change.answers.values(), key=lambda other: other.accepted)
        change.record = highest.record if highest.accepted else None
        if change.record is None:
            change.record = self._compose(change)
        asked = Choose(change.ballot, change.record)
        for voter in desk.electorate.voters:
            desk.send(voter, asked)

    def _compose(self, change: Change) -> Record:
        answers = list(change.answers.values())
        rules = self._desk.rules
        # What every answer has, if the lists reach back so far: then no member that is lost later is needed for it.
        lists = max(answer.stable if answer.since is None else answer.since for answer in answers)
        stable = max(min(answer.stable for answer in answers), lists, self._desk.start_stable)
        best: dict[TxId, tuple[int, int]] = {}
        for answer in answers:
            for tx, accepted, value, decided in answer.known:
                found = (NOTHING_HIGHER, decided) if decided != UNDECIDED else (accepted, value)
                if found > best.get(tx, (NO_BALLOT, ABORT)):
                    best[tx] = found
        carry = [(tx, value) for tx, (_, value) in best.items() if value == ABORT or value > stable]
        floor = max(answer.clock for answer in answers) if rules.floor else 0
        # A lease counts by a majority, and one of these, who are another, would know of it.
        leasing = any(answer.leasing for answer in answers)
        return Record(self._desk.epoch + 1, change.members, carry if rules.carry else [], floor, stable, leasing)

    def chosen(self, node: int, answer: Chosen) -> None:
        """A voter accepted the record; a majority is the decision."""
        change, desk = self._change, self._desk
        if change is None or change.record is None or answer.ballot != change.ballot:
            return
        if node not in desk.electorate.voters:
            return
        change.acceptances[node] = answer
        if len(change.acceptances) < desk.electorate.majority:
            return
        start = Start(change.record)
        everybody = {*desk.electorate.everybody, *(member.node for member in change.record.members)}
        for other in sorted(everybody - {desk.me}):
            desk.send(other, start)
        self.install(change.record)

    # Installing.

    def install(self, record: Record) -> None:
        """The epoch of this record has started."""
        desk = self._desk
        if record.epoch <= desk.epoch and desk.electorate.members:
            return
        self._enter(record)
        self._installed = False
        if record.leasing is not False:  # before the record, so that a crash does not part them
            desk.leasing = True
            desk.write(entries.Began(desk.incarnation, desk.starts, self._registers.complete, True))
        if desk.rules.durable_install:
            desk.write(entries.Installed(record, self._catch_ups.informed))
        desk.mute = desk.mute or self._was_alone
        self.judge()
        desk.when_durable(lambda: self._is_installed(record))
        desk.observe("epoch", epoch=record.epoch, members=[tuple(member) for member in record.members])

    def _is_installed(self, record: Record) -> None:
        if record.epoch == self._desk.epoch:
            self._installed = True
            self._desk.mute = False
            self.judge()

    _was_alone = False

    def _enter(self, record: Record, live: bool = True) -> None:
        """Take on the epoch."""
        desk = self._desk
        self._was_alone = desk.alone
        if desk.alone and live:
            self._write_down()
        desk.enter(record.epoch, Electorate(record.members))
        desk.start_stable = record.stable
        self.record = record
        self.sealed_at = self._wanted = self._backed = self._change = None
        self._promised = self._accepted = NO_BALLOT
        self._registers.void(record)
        desk.drop_votes(FACTS)
        self._watermark.restart()
        self._catch_ups.restart()
        desk.clock.observe(end_of(record.floor))

    def _write_down(self) -> None:
        """A group of one kept its decisions in memory only; those who join would decide the living ones anew."""
        for register in self._registers.table.values():
            if register.decided != UNDECIDED:
                self._desk.write(entries.Settled(register.tx, register.decided))
        self._desk.write(entries.Stable(self._desk.stable))
        self._watermark.applied = max(self._watermark.applied, self._desk.stable)

    def answers(self) -> list[tuple[Reconfigure, GavelError | None]]:
        """Requests whose change has come, or will not any more."""
        if not self._requests or not self._installed or self.sealed_at is not None:
            return []
        found: list[tuple[Reconfigure, GavelError | None]] = []
        for request in self._requests:
            if sorted(request.members) == self._desk.electorate.members:
                found.append((request, None))
            elif self._change is None:
                found.append((request, Superseded(self._desk.epoch)))
        for request, _ in found:
            self.give_up(request)
        return found

    def look(self) -> None:
        """Finish a change that somebody, perhaps this node, left half done."""
        desk = self._desk
        if self.sealed_at is None and self._change is None:
            return
        patience = RESEAL_MS * MS
        if self._change is not None:
            since, patience = self._change.begun, patience + patience * (desk.me % 7) // 7
        else:
            since, owner = self._sealed_since, self._promised & 0xFF
            order = desk.electorate.after(owner)
            patience *= 1 + (order.index(desk.me) if desk.me in order else len(order))
        if desk.time - since >= patience:
            self._propose(self._change.members if self._change else self._wanted or desk.electorate.members)

    # Restart.

    def replay(self, entry: entries.Stopped | entries.Backed | entries.Installed | entries.Expelled) -> None:
        """Take in what was written about epochs."""
        match entry:
            case entries.Stopped():
                self._promised, self.sealed_at = entry.ballot, entry.clock
            case entries.Backed():
                self._promised = self._accepted = entry.ballot
                self._backed = entry.record
            case entries.Installed():
                self._enter(entry.record, live=False)
                self._catch_ups.informed = entry.informed
            case entries.Expelled():
                self.expelled = True

    def kept(self) -> list[entries.Stopped | entries.Backed | entries.Expelled]:
        """What of it is still needed beside the start record."""
        found: list[entries.Stopped | entries.Backed | entries.Expelled] = []
        if self.sealed_at is not None:
            found.append(entries.Stopped(self._promised, self.sealed_at))
        if self._backed is not None:
            found.append(entries.Backed(self._accepted, self._backed))
            found.append(entries.Stopped(self._promised, self.sealed_at or 0))
        if self.expelled:
            found.append(entries.Expelled(self._desk.position))
        return found


NOTHING_HIGHER = 1 << 64  # above every ballot: a decision is a decision
