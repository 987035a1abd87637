"""The quorum: what happened, and in which order, agreed by a majority of masters without a leader.

What it is: the pure core of one volume's group. Events go in by `step`, effects come out by `drain` (gavel.effects).
Normative page: docs/internals/quorum.md.

What the shell owes it:
- before anything else, `replay(record)` for every record of the ledger since the last snapshot, in order, then
  `start(now)` once, then `drain`;
- `step(Requested(request), now)` for the requests of gavel.quorum.requests; each but Arrived is answered by one Reply
  with the same request;
- `step(Received(peer, batch), now)` for every Batch (messages.decode) of an authenticated node, members and others;
  links may lose, double and reorder, which costs time only; what one link says arrives in order as a rule;
- `step(PeerUp(node), now)` and `PeerDown` for every link to a member (Status.members), or to one whom it wants to join;
- `Synced`, `SyncFailed`, `Ticked` as gavel.effects says. At most one Sync of this core is outstanding. A later `Arm`
  does not undo an earlier;
- `drain` after each step or after a few (fewer, larger syncs and batches), before the device is asked for anything
  else;
- every `Send(peer, Batch)` is encoded and sent, or dropped when there is no link; one Send a peer in a drain, more if
  very large.

`now` is ns since 1970 by the host's clock; it may step and be wrong, which costs time, never safety.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gavel.effects import (
    Arm,
    Effect,
    Event,
    PeerDown,
    PeerUp,
    Received,
    Reply,
    Requested,
    Synced,
    SyncFailed,
    Ticked,
)
from gavel.errors import BadRequest, QuorumLost
from gavel.limits import BATCH_AIM, HEARTBEAT_MS, TICK_MS, VOUCH_MS
from gavel.quorum import entries
from gavel.quorum.asking import Asking
from gavel.quorum.attempt import Coordinator
from gavel.quorum.batches import Batches
from gavel.quorum.catchup import CatchUps
from gavel.quorum.desk import Desk, Peer
from gavel.quorum.epochs import Epochs
from gavel.quorum.forgetting import Forgetting
from gavel.quorum.giving import Giver
from gavel.quorum.identity import Identities
from gavel.quorum.machine import Ledger, Machine
from gavel.quorum.messages import (
    ABORT,
    Accept,
    Accepted,
    Batch,
    Beyond,
    BodyAsk,
    BodyTold,
    Busy,
    CatchUp,
    Choose,
    Chosen,
    Closed,
    Decided,
    Member,
    Message,
    Nack,
    Piece,
    Prepare,
    Promise,
    ReadAsk,
    ReadTold,
    Refused,
    Seal,
    Sealed,
    Start,
    VouchAsk,
)
from gavel.quorum.reading import Reads
from gavel.quorum.register import Registers, Standing
from gavel.quorum.requests import Arrived, Ask, GetStatus, Gone, PeerStatus, Propose, ReadPoint, Reconfigure, Status
from gavel.quorum.rules import ALL, Rules
from gavel.quorum.votes import Electorate
from gavel.quorum.watermark import Watermark

MS = 1_000_000
LEAP = 10_000 * MS  # more than this between two steps is not time that passed: the host slept, or its clock was set
BUSY_FOR = 200 * MS  # after the last event that mattered, vouches go on at their quick pace

QUIET = frozenset(
    {VouchAsk, CatchUp, Piece, Beyond}
)  # what goes on between idle members, too, and must not keep them awake

Handler = Callable[[int, Any], Any]


class Quorum:
    """One member of the group: votes, coordinates, takes over, executes.

    Invariants:
    - nothing that promises leaves before it is durable, except in a group of one, which tells nobody;
    - execution is in tid order, each tid once, and nothing is decided at or below `stable` that was not executed or
      installed.
    """

    def __init__(
        self,
        me: int,
        ledger: Ledger,
        machine: Machine,
        founding: Iterable[Member] = (),
        floor: int = 0,
        rules: Rules = ALL,
    ) -> None:
        """A core that has replayed nothing yet.

        `founding`: the members of the first epoch, the same on all of them; nothing for a node that joins a group (it
        waits for a Start that names it). Without meaning once the ledger knows an epoch. `floor`: a tid at or above
        everything issued before by this volume, as far as it is not in the ledger; the clock starts above it.
        """
        self.me = me
        self.desk = desk = Desk(me, ledger, machine, rules, floor)
        self.registers = Registers(desk)
        self.coordinator = Coordinator(desk, self.registers)
        self.watermark = Watermark(desk, self.registers)
        self.batches = Batches(desk, self.watermark)
        self.forgetting = Forgetting(desk, self.registers, self.watermark)
        self.reads = Reads(desk, self.registers)
        self.giver = Giver(desk, self.registers, self.watermark)
        self.catch_ups = CatchUps(desk, self.registers, self.watermark, self.giver)
        self.epochs = Epochs(desk, self.registers, self.watermark, self.catch_ups, self._acts)
        self.identities = Identities(desk, self.epochs)
        self.asking = Asking(desk, self.registers, self.coordinator, self.watermark, self.reads, self.epochs)
        desk.enter(0, Electorate(founding))
        self._left: entries.Filling | None = None
        self._complete: int | None = 0  # as the last start or snapshot said
        self._last_now = 0
        self._armed = self._give_armed = -1  # in desk.time
        self._beat_at = self._looked_at = self._vouched_at = self._busy_until = 0
        self._failed = False
        self._handlers()

    def _handlers(self) -> None:
        """What is done about a message: facts hold in every epoch, votes in the one they name."""
        self._facts: dict[type[Message], Handler] = {
            Decided: lambda node, told: self.registers.learn(told.tx, told.value),
            Closed: self._closed,
            BodyAsk: self.watermark.body_asked,
            BodyTold: self._body_told,
            CatchUp: self.giver.asked,
            Piece: self.catch_ups.piece,
            Beyond: self.catch_ups.beyond,
            Start: self._start,
            Refused: self.identities.refused,
        }
        self._votes: dict[type[Message], Handler] = {
            **self._facts,
            Prepare: self._prepare,
            Promise: self.coordinator.promised,
            Accept: self._accept,
            Accepted: self.coordinator.accepted,
            Nack: self.coordinator.refused,
            Busy: self.coordinator.busy,
            VouchAsk: lambda node, asked: self.watermark.begin_stream(self.desk.peer(node), asked),
            ReadAsk: self.reads.asked,
            ReadTold: self.reads.told,
            Seal: self.epochs.seal,
            Sealed: self.epochs.sealed,
            Choose: self.epochs.choose,
            Chosen: self.epochs.chosen,
        }

    # Restart.

    def replay(self, record: bytes) -> None:
        """Take in a record of the ledger; raises Damaged for bytes that are none."""
        desk = self.desk
        page = entries.decode(record)
        desk.position = page.position
        for entry in page.entries:
            match entry:
                case entries.Promised() | entries.Voted() | entries.Settled() | entries.Kept():
                    self.registers.replay(entry)
                case entries.Reserved():
                    if desk.rules.reserved_clock:
                        desk.clock.resume(entry.tick)
                case entries.Stable():
                    desk.stable = desk.durable_stable = max(desk.stable, entry.tid)
                case entries.Began():
                    desk.incarnation, desk.starts, desk.leasing = entry.incarnation, entry.start, entry.leasing
                    self._complete, self.registers.untold = entry.complete, entry.untold
                case entries.Seen():
                    self.identities.replay(entry)
                case entries.Filling():
                    self._left = entry
                case entries.Filled():
                    self._left = None
                    self.catch_ups.informed = entry.informed
                    self.registers.complete = max(self.registers.complete, entry.hi)
                case _:
                    self.epochs.replay(entry)

    def start(self, now: int) -> None:
        """Everything was replayed; from here on `step`. Nothing leaves before this incarnation is durable."""
        desk = self.desk
        self._last_now = now
        desk.clock.look(now // 1000)
        desk.durable_position = desk.position
        desk.incarnation = max(desk.incarnation + 1, now // 1000)
        desk.starts += 1
        applied = desk.machine.applied_tid
        if desk.alone:
            desk.stable = desk.durable_stable = max(desk.stable, applied)
        known = None if desk.alone else self._complete
        self.registers.complete = max(self.registers.complete, desk.stable if known is None else known)
        self.registers.forgotten = desk.stable
        desk.write(self._began)
        self.registers.highest = max(self.registers.highest, applied)
        desk.clock.observe(max(applied, self.registers.highest))
        self.watermark.resume()
        self.catch_ups.resume(self._left)
        desk.when_durable(self._may_speak)
        self._hear_itself()

    @property
    def _began(self) -> entries.Began:
        desk = self.desk
        registers = self.registers
        return entries.Began(desk.incarnation, desk.starts, registers.complete, desk.leasing, registers.untold)

    @property
    def leasing(self) -> bool:
        """Whether leases may stand that this node granted, or whoever was here before this epoch."""
        return self.desk.leasing

    def note_leasing(self, leasing: bool) -> None:
        """Write down whether leases may stand that this node grants: before the first one, and when all are gone. It
        is durable with the next sync."""
        self.desk.leasing = leasing
        self.desk.write(self._began)
        self.desk.put()

    def _may_speak(self) -> None:
        self.desk.mute = False
        self.epochs.judge()

    def _acts(self) -> None:
        """From now on this node votes in this epoch: what waited for that begins."""
        for register in list(self.registers.undecided.values()):
            if self.desk.alone or self.asking.waits_for(register.tx):
                self.coordinator.begin(register)
        self.reads.look(again=True)

    # Events.

    def step(self, event: Event, now: int) -> None:
        """Take in what happened."""
        desk = self.desk
        passed = now - self._last_now
        self._last_now = now
        if -LEAP < passed < LEAP:
            desk.time += max(passed, 0)
        else:
            desk.time += HEARTBEAT_MS * MS
            self.identities.leapt(passed // 1000)
        desk.clock.look(now // 1000)
        if desk.alone and desk.time - self._beat_at >= HEARTBEAT_MS * MS:
            self._beat()
        match event:
            case Received(node, batch):
                self._received(node, batch)
            case Requested(request):
                self._requested(request)
            case Synced(ticket):
                desk.synced(ticket)
                if not desk.acting:
                    self.epochs.judge()
            case Ticked():
                self._armed = self._give_armed = -1
                self._ticked()
            case PeerUp(node):
                self._peer_up(desk.peer(node))
            case PeerDown(node):
                desk.peer(node).up = False
                desk.outbox.pop(node, None)
                self.giver.lost(node)
                self.coordinator.lost(node)
            case SyncFailed(_, reason):
                self._fail(reason)
        self._hear_itself()

    def _hear_itself(self) -> None:
        """Handle what this node said to itself."""
        local = self.desk.local
        while local:
            message = local.popleft()
            self._votes[type(message)](self.me, message)

    def _settle_down(self) -> None:
        """Move the watermark as far as all that was heard allows, and answer who waited for it."""
        desk = self.desk
        before = desk.stable
        self.watermark.advance()
        ended = self.watermark.done
        if ended or self.reads.pending:
            self.asking.answer()
            if desk.alone and ended:
                self.registers.drop_executed([tx for tx, _ in ended])
        if desk.stable != before:
            self.giver.give()

    def _requested(self, request: Any) -> None:
        if self._failed and not isinstance(request, GetStatus):
            self.desk.effects.append(Reply(request, QuorumLost(0)))
            return
        self._busy_until = self.desk.time + BUSY_FOR
        match request:
            case Propose() | Ask():
                self.asking.propose(request)
            case ReadPoint():
                self.asking.read(request)
            case Reconfigure():
                self.asking.reconfigure(request)
            case Arrived(blob):
                self.registers.arrived(blob)
                self.asking.arrived()
            case Gone(blob):
                self._gone(blob)
            case GetStatus():
                self.desk.effects.append(Reply(request, self.status()))
            case _:
                raise BadRequest(f"the quorum has no use for {request!r}")

    def _gone(self, blob: bytes) -> None:
        for register in self.registers.table.values():
            waits = register.decided > ABORT and not register.executed and register.body is not None
            if waits and register.body is not None and blob in register.body.blobs:
                self.catch_ups.must_reach(register.decided)

    def _fail(self, reason: str) -> None:
        """The device is lost: this node votes no more until it is started again. Others go on."""
        self._failed = True
        self.epochs.expelled = True
        self.epochs.judge()
        self.desk.observe("sync failed", reason=reason)
        self.asking.fail(lambda: QuorumLost(0))

    # Messages.

    def _peer_up(self, peer: Peer) -> None:
        peer.up = True
        peer.asked_at = -1
        self.coordinator.found()
        self.watermark.ask(peer)
        self.catch_ups.look()

    def _received(self, node: int, batch: Batch) -> None:
        desk = self.desk
        peer = desk.peer(node)
        if not self.identities.admit(peer, batch) or self.epochs.expelled:
            return
        if not desk.acting and desk.voter:
            self.epochs.judge()
        if batch.epoch < desk.epoch and self.epochs.record is not None:
            desk.send(node, Start(self.epochs.record))
        elif batch.epoch > desk.epoch:
            self.watermark.ask(peer)  # which is answered with the record of the newer epoch
        votes, facts = self._votes, self._facts
        for message in batch.messages:
            match = batch.epoch == desk.epoch or not desk.rules.epoch_match
            handler = (votes if match else facts).get(type(message))
            if handler is not None:
                handler(node, message)
        if self._busy_until < desk.time + BUSY_FOR // 2 and not QUIET.issuperset(map(type, batch.messages)):
            self._busy_until = desk.time + BUSY_FOR
        if batch.epoch == desk.epoch and desk.voter and node in desk.electorate.voters:
            behind = self.watermark.vouched(peer, batch)
            if behind:
                self.catch_ups.must_reach(behind)
                self.catch_ups.look()

    def _prepare(self, node: int, asked: Prepare) -> None:
        if self.desk.acting and node in self.desk.electorate.voters:
            self.registers.prepare(node, asked)

    def _accept(self, node: int, asked: Accept) -> None:
        if self.desk.acting and node in self.desk.electorate.voters:
            self.registers.accept(node, asked)

    def _start(self, node: int, told: Start) -> None:
        self.epochs.install(told.record)
        self.catch_ups.look()

    def _closed(self, node: int, told: Closed) -> None:
        if self.coordinator.closed(told):
            self.catch_ups.must_reach(told.through)

    def _body_told(self, node: int, told: BodyTold) -> None:
        if self.watermark.body_told(told):
            self.catch_ups.must_reach(self.registers.table[told.tx].decided)

    # Time.

    @property
    def _busy(self) -> bool:
        desk = self.desk
        if desk.alone:
            return self.asking.pending or bool(self.registers.undecided) or not desk.acting
        return (
            self.asking.pending
            or bool(self.registers.undecided)
            or desk.time < self._busy_until
            or (desk.voter and not (desk.acting or self.epochs.expelled))
            or self.watermark.blocked_at > 0
        )

    def _ticked(self) -> None:
        desk = self.desk
        self.giver.look()
        if 0 <= desk.time - self._looked_at < TICK_MS * MS // 2:
            return  # it was for a piece
        self._looked_at = desk.time
        if desk.time - self._beat_at >= HEARTBEAT_MS * MS:
            self._beat()
        if not self._busy:
            return
        if not desk.acting:
            self.epochs.judge()
        if desk.acting:
            self.coordinator.look()
        self.reads.look()
        self.catch_ups.look()
        self.giver.give()
        self.epochs.look()
        self.asking.look()
        if not desk.alone and desk.time - self._vouched_at >= VOUCH_MS * MS:
            self._vouched_at = desk.time
            if desk.vouching:
                desk.clock.follow()
            self._speak(VOUCH_MS * MS)

    def _beat(self) -> None:
        """Once a heartbeat: durability that nobody asked for, the clock, forgetting, and a word to everybody."""
        desk = self.desk
        self._beat_at = desk.time
        for register in self.registers.end_lives():
            self.asking.ended(register)
        self.forgetting.look()
        self.catch_ups.look()
        if desk.alone:
            return
        self.identities.remember()
        if desk.vouching:
            desk.clock.follow()
        desk.urge()
        self._speak(0)

    def _speak(self, silence: int) -> None:
        """See that every member hears from this one that has not for so long."""
        desk = self.desk
        if self.epochs.expelled:
            return
        for node in desk.electorate.everybody:
            if node != self.me and desk.time - desk.peers[node].spoken_at >= silence:
                desk.outbox.setdefault(node, [])

    # Effects.

    def drain(self) -> list[Effect]:
        """What is to be done now, in order."""
        desk = self.desk
        if not self._failed:
            self._settle_down()
            desk.flush()
            if (desk.outbox or desk.pieces) and not desk.mute:
                self.batches.compose(self._last_now // 1000)
            self._arm()
        effects, desk.effects = desk.effects, []
        return effects

    def _arm(self) -> None:
        """Ask for the next tick: soon while something is under way, else for the heartbeat; never in an idle group of
        one."""
        desk = self.desk
        give_at = self.giver.due
        if give_at and (self._give_armed < 0 or give_at < self._give_armed):
            self._give_armed = give_at
            desk.effects.append(Arm(self._last_now + max(0, give_at - desk.time)))
        if self._busy:
            due = desk.time + TICK_MS * MS
        elif desk.alone:
            return
        else:
            due = self._beat_at + HEARTBEAT_MS * MS
        due = max(due, self._looked_at + TICK_MS * MS)
        if self._armed < 0 or due < self._armed:
            self._armed = due
            desk.effects.append(Arm(self._last_now + max(0, due - desk.time)))

    # For the shell.

    def snapshot(self, final: bool = False) -> Iterator[bytes]:
        """Records that, replayed in place of all before, say all that is still needed. Take all of it before the next
        step.

        To be taken right after a drain, at the moment from which on the ledger will be replayed, and when the
        machine's state of that moment is what will be replayed upon. The ledger may forget everything older once that
        is durable. `final`: nothing will be proposed in this incarnation any more; then a group of one, which has told
        nobody of its reservation, does not start again ahead of the time.
        """
        desk = self.desk
        desk.put()  # votes of a former epoch that wait for a sync would else be read as votes of this
        reserved = desk.clock.tick if final and desk.alone else desk.clock.reserved
        head: list[entries.Entry] = [
            self._began,
            entries.Reserved(reserved),
        ]
        if self.epochs.record is not None:
            head.append(entries.Installed(self.epochs.record, self.catch_ups.informed))
        head += self.epochs.kept()
        head += self.identities.kept()
        yield entries.encode(desk.position, head)
        lot: list[entries.Entry] = []
        size = 0
        for kept in self.registers.kept():
            lot.append(kept)
            size += 64 + (len(kept.body.payload) if kept.body is not None else 0)
            if size > BATCH_AIM // 4:
                yield entries.encode(desk.position, lot)
                lot, size = [], 0
        tail: list[entries.Entry] = [entries.Stable(desk.stable)]
        left = self.catch_ups.left
        if left is not None:
            tail.append(left)
        yield entries.encode(desk.position, [*lot, *tail])

    @property
    def stable(self) -> int:
        """The watermark S (SyncTs): everything decided at or below it is known and executed here; nothing new will
        be."""
        return self.desk.stable

    def needs(self) -> Iterator[bytes]:
        """The blobs of transactions that are not executed yet, and may be."""
        for register in self.registers.table.values():
            if register.body is not None and not register.executed and register.tx not in self.registers.over:
                yield from register.body.blobs

    def standing(self) -> Iterator[Standing]:
        """What Machine.admit let pass, or this epoch carries from the former, and what has not `ended` here; without
        the body where that is not known."""
        return self.registers.standing()

    @property
    def current(self) -> bool:
        """Whether this node votes, and executes what is decided: all at or below `stable`, nothing above."""
        return self.desk.acting and not self.watermark.frozen

    @property
    def clock_tid(self) -> int:
        """A tid of about now, for `born` of new transactions."""
        return max(self.desk.clock.tick, self.desk.clock.wall) << 8

    def status(self) -> Status:
        """Where this core stands."""
        desk = self.desk
        roles = dict(desk.electorate.members)
        peers = [
            PeerStatus(
                p.node, roles.get(p.node, -1), p.up, p.stable, p.vouched, p.offset or 0, 0 < p.incarnation < p.refused
            )
            for p in desk.peers.values()
        ]
        return Status(
            self.me,
            desk.epoch,
            desk.electorate.members,
            desk.acting,
            self.epochs.sealed_at is not None,
            self.epochs.expelled,
            desk.stable,
            desk.durable_stable,
            self.watermark.bound,
            len(self.registers.undecided),
            len(self.registers.table),
            desk.incarnation,
            desk.position,
            peers,
            self.catch_ups.status,
            list(self.forgetting.left),
        )
