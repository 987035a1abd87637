"""Snapshots: named tids. A snapshot costs one record, whatever it shows.

The record's value is a MessagePack array: tid, time of making (ns since 1970), note. A name never reads as another
form of WHEN, so that `@@name` means one thing.
"""

from __future__ import annotations

import msgspec

from gavel.errors import BadRequest, Damaged, HistoryPruned
from gavel.filesystem import retention, when
from gavel.keys import records
from gavel.limits import NAME_MAX, NOTE_MAX
from gavel.transaction.transaction import Transaction


class Snapshot(msgspec.Struct, frozen=True):
    """A named tid. `created` in ns since 1970 is when it was named; the state it names may be older."""

    name: str
    tid: int
    created: int
    note: str


class _Record(msgspec.Struct, array_like=True):
    tid: int
    created: int
    note: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


def create(tx: Transaction, name: str, tid: int, note: str = "") -> Snapshot:
    """Name a tid. Raises BadRequest for a name that is taken or cannot be one, or a note that is too long.

    HistoryPruned for a state that is not kept any more.
    """
    key = _key(tx, name)
    if len(note.encode("utf-8", "surrogatepass")) > NOTE_MAX:
        raise BadRequest(f"the note is longer than {NOTE_MAX} bytes; shorten it")
    if tx.get(key) is not None:
        raise BadRequest(f"there is a snapshot {name!r} already; choose another name or delete it first")
    kept = retention.read(tx)
    if not kept.readable(tid):
        raise HistoryPruned(tid, kept.horizon)
    record = _Record(tid, tx.now, note.encode("utf-8", "replace").decode())
    tx.put(key, _encode(record))
    return Snapshot(name, record.tid, record.created, record.note)


def find(tx: Transaction, name: str) -> Snapshot | None:
    """The snapshot of that name; None where there is none, also for what cannot be a name."""
    try:
        key = _key(tx, name)
    except BadRequest:
        return None
    value = tx.get(key)
    return None if value is None else _snapshot(name, value)


def listing(tx: Transaction) -> list[Snapshot]:
    """All snapshots, oldest state first."""
    found = [
        _snapshot(records.snapshot_name(key).decode(), value) for key, value in tx.scan(*records.snapshots(tx.pfs))
    ]
    return sorted(found, key=lambda one: (one.tid, one.name))


def delete(tx: Transaction, name: str) -> Snapshot:
    """Forget a name; what it named stays in the history. Raises BadRequest when there is none such."""
    found = find(tx, name)
    if found is None:
        raise BadRequest(f"there is no snapshot {name!r}; `gavel snapshot list` shows the names")
    tx.delete(_key(tx, name))
    return found


def _key(tx: Transaction, name: str) -> bytes:
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{name!r} cannot name a snapshot: it is not UTF-8") from None
    if not 0 < len(encoded) <= NAME_MAX:
        raise BadRequest(f"the name of a snapshot has 1 to {NAME_MAX} bytes")
    if "/" in name or "@@" in name or name[0] == "@" or not name.isprintable():
        raise BadRequest(f"{name!r} cannot name a snapshot: no '/', no '@@' and nothing unprintable in it")
    if when.is_form(name):
        raise BadRequest(f"{name!r} cannot name a snapshot: it reads as a time; begin it with a letter")
    return records.snapshot(tx.pfs, encoded)


def _snapshot(name: str, value: bytes) -> Snapshot:
    try:
        record = _decode(value)
    except msgspec.MsgspecError as error:
        raise Damaged(f"the record of the snapshot {name!r}", 0, "a known form", str(error)) from None
    return Snapshot(name, record.tid, record.created, record.note)
