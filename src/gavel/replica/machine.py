"""What the quorum decides for: the history, the file data staged ahead, and the outcomes of sessions.

The quorum's Machine (gavel.quorum.machine). Invariants:
- transactions are applied in tid order, each at its tid, by `execute` or by `install`;
- a local transaction, of the client in this process, is known by its sequence and applied as it stands: it names file
  data by where it lies here. There are such in a group of one only.
"""

from __future__ import annotations

from typing import Any

from gavel.errors import BadRequest, DeviceFull, GavelError, VolumeFull
from gavel.history.history import History
from gavel.media.volume import Volume
from gavel.quorum.machine import Admission
from gavel.quorum.messages import Body, TxId
from gavel.replica.blobs import Blobs
from gavel.replica.catch_up import Teller
from gavel.replica.execution import NO_SESSION, Case, judge, remembered, written
from gavel.replica.leases import Leases
from gavel.replica.log import Log
from gavel.replica.staging import Staging
from gavel.replica.taking_in import Taker
from gavel.transaction.certify import collision
from gavel.transaction.requests import Commit, Committed, Outcome, Writes

LOCAL = Body([], [], [], b"")  # what the quorum sees of a local transaction


class Machine:
    """The deterministic state of a master."""

    def __init__(self, volume: Volume, history: History, log: Log, staging: Staging, blobs: Blobs) -> None:
        self.alone = False  # nobody else decides: what finds no room here has not happened
        self.local: dict[int, Commit] = {}  # by sequence
        self._history = history
        self._log = log
        self._staging = staging
        self._blobs = blobs
        self._writes: dict[TxId, Writes] = {}  # of transactions that leases were looked at for, until they are executed
        self.leases: Leases | None = None
        self._teller = Teller(volume, history)
        self._taker = Taker(volume, history, log)

    @property
    def applied_tid(self) -> int:
        """See gavel.quorum.machine."""
        return self._history.last_tid

    def lacks(self, body: Body) -> list[bytes]:
        """See gavel.quorum.machine. What is in the log is as durable as what is written after it."""
        return self._blobs.lacks(body.blobs)

    def admit(self, txid: TxId, body: Body) -> Admission:
        """See gavel.quorum.machine: whether leases stand against it. What it writes is decoded once, here or when it
        is executed."""
        leases = self.leases
        if leases is None or leases.asleep or txid.session == NO_SESSION:
            return Admission.GO
        try:
            keys = self.keys(txid, body)
        except BadRequest:
            return Admission.GO  # it is refused when it is executed; nothing is written
        assert keys is not None, "admission is asked when all of a body is here"
        return leases.admit(txid, body, keys)

    def keys(self, txid: TxId, body: Body) -> list[bytes] | None:
        """The record keys that a transaction writes; None if it is not all here. Raises BadRequest, Damaged."""
        writes = self._writes.get(txid)
        if writes is None:
            if body.blobs and self._blobs.lacks(body.blobs):
                return None
            case = Case(txid.session, txid.seq, body.reads, body.blobs, body.payload)
            writes = self._writes[txid] = written(case, self._staging)
        return writes.keys

    def ended(self, txid: TxId) -> None:
        """See gavel.quorum.machine."""
        self._writes.pop(txid, None)
        if self.leases is not None:
            self.leases.ended(txid)

    def execute(self, txid: TxId, tid: int, body: Body) -> Any:
        """See gavel.quorum.machine: an Outcome; in a group of one perhaps an error, with nothing applied.

        Raises VolumeFull, DeviceFull, DeviceFailed, Damaged: this master cannot go on.
        """
        if txid.session == NO_SESSION and txid.seq in self.local:
            return self._execute_local(self.local.pop(txid.seq), tid)
        known = self._writes.pop(txid, None)
        case = Case(txid.session, txid.seq, body.reads, body.blobs, body.payload, known)
        verdict = judge(self._history, self._staging, tid, case)
        if verdict.keys:
            try:
                self._log.commit(tid, verdict.keys, verdict.values)
            except (VolumeFull, DeviceFull) as error:
                if self.alone:
                    return error
                raise
        if isinstance(verdict.outcome, Committed):
            self._staging.drop(body.blobs)  # of others it is kept: they may be run again
        return verdict.outcome

    def _execute_local(self, commit: Commit, tid: int) -> Outcome | GavelError:
        try:
            if commit.reads is not None:
                found = collision(self._history, commit.freeze, commit.reads)
                if found is not None:
                    return found
            if commit.keys:
                self._log.commit(tid, commit.keys, commit.values)
        except GavelError as error:
            return error
        return Committed(tid)

    def outcome(self, txid: TxId) -> Any:
        """See gavel.quorum.machine."""
        return None if txid.session == NO_SESSION else remembered(self._history, txid.session, txid.seq)

    def changes(self, lo: int, hi: int, cursor: bytes | None, limit: int) -> tuple[bytes, bytes | None, int, int]:
        """See gavel.quorum.machine and catch_up.py."""
        return self._teller.changes(lo, hi, cursor, limit)

    def install(self, lo: int, hi: int, piece: bytes, last: bool) -> bool:
        """See gavel.quorum.machine and taking_in.py. `lo` does not matter: what is here already is passed over."""
        return self._taker.install(hi, piece, last)
