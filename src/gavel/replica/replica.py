"""The deterministic whole of a master, of a group of one or of many: routes what happens to who knows about it.

What it is: events in by `step`, effects out by `drain` (gavel.effects). The quorum decides what happens and in which
order (gavel.quorum); the machine executes it on the history (machine.py); the log keeps both (log.py). In a group of
one a client in the same process reads the history directly, and its Commit is answered within the step.

Invariants:
- a tid is issued once, above every tid that was ever promised, crashes included;
- a transaction is in the log before it is in the trees, and in the trees before it is answered;
- what promises durability (a Barrier, a vote, the outcome of a Submit) leaves only after the sync that it takes;
- at most one sync and one checkpoint are under way; after a failed write or sync nothing more is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from gavel.effects import (
    Arm,
    Effect,
    Event,
    Heard,
    Observe,
    PeerDown,
    PeerUp,
    Received,
    Reply,
    Requested,
    Sync,
    Synced,
    SyncFailed,
    Ticked,
)
from gavel.errors import BadRequest, DeviceFailed, GavelError, NotAMember, ReadOnly, VolumeFull
from gavel.history.history import History
from gavel.keys.tid import make, micros
from gavel.limits import TID_RESERVE_US
from gavel.media.volume import Volume
from gavel.quorum.messages import Batch, Member, TxId
from gavel.quorum.quorum import Quorum
from gavel.quorum.requests import Arrived, Gone, Propose, Status
from gavel.quorum.votes import MASTER
from gavel.replica import journal
from gavel.replica.blobs import Blobs
from gavel.replica.checkpoints import Checkpoints
from gavel.replica.clients import Clients
from gavel.replica.execution import NO_SESSION
from gavel.replica.journal import QUORUM, STAGED
from gavel.replica.leases import Leases
from gavel.replica.log import Log
from gavel.replica.machine import LOCAL, Machine
from gavel.replica.peers import Lost, Want
from gavel.replica.staging import Staging
from gavel.replica.status import told
from gavel.replica.syncs import Syncs
from gavel.transaction import requests
from gavel.transaction.certify import collision
from gavel.transaction.requests import Asked, Barrier, Checkpoint, Commit, Committed, Data, Fetch, Stage, Told


class Replica:
    """One volume's records, their history, and the decisions about them.

    `founding` are the members of a group that begins with this volume (by default this node alone; none for one that
    will join a group). `resident`: a client in this process puts file data into the log by itself (gavel.cache), and
    says what of it will not be referred to.
    """

    def __init__(
        self,
        volume: Volume,
        now: int,
        node: int = 0,
        founding: Iterable[Member] | None = None,
        resident: bool = True,
        steady: int | None = None,
    ) -> None:
        """Open the records of a volume, replaying its log, at `now` and `steady` (see step); raises Damaged."""
        self.volume = volume
        self.node = node
        self.history = History(volume)
        self.log = Log(volume, self.history)
        self._resident = resident
        self._now = now
        self._effects: list[Effect] = []
        self._commits = 0
        self._stirred = True  # the quorum has heard something since it was last asked what is to be done
        self._result: Any = None  # of the commit under way
        self._staging = Staging(volume)
        self._armed: int | None = None  # when what is lacking is asked for next
        self._up: list[int] = []  # peers that can be reached
        self._blobs = Blobs(
            self._staging,
            self._effects,
            self._keepers,
            lambda name: self._ask_quorum(Arrived(name)),
            lambda name: self._ask_quorum(Gone(name)),
        )
        self.machine = Machine(volume, self.history, self.log, self._staging, self._blobs)
        self._syncs = Syncs(volume, self.log, self._effects)
        self.leases = Leases(self.history, self._effects, self._syncs.barrier, self.machine.keys)
        self.leases.set_time(now, steady)
        self._checkpoints = Checkpoints(volume, self.history, self.log, self._syncs, self._effects, self._snapshot)
        self._clients = Clients(
            self.history, volume, self._effects, self._ask_quorum, self._stage, self._syncs.barrier, self._told,
            lambda: self.quorum.clock_tid, lambda: self.quorum.current,
        )  # fmt: skip
        records = self._replay()
        floor = max(volume.last_tid, self.history.last_tid)
        if not volume.clean:
            # Tids of commits that the crash took lie within this of the last one that survived.
            floor = make(micros(floor) + TID_RESERVE_US)
        members = [Member(node, MASTER)] if founding is None else founding
        self.quorum = Quorum(node, self.log, self.machine, members, floor)
        for record in records:
            self.quorum.replay(record)
        self._moved_to = self.history.last_tid
        self._start(now)

    def _replay(self) -> list[bytes]:
        """Apply the transactions in the log, take in what is staged; returns the quorum's records."""
        records: list[bytes] = []
        count = 0
        for tid, keys, values in journal.decode(self._transactions(records)):
            self.history.apply(tid, keys, values)
            self.volume.note_records(len(keys))
            count += 1
        if count:
            self._effects.append(Observe("replayed", {"transactions": count, "tid": self.last_tid}))
        return records

    def _transactions(self, records: list[bytes]) -> Iterator[tuple[int, int, bytes]]:
        for kind, sequence, body in self.volume.replay():
            if kind == QUORUM:
                records.append(body)
            elif kind == STAGED:
                self._staging.replay(sequence, body)
            else:
                yield kind, sequence, body

    def _start(self, now: int) -> None:
        if self.volume.read_only:
            self.log.failure = ReadOnly("the volume was opened so")
            return
        self._blobs.now = now
        self.quorum.start(now)
        self.leases.begin(self.quorum)
        self.machine.leases = self.leases
        self._pump()

    @property
    def last_tid(self) -> int:
        """The tid of the newest state."""
        return self.history.last_tid

    @property
    def failure(self) -> GavelError | None:
        """Why nothing is accepted any more."""
        return self.log.failure

    @property
    def witness(self) -> bool:
        """Whether this node votes and keeps no data: nothing can be read here."""
        return self.quorum.desk.witness

    @property
    def alone(self) -> bool:
        """Whether this is a group of one."""
        return self.quorum.desk.alone

    def limit_catch_up(self, rate: int) -> None:
        """Give at most so many bytes a second to masters that catch up; 0: as fast as they take it."""
        self.quorum.giver.pace.ceiling = rate

    def step(self, event: Event, now: int, steady: int | None = None) -> None:
        """Take in what happened at `now` (ns since 1970), and `steady` by a clock that is never set and counts while
        the machine sleeps; without it nobody may be granted leases over a wire."""
        self._now = self._blobs.now = now
        self.leases.set_time(now, steady)
        match event:
            case Requested(Commit() as request):
                self._commit(request, now)
            case Requested(Barrier() as request):
                self._settled(request)
            case Requested(Checkpoint() as request):
                self._checkpoints.ask(request, now)
            case Requested(Asked() as asked):
                self._asked(asked)
            case Received(peer, message):
                self._received(peer, message)
            case Heard(session, messages):
                self._heard(session, messages)
            case Synced(ticket):
                self._syncs.synced(ticket, None)
            case SyncFailed(ticket, reason):
                failed = DeviceFailed("sync", 0, reason)
                self._fail(failed)
                self.volume.fail(failed)
                self._syncs.synced(ticket, failed)
            case Ticked():
                self._pump()
                self._clients.look()
                self._checkpoints.resume(now)
                if self.log.failure is None:
                    self._checkpoints.look_at_log(now)  # what the quorum writes adds up
                self._to_quorum(event)
                if self.leases.due():
                    self._guarded(self.leases.tick)
            case PeerUp(peer) | PeerDown(peer):
                others = [other for other in self._up if other != peer]
                self._up = sorted([*others, peer]) if isinstance(event, PeerUp) else others
                self._to_quorum(event)
            case Requested():
                self._to_quorum(event)

    def drain(self) -> list[Effect]:
        """What is to be done now, in order; the shell's part of the contract is in gavel.effects.

        To be called after a step, or after a few that came together: they share batches and syncs.
        """
        self._pump()
        if self.log.failure is None:
            self.leases.drain()
        self._effects.extend(map(Arm, self._blobs.ask()))
        self._syncs.begin()
        effects = self._effects.copy()
        self._effects.clear()
        return effects

    # The quorum, and the other masters.

    def _keepers(self) -> list[int]:
        """Masters that can be reached, who vote about file data. Slaves get it when it is decided, witnesses never."""
        masters = self.quorum.desk.electorate.masters
        return [peer for peer in self._up if peer in masters]

    def _ask_quorum(self, request: Any) -> None:
        self._to_quorum(Requested(request))

    def _to_quorum(self, event: Event) -> None:
        if self.log.failure is None:
            self._stirred = True
            self.machine.alone = self.alone
            self._guarded(self.quorum.step, event, self._now)
        elif isinstance(event, Requested) and not isinstance(event.request, Arrived | Gone):
            self._answered(event.request, self.log.failure)

    def _pump(self) -> None:
        """See to what comes of what the quorum was told, and of that in turn."""
        while self._stirred and self.log.failure is None:
            self._stirred = False
            self._pump_once()

    def _pump_once(self) -> None:
        effects: list[Effect] = []
        self._guarded(lambda: effects.extend(self.quorum.drain()))
        for effect in effects:
            match effect:
                case Reply(request, result):
                    self._answered(request, result)
                case Sync(ticket):
                    self._syncs.barrier(partial(self._quorum_synced, ticket))
                case _:
                    self._effects.append(effect)
        if self.history.last_tid != self._moved_to:
            self._moved_to = self.history.last_tid
            if not self._resident:
                self.volume.settle(self.volume.written)  # what is not referred to is pinned, or never will be
            self._checkpoints.look(self._now)

    def _quorum_synced(self, ticket: int, error: GavelError | None) -> None:
        if error is None:
            self._to_quorum(Synced(ticket))
        else:
            self._fail(error)

    def _guarded(self, act: Callable[..., None], *args: Any) -> None:
        """Do something that this master cannot survive if it goes wrong."""
        try:
            act(*args)
        except GavelError as error:
            self._fail(error)

    def _fail(self, error: GavelError) -> None:
        """Step aside: say nothing any more to anybody, and answer whoever asks by what is wrong."""
        if self.log.failure is None:
            self.log.failure = error
            self._effects.append(Observe("master failed", {"error": str(error)}))
        self._clients.fail(error)

    def _answered(self, request: Any, result: Any) -> None:
        """The quorum's answer goes to whoever is behind the request: the commit under way, a client, or the shell."""
        if isinstance(request, Propose) and request.body is LOCAL:
            self._result = result
        else:
            if isinstance(result, VolumeFull):
                self._checkpoints.make_room(self._now)
            if not self._clients.answered(request, result, self.alone):
                self._effects.append(Reply(request, result))

    def _received(self, peer: int, message: Any) -> None:
        if isinstance(message, Batch):
            self._to_quorum(Received(peer, message))
        elif self.log.failure is None:
            if isinstance(message, Stage) and not self.witness:
                self._guarded(self._blobs.received, peer, message)
            elif isinstance(message, Want):
                self._guarded(self._blobs.wanted, peer, message)
            elif isinstance(message, Lost):
                self._blobs.lost(message)

    # Clients.

    def _heard(self, session: bytes, messages: list[Any]) -> None:
        if self.log.failure is None:
            self._stirred = True
            self._guarded(self.leases.hear, session, messages)

    def _asked(self, asked: Asked) -> None:
        failure = self.log.failure
        if isinstance(asked.question, requests.Status) and asked.question.leases:
            self._effects.append(Reply(asked, Told({"node": self.node, "leases": self.leases.status(whole=True)})))
        elif failure is None and self.witness and not isinstance(asked.question, requests.Status):
            self._effects.append(Reply(asked, NotAMember(self.node, "it is a witness and keeps no data")))
        elif failure is None or isinstance(asked.question, Fetch | Data):
            self._clients.ask(asked)
        elif isinstance(asked.question, requests.Status):
            self._effects.append(Reply(asked, Told({"node": self.node, "failure": str(failure)})))
        else:
            self._effects.append(Reply(asked, failure))

    def _stage(self, blob: Stage) -> None:
        try:
            self._blobs.stage(blob)
        except VolumeFull:
            self._checkpoints.make_room(self._now)
            raise

    def _told(self, status: Status) -> Told:
        fields = told(status, self.history, self._staging, self.volume.space(), self.leases.status()).fields
        return Told({**fields, "commits": self.log.commits})

    def _commit(self, request: Commit, now: int) -> None:
        """A transaction of the client in this process: decided, executed and answered within the step."""
        result: int | GavelError
        try:
            result = self._decided(request)
        except GavelError as error:
            result = error
            if isinstance(error, VolumeFull):
                self._checkpoints.make_room(now)
        self._effects.append(Reply(request, result))

    def _decided(self, request: Commit) -> int:
        if self.log.failure is not None:
            raise self.log.failure
        if not self.alone:
            raise BadRequest("a client in the master's own process works in a group of one; connect to the cluster")
        if not request.keys:
            found = None if request.reads is None else collision(self.history, request.freeze, request.reads)
            if found is not None:
                raise found
            return self.last_tid
        self.log.hand_over()
        self._commits += 1
        self.machine.local[self._commits] = request
        txid = TxId(max(self.quorum.clock_tid, make(self._now // 1000)), NO_SESSION, self._commits, self.node)
        self._ask_quorum(Propose(self._commits, txid, LOCAL))
        self._pump()
        result, self._result = self._result, None
        if isinstance(result, Committed):
            return result.tid
        assert isinstance(result, GavelError), "a group of one answers within the step"
        raise result

    def _settled(self, request: Barrier) -> None:
        """Answer at once when nothing was written since the last sync, else after the next."""
        if self._syncs.settled and self.log.failure is None:
            self._effects.append(Reply(request, self.last_tid))
        else:
            self._syncs.barrier(lambda error: self._effects.append(Reply(request, error or self.last_tid)))

    def _snapshot(self, final: bool) -> Iterator[tuple[int, bytes]]:
        """What the log has said that replay will still need, for a checkpoint (the last one?) to say it anew."""
        for record in self.quorum.snapshot(final):
            yield QUORUM, record
        self._staging.expire(self._now, self.quorum.needs())
        for body in self._staging.snapshot():
            yield STAGED, body
