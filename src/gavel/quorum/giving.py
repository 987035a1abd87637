"""Giving to those who catch up: pieces of (lo, S], several ahead of what was acknowledged.

A question begins a stream; the same question with a later cursor acknowledges what came before it. A piece is made when
there is room in the window and its time has come (pace.py), one at a step, so that votes pass between two.

Invariants:
- a stream tells (lo, hi] for one hi, and its last piece the decisions in it about transactions that live on after hi;
- who does not know these decisions, or is catching up itself, gives nothing to those who want them;
- not more than CATCH_UP_AHEAD pieces of a stream are on their way.
"""

from __future__ import annotations

from gavel.errors import GavelError, HistoryPruned
from gavel.keys.tid import micros
from gavel.limits import CATCH_UP_AHEAD, KNOWN_MAX, PIECE_AIM
from gavel.quorum.desk import Desk
from gavel.quorum.messages import Beyond, CatchUp, Piece, TxId
from gavel.quorum.pace import Pace
from gavel.quorum.register import Registers
from gavel.quorum.watermark import Watermark

DATA, DECISIONS = b"m", b"k"  # first byte of a cursor: of the machine's, or of the decisions that come after it
NOTHING = (1 << 63) - 1  # above every tid: no decisions wanted
GIVE_EVERY = 5_000_000  # ns between two answers to questions held, so that a slave takes many transactions at a time
IN_STEP_US = 2_000_000
SLICE = 4  # while transactions are decided, pieces are so many times smaller


class Stream:
    """What one node is being given."""

    __slots__ = ("asked", "cursor", "hi", "over", "sent")

    def __init__(self, asked: CatchUp, hi: int) -> None:
        self.asked = asked  # as it began
        self.hi = hi
        self.cursor = asked.cursor  # of the next piece
        self.sent: list[bytes | None] = []  # of those on their way
        self.over = False  # the last one is on its way

    @property
    def paced(self) -> bool:
        """Whether it is a matter of more than the last moments: a slave in step does not wait."""
        return micros(self.hi) - micros(self.asked.lo) > IN_STEP_US

    @property
    def open(self) -> bool:
        """Whether another piece may leave."""
        return not self.over and len(self.sent) < min(max(self.asked.window, 1), CATCH_UP_AHEAD)

    def acknowledge(self, cursor: bytes | None) -> None:
        """Everything before this cursor has arrived."""
        if cursor in self.sent:
            del self.sent[: self.sent.index(cursor)]
        elif cursor == self.cursor:
            self.sent.clear()


class Giver:
    """The side that gives. `informed` is for the side that takes to say (catchup.py)."""

    def __init__(self, desk: Desk, registers: Registers, watermark: Watermark) -> None:
        self._desk = desk
        self._registers = registers
        self._watermark = watermark
        self.pace = Pace(desk)
        self.informed = True  # every decision at or below S about a living transaction is known here
        self.aim = PIECE_AIM
        self._streams: dict[int, Stream] = {}  # by node; who was given a piece last is the last
        self._holding = False
        self._given_at = -GIVE_EVERY

    def asked(self, node: int, asked: CatchUp) -> None:
        """Begin to give, go on, or hold the question until there is something to give."""
        desk = self._desk
        stream = self._streams.get(node)
        if self._watermark.frozen or desk.witness or (asked.known_above < NOTHING and not self.informed):
            self._streams.pop(node, None)  # who streams without decisions cannot pass them on
            return
        if stream is not None and asked.stream and asked.stream <= stream.asked.stream:
            if asked.stream == stream.asked.stream:
                stream.acknowledge(asked.cursor)
        elif asked.hi > desk.stable:
            return
        elif asked.hi == 0 and desk.stable < asked.least:
            desk.peer(node).ask_held = asked
            self._holding = True
            return
        else:
            hi = asked.hi or desk.stable
            if asked.known_above < NOTHING and hi < self._registers.forgotten:
                return  # some of the decisions that live on after hi may be forgotten here
            self._streams[node] = Stream(asked, hi)
        self.look()

    def lost(self, node: int) -> None:
        """A node can no longer be reached."""
        self._streams.pop(node, None)

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

    @property
    def due(self) -> int:
        """When look() has something to do, desk time; 0: not before somebody asks."""
        waiting = [stream.paced for stream in self._streams.values() if stream.open]
        if not waiting:
            return 0
        return max(self.pace.due, self._desk.time) if all(waiting) else self._desk.time

    def look(self) -> None:
        """Make one piece, if there is somebody for it and its time has come."""
        if self._watermark.frozen:
            self._streams.clear()  # it catches up itself; whoever wants more asks again
        waiting = [(stream.paced, node) for node, stream in self._streams.items() if stream.open]
        if not waiting or (not self.pace.look() and all(paced for paced, _ in waiting)):
            return
        _, node = next((one for one in waiting if not one[0]), waiting[0])
        stream = self._streams.pop(node)
        piece = self._make(node, stream)
        if piece is None:
            return
        self._streams[node] = stream
        stream.sent.append(stream.cursor)
        stream.cursor, stream.over = piece.following, piece.following is None
        weight = len(piece.data) + 48 * len(piece.known)
        self.pace.spent(max(weight, self.aim // SLICE) if piece.following is not None else weight)
        self._desk.pieces.append((node, piece))
        if stream.over and not stream.asked.stream:
            del self._streams[node]

    def _make(self, node: int, stream: Stream) -> Piece | None:
        desk, asked, hi, cursor = self._desk, stream.asked, stream.hi, stream.cursor
        data, position, total = b"", 0, 0
        above = asked.known_above
        if cursor is not None and cursor[:1] == DECISIONS:
            above = max(above, int.from_bytes(cursor[1:], "big"))
        elif node not in desk.electorate.witnesses:
            limit = self.aim // SLICE if self.pace.busy else self.aim
            try:
                begin = cursor[1:] if cursor is not None else None
                data, following, position, total = desk.machine.changes(asked.lo, hi, begin, limit)
            except GavelError as error:
                desk.observe("catch-up impossible", peer=node, lo=asked.lo, hi=hi, error=str(error))
                if isinstance(error, HistoryPruned) and asked.stream:
                    desk.send(node, Beyond(asked.lo, error.horizon))
                return None
            if following is not None:
                return Piece(asked.lo, hi, cursor, data, DATA + following, position, total, [], asked.stream)
        known = self._decisions(above, hi)
        end = None
        if len(known) > KNOWN_MAX:
            del known[KNOWN_MAX:]
            end = DECISIONS + known[-1][1].to_bytes(8, "big")
        return Piece(asked.lo, hi, cursor, data, end, position, total, known, asked.stream)

    def _decisions(self, above: int, hi: int) -> list[tuple[TxId, int]]:
        """What was decided in (above, hi] about transactions whose lives go on after hi, in order."""
        if not self._desk.rules.catch_up_decides:
            return []
        known = [(r.tx, r.decided) for r in self._registers.table.values() if above < r.decided <= hi and r.end > hi]
        return sorted(known, key=lambda decision: decision[1])
