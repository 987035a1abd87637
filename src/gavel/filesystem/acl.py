"""POSIX access control lists: their wire form, and how they and the mode bits follow each other.

The rules are those of POSIX 1003.1e draft 17 as Linux applies them (acl(5)): the owner entry is the owner bits, the
other entry the other bits, and the group bits are the mask where there is one, else the owning group's entry. An
access ACL that says no more than the mode is not kept at all.

The wire form is that of the xattrs system.posix_acl_access and system.posix_acl_default: version u32 = 2, then
entries of tag u16, permissions u16, id u32, all little-endian. Here an ACL is a list of Ace in that order.
"""

from __future__ import annotations

import errno
from struct import Struct
from typing import NamedTuple

from gavel.filesystem.failure import failure

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF

_VERSION = (2).to_bytes(4, "little")
_ENTRY = Struct("<HHI")
_NAMED = (USER, GROUP)
# Which tags may follow which; the list opens with USER_OBJ and ends with OTHER.
_NEXT = {
    USER_OBJ: (USER, GROUP_OBJ),
    USER: (USER, GROUP_OBJ),
    GROUP_OBJ: (GROUP, MASK, OTHER),
    GROUP: (GROUP, MASK),
    MASK: (OTHER,),
    OTHER: (),
}


class Ace(NamedTuple):
    """One entry of an ACL: whom it is about and what they may do (rwx as 7)."""

    tag: int
    perm: int
    id: int = NO_ID


def decode(value: bytes) -> list[Ace]:
    """An ACL from its wire form, [] for one without entries; raises EINVAL, and EOPNOTSUPP for another version.

    Named entries need a mask. Ids are kept for named entries only.
    """
    if len(value) < 4:
        raise failure(errno.EINVAL)
    if value[:4] != _VERSION:
        raise failure(errno.EOPNOTSUPP)
    if (len(value) - 4) % _ENTRY.size:
        raise failure(errno.EINVAL)
    acl = [Ace(tag, perm, who if tag in _NAMED else NO_ID) for tag, perm, who in _ENTRY.iter_unpack(value[4:])]
    if acl:
        _validate(acl)
    return acl


def _validate(acl: list[Ace]) -> None:
    allowed: tuple[int, ...] = (USER_OBJ,)
    for tag, perm, who in acl:
        if tag not in allowed or perm & ~7 or (tag in _NAMED and who == NO_ID):
            raise failure(errno.EINVAL)
        allowed = _NEXT[tag]
    tags = {ace.tag for ace in acl}
    if acl[-1].tag != OTHER or (USER in tags and MASK not in tags):
        raise failure(errno.EINVAL)


def encode(acl: list[Ace]) -> bytes:
    """The wire form of an ACL."""
    return _VERSION + b"".join(_ENTRY.pack(*ace) for ace in acl)


def mode_of(acl: list[Ace]) -> tuple[int, bool]:
    """The nine permission bits that an ACL stands for, and whether they say all of it (then it need not be kept)."""
    bits = group = 0
    mask = None
    exact = True
    for tag, perm, _ in acl:
        if tag == USER_OBJ:
            bits |= perm << 6
        elif tag == GROUP_OBJ:
            group = perm
        elif tag == OTHER:
            bits |= perm
        else:
            exact = False
            mask = perm if tag == MASK else mask
    return bits | (group if mask is None else mask) << 3, exact


def with_mode(acl: list[Ace], mode: int) -> list[Ace]:
    """The access ACL after a chmod: owner, other, and mask (or owning group) take the new bits; the rest stays."""
    masked = any(ace.tag == MASK for ace in acl)
    return [Ace(ace.tag, _class_bits(ace.tag, mode, masked, ace.perm), ace.id) for ace in acl]


def inherit(default: list[Ace], mode: int) -> tuple[int, list[Ace] | None]:
    """What an object made with `mode` in a directory with this default ACL gets: its mode, and its access ACL or None.

    Each class of the default ACL is limited to what the creator asked for in `mode`; the umask has no say.
    """
    masked = any(ace.tag == MASK for ace in default)
    acl = [Ace(ace.tag, ace.perm & _class_bits(ace.tag, mode, masked, 7), ace.id) for ace in default]
    bits, exact = mode_of(acl)
    return mode & ~0o777 | bits, None if exact else acl


def _class_bits(tag: int, mode: int, masked: bool, otherwise: int) -> int:
    """The bits of `mode` that speak for a tag; `otherwise` for tags that no bits speak for."""
    if tag == USER_OBJ:
        return mode >> 6 & 7
    if tag == OTHER:
        return mode & 7
    if tag == MASK or (tag == GROUP_OBJ and not masked):
        return mode >> 3 & 7
    return otherwise
