"""What all parts of one core share: who it is, where it stands, and the two ways out, the ledger and the outbox.

Invariants:
- what `promise` is given leaves only when everything written before is durable; at most one Sync is outstanding, and
  whatever came while it ran shares the next;
- a group of one tells nobody, so for it written is as good as durable, and it asks for no sync;
- nothing leaves while `mute`: before this incarnation is durable, and while a group of one that grew has not synced
  what it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from gavel.effects import Effect, Observe, Sync
from gavel.limits import PAGE_AIM
from gavel.quorum import entries
from gavel.quorum.clock import Clock
from gavel.quorum.entries import Entry
from gavel.quorum.machine import Ledger, Machine
from gavel.quorum.messages import CatchUp, Message, Piece
from gavel.quorum.rules import Rules
from gavel.quorum.votes import Electorate

if TYPE_CHECKING:
    from gavel.quorum.register import Register


class Peer:
    """What is known of another node, and the stream of vouches in each direction."""

    __slots__ = (
        "ask_held",
        "asked_at",
        "cursor",
        "in_incarnation",
        "in_number",
        "in_stream",
        "incarnation",
        "lag",
        "node",
        "number",
        "offset",
        "position",
        "refused",
        "round_trip",
        "seen",
        "settled",
        "since",
        "spoken_at",
        "stable",
        "stream",
        "up",
        "vouched",
    )

    def __init__(self, node: int) -> None:
        self.node = node
        self.up = False
        self.incarnation = self.position = 0  # the highest seen, remembered durably
        self.seen = 0  # the position last written down
        self.refused = 0  # an incarnation that showed less
        self.offset: int | None = None  # its wall clock less ours, microseconds
        self.round_trip = 0  # ns from Prepare to Promise, smoothed
        self.spoken_at = 0  # when the last batch left for it
        self.stable = 0  # its watermark, as it last said
        self.ask_held: CatchUp | None = None  # to be answered when there is more
        self.lag = 0
        self.begin()

    def begin(self) -> None:
        """A new epoch: what it vouched for and what it was vouched is void."""
        self.settled = self.vouched = 0
        self.in_incarnation = self.in_stream = -1
        self.in_number = 0
        self.asked_at = -1
        self.stream = -1
        self.number = self.cursor = self.since = 0


class Mark:
    """What becomes true when the next sync has succeeded."""

    __slots__ = ("calls", "decided", "held", "position", "reserved", "stable", "wanted")

    def __init__(self) -> None:
        self.held: list[tuple[int, Message]] = []
        self.decided: list[Register] = []
        self.calls: list[Callable[[], None]] = []
        self.reserved = self.stable = self.position = 0
        self.wanted = False


class Desk:
    """See the module."""

    def __init__(self, me: int, ledger: Ledger, machine: Machine, rules: Rules, floor: int) -> None:
        self.me = me
        self.ledger = ledger
        self.machine = machine
        self.rules = rules
        self.time = 0  # ns that have passed, never back, whatever the host's clock does
        self.clock = Clock(me, floor >> 8, self._reserve)
        self.peers: dict[int, Peer] = {}

        self.epoch = 0
        self.electorate = Electorate()
        self.alone = False  # the only voter, and nobody else listens
        self.voter = False  # in the electorate, and not expelled
        self.witness = False
        self.acting = False  # votes and coordinates: a voter that is not sealed and has reached where its epoch starts
        self.vouching = False  # vouches: the same, as rules go
        self.start_stable = 0  # where its epoch starts
        self.decisions = self.deciding = 0  # how many, and ns from first hearing of each to its decision
        self.pace = 0  # ns from first hearing of a transaction to its decision, smoothed
        self.stable = 0  # S: everything decided at or below is known and executed here
        self.durable_stable = 0  # of which this is durable

        self.leasing = False  # leases may stand that this node knows, or knew before it was started
        self.incarnation = self.starts = 0
        self.position = self.durable_position = 0
        self.mute = True
        self.local: deque[Message] = deque()  # messages to itself, handled before the step ends
        self.outbox: dict[int, list[Message]] = {}
        self.weight = 0  # bytes of bodies in the outbox
        self.pieces: list[tuple[int, Piece]] = []  # for those who catch up
        self.effects: list[Effect] = []
        self._entries: list[Entry] = []
        self._mark = Mark()
        self._flying: Mark | None = None
        self._ticket = 0

    def enter(self, epoch: int, electorate: Electorate) -> None:
        """These are the members now. Whether it acts is for the caller to say."""
        self.epoch = epoch
        self.electorate = electorate
        self.voter = self.me in electorate.voters
        self.witness = self.me in electorate.witnesses
        self.alone = electorate.everybody == [self.me]
        for node in electorate.everybody:
            if node != self.me:
                self.peer(node)

    def peer(self, node: int) -> Peer:
        """The peer of this number, made when it is new."""
        peer = self.peers.get(node)
        if peer is None:
            peer = self.peers[node] = Peer(node)
        return peer

    @property
    def knows_the_time(self) -> bool:
        """Whether the walls of a majority of the voters are known, the own one included."""
        electorate = self.electorate
        known = [node for node in electorate.voters if node == self.me or self.peers[node].offset is not None]
        return len(known) >= electorate.majority

    @property
    def reached(self) -> bool:
        """Whether S is where the epoch starts, so that vouches of this epoch can move it on."""
        return self.stable >= self.start_stable or not self.rules.start_reached

    def ballot(self, above: int) -> int:
        """A ballot of this start of this node, above another."""
        return ((above >> 32) + 1) << 32 | self.starts << 8 | self.me

    def is_up(self, node: int) -> bool:
        """Whether the node can be reached, as far as is known."""
        return node == self.me or self.peer(node).up

    # Out to peers.

    def send(self, node: int, message: Message) -> None:
        """Say this to a node at the next drain; to itself before this step ends."""
        if node == self.me:
            self.local.append(message)
            return
        box = self.outbox.get(node)
        if box is None:
            self.outbox[node] = [message]
        else:
            box.append(message)

    def promise(self, node: int, message: Message, durable: bool = True) -> None:
        """Say this when everything written up to now is durable."""
        if self.alone or not durable:
            self.send(node, message)
        else:
            self._mark.held.append((node, message))
            self._mark.wanted = True

    def tell(self, message: Message) -> None:
        """Say this to every other member."""
        for node in self.electorate.everybody:
            if node != self.me:
                self.send(node, message)

    def observe(self, name: str, **fields: Any) -> None:
        """Something worth a log line."""
        self.effects.append(Observe(name, fields))

    def drop_votes(self, facts: Collection[type[Message]]) -> None:
        """A new epoch: what was to be said as a vote in the former one, now or when it is durable, is not said."""
        for mark in (self._mark, self._flying):
            if mark is not None:
                mark.held.clear()
        self.local.clear()
        for node, messages in self.outbox.items():
            self.outbox[node] = [message for message in messages if type(message) in facts]

    # Out to the ledger.

    def write(self, entry: Entry) -> None:
        """Put an entry into the next record; it waits there until something needs it durable."""
        self._entries.append(entry)

    def _reserve(self, tick: int) -> None:
        self._entries.append(entries.Reserved(tick))
        self._mark.reserved = tick
        if self.alone:
            self.clock.synced(tick)
        else:
            self._mark.wanted = True  # until it is durable, nobody may hear how far the clock is

    def note_decided(self, register: Register) -> None:
        """The decision about it is among the entries."""
        self._mark.decided.append(register)

    def note_stable(self) -> None:
        """Everything at or below `stable` was handed to the machine."""
        self._mark.stable = self.stable

    def urge(self) -> None:
        """Have what is written made durable at the next occasion."""
        if self._entries or self._mark.held:
            self._mark.wanted = True

    def when_durable(self, call: Callable[[], None]) -> None:
        """Call when everything written up to now is durable."""
        if self.alone:
            call()
        else:
            self._mark.calls.append(call)
            self._mark.wanted = True

    @property
    def unsynced(self) -> bool:
        """Whether entries wait for a sync."""
        return bool(self._entries)

    def flush(self) -> None:
        """Hand entries to the ledger, and ask for the sync that somebody waits for, unless one is under way."""
        if self.alone:
            if self._entries:
                self._put()
            mark, self._mark = self._mark, Mark()
            mark.position = 0  # outsiders hear of it, and no crash may make that untrue
            self._settle(mark)
        elif self._mark.wanted and self._flying is None:
            self._put()
            self._flying, self._mark = self._mark, Mark()
            self._ticket += 1
            self.effects.append(Sync(self._ticket))

    def put(self) -> None:
        """Hand what is written to the ledger now, before the machine writes more; a later sync covers it."""
        if self._entries:
            self._put()

    def _put(self) -> None:
        if self._mark.stable > self.durable_stable:
            self._entries.append(entries.Stable(self._mark.stable))
        batch, self._entries = self._entries, []
        if batch:
            self._put_pages(batch)
        self._mark.position = self.position

    def _put_pages(self, batch: list[Entry]) -> None:
        """One record, or several if it is long."""
        record = entries.encode(self.position + len(batch), batch)
        if len(record) > PAGE_AIM and len(batch) > 1:
            half = len(batch) // 2
            self._put_pages(batch[:half])
            self._put_pages(batch[half:])
        else:
            self.position += len(batch)
            self.ledger.write(record)

    def synced(self, ticket: int) -> None:
        """The device did it: what was promised may be said."""
        assert self._flying is not None and ticket == self._ticket, "a sync that nobody asked for"
        mark, self._flying = self._flying, None
        self._settle(mark)

    def _settle(self, mark: Mark) -> None:
        self.clock.synced(mark.reserved)
        if mark.stable > self.durable_stable:
            self.durable_stable = mark.stable
        if mark.position > self.durable_position:
            self.durable_position = mark.position
        for register in mark.decided:
            register.durable = True
        for call in mark.calls:
            call()
        for node, message in mark.held:
            self.send(node, message)
