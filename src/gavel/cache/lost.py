"""Changes that will never be committed, in a form that people can use: what became of which path, and the bytes.

Invariant: nothing is asked of anybody; what is not known here is left out.
"""

from __future__ import annotations

from typing import NamedTuple

from gavel.filesystem import inode as inodes
from gavel.filesystem import path
from gavel.keys import records
from gavel.media import extents
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss, View


class Lost(NamedTuple):
    """What was changed about one object. `path`: where it was to be, "" where that is not known here."""

    object: int
    path: str
    what: list[str]  # "changed", "removed", "written", "xattrs"; of a directory "with NAME", "without NAME"
    mode: int  # 0: not known
    size: int  # of a file
    data: list[tuple[int, bytes]]  # what was written, by offset


def lost(view: View, pfs: int, writes: dict[bytes, bytes | None]) -> list[Lost]:
    """The changes by object, in the order in which they were first made."""
    tx = Transaction(view, 0, pfs)
    by_object: dict[int, list[bytes]] = {}
    for key in writes:
        record = records.parse(key)
        if record.pfs == pfs and record.locality != records.ROOT:
            by_object.setdefault(record.object, []).append(key)
    return [_of(tx, obj, keys, writes) for obj, keys in by_object.items()]


def _of(tx: Transaction, obj: int, keys: list[bytes], writes: dict[bytes, bytes | None]) -> Lost:
    what: dict[str, None] = {}
    data: list[tuple[int, bytes]] = []
    mode = size = 0
    for key in keys:
        value, record = writes[key], records.parse(key)
        if record.locality == records.INODES:
            what["removed" if value is None else "changed"] = None
            if value is not None:
                inode = inodes.decode(value)
                mode, size = inode.mode, inode.size if inode.is_file else 0
        elif record.locality == records.ENTRIES:
            name = path.text(records.entry_name(key))
            what[f"{'without' if value is None else 'with'} {name}"] = None
        elif record.locality == records.XATTRS:
            what["xattrs"] = None
        elif value is not None:
            what["written"] = None
            data += _bytes(tx, key, value)
    return Lost(obj, _path(tx, obj), list(what), mode, size, data)


def _path(tx: Transaction, obj: int) -> str:
    try:
        return path.path_of(tx, obj) or ""
    except (Miss, OSError):
        return ""


def _bytes(tx: Transaction, key: bytes, value: bytes) -> list[tuple[int, bytes]]:
    try:
        shown = extents.decode(value)
        held = shown.inline if shown.extent is None else tx.load(shown.extent)
    except Miss:
        return []
    part = bytes(held)[shown.skip : shown.skip + shown.view] if shown.extent is not None else bytes(held)
    return [(records.extent_end(key) - len(part), part)]
