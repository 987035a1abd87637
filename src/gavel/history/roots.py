"""What history keeps in the volume header: where its trees begin and what is known without reading them.

MessagePack of a Roots in field order. Fields added later come at the end with defaults; a change that an old reader
would get wrong raises `version`. An empty volume has no bytes here at all.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gavel.btree.frozen import TreeRoot
from gavel.errors import Damaged, NewerFormat

VERSION: Final = 1

NO_TREE: Final = TreeRoot(0, 0, 0, 0, 0)
UNKNOWN: Final = -1  # the count of a release that did not keep it


class Roots(msgspec.Struct, array_like=True, frozen=True):
    """The durable state of a History."""

    version: int = VERSION
    last_tid: int = 0  # every transaction up to this tid is in the trees
    horizon: int = 0  # as-of access below this tid fails, as its versions may have been pruned
    current: TreeRoot = NO_TREE
    past: TreeRoot = NO_TREE
    live_data: int = UNKNOWN  # stored bytes of file data that live versions refer to
    past_data: int = UNKNOWN  # the same of closed ones


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Roots).decode
_decode_version = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def decode(data: bytes) -> Roots:
    """The roots in a volume header; raises NewerFormat, Damaged."""
    if not data:
        return Roots()
    try:
        version = msgspec.msgpack.decode(_decode_version(data)[0], type=int)
        if version > VERSION:
            raise NewerFormat(version, VERSION)
        return _decode(data)
    except (msgspec.MsgspecError, IndexError) as error:
        raise Damaged("roots in the volume header", 0, "MessagePack of the roots", str(error)) from None
