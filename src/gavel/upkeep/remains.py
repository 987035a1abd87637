"""What is left on a device, found without header, map or roots: by magic numbers and checksums alone.

One pass over every byte finds all nodes and all frames that verify, also stale ones. The salt, without which nothing
verifies, is that of the first big-block whose beginning verifies with the salt that its own stamp implies: volumes
fill from the front, so what an older volume left on the device lies further back.

Memory: 8 MiB, some 250 bytes a node (a node has up to 16 KiB), 16 bytes a frame of records, and the frames of the
last two checkpoints, which are as many as a recovery replays (limits.REPLAY_BYTES_MAX).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from gavel.btree.node import HEIGHT_MAX, Node, decode
from gavel.errors import Damaged, DeviceFailed
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.cipher import Cipher
from gavel.media.device import Device
from gavel.media.layout import DATA, FRAME_HEAD, FRAME_MAGIC, KIND_MAX, NODE_ALIGN, NODE_HEAD, NODE_MAGIC, Frame
from gavel.media.recovery import parse_frame
from gavel.upkeep.job import Progress

_READ: Final = 1024 * 1024  # read again in pieces of this size where a big-block as a whole cannot be read

Transaction = tuple[int, list[bytes], list[bytes | None]]
Decode = Callable[[list[tuple[int, int, bytes]]], Iterator[Transaction]]  # of log frames (kind, sequence, body)


class Found(NamedTuple):
    """A node that verifies. `generation`: of the checkpoint that was durable when it was saved; `tid`: its highest."""

    address: int
    generation: int
    tid: int
    level: int


class _Logged(NamedTuple):
    sequence: int
    previous: int
    sum: int
    kind: int
    checkpoint: int
    offset: int


class Remains:
    """The structures found on a device; fill it by exhausting `scan()`."""

    def __init__(self, device: Device, salt: int, cipher: Cipher | None = None) -> None:
        self.device, self.salt, self.cipher = device, salt, cipher
        self.nodes: dict[int, Found] = {}
        self.referred: set[int] = set()  # addresses that some node refers to
        self.old_frames = array("Q")  # offsets of frames with records from before the last two checkpoints
        self.frames = 0  # how many verify
        self.unreadable: list[tuple[int, int]] = []  # (offset, length)
        self.sealed = 0  # texts that no key opens, or that no volume in clear has
        self._recent: list[_Logged] = []
        self._newest = 0

    @property
    def newest(self) -> int:
        """The highest generation that anything found speaks of as durable."""
        return self._newest

    # -- finding -----------------------------------------------------------------------------------------------

    def scan(self) -> Iterator[Progress]:
        """Look at every byte; raises nothing for what is damaged."""
        size = self.device.size()
        for base in range(0, size, BIG_BLOCK):
            text = self._read(base, min(BIG_BLOCK, size - base))
            self._scan_block(text, base)
            yield Progress(min(base + BIG_BLOCK, size), size, "bytes", f"{len(self.nodes)} nodes")
        self._drop_old()

    def _read(self, offset: int, length: int) -> bytes:
        """Bytes of the device, zeros where they cannot be read."""
        try:
            return self.device.read(offset, length)
        except DeviceFailed:
            if length <= _READ:
                self.unreadable.append((offset, length))
                return bytes(length)
        return b"".join(
            self._read(at, min(_READ, offset + length - at)) for at in range(offset, offset + length, _READ)
        )

    def _scan_block(self, text: bytes, base: int) -> None:
        at = 0
        frame_at, node_at = text.find(FRAME_MAGIC), text.find(NODE_MAGIC)
        while frame_at >= 0 or node_at >= 0:
            if node_at < 0 or 0 <= frame_at < node_at:
                frame = parse_frame(text, frame_at, base + frame_at, self.salt)
                at = frame_at + (frame.size if frame else 1)
                if frame is not None:
                    self._frame(frame)
            else:
                at = node_at + max(1, self._node(text, node_at, base + node_at))
            if 0 <= frame_at < at:
                frame_at = text.find(FRAME_MAGIC, at)
            if 0 <= node_at < at:
                node_at = text.find(NODE_MAGIC, at)

    def _frame(self, frame: Frame) -> None:
        self.frames += 1
        self._newest = max(self._newest, frame.checkpoint)
        if frame.checkpoint + 1 >= self._newest:
            self._recent.append(
                _Logged(frame.sequence, frame.previous, frame.sum, frame.kind, frame.checkpoint, frame.offset)
            )
            if len(self._recent) > 4096 and self._recent[0].checkpoint + 1 < self._newest:
                self._drop_old()
        elif frame.kind <= KIND_MAX:
            self.old_frames.append(frame.offset)

    def _drop_old(self) -> None:
        kept = []
        for frame in self._recent:
            if frame.checkpoint + 1 >= self._newest:
                kept.append(frame)
            elif frame.kind <= KIND_MAX:
                self.old_frames.append(frame.offset)
        self._recent = kept

    def _node(self, text: bytes, at: int, offset: int) -> int:
        """Take in the node at `offset`; its size, 0 if there is none."""
        head = text[at : at + NODE_HEAD.size]
        if len(head) < NODE_HEAD.size or offset % NODE_ALIGN:
            return 0
        _, length, stamp, generation, _ = NODE_HEAD.unpack(head)
        if stamp != self.salt ^ offset or length > layout.NODE_MAX:
            return 0
        size = layout.node_size(length)
        sealed = text[at : at + size]
        if layout.verify(NODE_MAGIC, stamp, sealed) is None:
            return 0
        address = layout.node_address(offset, size)
        node = self._decoded(address, sealed[NODE_HEAD.size : NODE_HEAD.size + length])
        if node is None:
            self.sealed += 1
        else:
            self._newest = max(self._newest, generation)
            self.nodes[address] = Found(address, generation, max(node.tids, default=0), node.level)
            if node.level:
                self.referred.update(child.address for child in node.values)
        return size

    def _decoded(self, address: int, payload: bytes) -> Node | None:
        try:
            if self.cipher is not None:
                payload = self.cipher.open("tree node", NODE_MAGIC, 0, layout.node_extent(address)[0], payload)
        except Damaged:
            return None
        level = payload[1] if len(payload) > 1 else 0  # MessagePack: an array of four, then a small number
        for candidate in dict.fromkeys((level if level < HEIGHT_MAX else 0, 0)):
            node = Node(candidate, address)
            try:
                decode(node, payload)
            except Damaged:
                continue
            return node
        return None

    # -- reading what was found --------------------------------------------------------------------------------

    def node(self, address: int) -> Node | None:
        """A node that was found, None if it cannot be read any more."""
        found = self.nodes.get(address)
        if found is None:
            return None
        offset, size = layout.node_extent(address)
        sealed = self._read(offset, size)
        length = layout.verify(NODE_MAGIC, self.salt ^ offset, sealed)
        return None if length is None else self._decoded(address, sealed[NODE_HEAD.size : NODE_HEAD.size + length])

    def recent(self, decode: Decode) -> Iterator[Transaction]:
        """The transactions in the log since the last checkpoint but one, in their order."""
        yield from self._transactions([frame.offset for frame in self._chained() if frame.kind <= KIND_MAX], decode)

    def old(self, decode: Decode) -> Iterator[Transaction]:
        """What is left of the transactions before that, in no order."""
        yield from self._transactions(self.old_frames, decode)

    def _chained(self) -> list[_Logged]:
        """Recent frames by sequence, without those of a lost tail: what follows on its predecessor wins.

        A frame whose predecessor is there and has another checksum belongs to another life of the log, in which
        nobody was promised it; so do those that follow on it.
        """
        by_sequence: dict[int, list[_Logged]] = {}
        for frame in self._recent:
            by_sequence.setdefault(frame.sequence, []).append(frame)
        chosen: list[_Logged] = []
        lost = False
        for sequence in sorted(by_sequence):
            candidates = by_sequence[sequence]
            after = by_sequence.get(sequence + 1, [])
            before = chosen[-1] if chosen and chosen[-1].sequence == sequence - 1 else None
            lost = lost and sequence - 1 in by_sequence
            fitting = [frame for frame in candidates if before is None or frame.previous == before.sum]
            if lost or not fitting:
                lost = True
                continue
            continued = {frame.previous for frame in after}
            chosen.append(max(fitting, key=lambda frame: (frame.sum in continued, frame.checkpoint)))
        return chosen

    def _transactions(self, offsets: list[int] | array[int], decode: Decode) -> Iterator[Transaction]:
        parts: list[tuple[int, int, bytes]] = []
        for offset in offsets:
            frame = self._frame_at(offset)
            if frame is None:
                continue
            parts.append((frame.kind, frame.sequence, frame.body))
            try:
                done = list(decode(parts))
            except Damaged:
                self.sealed += 1
                parts = []
                continue
            if done:
                yield from done
                parts = []

    def _frame_at(self, offset: int) -> Frame | None:
        length = FRAME_HEAD.unpack(self._read(offset, FRAME_HEAD.size))[2]
        size = min(layout.frame_size(length), self.device.size() - offset)
        frame = parse_frame(self._read(offset, size), 0, offset, self.salt)
        if frame is None or self.cipher is None:
            return frame
        try:
            return frame._replace(body=self.cipher.open("log frame", FRAME_MAGIC, frame.kind, offset, frame.body))
        except Damaged:
            self.sealed += 1
            return None

    def data(self, place: int, stored: int) -> bytes:
        """What lies at an extent's place, opened; raises Damaged, DeviceFailed."""
        if stored > layout.BODY_MAX or place + stored > self.device.size():
            raise Damaged("extent", place, "a place in the volume", stored)
        found = self.device.read(place, stored)
        return found if self.cipher is None else self.cipher.open("file data", FRAME_MAGIC, DATA, place, found)


def find_salt(device: Device) -> int | None:
    """The salt of the volume that a device was made into last, None where nothing of one is found."""
    for base in range(BIG_BLOCK, device.size(), BIG_BLOCK):
        length = min(layout.FRAME_SIZE + layout.BODY_MAX, device.size() - base)
        try:
            magic = device.read(base, min(length, layout.FRAME_SIZE))
            if magic[:4] not in (FRAME_MAGIC, NODE_MAGIC):
                continue
            text = device.read(base, length)
        except DeviceFailed:
            continue
        if magic[:4] == FRAME_MAGIC and len(text) >= FRAME_HEAD.size:
            salt = FRAME_HEAD.unpack_from(text)[6] ^ base
            if parse_frame(text, 0, base, salt) is not None:
                return int(salt)
        elif len(text) >= NODE_HEAD.size:
            salt = NODE_HEAD.unpack_from(text)[2] ^ base
            if layout.verify(NODE_MAGIC, salt ^ base, text) is not None:
                return int(salt)
    return _any_salt(device)


def _any_salt(device: Device) -> int | None:
    """The same where no big-block begins with anything whole: of the first frame anywhere that verifies."""
    for base in range(0, device.size(), BIG_BLOCK):
        try:
            text = device.read(base, min(BIG_BLOCK, device.size() - base))
        except DeviceFailed:
            continue
        at = text.find(FRAME_MAGIC)
        while 0 <= at <= len(text) - layout.FRAME_SIZE:
            salt = FRAME_HEAD.unpack_from(text, at)[6] ^ (base + at)
            if parse_frame(text, at, base + at, salt) is not None:
                return int(salt)
            at = text.find(FRAME_MAGIC, at + 1)
    return None
