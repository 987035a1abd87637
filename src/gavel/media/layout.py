"""Every structure that a volume puts on its device: magics, structs, sizes, and how each is sealed.

Normative prose and tables: docs/internals/volume-format.md; a test compares them with this module. Invariants:

- all numbers are little-endian; every structure carries a CRC32C of all its other bytes;
- a frame, node, page or root also carries a stamp, `salt ^ offset`: it verifies only in the volume and at the place
  it was written for, so neither a stale copy elsewhere nor a volume image stored as file data can pass for it;
- the first 16 bytes of a header slot and the range of its checksum are the same in every format version, so that an
  old gavel can say of a newer volume that it is newer and not that it is damaged.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from crc32c import crc32c

from gavel.limits import BIG_BLOCK, FRAME_MAX

# 1 had neither locks nor members, and no ABSENT; 2 had no dues in its nodes. Both are read, and become this one when
# they are opened for writing.
VERSION: Final = 3

# Big-block kinds. Big-block 0 holds the headers, that of a further member its label; ABSENT: its member is gone.
FREE, LOG, TREE, MAP, HEADER, ABSENT = 0, 1, 2, 3, 4, 5
HELD: Final = 6  # in memory only: free, and not to be used; on the device it is FREE
KIND_NAMES: Final = ("free", "log", "tree", "map", "header", "absent", "held")

# Header slots: generation g lives in slots 2 * (g % 2) and 2 * (g % 2) + 1.
SLOTS: Final = 4
SLOT_SIZE: Final = 4096
SLOT_STRIDE: Final = BIG_BLOCK // SLOTS  # far apart, so that one bad spot does not take two
HEADER_MAGIC: Final = b"GAVELVOL"
LABEL_MAX: Final = 64  # bytes of UTF-8
ROOTS_MAX: Final = 2048  # bytes that history may keep in a header
CLEAN: Final = 1  # flag: written by an orderly close

HEADER_ENVELOPE: Final = Struct("<8sII")
HEADER_BODY: Final = Struct("<16sQQQQQIIQQIIQIIIIQHHHH")
HEADER_FIELDS: Final = (
    "identity", "salt", "generation", "created_tid", "last_tid", "big_blocks", "big_block_size",
    "flags", "log_offset", "log_sequence", "log_sum", "root_sum", "root_offset", "root_length",
    "tree_block", "map_block", "lives", "synced", "label_length", "roots_length", "lock_length", "members_length",
)  # fmt: skip
LABEL_AT: Final = HEADER_ENVELOPE.size + HEADER_BODY.size
ROOTS_AT: Final = LABEL_AT + LABEL_MAX
LOCK_AT: Final = 2304
LOCK_MAX: Final = 128
MEMBERS_AT: Final = LOCK_AT + LOCK_MAX
MEMBERS_MAX: Final = SLOT_SIZE - MEMBERS_AT

# Members: entries in the header's table, each before its path; and the name at the beginning of a further member.
MEMBER_ENTRY: Final = Struct("<HBBII16s")
MEMBER_FIELDS: Final = ["number", "state", "path_length", "base", "count", "identity"]
MEMBER_MAGIC: Final = b"GAVELMEM"
NAME_BODY: Final = Struct("<16s16sH2xII")
NAME_FIELDS: Final = ["volume", "identity", "number", "base", "count"]

# In an encrypted volume a sealed text stands wherever a plain one would: session and counter, ciphertext, GCM tag.
SEAL_HEAD: Final = Struct("<I8sQ")
SEAL_FIELDS: Final = ["life", "seed", "counter"]
SEAL_TAG: Final = 16
SEAL_SIZE: Final = SEAL_HEAD.size + SEAL_TAG

# Log frames.
FRAME_MAGIC: Final = b"GvLf"
FRAME_HEAD: Final = Struct("<4sB3xIIQQQI")
FRAME_FIELDS: Final = ["magic", "kind", "length", "previous", "sequence", "synced", "stamp", "checkpoint"]
FRAME_SUM: Final = Struct("<I")
FRAME_SIZE: Final = FRAME_HEAD.size + FRAME_SUM.size
DIGEST_SIZE: Final = 16
DATA_AT: Final = FRAME_SIZE + DIGEST_SIZE  # of the payload in a data frame
BODY_MAX: Final = FRAME_MAX + DIGEST_SIZE + SEAL_SIZE
FRAME_ALIGN: Final = 8
KIND_MAX: Final = 0xEF  # highest kind a caller may use
DATA, LINK, MARK = 0xF0, 0xF1, 0xF2
LINK_BODY: Final = Struct("<Q")  # the big-block in which the log goes on
MARK_BODY: Final = Struct("<Q")  # the life that writes
LINK_SIZE: Final = FRAME_SIZE + LINK_BODY.size

# Tree nodes. An address is offset / 64 in the upper 46 bits, size / 64 in the lower 18.
NODE_MAGIC: Final = b"GvNd"
NODE_HEAD: Final = Struct("<4sIQII")
NODE_FIELDS: Final = ["magic", "length", "stamp", "checkpoint", "sum"]
NODE_ALIGN: Final = 64
NODE_UNITS: Final = 18
NODE_MAX: Final = 2 * FRAME_MAX  # bytes of a node with its envelope
VOLUME_MAX: Final = NODE_ALIGN << (64 - NODE_UNITS)  # what a node's address can reach

# The big-block map: a root that names pages, pages of one entry per big-block.
PAGE_MAGIC: Final = b"GvMp"
PAGE_HEAD: Final = Struct("<4sIQII")
PAGE_FIELDS: Final = ["magic", "index", "stamp", "checkpoint", "sum"]
PAGE_SIZE: Final = 16 * 1024
PAGE_ENTRIES: Final = 960  # big-blocks that a page describes
PAGE_COLUMNS: Final = (("live", "Q"), ("generation", "I"), ("append", "I"), ("kind", "B"))  # with array type codes
ROOT_MAGIC: Final = b"GvMr"
ROOT_ENTRY: Final = Struct("<QII")
ROOT_ENTRY_FIELDS: Final = ["offset", "sum", "reserved"]

COUNT_MAX: Final = 2**32 - 16  # generations and lives; more are not believed, nor would they fit
COUNT_LAST: Final = COUNT_MAX - 2**20  # from here on a volume is opened for reading only
SEQUENCE_MAX: Final = 2**63
SECTOR: Final = 4096  # trees and maps begin a fresh one after each checkpoint

assert ROOTS_AT + ROOTS_MAX + SEAL_SIZE <= LOCK_AT and SLOT_SIZE <= SLOT_STRIDE
assert LINK_BODY.size == MARK_BODY.size
assert FRAME_SIZE % FRAME_ALIGN == 0 and LINK_SIZE % FRAME_ALIGN == 0 and DATA_AT % FRAME_ALIGN == 0
assert PAGE_HEAD.size + PAGE_ENTRIES * (8 + 4 + 4 + 1) + SEAL_SIZE <= PAGE_SIZE
assert NODE_MAX < 1 << NODE_UNITS << 6 and NODE_MAX < BIG_BLOCK


class Header(NamedTuple):
    """What a header slot says, all but magic and checksum; `roots` as they stand there, sealed if there is a lock."""

    identity: bytes
    salt: int
    generation: int
    created_tid: int
    last_tid: int
    big_blocks: int
    big_block_size: int
    flags: int
    log_offset: int
    log_sequence: int
    log_sum: int
    root_sum: int
    root_offset: int
    root_length: int
    tree_block: int
    map_block: int
    lives: int
    synced: int
    label: str
    roots: bytes
    lock: bytes = b""  # the wrapped data key; empty: the volume is not encrypted
    members: bytes = b""  # the table of members; empty: there is but one
    version: int = VERSION


class Frame(NamedTuple):
    """One verified log frame; `body` of a data frame is its digest alone."""

    offset: int
    kind: int
    sequence: int
    previous: int
    synced: int
    checkpoint: int
    sum: int
    size: int
    body: bytes


def slot_offset(slot: int) -> int:
    """Where a header slot lies."""
    return slot * SLOT_STRIDE


def slots_of(generation: int) -> tuple[int, int]:
    """The two slots that hold a generation's copies."""
    first = 2 * (generation % 2)
    return first, first + 1


def pack_header(header: Header) -> bytes:
    """The whole slot for a header."""
    label, roots, lock, members = header.label.encode(), header.roots, header.lock, header.members
    assert len(label) <= LABEL_MAX and len(roots) <= ROOTS_MAX + SEAL_SIZE
    assert len(lock) <= LOCK_MAX and len(members) <= MEMBERS_MAX
    slot = bytearray(SLOT_SIZE)
    HEADER_BODY.pack_into(
        slot, HEADER_ENVELOPE.size, *header[:18], len(label), len(roots), len(lock), len(members)
    )  # fmt: skip
    for at, part in ((LABEL_AT, label), (ROOTS_AT, roots), (LOCK_AT, lock), (MEMBERS_AT, members)):
        slot[at : at + len(part)] = part
    total = _header_sum(header.version, bytes(slot[HEADER_ENVELOPE.size :]))
    HEADER_ENVELOPE.pack_into(slot, 0, HEADER_MAGIC, header.version, total)
    return bytes(slot)


def _header_sum(version: int, rest: bytes) -> int:
    return int(crc32c(rest, crc32c(HEADER_MAGIC + version.to_bytes(4, "little"))))


def unpack_header(slot: bytes) -> Header | int | None:
    """The header in a slot; its format version if that is newer; None if it does not verify."""
    magic, version, total = HEADER_ENVELOPE.unpack_from(slot)
    rest = slot[HEADER_ENVELOPE.size :]
    if magic != HEADER_MAGIC or _header_sum(version, rest) != total:
        return None
    if version > VERSION:
        return int(version)
    fields = HEADER_BODY.unpack_from(rest)
    label, roots, lock, members = fields[-4:]
    if version < 2:
        lock = members = 0
    if label > LABEL_MAX or roots > ROOTS_MAX + SEAL_SIZE or lock > LOCK_MAX or members > MEMBERS_MAX:
        return None
    named = slot[LABEL_AT : LABEL_AT + label].decode(errors="replace")
    parts = [slot[at : at + size] for at, size in ((ROOTS_AT, roots), (LOCK_AT, lock), (MEMBERS_AT, members))]
    return Header._make((*fields[:-4], named, *parts, version))


def frame_size(length: int) -> int:
    """Bytes that a frame with a body of `length` takes in the log."""
    return (FRAME_SIZE + length + FRAME_ALIGN - 1) & -FRAME_ALIGN


def node_address(offset: int, size: int) -> int:
    """The address of a node of `size` bytes (envelope and padding included) at `offset`."""
    return (offset // NODE_ALIGN) << NODE_UNITS | size // NODE_ALIGN


def node_extent(address: int) -> tuple[int, int]:
    """(offset, size) of a node."""
    return (address >> NODE_UNITS) * NODE_ALIGN, (address & ((1 << NODE_UNITS) - 1)) * NODE_ALIGN


def node_size(length: int) -> int:
    """Bytes that a node with a payload of `length` takes."""
    return (NODE_HEAD.size + length + NODE_ALIGN - 1) & -NODE_ALIGN


def seal(magic: bytes, number: int, stamp: int, checkpoint: int, payload: bytes) -> bytes:
    """Payload behind the envelope that nodes, pages and roots share; `number` is its length, index or count."""
    head = NODE_HEAD.pack(magic, number, stamp, checkpoint, 0)
    total = crc32c(payload, crc32c(head))
    return head[:-4] + FRAME_SUM.pack(total) + payload


def sealed_sum(sealed: bytes) -> int:
    """The checksum that a sealed structure carries."""
    return int.from_bytes(sealed[NODE_HEAD.size - 4 : NODE_HEAD.size], "little")


def verify(magic: bytes, stamp: int, sealed: bytes, length: int | None = None) -> int | None:
    """The number in the envelope of a sealed structure, None unless all of it verifies.

    With `length` None the number is the payload's length (a node, which may be padded).
    """
    if len(sealed) < NODE_HEAD.size:
        return None
    found_magic, number, found_stamp, _, total = NODE_HEAD.unpack_from(sealed)
    end = NODE_HEAD.size + (number if length is None else length)
    if found_magic != magic or found_stamp != stamp or end > len(sealed):
        return None
    view = memoryview(sealed)
    if crc32c(view[NODE_HEAD.size : end], crc32c(sealed[: NODE_HEAD.size - 4] + b"\0\0\0\0")) != total:
        return None
    return int(number)
