"""What a client reads of a master: what changed in ranges it holds, records as of a tid, file data.

Values are in portable form; a data record's extent goes by the record's own key and a tid at which it was so. Answers
are bounded by limits.ANSWER_BYTES: what does not fit is left out at the end, and the client asks for it again.

Nothing here decides what is current: the caller has brought the history to the tid that makes it so.
"""

from __future__ import annotations

from collections.abc import Iterator

from gavel.errors import BadRequest
from gavel.history.history import History
from gavel.keys.records import is_data
from gavel.limits import ANSWER_BYTES
from gavel.media.extents import decode
from gavel.media.volume import Volume
from gavel.transaction import portable
from gavel.transaction.requests import (
    Changed,
    Changes,
    Data,
    Fetch,
    Fetched,
    Found,
    Look,
    Looked,
    Reaches,
    Records,
    Trace,
    Traced,
)  # fmt: skip

_OVERHEAD = 16  # bytes that a record or a range counts for besides its key and value


def look(history: History, question: Look, clock: int, limit: int = 0) -> Looked:
    """For each range: None where nothing changed since, else its records; as of the history's last tid.

    About `limit` bytes at most, limits.ANSWER_BYTES unless told.
    """
    at, room = history.last_tid, limit or ANSWER_BYTES
    parts: list[Records | None] = []
    for lo, hi, since in question.ranges:
        if room <= 0:
            break
        if since and since >= history.horizon and history.changed(lo, hi, since) is None:
            parts.append(None)
            room -= _OVERHEAD
            continue
        found, room = _taken(history.scan(lo, hi), room)
        parts.append(found)
        if found.end is not None:
            break
    return Looked(at, parts, clock)


def fetch(history: History, question: Fetch) -> Fetched:
    """The records of ranges as of a tid that the history has come to; raises HistoryPruned, BadRequest."""
    if question.at > history.last_tid:
        raise BadRequest(f"the state of 0x{question.at:016x} is not here yet")
    parts: list[Records] = []
    room = ANSWER_BYTES
    for lo, hi in question.ranges:
        if room <= 0:
            break
        found, room = _taken(history.scan_at(lo, hi, question.at), room)
        parts.append(found)
        if found.end is not None:
            break
    return Fetched(parts)


def _taken(scanned: Iterator[tuple[bytes, bytes]], room: int) -> tuple[Records, int]:
    """Records as long as there is room for them, but one at least; and how much room is left."""
    keys: list[bytes] = []
    values: list[bytes] = []
    room -= _OVERHEAD
    for key, value in scanned:
        if room <= 0 and keys:
            return Records(keys, values, keys[-1] + b"\0"), room
        keys.append(key)
        values.append(portable.own(value) if is_data(key) else value)
        room -= len(key) + len(value) + _OVERHEAD
    return Records(keys, values), room


def data(history: History, volume: Volume, question: Data) -> Found:
    """What records refer to as of a tid, as it is kept: (codec, bytes). Not verified here: the reader has the sum.

    Raises HistoryPruned, BadRequest, DeviceFailed; Damaged where a sealed volume finds it so.
    """
    if question.at > history.last_tid:
        raise BadRequest(f"the state of 0x{question.at:016x} is not here yet")
    extents: list[tuple[int, bytes] | None] = []
    room = ANSWER_BYTES
    for key in question.keys:
        if room <= 0:
            break
        value = history.get_at(key, question.at) if is_data(key.ljust(3, b"\0")) else None
        extent = decode(value).extent if value is not None else None
        if extent is None:
            extents.append(None)
            room -= _OVERHEAD
        else:
            extents.append((extent.codec, bytes(volume.read(extent.place, extent.stored))))
            room -= extent.stored
    return Found(extents)


def reaches(history: History) -> Reaches:
    """What of the past can be read."""
    return Reaches(history.created_tid, history.last_tid, history.horizon, list(history.kept))


def trace(history: History, question: Trace) -> Traced:
    """Every version of a key that began at or before a tid. Those of one key have to fit into one answer."""
    key = question.key
    return Traced(
        [
            (one.create_tid, one.delete_tid, _portable(key, one.value) or b"")
            for one in history.versions(key)
            if one.create_tid <= question.until
        ]
    )


def changes(history: History, question: Changes) -> Changed:
    """What changed between two tids, as much as fits; raises HistoryPruned."""
    found: list[tuple[bytes, int, bytes | None, bytes | None]] = []
    room, skip = ANSWER_BYTES, question.skip
    for key, tid, old, new in history.changes(question.since, question.until, question.lo, question.hi):
        if skip and key == question.lo:
            skip -= 1
            continue
        if room <= 0:
            return Changed(found, True)
        found.append((key, tid, _portable(key, old), _portable(key, new)))
        room -= len(key) + len(old or b"") + len(new or b"") + _OVERHEAD
    return Changed(found)


def _portable(key: bytes, value: bytes | None) -> bytes | None:
    return portable.own(value) if value is not None and is_data(key) else value
