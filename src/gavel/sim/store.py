"""A toy master beneath the real quorum: a log of which a crash keeps a prefix, and a dict of versions for a machine.

What the replica does with frames, trees and sessions is done here with tuples and dicts, under the same contracts
(quorum/machine.py): so a simulation spends its time on the quorum, and fails for reasons that lie there.

Invariants:
- what the machine holds in memory is what the entries of its log say, in their order;
- a crash keeps all that a finished sync covered, and of the rest a prefix.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec

from gavel.errors import Damaged
from gavel.quorum.machine import Admission, Collided, Committed, Outcome
from gavel.quorum.messages import Body, TxId
from gavel.sim.account import Rows

EVENT = 64 * 1024  # bytes that something that happened counts for: catching up takes many pieces

Writes = dict[bytes, bytes | None]
Event = tuple[int, TxId, Outcome, Writes]  # what happened at a tid

_encode = msgspec.msgpack.Encoder().encode
_PIECES = msgspec.msgpack.Decoder(list[tuple[int, TxId, tuple[bytes | None, int], Writes]])
_WRITES = msgspec.msgpack.Decoder(Writes)


def payload(writes: Writes) -> bytes:
    """Writes as the payload of a body."""
    return _encode(writes)


def written(data: bytes) -> Writes:
    """The writes in a payload."""
    return _WRITES.decode(data)


class Log:
    """A disk: entries in order. Crashing keeps what was synced and a prefix of the rest."""

    def __init__(self, random: Random) -> None:
        self.entries: list[tuple[str, Any]] = []
        self.durable = 0
        self.synced: Callable[[int, int], None] | None = None  # told which entries have become durable: [first, last)
        self._random = random
        self._generation = 0  # of checkpoints

    def write(self, kind: str, what: Any) -> None:
        """Append an entry."""
        self.entries.append((kind, what))

    def begin_sync(self) -> tuple[int, int]:
        """See host.Disk."""
        return self._generation, len(self.entries)

    def end_sync(self, mark: tuple[int, int]) -> None:
        """See host.Disk."""
        generation, end = mark
        if generation != self._generation:
            return
        before, self.durable = self.durable, max(self.durable, end)
        if self.synced is not None and before < self.durable:
            self.synced(before, self.durable)

    def crash(self) -> None:
        """See host.Disk. What survives is durable from then on."""
        kept = self._random.randint(self.durable, len(self.entries))
        if self._random.random() < 0.5:
            kept = self.durable
        del self.entries[kept:]
        self.end_sync(self.begin_sync())

    def checkpoint(self, entries: list[tuple[str, Any]]) -> None:
        """Take these for all there are, at once and durably."""
        self.end_sync(self.begin_sync())
        self._generation += 1
        self.entries[:] = entries
        self.durable = len(entries)

    def wipe(self) -> None:
        """See host.Disk."""
        self.entries.clear()
        self.durable = 0


class Ledger:
    """The quorum's way into the log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(self, record: bytes) -> None:
        """See quorum.machine.Ledger."""
        self._log.entries.append(("quorum", record))


def _go(txid: TxId) -> Admission:
    return Admission.GO


def _over(txid: TxId) -> None:
    """Nobody wants to know."""


class Store:
    """The machine: versions by key, what happened by tid, outcomes by transaction; all of it is remembered for ever.

    `executed(tid, txid, outcome)` is told of everything that comes into the history, `wanted(blob)` of blobs to fetch;
    `admits(txid)` says whether it may be proposed for, and `ended(txid)` is told when that stands no more.
    """

    def __init__(
        self,
        log: Log,
        executed: Callable[[int, TxId, Outcome], None],
        wanted: Callable[[bytes], None],
        admits: Callable[[TxId], Admission] = _go,
        ended: Callable[[TxId], None] = _over,
    ) -> None:
        self._log = log
        self._executed = executed
        self._wanted = wanted
        self._admits = admits
        self._ended = ended
        self._tids: list[int] = []
        self.events: list[Event] = []
        self._outcomes: dict[TxId, Outcome] = {}
        self._blobs: set[bytes] = set()
        self._incoming: dict[int, Event] = {}
        self._applied = 0
        self.versions: dict[bytes, list[tuple[int, bytes | None]]] = {}
        for kind, what in log.entries:
            self._redo(kind, what)

    def _redo(self, kind: str, what: Any) -> None:
        if kind == "execute":
            self._apply(what)
        elif kind == "incoming":
            self._incoming = dict(what)
        elif kind == "install":
            hi, events = what
            self._incoming.clear()
            for event in events:
                self._apply(event)
            self._applied = max(self._applied, hi)
        elif kind == "state":
            applied, events = what
            for event in events:
                self._apply(event)
            self._applied = applied
        elif kind == "blob":
            self._blobs.add(what)

    def _apply(self, event: Event) -> None:
        tid, txid, outcome, writes = event
        self._tids.append(tid)
        self.events.append(event)
        self._outcomes[txid] = outcome
        self._applied = tid
        if type(outcome) is Committed:
            for key, value in writes.items():
                self.versions.setdefault(key, []).append((tid, value))

    def checkpoint(self) -> list[tuple[str, Any]]:
        """Entries that say what all entries so far said."""
        state = ("state", (self._applied, list(self.events)))
        return [*(("blob", blob) for blob in sorted(self._blobs)), state, ("incoming", dict(self._incoming))]

    # -- reading -----------------------------------------------------------------------------------------------

    def rows(self, lo: bytes, hi: bytes, tid: int) -> Rows:
        """What is in [lo, hi) as of a tid."""
        found = []
        for key in sorted(key for key in self.versions if lo <= key < hi):
            versions = self.versions[key]
            at = bisect_right(versions, tid, key=lambda version: version[0])
            value = versions[at - 1][1] if at else None
            if value is not None:
                found.append((key, value))
        return tuple(found)

    # -- what the quorum asks of a machine: see quorum.machine.Machine ------------------------------------------------

    @property
    def applied_tid(self) -> int:
        """See quorum.machine."""
        return self._applied

    def lacks(self, body: Body) -> list[bytes]:
        """See quorum.machine."""
        lacking = [blob for blob in body.blobs if blob not in self._blobs]
        for blob in lacking:
            self._wanted(blob)
        return lacking

    def arrive(self, blob: bytes) -> None:
        """A blob has come; it is durable with the next sync."""
        if blob not in self._blobs:
            self._blobs.add(blob)
            self._log.write("blob", blob)

    def admit(self, txid: TxId, body: Body) -> Admission:
        """See quorum.machine."""
        return self._admits(txid)

    def ended(self, txid: TxId) -> None:
        """See quorum.machine."""
        self._ended(txid)

    def execute(self, txid: TxId, tid: int, body: Body) -> Outcome:
        """See quorum.machine."""
        outcome = self._certify(tid, body)
        event = (tid, txid, outcome, _WRITES.decode(body.payload))
        self._log.entries.append(("execute", event))
        self._apply(event)
        self._executed(tid, txid, outcome)
        return outcome

    def _certify(self, tid: int, body: Body) -> Outcome:
        for lo, hi, freeze in body.reads:
            for key in sorted(key for key in self.versions if lo <= key < hi):
                changed = self.versions[key][-1][0]
                if changed > freeze:
                    return Collided(key, changed)
        return Committed(tid)

    def outcome(self, txid: TxId) -> Outcome | None:
        """See quorum.machine."""
        return self._outcomes.get(txid)

    def changes(self, lo: int, hi: int, cursor: bytes | None, limit: int) -> tuple[bytes, bytes | None, int, int]:
        """See quorum.machine."""
        first, last = bisect_right(self._tids, lo), bisect_right(self._tids, hi)
        at = int.from_bytes(cursor) if cursor is not None else first
        upto = min(last, at + max(1, limit // EVENT))
        following = upto.to_bytes(8) if upto < last else None
        told = [(tid, txid, _told(outcome), writes) for tid, txid, outcome, writes in self.events[at:upto]]
        return _encode(told), following, upto - first, last - first

    def install(self, lo: int, hi: int, piece: bytes, last: bool) -> bool:
        """See quorum.machine."""
        try:
            events = _PIECES.decode(piece)
        except msgspec.MsgspecError as error:
            raise Damaged("a piece of changes", 0, str(error), "") from None
        for tid, txid, (key, by), writes in events:
            outcome = Committed(by) if key is None else Collided(key, by)
            self._incoming[tid] = (tid, txid, outcome, writes)
        if not last:
            self._log.write("incoming", dict(self._incoming))
            return True
        coming = [self._incoming[tid] for tid in sorted(self._incoming) if self._applied < tid <= hi]
        self._incoming.clear()
        self._log.write("install", (hi, coming))
        for event in coming:
            self._apply(event)
            self._executed(event[0], event[1], event[2])
        self._applied = max(self._applied, hi)
        return True


def _told(outcome: Outcome) -> tuple[bytes | None, int]:
    assert isinstance(outcome, Committed | Collided)
    return (outcome.key, outcome.tid) if isinstance(outcome, Collided) else (None, outcome.tid)


def quorum_records(log: Log) -> Iterator[bytes]:
    """What the quorum wrote, for its replay."""
    return (what for kind, what in log.entries if kind == "quorum")
