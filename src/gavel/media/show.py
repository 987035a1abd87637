"""What lies on a device, structure by structure, as rows for people who look for what went wrong.

Nothing here needs an open volume or trusts one: each function goes as far as bytes verify, yields a Damage row where
they do not, and goes on behind it. Nothing is written. Raises nothing but what a device without a single readable
header must raise in the caller's hands (recovery.newest_header).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gavel.errors import Damaged, DeviceFailed
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.blockmap import BlockMap
from gavel.media.cipher import Cipher
from gavel.media.device import Device
from gavel.media.layout import (
    DATA,
    DIGEST_SIZE,
    FRAME_MAGIC,
    FREE,
    KIND_MAX,
    KIND_NAMES,
    LINK,
    LINK_BODY,
    MARK,
    NODE_HEAD,
    NODE_MAGIC,
    PAGE_ENTRIES,
    Header,
)
from gavel.media.recovery import parse_frame

_FRAME_NAMES = {DATA: "data", LINK: "link", MARK: "mark"}


class Damage(NamedTuple):
    """Bytes that do not verify or cannot be read."""

    what: str
    offset: int
    text: str


class HeaderRow(NamedTuple):
    """A header slot. `state`: newest, copy (of the newest), older, newer format, empty."""

    slot: int
    offset: int
    state: str
    header: Header | None


class FrameRow(NamedTuple):
    """A frame of the log. `length` is that of its body; `body` is opened if there is a key, without file data."""

    offset: int
    sequence: int
    kind: int
    name: str
    length: int
    synced: int
    checkpoint: int
    body: bytes


class BlockRow(NamedTuple):
    """A big-block that is not free, as the durable map has it."""

    block: int
    offset: int
    kind: str
    live: int
    append: int
    generation: int


def headers(device: Device) -> Iterator[HeaderRow | Damage]:
    """Every header slot."""
    found: list[HeaderRow | Damage] = []
    for slot in range(layout.SLOTS):
        offset = layout.slot_offset(slot)
        if offset + layout.SLOT_SIZE > device.size():
            found.append(Damage("header", offset, "the volume ends before it"))
            continue
        try:
            raw = device.read(offset, layout.SLOT_SIZE)
        except DeviceFailed as error:
            found.append(Damage("header", offset, error.fact))
            continue
        header = layout.unpack_header(raw)
        if isinstance(header, Header):
            found.append(HeaderRow(slot, offset, "older", header))
        elif header is not None:
            found.append(HeaderRow(slot, offset, f"of format {header}", None))
        elif raw.strip(b"\0"):
            found.append(Damage("header", offset, "it does not verify"))
        else:
            found.append(HeaderRow(slot, offset, "empty", None))
    newest = max((row.header.generation for row in found if isinstance(row, HeaderRow) and row.header), default=0)
    seen = False
    for row in found:
        if isinstance(row, HeaderRow) and row.header and row.header.generation == newest:
            yield row._replace(state="copy" if seen else "newest")
            seen = True
        else:
            yield row


def frames(device: Device, header: Header, cipher: Cipher | None = None) -> Iterator[FrameRow | Damage]:
    """The log from a header's MARK on; what does not verify is skipped up to the next frame of its big-block."""
    offset, sequence = header.log_offset, header.log_sequence - 1
    visited: set[int] = set()
    while offset // BIG_BLOCK not in visited:
        visited.add(offset // BIG_BLOCK)
        link = None
        for row in _frames_in_block(device, header.salt, offset, sequence):
            if isinstance(row, Damage):
                yield row
                continue
            sequence = row.sequence
            if row.kind == LINK:
                link = LINK_BODY.unpack(row.body)[0]
            yield _opened(row, cipher)
        if link is None:
            return
        offset = link * BIG_BLOCK


def _frames_in_block(device: Device, salt: int, start: int, sequence: int) -> Iterator[FrameRow | Damage]:
    """Frames from `start` on with sequences above `sequence`, to the end of the big-block or of the log in it."""
    end = min((start // BIG_BLOCK + 1) * BIG_BLOCK, device.size())
    try:
        text = device.read(start, end - start) if start < end else b""
    except DeviceFailed as error:
        yield Damage("log", start, error.fact)
        return
    at, bad = 0, -1
    while 0 <= at < len(text):
        frame = parse_frame(text, at, start + at, salt)
        if frame is None or frame.sequence <= sequence:
            bad = at if bad < 0 else bad
            at = text.find(FRAME_MAGIC, at + 1)
            continue
        if bad >= 0:
            why = f"{at - bad} bytes do not verify, sequences {sequence + 1} to {frame.sequence - 1} are lost"
            yield Damage("log frame", start + bad, why)
            bad = -1
        sequence = frame.sequence
        name = _FRAME_NAMES.get(frame.kind, f"kind {frame.kind}")
        length = int.from_bytes(text[at + 8 : at + 12], "little") - (DIGEST_SIZE if frame.kind == DATA else 0)
        yield FrameRow(
            start + at, frame.sequence, frame.kind, name, length, frame.synced, frame.checkpoint, frame.body
        )  # fmt: skip
        at += frame.size


def _opened(row: FrameRow, cipher: Cipher | None) -> FrameRow | Damage:
    if cipher is None or row.kind > KIND_MAX:
        return row
    try:
        return row._replace(body=cipher.open("log frame", FRAME_MAGIC, row.kind, row.offset, row.body))
    except Damaged as error:
        return Damage("log frame", row.offset, error.fact)


def big_blocks(device: Device, header: Header, cipher: Cipher | None = None) -> Iterator[BlockRow | Damage]:
    """The durable map: every big-block in use; a page that does not verify costs only its own."""
    blockmap = BlockMap(header.big_blocks)
    count = len(blockmap.pages)
    length = count * layout.ROOT_ENTRY.size
    root = _read(device, header.root_offset, layout.NODE_HEAD.size + length)
    if layout.verify(layout.ROOT_MAGIC, header.salt ^ header.root_offset, root, length) != count:
        yield Damage("map root", header.root_offset, "it does not verify")
        return
    for index in range(count):
        offset, _, _ = layout.ROOT_ENTRY.unpack_from(root, NODE_HEAD.size + index * layout.ROOT_ENTRY.size)
        if not offset:
            continue
        page = _read(device, offset, layout.PAGE_SIZE)
        payload = layout.PAGE_SIZE - layout.PAGE_HEAD.size
        if layout.verify(layout.PAGE_MAGIC, header.salt ^ offset, page, payload) != index:
            yield Damage("map page", offset, f"it does not verify; it tells of big-blocks from {index * PAGE_ENTRIES}")
            continue
        text = page[layout.PAGE_HEAD.size :]
        try:
            if cipher is not None:
                text = cipher.open("map page", layout.PAGE_MAGIC, index, offset, text)
            blockmap.decode_page(index, text, offset)
        except Damaged as error:
            yield Damage("map page", offset, error.fact)
    for block, kind in enumerate(blockmap.kinds):
        if kind != FREE:
            yield BlockRow(
                block, block * BIG_BLOCK, KIND_NAMES[kind] if kind < len(KIND_NAMES) else f"kind {kind}",
                blockmap.live[block], blockmap.append[block], blockmap.generation[block],
            )  # fmt: skip


def node_payload(device: Device, header: Header, address: int, cipher: Cipher | None = None) -> bytes:
    """The payload of the node at an address; raises Damaged."""
    offset, size = layout.node_extent(address)
    sealed = _read(device, offset, size)
    length = layout.verify(NODE_MAGIC, header.salt ^ offset, sealed) if size >= NODE_HEAD.size else None
    if length is None:
        raise Damaged("tree node", offset)
    payload = sealed[NODE_HEAD.size : NODE_HEAD.size + length]
    return payload if cipher is None else cipher.open("tree node", NODE_MAGIC, 0, offset, payload)


def _read(device: Device, offset: int, length: int) -> bytes:
    """Bytes of the device, none where they cannot be read."""
    if offset < 0 or offset + length > device.size():
        return b""
    try:
        return device.read(offset, length)
    except DeviceFailed:
        return b""
