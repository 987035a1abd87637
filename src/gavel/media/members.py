"""The members of a volume: which devices hold which big-blocks, and how one comes and goes.

Invariants (argued in docs/internals/volume-format.md, "Members"):

- a member keeps its range of big-blocks and its number for ever; neither is given to another;
- nothing is put into a member before a header that names it is durable, nor after it began to leave;
- the map changes its length only while no checkpoint is under way;
- a member is let go of when a header without it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from gavel.errors import BadRequest, Damaged, DeviceFailed, MemberMissing
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.blockmap import BlockMap
from gavel.media.device import Device
from gavel.media.layout import HEADER, HEADER_ENVELOPE, HELD, MEMBER_ENTRY, MEMBER_MAGIC, NAME_BODY, SLOT_SIZE, Header
from gavel.media.span import SpanDevice

IN_USE, LEAVING = 0, 1
_PATH_MAX: Final = 255
_WIPED: Final = 128 * 1024  # where other formats keep their signatures

Gone = Callable[[Device], None]


class Member(NamedTuple):
    """A file or device of the volume. `path` is where it was last known, empty for the first."""

    number: int
    state: int
    base: int
    big_blocks: int
    identity: bytes
    path: str

    @property
    def blocks(self) -> range:
        """Its big-blocks."""
        return range(self.base, self.base + self.big_blocks)


class Use(NamedTuple):
    """A member with what it holds, in bytes. `used`: in big-blocks that are not free; `live`: referred to."""

    member: Member
    size: int
    used: int
    live: int


def pack_table(members: list[Member]) -> bytes:
    """The table for the header; raises BadRequest for one that does not fit there."""
    rows = []
    for member in members:
        path = member.path.encode(errors="surrogateescape")
        if len(path) > _PATH_MAX:
            raise BadRequest(f"the path of a member has at most {_PATH_MAX} bytes; put {member.path} somewhere else")
        head = MEMBER_ENTRY.pack(
            member.number, member.state, len(path), member.base, member.big_blocks, member.identity
        )  # fmt: skip
        rows.append(head + path)
    table = b"".join(rows)
    if len(table) > layout.MEMBERS_MAX:
        raise BadRequest("the header has no room for a further member; use fewer and larger ones, or shorter paths")
    return table


def unpack_table(table: bytes, big_blocks: int) -> list[Member]:
    """The members that a header names; raises Damaged for a table that cannot be."""
    members: list[Member] = []
    at = 0
    while at < len(table):
        if at + MEMBER_ENTRY.size > len(table):
            raise Damaged("table of members in the volume header", 0, "whole entries", len(table))
        number, state, length, base, count, identity = MEMBER_ENTRY.unpack_from(table, at)
        at += MEMBER_ENTRY.size
        path = table[at : at + length].decode(errors="surrogateescape")
        at += length
        end = members[-1].base + members[-1].big_blocks if members else 0
        known = {member.number for member in members}
        if at > len(table) or state > LEAVING or not count or base < end or base + count > big_blocks:
            raise Damaged("table of members in the volume header", 0, "ranges of big-blocks", (base, count))
        if number in known or (not members and (number, base, state) != (0, 0, IN_USE)):
            raise Damaged("table of members in the volume header", 0, "distinct numbers from 0 on", number)
        members.append(Member(number, state, base, count, identity, path))
    return members


def write_name(device: Device, volume: bytes, member: Member) -> None:
    """Make a device a member, as far as the device is concerned; durable on return. What it held is lost."""
    body = NAME_BODY.pack(volume, member.identity, member.number, member.base, member.big_blocks)
    rest = body.ljust(SLOT_SIZE - HEADER_ENVELOPE.size, b"\0")
    slot = HEADER_ENVELOPE.pack(MEMBER_MAGIC, layout.VERSION, _sum(layout.VERSION, rest)) + rest
    device.write(0, [slot, bytes(_WIPED - SLOT_SIZE)])
    device.sync()


def clear_name(device: Device) -> None:
    """Let a device that has left the volume no longer look like a member; durable on return."""
    device.write(0, [bytes(SLOT_SIZE)])
    device.sync()


def _sum(version: int, rest: bytes) -> int:
    return int(crc32c(rest, crc32c(MEMBER_MAGIC + version.to_bytes(4, "little"))))


def check_name(device: Device, volume: bytes, member: Member) -> None:
    """Raise MemberMissing unless the device is this member of this volume; DeviceFailed."""

    def wrong(why: str) -> MemberMissing:
        return MemberMissing(member.identity, member.path, why)

    if device.size() < SLOT_SIZE:
        raise wrong("what is there is too short")
    slot = device.read(0, SLOT_SIZE)
    magic, version, total = HEADER_ENVELOPE.unpack_from(slot)
    if magic != MEMBER_MAGIC or total != _sum(version, slot[HEADER_ENVELOPE.size :]):
        raise wrong("what is there is no member of a volume, or damaged")
    owner, identity, number, base, count = NAME_BODY.unpack_from(slot, HEADER_ENVELOPE.size)
    if owner != volume:
        raise wrong("what is there belongs to another volume")
    if (identity, number, base, count) != (member.identity, member.number, member.base, member.big_blocks):
        raise wrong(f"what is there is member {identity.hex()}")
    if device.size() < member.big_blocks * BIG_BLOCK:
        raise wrong("what is there was cut short")


class Members:
    """The members of an open volume, and the part of its map that depends on them."""

    def __init__(self, device: Device, header: Header, blockmap: BlockMap) -> None:
        self._device = device
        self._map = blockmap
        self._volume = header.identity
        self._table = unpack_table(header.members, header.big_blocks)
        self._next = max((member.number for member in self._table), default=0) + 1
        self._unknown: list[Member] = []  # in the table, but in no durable header yet
        self._waiting: list[Member] = []  # not in the table yet, because a checkpoint is under way
        self._going: list[tuple[Member, Gone]] = []  # not in the table any more, but in the durable header
        for member in self._table:
            if member.state == LEAVING:
                blockmap.hold(member.blocks)

    def table(self) -> list[Member]:
        """All members, in order of their big-blocks."""
        whole = [Member(0, IN_USE, 0, len(self._map), self._volume, "")]
        return (self._table or whole) + self._waiting

    def packed(self) -> bytes:
        """The table for a header that is frozen now."""
        return pack_table(self._table)

    def uses(self) -> list[Use]:
        """All members with what they hold."""
        found = []
        for member in self.table():
            part = slice(member.base, member.base + member.big_blocks)
            kinds, live = self._map.kinds[part], self._map.live[part]
            used = sum(1 for kind in kinds if 0 < kind < HELD)
            found.append(Use(member, member.big_blocks * BIG_BLOCK, used * BIG_BLOCK, sum(live)))
        return found

    def problems(self) -> Iterator[str]:
        """Every further member bears its name."""
        if isinstance(self._device, SpanDevice):
            for member in self._table[1:]:
                try:
                    check_name(self._device.member(member.base * BIG_BLOCK), self._volume, member)
                except (MemberMissing, DeviceFailed) as error:
                    yield str(error)

    def join(self, device: Device, identity: bytes, path: str) -> Member:
        """Name a device a member and attach it; take_in() has the map grow."""
        if not isinstance(self._device, SpanDevice):
            raise BadRequest("this volume was opened as a single device and cannot grow; open it by its path")
        table = self.table()
        base = table[-1].base + table[-1].big_blocks if self._waiting else len(self._map)
        count = device.size() // BIG_BLOCK
        if count < 2:
            raise BadRequest(f"a member needs at least {2 * BIG_BLOCK} bytes, {device} has {device.size()}")
        if (base + count) * BIG_BLOCK > layout.VOLUME_MAX:
            raise BadRequest(f"a volume can have at most {layout.VOLUME_MAX} bytes; add a smaller member")
        member = Member(self._next, IN_USE, base, count, identity, path)
        pack_table([*table, member])
        write_name(device, self._volume, member)
        self._device.attach(base * BIG_BLOCK, device)
        self._next += 1
        self._waiting.append(member)
        return member

    def take_in(self) -> int:
        """Have the map grow by the members that joined; by how many big-blocks. No checkpoint may be under way."""
        before = len(self._map)
        for member in self._waiting:
            if not self._table:
                self._table.append(Member(0, IN_USE, 0, before, self._volume, ""))
            self._table.append(member)
            self._unknown.append(member)
            self._map.grow(member.big_blocks)
            self._map.assign(member.base, HEADER)
            self._map.fill(member.base, BIG_BLOCK)
        self._waiting.clear()
        return len(self._map) - before

    def leave(self, blocks: range) -> None:
        """Put nothing into these big-blocks any more; a member that has just them is marked so for good."""
        self._map.hold(blocks)
        self._mark(blocks, LEAVING)

    def stay(self, blocks: range) -> None:
        """Take leave() back."""
        if any(member.blocks == blocks for member in self._unknown):
            self._map.leaving.remove(blocks)
        else:
            self._map.unhold(blocks)
        self._mark(blocks, IN_USE)

    def _mark(self, blocks: range, state: int) -> None:
        self._table = [
            member._replace(state=state) if member.blocks == blocks else member for member in self._table
        ]  # fmt: skip

    def drop(self, number: int, gone: Gone) -> None:
        """Take a member that is empty out of the table; `gone` gets its device once that is durable."""
        found = [member for member in self._table if member.number == number]
        if not found or found[0].state != LEAVING:
            raise BadRequest(f"member {number} is not leaving the volume; exclude it and move its data off first")
        (member,) = found
        inside = self._map.kinds[member.base + 1 : member.base + member.big_blocks]
        if inside.strip(bytes([HELD])):
            left = len(inside) - inside.count(HELD)
            raise BadRequest(
                f"{left} big-blocks of {member.path} are still in use; move its data off, checkpoint twice"
            )
        self._map.forget(member.blocks)
        self._table.remove(member)
        self._going.append((member, gone))

    def retired(self, table: bytes) -> None:
        """A header with this table is durable: what is new in it may be used, what is not in it any more goes."""
        known = {member.number for member in unpack_table(table, len(self._map))}
        for member in [member for member in self._unknown if member.number in known]:
            self._unknown.remove(member)
            if member.state == IN_USE and member in self._table:
                self._map.unhold(member.blocks)
        for member, gone in [entry for entry in self._going if entry[0].number not in known]:
            self._going.remove((member, gone))
            assert isinstance(self._device, SpanDevice)
            gone(self._device.detach(member.base * BIG_BLOCK))
