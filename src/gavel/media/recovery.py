"""What a volume is found to be when it is opened: the newest header that verifies, and the log after its MARK.

Invariants:

- a header is taken only if its checksum verifies, and of those the one with the highest generation;
- the log ends before the first frame that does not verify as the successor of the one before it;
- that end is a torn tail unless something proves that the frame was durable: a header or any frame that verifies by
  itself, was written for its place in this volume, and says `synced` at or above the missing sequence, or names a
  checkpoint newer than the header in use. Then it is Damaged. Frames of a lost tail of an earlier life never prove it,
  since all they call durable was recovered by the life after them, and sequences go on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

from crc32c import crc32c
from xxhash import xxh3_128_digest

from gavel.errors import Damaged, DeviceFailed, MemberMissing, NewerFormat, NotAVolume
from gavel.limits import BIG_BLOCK, WITNESS_BIG_BLOCKS
from gavel.media import layout
from gavel.media.blockmap import BlockMap
from gavel.media.cipher import Cipher
from gavel.media.device import Device
from gavel.media.foreign import recognise
from gavel.media.layout import (
    DATA,
    DIGEST_SIZE,
    FRAME_HEAD,
    FRAME_MAGIC,
    FRAME_SIZE,
    FRAME_SUM,
    FREE,
    HELD,
    KIND_NAMES,
    LINK,
    LINK_BODY,
    LINK_SIZE,
    LOG,
    MAP,
    MARK,
    TREE,
    Frame,
    Header,
)
from gavel.media.members import unpack_table

_WINDOW = 2 * layout.FRAME_ALIGN + layout.frame_size(layout.BODY_MAX)


def read_header(device: Device) -> Header:
    """The newest header, checked against the device; raises as newest_header(), MemberMissing."""
    header = newest_header(device)
    _check_fields(device, header)
    return header


def newest_header(device: Device) -> Header:
    """The newest header; raises NotAVolume, NewerFormat, or Damaged when headers are there but none verifies.

    Raises DeviceFailed when nothing can be read where they are: what is there nobody knows then.
    """
    headers: list[Header] = []
    newer = 0
    traces = 0
    unread: list[DeviceFailed] = []
    for slot in range(layout.SLOTS):
        raw = _read_slot(device, layout.slot_offset(slot), unread)
        found = layout.unpack_header(raw) if raw else None
        if isinstance(found, Header):
            headers.append(found)
        elif found is not None:
            newer = max(newer, found)
        elif raw is None or raw.startswith(layout.HEADER_MAGIC):
            traces += 1
    if newer:
        raise NewerFormat(newer, layout.VERSION)
    if headers:
        return max(headers, key=lambda found: found.generation)
    if len(unread) == layout.SLOTS:
        raise unread[0]
    found_there = recognise(device)
    if traces and not found_there:
        raise Damaged("every copy of the volume header", 0)
    raise NotAVolume(str(device), found_there)


def _read_slot(device: Device, offset: int, unread: list[DeviceFailed]) -> bytes | None:
    """A slot's bytes; empty past the end of the device, None where it cannot be read, which is noted."""
    if offset + layout.SLOT_SIZE > device.size():
        return b""
    try:
        return device.read(offset, layout.SLOT_SIZE)
    except DeviceFailed as error:
        unread.append(error)
        return None


def _check_fields(device: Device, header: Header) -> None:
    if header.big_block_size != BIG_BLOCK or not 2 < header.big_blocks <= layout.VOLUME_MAX // BIG_BLOCK:
        raise Damaged("volume header", 0, f"big-blocks of {BIG_BLOCK}", (header.big_blocks, header.big_block_size))
    for name, count, most in (
        ("generation", header.generation, layout.COUNT_MAX),
        ("lives", header.lives, layout.COUNT_MAX),
        ("log_sequence", header.log_sequence, layout.SEQUENCE_MAX),
    ):
        if count >= most or not header.generation:
            raise Damaged(f"volume header ({name})", 0, f"a count below {most}", count)
    end = header.big_blocks * BIG_BLOCK
    for name, offset, length in (
        ("root_offset", header.root_offset, header.root_length),
        ("log_offset", header.log_offset, FRAME_SIZE),
        ("tree_block", header.tree_block * BIG_BLOCK, BIG_BLOCK),
        ("map_block", header.map_block * BIG_BLOCK, BIG_BLOCK),
    ):
        if offset + length > end or (offset < BIG_BLOCK and name != "tree_block"):
            raise Damaged(f"volume header ({name})", 0, f"a place in {end} bytes", offset)
    members = unpack_table(header.members, header.big_blocks)
    for member in members[1:]:
        if members[0].big_blocks * BIG_BLOCK <= device.size() < (member.base + member.big_blocks) * BIG_BLOCK:
            raise MemberMissing(member.identity, member.path, "it was not opened")
    if members:
        end = (members[-1].base + members[-1].big_blocks) * BIG_BLOCK
    if device.size() < end:
        raise Damaged("volume, which was cut short,", device.size(), end, device.size())


def read_map(device: Device, header: Header, cipher: Cipher | None = None) -> BlockMap:
    """The big-block map that a header names; raises Damaged."""
    blockmap = BlockMap(header.big_blocks)
    count = len(blockmap.pages)
    length = count * layout.ROOT_ENTRY.size
    if header.root_length != layout.NODE_HEAD.size + length:
        raise Damaged("volume header", 0, "a map root of another size", header.root_length)
    root = device.read(header.root_offset, header.root_length)
    stamp = header.salt ^ header.root_offset
    verified = layout.verify(layout.ROOT_MAGIC, stamp, root, length)
    if verified != count or layout.sealed_sum(root) != header.root_sum:
        raise Damaged("map root", header.root_offset)
    for index in range(count):
        at = layout.NODE_HEAD.size + index * layout.ROOT_ENTRY.size
        offset, total, _ = layout.ROOT_ENTRY.unpack_from(root, at)
        blockmap.pages[index] = (offset, total)
        if not offset:
            continue
        page = device.read(offset, layout.PAGE_SIZE)
        payload = layout.PAGE_SIZE - layout.PAGE_HEAD.size
        number = layout.verify(layout.PAGE_MAGIC, header.salt ^ offset, page, payload)
        if number != index or layout.sealed_sum(page) != total:
            raise Damaged("map page", offset, (index, total), (number, layout.sealed_sum(page)))
        text = page[layout.PAGE_HEAD.size :]
        if cipher is not None:
            text = cipher.open("map page", layout.PAGE_MAGIC, index, offset, text)
        blockmap.decode_page(index, text, offset)
    for block, kind in ((header.tree_block, TREE), (header.map_block, MAP), (header.log_offset // BIG_BLOCK, LOG)):
        if block and blockmap.kinds[block] != kind:
            raise Damaged("map entry", block * BIG_BLOCK, KIND_NAMES[kind], KIND_NAMES[blockmap.kinds[block]])
    return blockmap


def parse_frame(buffer: bytes, at: int, offset: int, salt: int, payloads: bool = True) -> Frame | None:
    """The frame at `at` in the buffer, which lies at `offset` in the volume; None unless it verifies by itself.

    Without `payloads` a data frame verifies by its head and the sum that stands there, whatever the file bytes are.
    """
    if at + FRAME_SIZE > len(buffer):
        return None
    magic, kind, length, previous, sequence, synced, stamp, checkpoint = FRAME_HEAD.unpack_from(buffer, at)
    if magic != FRAME_MAGIC or stamp != salt ^ offset or length > layout.BODY_MAX:
        return None
    body_at, end = at + FRAME_SIZE, at + FRAME_SIZE + length
    if end > len(buffer) or (kind == DATA and length < DIGEST_SIZE):
        return None
    covered_end = body_at + DIGEST_SIZE if kind == DATA else end
    body = buffer[body_at:covered_end]
    total = crc32c(body, crc32c(buffer[at : at + FRAME_HEAD.size]))
    if total != FRAME_SUM.unpack_from(buffer, at + FRAME_HEAD.size)[0]:
        return None
    if payloads and kind == DATA and xxh3_128_digest(memoryview(buffer)[covered_end:end]) != body:
        return None
    return Frame(offset, kind, sequence, previous, synced, checkpoint, total, layout.frame_size(length), body)


class LogReader:
    """Reads frames in order from a header's MARK on; `offset`, `sequence`, `sum` and `size` tell how far it got."""

    def __init__(self, device: Device, header: Header) -> None:
        self._device = device
        self._header = header
        self._buffer = b""
        self._buffer_at = 0
        self.offset = header.log_offset
        self.sequence = header.log_sequence - 1
        self.sum = 0
        self.size = 0  # bytes of all frames read
        self.synced = header.synced
        self.checkpoint = header.generation
        self.visited: list[tuple[int, int]] = []  # closed LOG big-blocks: (number, its last sequence)

    def frames(self) -> Iterator[Frame]:
        """Frames up to the end of the log; raises Damaged where the end is proved not to be a torn tail."""
        header = self._header
        while True:
            frame = self._next() or self._rotten_data()
            if frame is None:
                break
            if frame.sequence == header.log_sequence and frame.sum != header.log_sum:
                raise Damaged("log frame", frame.offset, header.log_sum, frame.sum)
            self.sequence, self.sum = frame.sequence, frame.sum
            self.synced = max(self.synced, frame.synced)
            self.checkpoint = max(self.checkpoint, frame.checkpoint)
            self.offset += frame.size
            self.size += frame.size
            if frame.kind > DATA and (frame.kind not in (LINK, MARK) or len(frame.body) != LINK_BODY.size):
                raise Damaged("log frame", frame.offset, "a known kind and length", (frame.kind, len(frame.body)))
            if frame.kind == LINK:
                self._follow(frame)
            yield frame
        self._judge_end()

    def _rotten_data(self) -> Frame | None:
        """The next frame, if it is a data frame whose file bytes alone are damaged; None where the log may end here.

        They have rotted, and only they are lost, if a frame further on says that this one was durable. Else the
        bytes never came to the medium before a crash: this is the torn tail of the log.
        """
        suspect = self._next(payloads=False)
        if suspect is None or suspect.kind != DATA:
            return None
        ahead = copy(self)
        ahead.visited = []
        frame: Frame | None = suspect
        while frame is not None:
            ahead.sequence, ahead.sum = frame.sequence, frame.sum
            ahead.offset += frame.size
            if frame.synced >= suspect.sequence:
                return suspect
            if frame.kind == LINK:
                ahead._follow(frame)
            frame = ahead._next(payloads=False)
        return None

    def _next(self, payloads: bool = True) -> Frame | None:
        limit = (self.offset // BIG_BLOCK + 1) * BIG_BLOCK
        at = self.offset - self._buffer_at
        end = self._buffer_at + len(self._buffer)
        if not 0 <= at <= len(self._buffer) or (at + _WINDOW > len(self._buffer) and end < limit):
            self._buffer = self._device.read(self.offset, min(2 * _WINDOW, limit - self.offset))
            self._buffer_at, at = self.offset, 0
        frame = parse_frame(self._buffer, at, self.offset, self._header.salt, payloads)
        if frame is None or frame.sequence != self.sequence + 1:
            return None
        if frame.previous != self.sum and frame.sequence != self._header.log_sequence:
            return None
        return frame

    def _follow(self, frame: Frame) -> None:
        block = LINK_BODY.unpack(frame.body)[0]
        if not 0 < block < self._header.big_blocks:
            raise Damaged("log link", frame.offset, "a big-block", block)
        self.visited.append((frame.offset // BIG_BLOCK, frame.sequence))
        self.offset = block * BIG_BLOCK

    def _judge_end(self) -> None:
        missing = self.sequence + 1
        if missing == self._header.log_sequence:
            raise Damaged("log at its checkpoint", self.offset)
        if self.checkpoint > self._header.generation:
            raise Damaged("newest volume header", 0, f"generation {self.checkpoint}", self._header.generation)
        if self.synced >= missing:
            raise Damaged("log frame", self.offset, f"durable sequence {missing}", "no such frame")

    def judge_rest(self, blockmap: BlockMap) -> None:
        """Look for a frame that proves the end to be rot: behind it, and where the log would have gone on."""
        self._search(self.offset, (self.offset // BIG_BLOCK + 1) * BIG_BLOCK)
        own = self.offset // BIG_BLOCK
        for kind in (FREE, HELD):  # a member that is leaving now may have been asked to stay for a while
            block = blockmap.kinds.find(kind)
            for _ in range(WITNESS_BIG_BLOCKS):
                if block < 0:
                    break
                self._search_block(block)
                block = blockmap.kinds.find(kind, block + 1)
        seen = 0
        for block in blockmap.used():
            # what a checkpoint has emptied since may have become the log's next big-block
            if seen >= WITNESS_BIG_BLOCKS:
                break
            if blockmap.kinds[block] in (LOG, TREE) and not blockmap.live[block] and block != own:
                seen += 1
                self._search_block(block)

    def _search_block(self, block: int) -> None:
        """Search a big-block that begins with a frame later than the end found."""
        offset = block * BIG_BLOCK
        head = self._device.read(offset, FRAME_SIZE)
        magic, _, _, _, sequence, _, stamp, _ = FRAME_HEAD.unpack_from(head)
        if magic == FRAME_MAGIC and stamp == self._header.salt ^ offset and sequence > self.sequence:
            self._search(offset, offset + BIG_BLOCK)

    def _search(self, start: int, end: int) -> None:
        rest = self._device.read(start, end - start)
        at = rest.find(FRAME_MAGIC)
        while at >= 0:
            frame = parse_frame(rest, at, start + at, self._header.salt)
            if frame is None:
                at = rest.find(FRAME_MAGIC, at + 1)
                continue
            if frame.synced > self.sequence:
                raise Damaged("log frame", self.offset, f"durable sequence {self.sequence + 1}", "no such frame")
            if frame.checkpoint > self._header.generation:
                raise Damaged("newest volume header", 0, f"generation {frame.checkpoint}", self._header.generation)
            at = rest.find(FRAME_MAGIC, at + frame.size)


assert LINK_SIZE < _WINDOW
