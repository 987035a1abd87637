"""A decided transaction at its place in the order: certified, translated, the same on every master.

Invariants:
- the verdict depends on nothing but the history below `tid`, the transaction and what was staged for it: not on when
  it is executed, on the shape of trees, on where anything lies;
- whatever it comes to is written at `tid` as a record of its session, which answers one who asks again; outcomes that
  have arrived (Writes.settled) are removed by the way. Nothing that is decided here depends on these records, as
  a master that has caught up may lack those that were removed since;
- a record that says what it said before keeps its value, wherever its bytes lie; so the histories of two masters have
  the same versions (portable.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from gavel.errors import BadRequest, Damaged, HistoryPruned
from gavel.history.accounting import data_runs
from gavel.history.history import History
from gavel.keys import records
from gavel.limits import RECORD_MAX
from gavel.media.extents import Extent, decode
from gavel.replica.staging import Staging
from gavel.transaction import portable
from gavel.transaction.requests import (
    BLOB_NAME_SIZE,
    Collided,
    Committed,
    Outcome,
    Read,
    Refused,
    TooOld,
    Writes,
    blob_number,
    decode_answer,
    encode,
    unpack,
)

_INLINE, _SPILLED = b"\0", b"\1"
_encode = msgspec.msgpack.Encoder().encode
_decode_numbers = msgspec.msgpack.Decoder(list[int]).decode
NO_SESSION: Final = bytes(records.SESSION_SIZE)  # of a client that never asks again


def payload(body: bytes, spilled: list[int]) -> bytes:
    """What the quorum carries of a transaction: its body, or the numbers of the staged extents that hold it."""
    return _SPILLED + _encode(spilled) if spilled else _INLINE + body


class Case(NamedTuple):
    """A transaction to be judged; `blobs` are the ids of all that is staged for it, which is here."""

    session: bytes
    sequence: int
    reads: Sequence[Read]
    blobs: Sequence[bytes]
    carried: bytes  # what payload() gave
    writes: Writes | None = None  # what that says, if it was looked at before


class _Staged:
    """What is staged for one transaction, by number. Nothing else exists for it: others may not have that."""

    def __init__(self, case: Case, staging: Staging) -> None:
        self._staging = staging
        self._ids = {blob_number(blob[-BLOB_NAME_SIZE:]): blob for blob in case.blobs}

    def find(self, number: int) -> Extent:
        """The extent staged as `number`; raises BadRequest."""
        blob = self._ids.get(number)
        if blob is None:
            raise BadRequest(f"the transaction does not name what was staged as {number}")
        found = self._staging.find(blob)
        assert found is not None, "a transaction is executed when all that it names is here"
        return found

    def content(self, number: int) -> bytes | memoryview:
        """Its raw bytes; raises BadRequest, Damaged, DeviceFailed."""
        self.find(number)
        return self._staging.content(self._ids[number])


def _unwrapped(carried: bytes, staged: _Staged) -> Writes:
    if carried[:1] == _INLINE:
        return unpack(memoryview(carried)[1:])
    try:
        numbers = _decode_numbers(memoryview(carried)[1:])
    except msgspec.MsgspecError as error:
        raise BadRequest(f"a transaction of no known form ({error})") from None
    return unpack(b"".join(map(staged.content, numbers)))


def written(case: Case, staging: Staging) -> Writes:
    """What a transaction writes, all that it names being here; raises BadRequest, Damaged, DeviceFailed."""
    return _unwrapped(case.carried, _Staged(case, staging))


class Verdict(NamedTuple):
    """What a transaction comes to: its outcome, and the local records to apply at its tid."""

    outcome: Outcome
    keys: list[bytes]
    values: list[bytes | None]


def judge(history: History, staging: Staging, tid: int, case: Case) -> Verdict:
    """The verdict on a transaction at `tid`, to which the history has come; raises Damaged, DeviceFailed."""
    settled, keys, values = 0, list[bytes](), list[bytes | None]()
    staged = _Staged(case, staging)
    try:
        writes = case.writes if case.writes is not None else _unwrapped(case.carried, staged)
        settled = writes.settled
        outcome: Outcome | None = certify(history, case.reads)
        if outcome is None:
            keys, values = writes.keys, _translated(history, staged, writes)
            outcome = Committed(tid)
    except HistoryPruned as gone:
        outcome = TooOld(gone.at, gone.horizon)
    except BadRequest as error:
        outcome = Refused(str(error))
    if case.session != NO_SESSION:
        if settled:
            arrived = [key for key, _ in history.scan(*records.outcomes(case.session, min(settled, case.sequence)))]
            keys += arrived
            values += [None] * len(arrived)
        keys.append(records.outcome(case.session, case.sequence))
        values.append(encode(outcome))
    return Verdict(outcome, keys, values)


def remembered(history: History, session: bytes, sequence: int) -> Outcome | None:
    """What became of a transaction, unless that has arrived or it never happened; raises Damaged."""
    value = history.get(records.outcome(session, sequence))
    if value is None:
        return None
    try:
        outcome = decode_answer(value)
    except BadRequest as error:
        raise Damaged("the record of an outcome", 0, "an outcome", str(error)) from None
    if not isinstance(outcome, Committed | Collided | TooOld | Refused):
        raise Damaged("the record of an outcome", 0, "an outcome", type(outcome).__name__)
    return outcome


def certify(history: History, reads: Sequence[Read]) -> Collided | TooOld | None:
    """What stands against a transaction that read these ranges: of the first that changed the lowest key, and its tid.

    That is looked up again: which change a test meets first depends on the shape of a tree.
    """
    for lo, hi, since in reads:
        if since < history.horizon:
            return TooOld(since, history.horizon)
        if history.changed(lo, hi, since) is not None:
            first = next(history.changes(since, history.last_tid, lo, hi))
            return Collided(first.key, first.tid, since)
    return None


def _translated(history: History, staged: _Staged, writes: Writes) -> list[bytes | None]:
    """The values in the form of this volume; raises BadRequest, HistoryPruned."""
    keys, values = writes.keys, list(writes.values)
    if keys and (keys[-1] >= records.UNVERSIONED or min(map(len, keys)) < records.HEAD_SIZE):
        raise BadRequest("a transaction writes keys that are not those of records")
    for value in values:
        if value is not None and len(value) > RECORD_MAX:
            raise BadRequest(f"a record of {len(value)} bytes is over the bound of {RECORD_MAX}")
    for first, last in data_runs(keys):
        for at in range(first, last):
            value = values[at]
            named = portable.parse(value) if value is not None else None
            if named is not None:
                fresh = portable.localise(named, _extent(history, staged, named))
                held = history.get(keys[at])
                values[at] = held if held and portable.own(held) == portable.own(fresh) else fresh
    return values


def _extent(history: History, staged: _Staged, named: portable.Named) -> Extent:
    """The extent that a portable record of a transaction names; raises BadRequest, HistoryPruned."""
    if named.form == portable.STAGED:
        return staged.find(named.number)
    if named.form != portable.KEPT or not records.is_data(named.key.ljust(3, b"\0")):
        raise BadRequest("a record of a transaction refers to file data that it does not name")
    value = history.get_at(named.key, named.at)
    extent = decode(value).extent if value else None
    if extent is None:
        raise BadRequest(f"record {named.key.hex()} refers to no extent as of 0x{named.at:016x}")
    return extent
