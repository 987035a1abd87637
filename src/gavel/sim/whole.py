"""A simulated master that is whole: the replica of production, on a volume, on a simulated device.

It takes the requests of simulated clients and answers them as the toy does (master.py), and translates to what a
replica is asked in truth. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import msgspec

from gavel.effects import Effect, Event, Reply, Requested
from gavel.errors import GavelError
from gavel.limits import VOLUME_MIN
from gavel.media.volume import Volume
from gavel.quorum.machine import Aborted, Admission, Collided, Committed, Outcome, TooOld
from gavel.quorum.messages import Member
from gavel.quorum.requests import Propose
from gavel.replica import peers
from gavel.replica.replica import Replica
from gavel.sim.checkers import Versions
from gavel.sim.client import Shown, View
from gavel.sim.device import SimDevice
from gavel.sim.master import Batches
from gavel.sim.oracle import Oracle
from gavel.sim.scribe import Scribe
from gavel.sim.store import written
from gavel.transaction import requests
from gavel.transaction.requests import Asked, Fetch, Look, Submit, pack


class Messages(Batches):
    """How whole masters' messages travel."""

    def encode(self, message: Any) -> bytes:
        """See host.Wire."""
        return b"".join(peers.encode(message))

    def decode(self, data: bytes) -> Any:
        """See host.Wire."""
        return peers.decode(data)

    def describe(self, message: Any) -> str:
        """See host.Wire."""
        return super().describe(message) if type(message).__name__ == "Batch" else type(message).__name__


class VolumeDisk:
    """A device with a volume, and which of the quorum's records on it are surely durable."""

    def __init__(self, node: int, random: Random) -> None:
        self._node, self._random = node, random
        self.device = SimDevice(VOLUME_MIN, node)
        Volume.format(self.device, identity=bytes([node]) * 16, salt=node, label="", created_tid=1)
        self.entries: list[tuple[str, Any]] = []
        self.durable = 0
        self.synced: Any = None  # as store.Log has it

    def begin_sync(self) -> int:
        """See host.Disk. The device is synced when the sync ends; what was written meanwhile survives as well."""
        return len(self.entries)

    def end_sync(self, mark: int) -> None:
        """See host.Disk."""
        self.device.sync()
        self.tell(mark)

    def tell(self, mark: int) -> None:
        """Records up to the mark are durable."""
        before, self.durable = self.durable, max(self.durable, min(mark, len(self.entries)))
        if self.synced is not None and before < self.durable:
            self.synced(before, self.durable)

    def crash(self) -> None:
        """See host.Disk."""
        self.device = self.device.crash(self._random, keep=0.0 if self._random.random() < 0.5 else None)
        self.entries.clear()
        self.durable = 0

    def wipe(self) -> None:
        """See host.Disk."""
        self.device = SimDevice(VOLUME_MIN, self._node)


PIECE = 800  # bytes of a piece of catching up, so that there are many


class _Replica(Replica):
    def _replay(self) -> list[bytes]:
        self.replayed = super()._replay()
        return self.replayed


class WholeMaster:
    """One incarnation of a whole master's process."""

    def __init__(
        self,
        node: int,
        disk: VolumeDisk,
        founding: Iterable[Member],
        oracle: Oracle,
        scribe: Scribe,
        now: int,
        steady: Callable[[], int],
    ) -> None:
        self._node, self._disk, self._oracle, self._steady = node, disk, oracle, steady
        self.replica = _Replica(Volume.open(disk.device), now, node, founding, resident=False, steady=steady())
        self.quorum = self.replica.quorum
        self.quorum.giver.aim = PIECE
        self._asked: dict[int, Any] = {}
        scribe.begin()
        disk.entries.extend(("quorum", record) for record in self.replica.replayed)
        disk.tell(len(disk.entries))
        self._watch()
        oracle.restarted(node, self.replica.last_tid, self.quorum.stable)

    def _watch(self) -> None:
        """Let the oracle know what is executed and installed, and what is written into the ledger."""
        machine, log = self.replica.machine, self.replica.log
        execute, install, write = machine.execute, machine.install, log.write
        admit, ended = machine.admit, machine.ended

        def admitted(txid: Any, body: Any) -> Admission:
            found = admit(txid, body)
            if found is Admission.GO:
                self._oracle.admitted(self._node, txid)
            return found

        def ended_(txid: Any) -> None:
            ended(txid)
            self._oracle.ended(self._node, txid)

        def executed(txid: Any, tid: int, body: Any) -> Any:
            outcome = execute(txid, tid, body)
            self._oracle.executed(self._node, tid, txid, _outcome(outcome))
            return outcome

        def installed(lo: int, hi: int, piece: bytes, last: bool) -> bool:
            survives = install(lo, hi, piece, last)
            if last:
                self._oracle.installed(self._node, hi)
            return survives

        def written_(record: bytes) -> None:
            write(record)
            self._disk.entries.append(("quorum", record))

        machine.execute, machine.install, log.write = executed, installed, written_  # type: ignore[method-assign]
        machine.admit, machine.ended = admitted, ended_  # type: ignore[method-assign]

    def step(self, event: Event, now: int) -> None:
        """See effects.py."""
        if type(event) is Requested:
            question = self._question(event.request)
            if question is not None:
                self._asked[event.request.ticket] = event.request
                event = Requested(Asked(event.request.ticket, question))
        self.replica.step(event, now, self._steady())

    def _question(self, request: Any) -> Any:
        if isinstance(request, View):
            if request.strict:
                return Look([(lo, hi, 0) for lo, hi in request.ranges])
            return Fetch(list(request.ranges), request.tid or self.replica.last_tid)
        if isinstance(request, Propose):
            txid, body = request.txid, request.body
            packed = pack(written(body.payload), 0)
            return Submit(txid.session, txid.seq, txid.born, txid.coord, body.reads, [], packed)
        return None

    def drain(self) -> list[Effect]:
        """See effects.py."""
        return [self._answer(effect) if type(effect) is Reply else effect for effect in self.replica.drain()]

    def _answer(self, effect: Reply) -> Effect:
        asked, result = effect.request, effect.result
        if not isinstance(asked, Asked):
            return effect
        request = self._asked.pop(asked.ticket)
        if isinstance(result, GavelError):
            return Reply(request, result)
        if isinstance(request, View):
            at = result.at if isinstance(result, requests.Looked) else asked.question.at  # type: ignore[union-attr]
            rows = tuple(tuple(zip(part.keys, part.values, strict=True)) for part in result.parts)
            return Reply(request, Shown(at, rows))
        return Reply(request, _outcome(result))

    # -- what the simulation asks of it ------------------------------------------------------------------------------

    def versions(self, keys: list[bytes], tids: list[int]) -> Versions:
        """All versions of these keys that came about at these tids."""
        found: Versions = {}
        for key in keys:
            before = None
            for tid in tids:
                value = self.replica.history.get_at(key, tid) if tid <= self.replica.last_tid else before
                if value != before:
                    found.setdefault(key, []).append((tid, value))
                before = value
        return found


def _outcome(result: Any) -> Outcome:
    match result:
        case requests.Committed(tid) | Committed(tid):
            return Committed(tid)
        case requests.Collided(key, tid):
            return Collided(key, tid)
        case requests.TooOld(at, horizon):
            return TooOld(at, horizon)
        case requests.Dropped():
            return Aborted()
        case requests.Busy():
            return Aborted("busy", Admission.BUSY)
    raise AssertionError(f"a simulated client has no use for {msgspec.to_builtins(result)}")
