"""Records in words: what a key names and what a value says, for whoever inspects a volume."""

from __future__ import annotations

from struct import error as struct_error
from typing import Any

import msgspec

from gavel.errors import Damaged
from gavel.filesystem import compression, directory
from gavel.filesystem import inode as inodes
from gavel.keys import records
from gavel.media import extents

_NAMES = {
    records.INODE: "inode", records.ENTRY: "entry", records.XATTR: "xattr", records.EXTENT: "data",
    records.ORPHAN: "orphan", records.COUNTER: "counter", records.SNAPSHOT: "snapshot", records.CONFIG: "config",
}  # fmt: skip


def describe_key(key: bytes) -> dict[str, Any]:
    """What a record key names; raises nothing."""
    try:
        found = records.parse(key)
    except struct_error:
        return {"record": "unknown", "key": key.hex()}
    told: dict[str, Any] = {"record": _NAMES.get(found.type, "unknown"), "object": found.object, "key": key.hex()}
    if found.type == records.ENTRY:
        told["name"] = _text(records.entry_name(key))
    elif found.type in (records.XATTR, records.COUNTER, records.SNAPSHOT, records.CONFIG):
        told["name"] = _text(found.subkey[:-1])
    elif found.type == records.EXTENT:
        told["end"] = records.extent_end(key)
    elif found.type == records.ORPHAN:
        told["object"] = records.orphan_object(key)
    return told


def describe_value(key: bytes, value: bytes) -> dict[str, Any]:
    """What a record's value says; its bytes in hex where that is not known. Raises nothing."""
    kind = key[11] if len(key) >= records.HEAD_SIZE else 0
    try:
        if kind == records.INODE:
            inode = inodes.decode(value)
            told: dict[str, Any] = msgspec.structs.asdict(inode)
            return told | {"mode": f"{inode.mode:o}", "target": _text(inode.target), "compression": compression.choice(inode)}  # fmt: skip  # noqa: E501
        if kind == records.ENTRY:
            obj, type_ = directory.unpack_entry(value)
            return {"object": obj, "type": type_}
        if kind == records.EXTENT:
            shown = extents.decode(value)
            if shown.extent is None:
                return {"inline": len(shown.inline)}
            return {"skip": shown.skip, "view": shown.view, **shown.extent._asdict(), "sum": shown.extent.sum.hex()}
        if kind == records.COUNTER:
            return {"value": int.from_bytes(value, "big")}
    except (msgspec.MsgspecError, struct_error, Damaged, IndexError) as error:
        return {"damaged": error.fact if isinstance(error, Damaged) else str(error), "bytes": value.hex()}
    return {"bytes": value[:4096].hex(), "size": len(value)}


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
