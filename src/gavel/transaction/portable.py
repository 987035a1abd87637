"""The portable form of data records: what they say on the wire and in transactions, the same on every master.

In a volume a data record says where its bytes lie (media/extents.py); that is true in this volume alone. Elsewhere it
names them by one of:

    staged   0x02 | number u32 | length u32 | skip u32 | view u32 | sum 16     staged for the transaction
    kept     0x03 | at u64 | length u32 | skip u32 | view u32 | sum 16 | key   what record `key` refers to as of `at`
    own      0x04 | length u32 | skip u32 | view u32 | sum 16                  the record's own: in answers, catch-up

Numbers are little-endian. Inline records, and all records that are not of data, are the same everywhere.

Invariant: two data records say the same exactly if their `own` forms are equal. Where they lie, and how they are
compressed, is no part of that; so neither relocating nor sharing makes the histories of two masters differ.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from gavel.errors import BadRequest
from gavel.media.extents import EXTENT, INLINE, RECORD_SIZE, Extent, encode_view

STAGED, KEPT, OWN = 2, 3, 4

_STAGED = Struct("<BIIII16s")
_KEPT = Struct("<BQIII16s")
_OWN = Struct("<BIII16s")
_OWN_FORM = bytes((OWN,))


class Named(NamedTuple):
    """A portable data record taken apart: `view` bytes from `skip` on of an extent with this length and sum."""

    form: int
    number: int  # STAGED: of what was staged
    key: bytes  # KEPT: the record that refers to the extent
    at: int  # KEPT: as of this tid
    length: int
    skip: int
    view: int
    sum: bytes


def staged(number: int, length: int, skip: int, view: int, total: bytes) -> bytes:
    """A record that shows a part of what was staged as `number`."""
    return _STAGED.pack(STAGED, number, length, skip, view, total)


def kept(key: bytes, at: int, length: int, skip: int, view: int, total: bytes) -> bytes:
    """A record that shows a part of the extent that record `key` refers to as of `at`."""
    return _KEPT.pack(KEPT, at, length, skip, view, total) + key


def own(value: bytes) -> bytes:
    """The portable form of a data record of a volume that goes with its key and tid."""
    if value[0] != EXTENT:
        return value
    return _OWN_FORM + value[13:25] + value[26:RECORD_SIZE]


def parse(value: bytes) -> Named | None:
    """A portable data record taken apart, None for inline bytes; raises BadRequest."""
    form = value[0] if value else -1
    if form == INLINE:
        return None
    if form == STAGED and len(value) == _STAGED.size:
        _, number, *extent = _STAGED.unpack(value)
        found = Named(form, number, b"", 0, *extent)
    elif form == KEPT and len(value) > _KEPT.size:
        _, at, *extent = _KEPT.unpack_from(value)
        found = Named(form, 0, value[_KEPT.size :], at, *extent)
    elif form == OWN and len(value) == _OWN.size:
        _, *extent = _OWN.unpack(value)
        found = Named(form, 0, b"", 0, *extent)
    else:
        raise BadRequest(f"a data record of no known form begins with {value[:1].hex() or 'nothing'}")
    if found.view == 0 or found.skip + found.view > found.length:
        raise BadRequest(f"a data record shows {found.view} bytes from {found.skip} on of {found.length}")
    return found


def localise(named: Named, extent: Extent) -> bytes:
    """The record in the form of the volume in which this extent is; raises BadRequest when it is another one."""
    if extent.length != named.length or extent.sum != named.sum:
        raise BadRequest(f"the extent {extent.sum.hex()} is not the one that is meant, {named.sum.hex()}")
    return encode_view(extent, named.skip, named.view)
