"""The watermark S (SyncTs): up to which tid everything is known here, and what was decided below it is executed.

A *vouch* of a voter says "all my proposals from here on are above `now`; all I made, accepted or know of that you
might lack are in this stream". Holding vouches of a majority at or above B, a master knows of everything that is or
ever will be decided at or below B: its proposals came from a majority, which meets the vouching majority in somebody
who named it. S is the largest tid up to B below everything undecided.

Invariants:
- S never goes back, and never passes what is undecided;
- execution is in tid order, once each, and only with the body and its data here;
- a stream that misses a number vouches for nothing until it begins anew, with all that one who knows up to its own S
  might lack; or up to a higher tid, to which it catches up first, where something below is forgotten.
"""

from __future__ import annotations

from heapq import heappop, heappush

from gavel.limits import VOUCH_ITEMS_MAX
from gavel.quorum.desk import Desk, Peer
from gavel.quorum.machine import Aborted, Admission, Outcome
from gavel.quorum.messages import ABORT, UNDECIDED, Batch, BodyAsk, BodyTold, TxId, Vouch, VouchAsk
from gavel.quorum.register import NOWHERE, Register, Registers

ASK_AGAIN = 100_000_000  # ns between two asks for the same thing


def _aborted(register: Register) -> Aborted:
    if register.refused is Admission.GO:
        return Aborted()
    return Aborted("a majority of the masters could not propose for it", register.refused)


class Watermark:
    """Vouches in and out, B, S, and execution."""

    def __init__(self, desk: Desk, registers: Registers) -> None:
        self._desk = desk
        self._registers = registers
        self._base = 0  # how many of registers.listed were trimmed away
        self._streams = 0
        self._ready: list[tuple[int, TxId, Register]] = []  # decided above S, a heap by tid
        self._asked_body = (0, -ASK_AGAIN)
        self.done: list[tuple[TxId, Outcome | None]] = []  # ended in this step, for who asked
        self.frozen = False  # catching up: nothing is executed meanwhile
        self.applied = 0  # the machine had this when the core started or caught up
        self.blocked_at = 0  # the lowest decided tid whose body or data is not here

    # Out.

    def begin_stream(self, peer: Peer, asked: VouchAsk) -> None:
        """Vouch to this peer from the beginning; it knows everything up to `asked.stable`."""
        self._streams += 1
        peer.stream, peer.number, peer.since = self._streams, -1, asked.stable

    def _item(self, register: Register) -> tuple[TxId, int, int]:
        low = register.low if self._desk.rules.vouch_accepted else register.proposal
        return register.tx, low, register.decided

    def _everything(self, since: int) -> list[tuple[TxId, int, int]]:
        """All that one who knows everything up to `since` might lack."""
        rules = self._desk.rules
        return [
            self._item(r)
            for r in self._registers.table.values()
            if r.low != NOWHERE
            and r.decided != ABORT
            and (r.decided == UNDECIDED or r.decided > since)
            and (rules.vouch_lists_all or r.proposal > since)
            and (rules.vouch_accepted or r.proposal)
        ]

    def vouches(self, peer: Peer) -> list[Vouch]:
        """What to tell this peer now: nothing to who has not asked; more than one for a long beginning."""
        desk = self._desk
        if peer.stream < 0 or not desk.vouching:
            return []
        listed, table = self._registers.listed, self._registers.table
        if peer.number < 0:
            if desk.rules.all_settled and peer.since < self._registers.untold:
                peer.since = self._registers.untold  # it has to catch up to there
            items = self._everything(peer.since)
        else:
            news = dict.fromkeys(listed[peer.cursor - self._base :])
            items = [self._item(r) for tx in news if (r := table.get(tx)) is not None and r.decided != ABORT]
        peer.cursor = self._base + len(listed)
        found = []
        bound, settled = desk.clock.bound(desk.rules.vouch_durable), self.settled
        while True:
            peer.number += 1
            piece, items = items[:VOUCH_ITEMS_MAX], items[VOUCH_ITEMS_MAX:]
            now = 0 if items else bound
            found.append(Vouch(peer.stream, peer.number, peer.since, now, piece, settled, desk.stable))
            if not items:
                return found

    settled = 0  # what was last computed by forgetting

    def trim(self) -> None:
        """Drop what every stream has told; a stream too far behind begins anew when its peer asks."""
        listed = self._registers.listed
        if len(listed) < VOUCH_ITEMS_MAX:
            return
        cursors = [peer.cursor for peer in self._desk.peers.values() if peer.stream >= 0 and peer.number >= 0]
        least = min(cursors, default=self._base + len(listed))
        if self._base + len(listed) - least > 4 * VOUCH_ITEMS_MAX:
            least = self._base + len(listed)
            for peer in self._desk.peers.values():
                if peer.cursor < least:
                    peer.cursor = least
                    peer.number += 1  # a gap: it will ask for a new stream
        del listed[: least - self._base]
        self._base = least

    def break_stream(self, peer: Peer) -> None:
        """Something that this peer might lack is forgotten: have it ask for a new stream."""
        if peer.number >= 0:
            peer.number += 1

    def restart(self) -> None:
        """A new epoch: vouches of the former are void."""
        self._base = 0
        for peer in self._desk.peers.values():
            peer.begin()

    # In.

    def vouched(self, peer: Peer, batch: Batch) -> int:
        """Take in the vouch of a batch, if its stream has no gap; a tid to be caught up to, where it begins above S."""
        vouch = batch.vouch
        desk = self._desk
        if vouch is None:
            if peer.in_stream < 0 or batch.incarnation != peer.in_incarnation:
                self.ask(peer)
            return 0
        newer = (batch.incarnation, vouch.stream) > (peer.in_incarnation, peer.in_stream)
        if vouch.number == 0 and newer and (vouch.since <= desk.stable or not desk.rules.vouch_in_order):
            peer.in_incarnation, peer.in_stream = batch.incarnation, vouch.stream
        elif batch.incarnation != peer.in_incarnation or vouch.stream != peer.in_stream:
            if newer:
                self.ask(peer)
            if desk.rules.vouch_in_order:
                return vouch.since if newer and vouch.number == 0 else 0
        elif vouch.number != peer.in_number + 1 and desk.rules.vouch_in_order:
            if vouch.number > peer.in_number:
                self.ask(peer)
            return 0
        peer.in_number = vouch.number
        registers = self._registers
        table = registers.table
        for tx, low, decided in vouch.items:
            register = table.get(tx) or registers.find(tx)
            if register is None or register.decided != UNDECIDED:
                continue
            if decided != UNDECIDED:
                registers.learn(tx, decided)
            elif low < register.lowest:
                register.lowest = low
        if vouch.now > peer.vouched:
            peer.vouched = vouch.now
        if vouch.settled > peer.settled:
            peer.settled = vouch.settled
        if vouch.stable > peer.stable:
            peer.stable = vouch.stable
        return 0

    def ask(self, peer: Peer) -> None:
        """Ask for a new stream, not too often."""
        if peer.asked_at < 0 or self._desk.time - peer.asked_at >= ASK_AGAIN:
            peer.asked_at = self._desk.time
            self._desk.send(peer.node, VouchAsk(self._desk.stable))

    # S.

    @property
    def bound(self) -> int:
        """B: up to here a majority vouches."""
        desk = self._desk
        bounds = {node: peer.vouched for node, peer in desk.peers.items()}
        if desk.vouching:
            bounds[desk.me] = desk.clock.bound(desk.rules.vouch_durable)
        if not desk.rules.majority_bound:
            return max(bounds.values(), default=0)
        return desk.electorate.reached(bounds) if desk.electorate.voters else 0

    def advance(self) -> None:
        """Move S as far as it goes, executing on the way."""
        desk = self._desk
        registers = self._registers
        if registers.fresh_decisions:
            self._sort_in()
        if self.frozen or not desk.voter or not desk.reached:
            return
        if desk.alone:
            limit = desk.clock.bound(durable=False)
        else:
            limit = self.bound
            if limit <= desk.stable:
                return
        if desk.rules.undecided_holds:
            for register in registers.undecided.values():
                if register.lowest <= limit:
                    limit = register.lowest - 1
        ready = self._ready
        self.blocked_at = 0
        while ready and ready[0][0] <= limit:
            if not self._execute(ready[0][2]):
                self.blocked_at = ready[0][0]
                limit = self.blocked_at - 1
                break
            heappop(ready)
        if limit > desk.stable:
            desk.stable = limit
            desk.note_stable()

    def _sort_in(self) -> None:
        """New decisions: to execute, or to answer at once."""
        decisions, self._registers.fresh_decisions = self._registers.fresh_decisions, []
        for register in decisions:
            tid = register.decided
            if tid == ABORT:
                register.body = None
                register.outcome = _aborted(register)
                self._desk.machine.ended(register.tx)
                self.done.append((register.tx, register.outcome))
            elif tid > self._desk.stable:
                heappush(self._ready, (tid, register.tx, register))
            else:
                self._past(register)

    def _past(self, register: Register) -> None:
        """It was executed by those from whom this master caught up."""
        register.executed = True
        register.body = None
        register.outcome = self._desk.machine.outcome(register.tx)
        self._desk.machine.ended(register.tx)
        self.done.append((register.tx, register.outcome))

    def _execute(self, register: Register) -> bool:
        """Execute it; False if its body or data is not here yet."""
        desk = self._desk
        if not desk.witness:
            if register.decided <= self.applied:
                self._past(register)
                return True
            body = register.body
            if body is None:
                self._want_body(register)
                return False
            if body.blobs and desk.machine.lacks(body):
                return False
            register.outcome = desk.machine.execute(register.tx, register.decided, body)
            desk.machine.ended(register.tx)
            self.done.append((register.tx, register.outcome))
        register.executed = True
        register.body = None
        return True

    def _want_body(self, register: Register) -> None:
        """Ask those who can be reached; whoever executed it already has us catch up instead."""
        tid, asked_at = self._asked_body
        desk = self._desk
        if tid == register.decided and desk.time - asked_at < ASK_AGAIN:
            return
        self._asked_body = register.decided, desk.time
        for peer in desk.peers.values():
            if peer.up:
                desk.send(peer.node, BodyAsk(register.tx))

    def body_asked(self, node: int, asked: BodyAsk) -> None:
        """Tell the body, or that it is executed."""
        register = self._registers.table.get(asked.tx)
        if register is not None and (register.body is not None or register.executed):
            self._desk.send(node, BodyTold(asked.tx, register.body))

    def body_told(self, told: BodyTold) -> bool:
        """Keep the body; whether catching up is needed instead."""
        register = self._registers.table.get(told.tx)
        if register is None or register.executed or register.body is not None:
            return False
        if told.body is None:
            return register.decided != UNDECIDED
        register.body = told.body
        return False

    # Restart and catching up.

    def resume(self) -> None:
        """Everything was replayed: what was decided above the durable S is to be executed."""
        self.applied = self._desk.machine.applied_tid
        for register in self._registers.table.values():
            if register.decided > self._desk.stable:
                heappush(self._ready, (register.decided, register.tx, register))
            elif register.decided != UNDECIDED:
                register.executed = register.decided != ABORT
                register.outcome = None if register.executed else Aborted()
                register.body = None

    def jump(self, hi: int) -> None:
        """Everything up to `hi` was installed."""
        desk = self._desk
        self.frozen = False
        self.applied = max(self.applied, hi)
        if hi > desk.stable:
            desk.stable = hi
            desk.note_stable()
        while self._ready and self._ready[0][0] <= hi:
            self._past(heappop(self._ready)[2])
