"""Which leases an operation needs for what it reads and writes, beyond those that it has.

Invariant: what is named once is named together, so that it is granted together.
"""

from __future__ import annotations

from gavel.cache.rights import Rights
from gavel.coherency.messages import S, Want, X
from gavel.coherency.space import lease_range, object_of, record_ranges
from gavel.keys import records
from gavel.keys.ranges import Range, RangeSet, just
from gavel.limits import LEASE_WANTS_MAX

_OBJECT = 11  # bytes of a record key up to and with the object
_SIBLINGS = 6  # bits of an object id: inodes come by blocks of so many
_REMEMBERED = 4096  # directories
_NEAR = 8  # bits of an object id: notes about orphans are wanted by blocks of so many


def wants_of(
    rights: Rights, reads: list[Range], writes: list[bytes], block: Range | None, anew: bool = False
) -> list[Want]:
    """The leases that these reads and writes lack; `block`: objects, as lease keys, that are about to be made.

    `anew`: all that is written is wanted together, had or not.
    """
    exclusive = RangeSet([lease_range(*_around(key)) for key in writes if anew or not rights.writable(key)])
    if block is not None and any(rights.lacks(lo, hi, True) for lo, hi in record_ranges(*block)):
        exclusive.add(*block)
    shared = RangeSet([lease_range(*one) for lo, hi in reads for one in rights.lacks(lo, hi)])
    for lo, hi in exclusive:
        shared.remove(lo, hi)
    wants = [Want(lo, hi, X) for lo, hi in exclusive] + [Want(lo, hi, S) for lo, hi in shared]
    return wants if len(wants) <= LEASE_WANTS_MAX else _coarser(wants)


class Nearby:
    """What is worth asking for together with a record that is lacking, where leases stand over it already.

    A directory is asked for as a whole, but once: of one that does not fit into an answer more is not wanted again.
    """

    def __init__(self) -> None:
        self._directories: dict[bytes, None] = {}

    def of(self, rights: Rights, lacking: tuple[Range, ...]) -> list[Range]:
        """Ranges that lie near these."""
        found: list[Range] = []
        for lo, _ in lacking:
            head = lo[: records.HEAD_SIZE]
            if lo[2] == records.INODES:
                first = int.from_bytes(lo[3:_OBJECT], "big") >> _SIBLINGS << _SIBLINGS
                mark = lo[:3] + first.to_bytes(8, "big"), lo[:3] + (first + (1 << _SIBLINGS)).to_bytes(8, "big")
            elif lo[2] == records.XATTRS or (lo[2] == records.ENTRIES and head not in self._directories):
                mark = head, records.after(head)
            else:
                continue
            if lo[2] == records.ENTRIES:
                if len(self._directories) >= _REMEMBERED:
                    self._directories.clear()
                self._directories[head] = None
            found += [(piece.lo, piece.hi) for piece in rights.pieces(*mark)]
        return found


def objects(pfs: int, first: int, end: int) -> Range:
    """The lease range of the objects from `first` on and below `end`."""
    return lease_range(records.inode(pfs, first)[:_OBJECT], records.inode(pfs, end)[:_OBJECT])


def _around(key: bytes) -> Range:
    """What is wanted for a key that is written. Notes about orphans lie side by side, whoever makes them."""
    if key[2] == records.ROOT and key[_OBJECT] == records.ORPHAN:
        first = records.orphan_object(key) >> _NEAR << _NEAR
        return key[: records.HEAD_SIZE] + first.to_bytes(8, "big"), key[: records.HEAD_SIZE] + (
            first + (1 << _NEAR)
        ).to_bytes(8, "big")
    return just(key)


def _coarser(wants: list[Want]) -> list[Want]:
    """The same, by whole objects; or all in one."""
    found: dict[Range, int] = {}
    for lo, hi, mode in wants:
        mark = object_of(lo, hi)
        name = (lo, hi) if mark is None else (mark, records.after(mark))
        found[name] = max(found.get(name, 0), mode)
    if len(found) > LEASE_WANTS_MAX:
        return [Want(min(lo for lo, _ in found), max(hi for _, hi in found), max(found.values()))]
    return [Want(lo, hi, mode) for (lo, hi), mode in found.items()]
