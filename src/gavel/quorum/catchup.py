"""Catching up: everything in (lo, S] from any one peer, in pieces, instead of executing it.

Who was away, who is new and who only streams (a slave) asks one master after the other; registers are never copied,
but with the last piece come the decisions about transactions that are still alive, so that nobody decides them again.

Invariants:
- between the first and the last piece nothing is executed, crashes included, and the watermark stays where it was;
- when the watermark jumps, the decisions that came along are in the ledger before it.
"""

from __future__ import annotations

from gavel.errors import Damaged, GavelError
from gavel.limits import HEARTBEAT_MS, KNOWN_MAX, PIECE_AIM
from gavel.quorum import entries
from gavel.quorum.desk import Desk
from gavel.quorum.messages import CatchUp, Piece, TxId
from gavel.quorum.register import Registers
from gavel.quorum.requests import CatchUpStatus
from gavel.quorum.watermark import Watermark

DATA, DECISIONS = b"m", b"k"  # first byte of a cursor: of the machine's, or of the decisions that come after it
NOTHING = (1 << 63) - 1  # above every tid: no decisions wanted
GIVE_EVERY = 5_000_000  # ns between two answers to questions held, so that a slave takes many transactions at a time
IMPATIENT = HEARTBEAT_MS * 1_000_000  # ns without a piece after which another peer is asked


class CatchUps:
    """Both sides of it."""

    def __init__(self, desk: Desk, registers: Registers, watermark: Watermark) -> None:
        self._desk = desk
        self._registers = registers
        self._watermark = watermark
        self.informed = True  # every decision at or below S about a living transaction is known here
        self._asked: CatchUp | None = None  # what is under way
        self._peer = -1
        self._asked_at = 0
        self._progress = (0, 0)
        self._tries = 0
        self._turn = -1
        self._goal = 0  # a tid to be reached by catching up, because others have settled it without this one
        self.left: entries.Filling | None = None  # how far an unfinished one is
        self._holding = False
        self._given_at = -GIVE_EVERY

    # The side that gives.

    def asked(self, node: int, asked: CatchUp) -> None:
        """Give a piece, or hold the question until there is something to give."""
        desk = self._desk
        if self._watermark.frozen or desk.witness or (asked.known_above < NOTHING and not self.informed):
            return  # who streams without decisions cannot pass them on
        hi = asked.hi
        if hi == 0:
            if desk.stable < asked.least:
                desk.peer(node).ask_held = asked
                self._holding = True
                return
            hi = desk.stable
        elif hi > desk.stable:
            return
        data, cursor, position, total = b"", asked.cursor, 0, 0
        above = asked.known_above
        if cursor is not None and cursor[:1] == DECISIONS:
            above = max(above, int.from_bytes(cursor[1:], "big"))
        elif node not in desk.electorate.witnesses:
            try:
                begin = cursor[1:] if cursor is not None else None
                data, following, position, total = desk.machine.changes(asked.lo, hi, begin, PIECE_AIM)
            except GavelError as error:
                desk.observe("catch-up impossible", peer=node, lo=asked.lo, hi=hi, error=str(error))
                return
            if following is not None:
                desk.weight += len(data)
                desk.send(node, Piece(asked.lo, hi, cursor, data, DATA + following, position, total, []))
                return
        known = self._decisions(above, hi)
        end = None
        if len(known) > KNOWN_MAX:
            del known[KNOWN_MAX:]
            end = DECISIONS + known[-1][1].to_bytes(8, "big")
        desk.weight += len(data) + 48 * len(known)
        desk.send(node, Piece(asked.lo, hi, cursor, data, end, position, total, known))

    def _decisions(self, above: int, hi: int) -> list[tuple[TxId, int]]:
        """What was decided in (above, hi] about transactions whose lives go on after hi, in order."""
        if not self._desk.rules.catch_up_decides:
            return []
        known = [(r.tx, r.decided) for r in self._registers.table.values() if above < r.decided <= hi and r.end > hi]
        return sorted(known, key=lambda decision: decision[1])

    def give(self) -> None:
        """The watermark moved: questions held may have answers."""
        if not self._holding or self._desk.time - self._given_at < GIVE_EVERY:
            return
        self._holding = False
        self._given_at = self._desk.time
        for peer in self._desk.peers.values():
            asked, peer.ask_held = peer.ask_held, None
            if asked is not None:
                self.asked(peer.node, asked)

    # The side that takes.

    @property
    def status(self) -> CatchUpStatus | None:
        """How far it is."""
        if self._asked is None or not self._watermark.frozen:
            return None
        return CatchUpStatus(self._peer, self._asked.lo, self._asked.hi, *self._progress)

    def must_reach(self, tid: int) -> None:
        """Catch up to at least this tid: without it something here can never be settled."""
        self._goal = max(self._goal, tid)

    def resume(self, left: entries.Filling | None) -> None:
        """After a restart: what was under way goes on, and nothing is executed before."""
        if left is not None and left.hi > self._desk.stable:
            self.left = left
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
            if self._asked.hi:
                self._ask(self._next_peer(self._asked.hi), self._asked)
            else:
                self._asked = None
                self.look()

    def restart(self) -> None:
        """A new epoch: what was asked for is asked again, by what is needed now."""
        self._asked = None
        self._freeze()

    def _freeze(self) -> None:
        """Nothing is executed on half of what was to be installed, nor by a voter that lacks decisions."""
        self._watermark.frozen = self.left is not None or (self._desk.voter and not self.informed)

    def _begin(self) -> None:
        desk = self._desk
        ignorant = desk.voter and not self.informed
        known_above = 0 if ignorant else desk.stable if desk.voter else NOTHING
        if self.left is not None:
            left = self.left
            asked = CatchUp(left.lo, left.hi, left.cursor, 0, known_above)
        else:
            least = desk.start_stable if ignorant and desk.reached else max(desk.stable + 1, desk.start_stable)
            asked = CatchUp(desk.stable, 0, None, max(least, self._goal), known_above)
        self._ask(self._next_peer(max(asked.hi, asked.least)), asked)

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

    def _ask(self, peer: int, asked: CatchUp) -> None:
        self._asked, self._peer, self._asked_at = asked, peer, self._desk.time
        if peer >= 0:
            self._desk.send(peer, asked)

    def piece(self, node: int, piece: Piece) -> None:
        """Install a piece if it is the one that was asked for."""
        asked, desk = self._asked, self._desk
        if asked is None or (piece.lo, piece.cursor) != (asked.lo, asked.cursor) or asked.hi not in (0, piece.hi):
            return
        if asked.hi == 0 and (piece.hi < asked.least or piece.hi < desk.stable or desk.stable != asked.lo):
            self._asked = None  # overtaken by votes
            return
        last = piece.following is None
        if not desk.witness and (piece.cursor is None or piece.cursor[:1] != DECISIONS):
            if self.left is None:
                # Written before the machine writes, so that no crash leaves half of it looking whole.
                desk.write(entries.Filling(piece.lo, piece.hi, None))
                desk.put()
            try:
                whole = piece.following is None or piece.following[:1] == DECISIONS
                desk.machine.install(piece.lo, piece.hi, piece.data, whole)
            except Damaged as error:
                desk.observe("catch-up refused", peer=node, error=str(error))
                self._asked_at -= IMPATIENT
                return
        self._progress = piece.position, piece.total
        self._watermark.frozen = True
        for tx, value in piece.known:
            self._registers.learn(tx, value)
        if last:
            self._finish(piece, asked)
        else:
            desk.write(entries.Filling(piece.lo, piece.hi, piece.following))
            self.left = entries.Filling(piece.lo, piece.hi, piece.following)
            self._ask(node, CatchUp(piece.lo, piece.hi, piece.following, asked.least, asked.known_above))

    def _finish(self, piece: Piece, asked: CatchUp) -> None:
        desk = self._desk
        self.informed = asked.known_above < NOTHING
        self.left = self._asked = None
        desk.write(entries.Filled(piece.hi, self.informed))
        self._watermark.jump(piece.hi)
        desk.clock.observe(piece.hi)
        self._registers.highest = max(self._registers.highest, desk.machine.applied_tid)
        self._registers.complete = max(self._registers.complete, piece.hi)
        desk.urge()
        if not desk.voter:
            self.look()
