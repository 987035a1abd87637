"""Catching up: everything in (lo, S] from any one peer, in pieces, instead of executing it.

Who was away, who is new and who only streams (a slave) asks one master after the other; registers are never copied,
but with the last piece come the decisions about transactions that are still alive, so that nobody decides them again.
Several pieces are on their way at a time. Who stops giving is left for the next; what was installed is not told again.

Invariants:
- between the first and the last piece nothing is executed, crashes included, and the watermark stays where it was;
- pieces are installed in the order of their cursors, each once;
- when the watermark jumps, the decisions that came along are in the ledger before it.
"""

from __future__ import annotations

from gavel.errors import Damaged
from gavel.limits import CATCH_UP_AHEAD, HEARTBEAT_MS
from gavel.quorum import entries
from gavel.quorum.desk import Desk
from gavel.quorum.giving import DATA, DECISIONS, NOTHING, Giver
from gavel.quorum.messages import Beyond, CatchUp, Piece
from gavel.quorum.register import Registers
from gavel.quorum.requests import CatchUpStatus
from gavel.quorum.watermark import Watermark

IMPATIENT = HEARTBEAT_MS * 1_000_000  # ns without a piece after which another peer is asked
SAMPLE = 1_000_000_000  # ns between two looks at how far it is, by which the time left is told
SAMPLES = 10


class Progress:
    """How far it is, and how fast it went lately."""

    def __init__(self) -> None:
        self.position = self.total = 0
        self._samples: list[tuple[int, int]] = []  # (time, position), the oldest first

    def came(self, now: int, position: int, total: int) -> None:
        """A piece is installed."""
        if position < self.position:
            self._samples.clear()
        self.position, self.total = position, total
        samples = self._samples
        if total and position and (not samples or now - samples[-1][0] >= SAMPLE):
            samples.append((now, position))
            del samples[:-SAMPLES]

    def left_ms(self, now: int) -> int | None:
        """How long the rest takes at this speed; None while that cannot be told."""
        if not self._samples:
            return None
        since, before = self._samples[0]
        if self.position <= before or now - since < SAMPLE:
            return None
        return (self.total - self.position) * (now - since) // (self.position - before) // 1_000_000


class CatchUps:
    """The side that takes; `giver` is the other."""

    def __init__(self, desk: Desk, registers: Registers, watermark: Watermark, giver: Giver) -> None:
        self._desk = desk
        self._registers = registers
        self._watermark = watermark
        self._giver = giver
        self._asked: CatchUp | None = None  # what is expected next
        self._peer = -1
        self._asked_at = 0
        self._count = 0  # of streams, in this start
        self._early: dict[bytes | None, Piece] = {}  # pieces that came before those before them
        self._progress = Progress()
        self._tries = 0
        self._turn = -1
        self._goal = 0  # a tid to be reached by catching up, because others have settled it without this one
        self._beyond: dict[int, int] = {}  # who remembers back to a horizon only, above what is here
        self.left: entries.Filling | None = None  # how far an unfinished one is, when it survives a crash
        self._cursor: bytes | None = None  # how far it is
        self._survives = True  # all of what was installed last

    @property
    def informed(self) -> bool:
        """Whether every decision at or below S about a living transaction is known here."""
        return self._giver.informed

    @informed.setter
    def informed(self, informed: bool) -> None:
        self._giver.informed = informed

    @property
    def status(self) -> CatchUpStatus | None:
        """How far it is; with a horizon when nobody who was asked remembers back to what is here."""
        asked = self._asked
        if asked is None:
            return None
        progress, horizon = self._progress, min(self._beyond.values(), default=0)
        if self._watermark.frozen:
            left = progress.left_ms(self._desk.time)
            return CatchUpStatus(self._peer, asked.lo, asked.hi, progress.position, progress.total, left, horizon)
        return CatchUpStatus(self._peer, asked.lo, 0, 0, 0, None, horizon) if horizon else None

    def must_reach(self, tid: int) -> None:
        """Catch up to at least this tid: without it something here can never be settled."""
        self._goal = max(self._goal, tid)

    def resume(self, left: entries.Filling | None) -> None:
        """After a restart: what was under way goes on, and nothing is executed before."""
        if left is not None and left.hi > self._desk.stable:
            self.left, self._cursor = left, left.cursor
        self._freeze()

    def _needed(self) -> bool:
        desk = self._desk
        if desk.me not in desk.electorate.everybody:
            return False
        if not desk.voter or self.left is not None or not desk.reached or not self.informed:
            return True
        return self._goal > desk.stable

    def look(self) -> None:
        """Ask if there is need, and ask again if nothing comes."""
        desk = self._desk
        if self._asked is None:
            if self._needed():
                self._begin()
        elif desk.time - self._asked_at >= IMPATIENT or not desk.is_up(self._peer):
            self._asked = None
            self.look()

    def restart(self) -> None:
        """A new epoch: what was asked for is asked again, by what is needed now."""
        self._asked = None
        self._beyond.clear()
        self._freeze()

    def _freeze(self) -> None:
        """Nothing is executed on half of what was to be installed, nor by a voter that lacks decisions."""
        self._watermark.frozen = self.left is not None or (self._desk.voter and not self.informed)

    def _begin(self) -> None:
        """Begin a stream: up to where the other is then, from where the last one came to."""
        desk, left = self._desk, self.left
        ignorant = desk.voter and not self.informed
        known_above = 0 if ignorant else desk.stable if desk.voter else NOTHING
        least = desk.start_stable if ignorant and desk.reached else max(desk.stable + 1, desk.start_stable)
        least = max(least, self._goal, 0 if left is None else left.hi)
        cursor = None
        if left is not None and self._cursor is not None and self._cursor[:1] == DATA:
            cursor = self._cursor
        self._count += 1
        self._early.clear()
        stream = desk.starts << 32 | self._count
        peer = self._next_peer(least)
        self._asked = CatchUp(desk.stable, 0, cursor, least, known_above, stream, CATCH_UP_AHEAD)
        self._peer, self._asked_at = peer, desk.time
        if peer >= 0:
            desk.send(peer, self._asked)

    def _next_peer(self, wanted: int) -> int:
        """Another node that can be reached, every other time one that has what is wanted; -1 if there is none.

        It need not be a member any more: what a start record wants may be only at one that was removed.
        """
        desk = self._desk
        others = sorted(p.node for p in desk.peers.values() if p.up and p.node not in desk.electorate.witnesses)
        self._tries += 1
        if self._tries % 2:
            likely = [node for node in others if desk.peers[node].stable >= wanted]
            if desk.voter:  # slaves seldom know the decisions
                likely = [node for node in likely if node not in desk.electorate.slaves]
            if likely:
                return next((node for node in likely if node > self._peer), likely[0])
        if others:
            self._turn = next((node for node in others if node > self._turn), others[0])
            return self._turn
        return -1

    def beyond(self, node: int, told: Beyond) -> None:
        """Somebody remembers back to a horizon only: perhaps another one remembers more."""
        if self._asked is not None and told.lo == self._asked.lo:
            self._beyond[node] = told.horizon
            self._desk.observe("away for too long", peer=node, lo=told.lo, horizon=told.horizon)

    def piece(self, node: int, piece: Piece) -> None:
        """Install a piece if it is the one that was asked for, and those that came before it."""
        asked = self._asked
        if asked is None or piece.lo != asked.lo or piece.stream not in (0, asked.stream):
            return
        if piece.cursor != asked.cursor:
            if piece.stream and len(self._early) < CATCH_UP_AHEAD:
                self._early[piece.cursor] = piece
            return
        following: Piece | None = piece
        while following is not None and self._take(node, following):
            asked = self._asked
            following = None if asked is None else self._early.pop(asked.cursor, None)

    def _take(self, node: int, piece: Piece) -> bool:
        """Install it; whether the stream goes on."""
        asked, desk = self._asked, self._desk
        assert asked is not None
        if asked.hi == 0 and (piece.hi < asked.least or piece.hi < desk.stable or desk.stable != asked.lo):
            self._asked = None  # overtaken by votes
            return False
        if asked.hi not in (0, piece.hi):
            return False
        if not desk.witness and (piece.cursor is None or piece.cursor[:1] != DECISIONS) and not self._install(piece):
            return False
        self._beyond.clear()
        self._progress.came(desk.time, piece.position, piece.total)
        self._watermark.frozen = True
        for tx, value in piece.known:
            self._registers.learn(tx, value)
        if piece.following is None:
            self._finish(piece, asked)
            return False
        self._cursor = piece.following
        if self._survives:
            self.left = entries.Filling(piece.lo, piece.hi, piece.following)
            desk.write(self.left)
        self._asked = CatchUp(
            piece.lo, piece.hi, piece.following, asked.least, asked.known_above, asked.stream, CATCH_UP_AHEAD
        )
        self._peer, self._asked_at = node, desk.time
        desk.send(node, self._asked)
        return True

    def _install(self, piece: Piece) -> bool:
        """Hand it to the machine; False for bytes that are none."""
        desk = self._desk
        if self.left is None or self.left.hi != piece.hi:
            # Written before the machine writes, so that no crash leaves half of it looking whole.
            cursor = None if self.left is None else self.left.cursor
            self.left = entries.Filling(piece.lo, piece.hi, cursor)
            desk.write(self.left)
            desk.put()
        try:
            whole = piece.following is None or piece.following[:1] == DECISIONS
            self._survives = desk.machine.install(piece.lo, piece.hi, piece.data, whole)
        except Damaged as error:
            desk.observe("catch-up refused", peer=self._peer, error=str(error))
            self._asked_at -= IMPATIENT
            return False
        return True

    def _finish(self, piece: Piece, asked: CatchUp) -> None:
        desk = self._desk
        self.informed = asked.known_above < NOTHING
        self.left = self._asked = self._cursor = None
        self._progress = Progress()
        desk.write(entries.Filled(piece.hi, self.informed))
        self._watermark.jump(piece.hi)
        desk.clock.observe(piece.hi)
        registers = self._registers
        registers.highest = max(registers.highest, desk.machine.applied_tid)
        registers.complete = max(registers.complete, piece.hi)
        registers.forgotten = max(registers.forgotten, piece.hi)
        desk.urge()
        if not desk.voter:
            self.look()
