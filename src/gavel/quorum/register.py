"""Registers: one for each transaction, and what an acceptor does with them.

A register is single-decree Paxos whose value is the tid at which a transaction happens, or ABORT. Beside promise,
acceptance and decision it keeps this master's proposal and the lowest tid the transaction might get by all that is
known here.

Invariants:
- what was promised and what was accepted are two ballots; nothing is accepted or promised below a promise;
- a master proposes once for a transaction in an epoch: a fresh tick, so above everything it has promised, accepted or
  vouched for, and not after the end of the transaction's life; it then has the body and all data that the body names,
  durably, and its machine has admitted it;
- a decision never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from gavel.keys.tid import end_of, micros
from gavel.limits import TRANSACTION_LIFE_US
from gavel.quorum import entries
from gavel.quorum.desk import Desk
from gavel.quorum.machine import Admission, Outcome
from gavel.quorum.messages import (
    ABORT,
    CARRIED,
    NO_BALLOT,
    UNDECIDED,
    Accept,
    Accepted,
    Body,
    Busy,
    Closed,
    Decided,
    Nack,
    Prepare,
    Promise,
    Record,
    TxId,
)

if TYPE_CHECKING:
    from gavel.quorum.attempt import Attempt

NOWHERE: Final = 1 << 64  # above every tid: nothing is known about where it might come to lie
PACE_MAX: Final = 250_000_000  # ns; longer is not how long decisions take, but trouble
Standing = tuple[TxId, Body | None]  # a transaction, and what it is about if that is known
BUCKET_BITS: Final = 28  # registers are forgotten in lots, by when their lives end: 2**20 us, and 8 bits of node


class Register:
    """What is known here of one transaction."""

    __slots__ = (
        "accepted",
        "attempt",
        "body",
        "decided",
        "durable",
        "end",
        "executed",
        "failures",
        "low",
        "lowest",
        "outbid",
        "outcome",
        "promised",
        "proposal",
        "refused",
        "resume_at",
        "seen_at",
        "tx",
        "value",
        "wanted",
        "written",
    )

    def __init__(self, tx: TxId, now: int) -> None:
        self.tx = tx
        self.seen_at = now
        self.end = end_of(micros(tx.born) + TRANSACTION_LIFE_US)
        self.body: Body | None = None
        self.written = False  # the ledger has the body
        self.promised = self.accepted = NO_BALLOT
        self.proposal = 0
        self.value = ABORT
        self.decided = UNDECIDED
        self.durable = False  # the decision is
        self.executed = False
        self.outcome: Outcome | None = None
        self.wanted = False  # whoever asked for it is here, and brings its data
        self.low = NOWHERE  # the lowest of this master's proposal, accepted and decided value: what it vouches
        self.lowest = NOWHERE  # of these and what others vouched: below it this transaction does not come to lie
        self.attempt: Attempt | None = None
        self.refused = Admission.GO  # why a majority could not propose, as this coordinator was told
        self.outbid = 0  # the highest ballot that an attempt of this master lost against
        self.resume_at = 0  # when to take over; 0: not yet said
        self.failures = 0

    @property
    def owner(self) -> int:
        """The node that coordinates it, as far as is known."""
        return self.promised & 0xFF if self.promised > CARRIED else self.tx.coord


class Registers:
    """All registers that are not forgotten, and the acceptor's answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.table: dict[TxId, Register] = {}
        self.undecided: dict[TxId, Register] = {}
        self.over: dict[TxId, Register] = {}  # never decided here: their lives ended below the durable watermark
        self.fresh_decisions: list[Register] = []  # for the watermark, which executes them
        self.listed: list[TxId] = []  # in the order in which there was something new to vouch
        self.highest = 0  # the highest value accepted or known
        self.forgotten = 0  # decisions about lives that ended at or below it may be missing
        self.untold = 0  # what was decided at or below it may be missing from what is vouched
        self.complete = 0  # everything decided above it, up to S, has a register here
        self._settling: list[Register] = []  # decided, perhaps not durably
        self._buckets: dict[int, list[TxId]] = {}
        self._parked: dict[bytes, dict[tuple[int, TxId], Prepare]] = {}  # by the blob they wait for

    def find(self, tx: TxId) -> Register | None:
        """The register, opened if there is none; None if this transaction is closed here."""
        register = self.table.get(tx)
        if register is None:
            register = Register(tx, self._desk.time)
            if register.end <= self._desk.durable_stable and self._desk.rules.closed:
                return None
            self.table[tx] = self.undecided[tx] = register
            bucket = self._buckets.get(register.end >> BUCKET_BITS)
            if bucket is None:
                self._buckets[register.end >> BUCKET_BITS] = [tx]
            else:
                bucket.append(tx)
        return register

    # The acceptor.

    def _refuse(self, node: int, register: Register | None, tx: TxId, ballot: int) -> bool:
        """Answer what needs no vote, or gets none; whether it did."""
        desk = self._desk
        if register is None or (
            register.decided == UNDECIDED and register.end <= desk.durable_stable and desk.rules.closed
        ):
            desk.send(node, Closed(tx, desk.durable_stable))
        elif register.decided != UNDECIDED:
            desk.send(node, Decided(tx, register.decided))
        elif ballot < register.promised and desk.rules.ballot_order:
            desk.send(node, Nack(tx, ballot, register.promised))
        else:
            return False
        return True

    def prepare(self, node: int, asked: Prepare) -> None:
        """Promise the ballot, and propose if that was not done; when the data is here."""
        desk = self._desk
        register = self.find(asked.tx)
        if self._refuse(node, register, asked.tx, asked.ballot):
            return
        assert register is not None
        if not register.proposal and asked.proposing and not self._propose(node, register, asked):
            return
        register.promised = asked.ballot
        register.resume_at = 0
        if not desk.rules.two_ballots and register.accepted:
            register.accepted = asked.ballot
        durable = desk.rules.durable_promise
        if durable and not desk.alone:
            news = None if register.written or desk.witness else register.body
            register.written = register.body is not None
            desk.write(entries.Promised(asked.tx, asked.ballot, register.proposal, news))
        body = register.body if asked.body is None and asked.proposing else None
        desk.promise(
            node,
            Promise(asked.tx, asked.ballot, register.proposal, register.accepted, register.value, body),
            durable,
        )

    def _propose(self, node: int, register: Register, asked: Prepare) -> bool:
        """Propose if that can be done; False if there is no promise: it waits for data, or the machine does not admit
        the transaction."""
        desk = self._desk
        if not desk.witness:
            if register.body is None:
                register.body = asked.body
            if register.body is None:
                return True
            lacking = desk.machine.lacks(register.body)
            if lacking and not asked.patient:
                return True
            if lacking:
                self._parked.setdefault(lacking[0], {})[node, asked.tx] = asked
                return False
            admission = desk.machine.admit(asked.tx, register.body) if desk.rules.admission else Admission.GO
            if admission is not Admission.GO:
                desk.send(node, Busy(asked.tx, asked.ballot, admission is Admission.FENCED))
                return False
        proposal = desk.clock.fresh()
        if proposal <= register.end or not desk.rules.lifetime:
            register.proposal = proposal
            self._lower(register, proposal)
        return True

    def arrived(self, blob: bytes) -> None:
        """Data that promises waited for is here."""
        for (node, _), asked in self._parked.pop(blob, {}).items():
            self.prepare(node, asked)

    def accept(self, node: int, asked: Accept) -> None:
        """Accept the value under the ballot."""
        desk = self._desk
        register = self.find(asked.tx)
        if self._refuse(node, register, asked.tx, asked.ballot):
            return
        assert register is not None
        register.promised = register.accepted = asked.ballot
        register.value = asked.value
        register.resume_at = 0
        self._reaches(register, asked.value)
        durable = desk.rules.durable_accept
        if durable and not desk.alone:
            desk.write(entries.Voted(asked.tx, asked.ballot, asked.value))
        desk.promise(node, Accepted(asked.tx, asked.ballot), durable)

    def learn(self, tx: TxId, value: int) -> Register | None:
        """This is decided; None if it is closed here."""
        register = self.find(tx)
        if register is None:
            return None
        if register.decided != UNDECIDED:
            assert register.decided == value, f"two decisions about {tx}: {register.decided} and {value}"
            return register
        register.decided = value
        register.attempt = None
        self.undecided.pop(tx, None)
        self.over.pop(tx, None)
        self._reaches(register, value)
        self.fresh_decisions.append(register)
        if not self._desk.rules.ends_executed:
            self._desk.machine.ended(tx)
        self._settling.append(register)
        desk = self._desk
        took = desk.time - register.seen_at
        if took > PACE_MAX:
            took = PACE_MAX
        desk.pace += (took - desk.pace) >> 4
        desk.decisions += 1
        desk.deciding += took
        if not desk.alone:
            desk.write(entries.Settled(tx, value))
        desk.note_decided(register)
        return register

    def _reaches(self, register: Register, value: int) -> None:
        """The transaction may happen at this tid: later ones of this clock happen after it."""
        if value == ABORT:
            return
        if self._desk.rules.clock_past_value:
            self._desk.clock.observe(value)
        if value > self.highest:
            self.highest = value
        self._lower(register, value)

    def _lower(self, register: Register, tid: int) -> None:
        if tid < register.low:
            register.low = tid
            if tid < register.lowest:
                register.lowest = tid
            self.listed.append(register.tx)

    # Ends of lives, and forgetting.

    def end_lives(self) -> list[Register]:
        """Take those whose lives ended at or below the durable watermark out of the undecided ones: they never will
        be."""
        through = self._desk.durable_stable
        ended = [r for r in self.undecided.values() if r.end <= through] if self._desk.rules.closed else []
        for register in ended:
            del self.undecided[register.tx]
            self.over[register.tx] = register
            register.attempt = None
            self._desk.machine.ended(register.tx)
        return ended

    def standing(self) -> Iterator[Standing]:
        """What the machine has admitted here, or this epoch carries, and what is neither executed nor given up."""
        for register in self.table.values():
            if (
                register.proposal
                and not register.executed
                and register.decided != ABORT
                and register.tx not in self.over
            ):
                yield register.tx, register.body

    def settled(self) -> int:
        """Lives that end at or below this are durably over here."""
        settled = self._desk.durable_stable
        for register in self.undecided.values():
            if register.end <= settled:
                settled = register.end - 1
        self._settling = [register for register in self._settling if not register.durable]
        if self._desk.rules.durable_settled:
            for register in self._settling:
                if register.end <= settled:
                    settled = register.end - 1
        return settled

    def forget(self, horizon: int) -> int:
        """Drop the registers whose lives end at or below it; the highest decision among them, or 0."""
        highest = 0
        for blob, parked in list(self._parked.items()):
            self._parked[blob] = {at: asked for at, asked in parked.items() if asked.tx in self.undecided}
            if not self._parked[blob]:
                del self._parked[blob]
        for bucket in sorted(bucket for bucket in self._buckets if (bucket + 1) << BUCKET_BITS <= horizon):
            for tx in self._buckets.pop(bucket):
                register = self.table.pop(tx)
                assert register.decided != UNDECIDED or tx in self.over, f"{tx} is forgotten undecided"
                self.over.pop(tx, None)
                highest = max(highest, register.decided)
                self.forgotten = max(self.forgotten, horizon)
        self.complete = max(self.complete, highest)
        return highest

    def drop_executed(self, ended: Iterable[TxId]) -> None:
        """In a group of one: drop those that were executed. Nobody else votes; the machine remembers outcomes."""
        for tx in ended:
            register = self.table[tx]
            if register.executed:
                self.complete = max(self.complete, register.decided)
                del self.table[tx]
                bucket = self._buckets[register.end >> BUCKET_BITS]
                if bucket[-1] is tx:
                    bucket.pop()
                else:
                    bucket.remove(tx)
        self._settling.clear()
        self.listed.clear()

    # A new epoch.

    def void(self, record: Record) -> None:
        """Take over what the start record carries; what was proposed and accepted for the rest is void."""
        carried = dict(record.carry)
        for register in self.table.values():
            register.attempt = None
            register.resume_at = register.failures = 0
            register.outbid = max(register.outbid, register.promised)
            if register.decided == UNDECIDED and register.tx not in carried:
                register.promised = register.accepted = NO_BALLOT
                register.value = ABORT
                if self._desk.rules.epoch_scope:
                    register.proposal = 0
                    register.low = NOWHERE
                register.lowest = register.low
        for tx, value in record.carry:
            carry = self.find(tx)
            if carry is not None:
                carry.promised = carry.accepted = CARRIED
                carry.value = carry.proposal = value
                carry.low = carry.lowest = value if value != ABORT else NOWHERE
                self.highest = max(self.highest, value)
        self._parked.clear()
        self.listed.clear()

    # The ledger.

    def replay(self, entry: entries.Promised | entries.Voted | entries.Settled | entries.Kept) -> None:
        """Take in what was written about a transaction."""
        register = self.find(entry.tx)
        if register is None:
            return
        match entry:
            case entries.Promised():
                register.promised = entry.ballot
                register.proposal = entry.proposal
                register.body = entry.body or register.body
            case entries.Voted():
                register.promised = register.accepted = entry.ballot
                register.value = entry.value
            case entries.Settled():
                register.decided = entry.value
            case entries.Kept():
                register.promised, register.proposal = entry.promised, entry.proposal
                register.accepted, register.value = entry.accepted, entry.value
                register.decided, register.body = entry.decided, entry.body
        register.written = register.body is not None
        self._recall(register)

    def _recall(self, register: Register) -> None:
        if register.decided != UNDECIDED:
            register.durable = True
            self.undecided.pop(register.tx, None)
            self.over.pop(register.tx, None)
        tids = [tid for tid in (register.proposal, register.value, register.decided) if tid > 0]
        register.low = register.lowest = min(tids, default=NOWHERE)
        self.highest = max(self.highest, register.value, register.decided)

    def kept(self) -> Iterator[entries.Kept]:
        """All that is still needed of them."""
        for r in self.table.values():
            body = None if r.executed or self._desk.witness else r.body
            yield entries.Kept(r.tx, r.promised, r.proposal, r.accepted, r.value, r.decided, body)
