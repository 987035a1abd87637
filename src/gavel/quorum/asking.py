"""Whoever asks here: requests, what they wait for, how long, and what they are answered."""

from __future__ import annotations

from collections.abc import Callable

from gavel.effects import Reply
from gavel.errors import BadRequest, Forgotten, GavelError, NotAMember, QuorumLost, TooLarge
from gavel.keys.tid import micros
from gavel.limits import BODY_MAX, CLOCK_OFF_US, PATIENCE_MS, UNDECIDED_MAX
from gavel.quorum.attempt import Coordinator
from gavel.quorum.desk import Desk
from gavel.quorum.epochs import Epochs
from gavel.quorum.machine import Outcome
from gavel.quorum.messages import ABORT, UNDECIDED, TxId
from gavel.quorum.reading import Reads
from gavel.quorum.register import Register, Registers
from gavel.quorum.requests import Ask, Propose, ReadPoint, Reconfigure
from gavel.quorum.sizes import size_of
from gavel.quorum.watermark import Watermark

MS = 1_000_000
LOOK = 50 * MS  # how often patience is looked at

Waiter = Propose | Ask | ReadPoint | Reconfigure


class Asking:
    """Requests that are not answered yet."""

    def __init__(
        self,
        desk: Desk,
        registers: Registers,
        coordinator: Coordinator,
        watermark: Watermark,
        reads: Reads,
        epochs: Epochs,
    ) -> None:
        self._desk = desk
        self._registers = registers
        self._coordinator = coordinator
        self._watermark = watermark
        self._reads = reads
        self._epochs = epochs
        self._waiting: dict[TxId, list[tuple[int, int, Propose | Ask]]] = {}  # (since, until, request)
        self._others: list[tuple[int, int, ReadPoint | Reconfigure]] = []
        self._looked_at = 0

    @property
    def pending(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting or self._others)

    def waits_for(self, tx: TxId) -> bool:
        """Whether anybody waits for this transaction."""
        return tx in self._waiting

    def _reply(self, request: Waiter, result: object) -> None:
        self._desk.effects.append(Reply(request, result))

    def _until(self, request: Waiter) -> int:
        return self._desk.time + (request.patience_ms or PATIENCE_MS) * MS

    # Beginning.

    def _unfit(self) -> NotAMember | None:
        """Why this node cannot be asked to decide anything."""
        desk = self._desk
        if self._epochs.expelled:
            return NotAMember(desk.me, "its volume is an old copy, or its device failed")
        if desk.me not in desk.electorate.masters:
            return NotAMember(desk.me, "it is no master of this epoch")
        return None

    def propose(self, request: Propose | Ask) -> None:
        """Have it decided, or say how it was."""
        desk = self._desk
        tx = request.txid
        register = self._registers.table.get(tx)
        error: GavelError | None = self._unfit()
        if error is None and register is None and isinstance(request, Propose):
            error = self._too_much(request)
        if error is not None:
            self._reply(request, error)
            return
        if register is None:
            # What is younger than what the machine had when this core began has a register, but in a group of one.
            horizon = desk.stable if desk.alone else self._watermark.applied
            known = desk.machine.outcome(tx) if tx.born <= horizon + (CLOCK_OFF_US << 8) else None
            register = self._registers.find(tx) if known is None else None
            if register is None:
                known = desk.machine.outcome(tx) if known is None else known
                self._reply(request, known if known is not None else Forgotten(tx.born))
                return
            self._enlist(register, request)
            self._coordinator.begin(register)
        elif register.executed or register.decided == ABORT or tx in self._registers.over:
            known = register.outcome if register.outcome is not None else desk.machine.outcome(tx)
            self._reply(request, known if known is not None else Forgotten(tx.born))
        else:
            self._enlist(register, request)
            if register.decided == UNDECIDED:
                self._coordinator.hasten(register)

    def _too_much(self, request: Propose) -> GavelError | None:
        desk = self._desk
        size = size_of(request.body)
        if size > BODY_MAX:
            return TooLarge("a transaction's body", size, BODY_MAX)
        if micros(request.txid.born) > max(desk.clock.tick, desk.clock.wall) + CLOCK_OFF_US:
            return BadRequest("a transaction is born before it is proposed; take the time from a master's clock")
        if len(self._registers.undecided) >= UNDECIDED_MAX:
            return QuorumLost(0, self._missing())
        return None

    def _enlist(self, register: Register, request: Propose | Ask) -> None:
        if isinstance(request, Propose):
            if register.body is None:
                register.body = request.body
            register.wanted = True
        entry = (self._desk.time, self._until(request), request)
        self._waiting.setdefault(request.txid, []).append(entry)

    def read(self, request: ReadPoint) -> None:
        """Find a read point."""
        desk = self._desk
        if desk.alone and desk.acting:
            self._reply(request, self._registers.highest)
        elif desk.me not in desk.electorate.everybody or self._epochs.expelled:
            self._reply(request, self._unfit() or NotAMember(desk.me, "it does not vote"))
        else:
            self._others.append((desk.time, self._until(request), request))
            self._reads.begin(request)

    def reconfigure(self, request: Reconfigure) -> None:
        """Change the members."""
        error = self._unfit() or self._epochs.begin(request)
        if error is not None:
            self._reply(request, error)
        elif self._epochs.waits(request):
            self._others.append((self._desk.time, self._until(request), request))
        else:
            self._reply(request, self._desk.electorate.members)

    def arrived(self) -> None:
        """Data came: in a group of one, transactions may have waited for it."""
        if self._desk.alone:
            for register in list(self._registers.undecided.values()):
                self._coordinator.begin(register)

    # Answering.

    def answer(self) -> None:
        """Answer what is known by now."""
        done = self._watermark.done
        if done:
            self._watermark.done = []
            for tx, outcome in done:
                self._end(tx, outcome)
        for request, point in self._reads.ready():
            self._drop(request)
            self._reply(request, point)

    def _end(self, tx: TxId, outcome: Outcome | None) -> None:
        for _, _, request in self._waiting.pop(tx, ()):
            self._reply(request, outcome if outcome is not None else Forgotten(tx.born))

    def ended(self, register: Register) -> None:
        """Its life is over and it was never decided here."""
        if register.tx in self._waiting:
            self._end(register.tx, self._desk.machine.outcome(register.tx))

    def _drop(self, request: ReadPoint | Reconfigure) -> None:
        self._others = [entry for entry in self._others if entry[2] is not request]

    def members_changed(self) -> None:
        """Answer those who wanted it, and those whom this node can serve no more."""
        for request, error in self._epochs.answers():
            self._drop(request)
            self._reply(request, error or self._desk.electorate.members)
        unfit = self._unfit()
        if unfit is not None and self.pending:
            reads = self._desk.me in self._desk.electorate.everybody and not self._epochs.expelled
            self.fail(lambda: NotAMember(unfit.node, unfit.why), spare_reads=reads)

    # Patience.

    def look(self) -> None:
        """Give up what waited too long: no majority answered."""
        now = self._desk.time
        self.members_changed()
        if now - self._looked_at < LOOK:
            return
        self._looked_at = now
        for tx, entries in list(self._waiting.items()):
            if any(until <= now for _, until, _ in entries):
                self._waiting[tx] = [entry for entry in entries if entry[1] > now]
                for since, until, request in entries:
                    if until <= now:
                        self._reply(request, QuorumLost((now - since) // MS, self._missing()))
                if not self._waiting[tx]:
                    del self._waiting[tx]
                    self._registers.table[tx].wanted = False
        for since, until, other in self._others:
            if until <= now:
                self._drop(other)
                self._give_up(other)
                self._reply(other, QuorumLost((now - since) // MS, self._missing()))

    def _give_up(self, request: ReadPoint | Reconfigure) -> None:
        if isinstance(request, ReadPoint):
            self._reads.give_up(request)
        else:
            self._epochs.give_up(request)

    def _missing(self) -> list[int]:
        return [node for node in self._desk.electorate.voters if not self._desk.is_up(node)]

    def fail(self, error: Callable[[], GavelError], spare_reads: bool = False) -> None:
        """Answer everybody so, but reads if they are spared."""
        waiting, self._waiting = self._waiting, {}
        others = [entry for entry in self._others if not (spare_reads and isinstance(entry[2], ReadPoint))]
        self._others = [entry for entry in self._others if entry not in others]
        for entries in waiting.values():
            for _, _, request in entries:
                self._reply(request, error())
        for _, _, other in others:
            self._give_up(other)
            self._reply(other, error())
