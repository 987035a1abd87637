"""From the outbox to batches: one for each peer at a drain, with the vouch; several when they would be large."""

from __future__ import annotations

from gavel.effects import Send
from gavel.limits import BATCH_AIM
from gavel.quorum.desk import Desk
from gavel.quorum.messages import Batch, Message, Vouch
from gavel.quorum.sizes import weigh
from gavel.quorum.watermark import Watermark


class Batches:
    """Composes what is drained."""

    def __init__(self, desk: Desk, watermark: Watermark) -> None:
        self._desk = desk
        self._watermark = watermark

    def compose(self, wall_us: int) -> None:
        """Empty the outbox into Sends; what is for nodes that cannot be reached is dropped."""
        desk = self._desk
        outbox, desk.outbox = desk.outbox, {}
        heavy, desk.weight = desk.weight > BATCH_AIM, 0
        if desk.pieces:
            self._send_pieces(wall_us)
        for node, messages in outbox.items():
            peer = desk.peer(node)
            if not peer.up:
                continue
            peer.spoken_at = desk.time
            vouches = self._watermark.vouches(peer)
            if not heavy and len(vouches) < 2:
                self._send(node, wall_us, vouches[0] if vouches else None, messages)
                continue
            for part in weigh(messages, BATCH_AIM):
                self._send(node, wall_us, None, part)
            for vouch in vouches:
                self._send(node, wall_us, vouch, [])

    def _send_pieces(self, wall_us: int) -> None:
        """Each by itself: everything else may leave before it."""
        desk = self._desk
        pieces, desk.pieces = desk.pieces, []
        for node, piece in pieces:
            if desk.is_up(node):
                self._send(node, wall_us, None, [piece])

    def _send(self, node: int, wall_us: int, vouch: Vouch | None, messages: list[Message]) -> None:
        desk = self._desk
        batch = Batch(desk.incarnation, desk.durable_position, wall_us, desk.epoch, vouch, messages)
        desk.effects.append(Send(node, batch))
