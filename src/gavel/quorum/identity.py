"""Whom one talks to: incarnations, positions in the log, wall clocks.

Votes are bound to an identity and its log. Every batch shows the speaker's incarnation (one a start) and how far its
log is durable; every other member remembers the furthest it has seen of it. A volume that was copied and put back
shows less, and does not vote any more: what it promised after the copy was made it does not know. What is told is
durable at the teller, so an honest crash never shows less.

Wall clocks are compared by what batches show; who is far off the median of a majority follows the median instead of
its own, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from gavel.limits import CLOCK_OFF_US
from gavel.quorum import entries
from gavel.quorum.desk import Desk, Peer
from gavel.quorum.epochs import Epochs
from gavel.quorum.messages import Batch, Refused

SEEN_STEP = 8  # entries; idle masters would otherwise write down for ever that the others wrote this down


class Identities:
    """Admits batches."""

    def __init__(self, desk: Desk, epochs: Epochs) -> None:
        self._desk = desk
        self._epochs = epochs
        self._reported_off = 0

    def admit(self, peer: Peer, batch: Batch) -> bool:
        """Whether the batch is of whom it should be."""
        desk = self._desk
        if batch.incarnation != peer.incarnation:
            if not self._is_newer(peer, batch) and desk.rules.no_old_copy:
                return False
            peer.incarnation = batch.incarnation
        if batch.position > peer.position:
            peer.position = batch.position
        offset = batch.wall - (desk.clock.wall - desk.clock.off)
        peer.offset = offset
        if desk.clock.off or not -CLOCK_OFF_US < offset < CLOCK_OFF_US:
            self._compare()
        return True

    def _is_newer(self, peer: Peer, batch: Batch) -> bool:
        """Whether another incarnation than the known is a later one of the same log."""
        if batch.incarnation > peer.incarnation and batch.position >= peer.position:
            return True
        if batch.incarnation > peer.incarnation and peer.refused != batch.incarnation:
            peer.refused = batch.incarnation
            self._desk.observe(
                "old copy",
                node=peer.node,
                incarnation=batch.incarnation,
                position=batch.position,
                seen_incarnation=peer.incarnation,
                seen_position=peer.position,
            )
        if peer.up:
            self._desk.send(peer.node, Refused(peer.incarnation, peer.position))
        return False

    def refused(self, node: int, told: Refused) -> None:
        """A member has seen this node's log further on than it is: this is an old copy of the volume, or there are
        two."""
        desk = self._desk
        ahead = told.incarnation > desk.incarnation or told.position > desk.position
        if ahead and not self._epochs.expelled and node in desk.electorate.everybody and desk.rules.no_old_copy:
            self._epochs.expelled = True
            self._epochs.judge()
            desk.write(entries.Expelled(told.position))
            desk.urge()
            desk.observe("expelled", by=node, incarnation=told.incarnation, position=told.position)

    def leapt(self, us: int) -> None:
        """This host's clock made a leap. Until others are heard, they are where they were; if it slept, that does no
        harm."""
        for peer in self._desk.peers.values():
            if peer.offset is not None:
                peer.offset -= us
        self._compare()

    def _compare(self) -> None:
        desk = self._desk
        others = [
            peer.offset for node in desk.electorate.voters if (peer := desk.peers.get(node)) and peer.offset is not None
        ]
        off = desk.clock.compare(others, desk.electorate.majority - 1)
        if bool(off) != bool(self._reported_off):
            desk.observe("clock off" if off else "clock good again", us=-off)
        self._reported_off = off

    # What is remembered.

    def remember(self) -> None:
        """Write down how far others were seen to be."""
        for peer in self._desk.peers.values():
            if peer.position > peer.seen + SEEN_STEP or peer.position > peer.seen == 0:
                peer.seen = peer.position
                self._desk.write(entries.Seen(peer.node, peer.incarnation, peer.position))

    def replay(self, entry: entries.Seen) -> None:
        """Take in what was remembered."""
        peer = self._desk.peer(entry.node)
        peer.incarnation, peer.position, peer.seen = entry.incarnation, entry.position, entry.position

    def kept(self) -> Iterator[entries.Seen]:
        """What is remembered."""
        for peer in self._desk.peers.values():
            if peer.position:
                yield entries.Seen(peer.node, peer.incarnation, peer.position)
