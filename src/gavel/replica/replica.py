"""The deterministic whole of a master: a group of one, whose majority is itself.

What it is: events in by `step`, effects out by `drain` (gavel.effects), and beside them plain reads, because its
only client lives in the same process. In a cluster the quorum takes the place of `_commit`; nothing else changes.

Invariants:
- a tid is issued once, above every tid that was ever promised, crashes included;
- a commit is in the log before it is in the trees, and in the trees before it is answered;
- a Barrier is answered only after a device sync that began after everything committed before it was handed over;
- at most one sync and one checkpoint are under way; after a failed write or sync nothing more is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from gavel.effects import Arm, Effect, Event, Observe, Reply, Requested, Sync, Synced, SyncFailed, Ticked
from gavel.errors import BadRequest, DeviceFailed, DeviceFull, GavelError, ReadOnly, VolumeFull
from gavel.history.history import History
from gavel.history.versions import Step
from gavel.keys.tid import TidClock, make, micros
from gavel.limits import DIRTY_NODES_MAX, REPLAY_BYTES_MAX, REPLAY_RECORDS_MAX, TID_RESERVE_US
from gavel.media.volume import Volume
from gavel.replica import journal
from gavel.transaction.certify import collision
from gavel.transaction.requests import Barrier, Checkpoint, Commit


class Replica:
    """One volume's records, their history, and the decisions about them."""

    def __init__(self, volume: Volume, node: int = 0) -> None:
        """Open the records of a volume, replaying its log; raises Damaged."""
        self.volume = volume
        self.history = History(volume)
        self.failure: GavelError | None = ReadOnly("the volume was opened so") if volume.read_only else None
        self._clock = TidClock(node, volume.last_tid)
        self._effects: list[Effect] = []
        self._syncing: list[Callable[[GavelError | None], None]] | None = None
        self._waiting: list[Callable[[GavelError | None], None]] = []
        self._ticket = 0
        self._sync_covers = 0
        self._durable = -1  # what was replayed may still be in the host's memory only
        self._checkpoint: Generator[Step] | None = None
        self._checkpoint_for: list[Checkpoint] = []  # those it answers
        self._checkpoint_next: list[Checkpoint] = []  # those who came while it ran
        self._recover()

    def _recover(self) -> None:
        replayed = 0
        for tid, keys, values in journal.decode(self.volume.replay()):
            self.history.apply(tid, keys, values)
            self.volume.note_records(len(keys))
            self._clock.observe(tid)
            replayed += 1
        if not self.volume.clean:
            # Tids of commits that the crash took lie within this of the last one that survived.
            self._clock.observe(make(micros(self._clock.last) + TID_RESERVE_US))
        if replayed:
            self._effects.append(Observe("replayed", {"transactions": replayed, "tid": self.last_tid}))

    @property
    def last_tid(self) -> int:
        """The tid of the newest state."""
        return self.history.last_tid

    def step(self, event: Event, now: int) -> None:
        """Take in what happened at `now` (ns since 1970)."""
        match event:
            case Requested(Commit() as request):
                self._reply(request, self._commit, now)
            case Requested(Barrier() as request):
                self._settled(request)
            case Requested(Checkpoint() as request):
                self._ask_checkpoint(request, now)
            case Synced(ticket):
                self._synced(ticket, None)
            case SyncFailed(ticket, reason):
                failed = DeviceFailed("sync", 0, reason)
                self.failure = failed
                self.volume.fail(failed)
                self._synced(ticket, failed)
            case Ticked():
                self._resume_checkpoint(now)
            case _:
                raise BadRequest(f"a group of one has no use for {event!r}")

    def drain(self) -> list[Effect]:
        """What is to be done now, in order; the shell's part of the contract is in gavel.effects."""
        effects, self._effects = self._effects, []
        return effects

    # Commits.

    def _reply(self, request: Commit, answer: Callable[[Commit, int], int], now: int) -> None:
        result: int | GavelError
        try:
            result = answer(request, now)
        except GavelError as error:
            result = error
        self._effects.append(Reply(request, result))

    def _commit(self, request: Commit, now: int) -> int:
        """Certify, log and apply; all or nothing."""
        if self.failure is not None:
            raise self.failure
        if request.reads is not None:
            found = collision(self.history, request.freeze, request.reads)
            if found is not None:
                raise found
        if not request.keys:
            return self.last_tid
        tid = self._clock.issue(now // 1000)
        frames = journal.encode(tid, request.keys, request.values)
        self.history.prepare(tid, request.keys)
        self._hand_over()
        try:
            for kind, body in frames:
                self.volume.append(kind, body)
        except VolumeFull:
            self._make_room(now)
            raise
        try:
            self.history.apply(tid, request.keys, request.values)
        except GavelError as error:  # the log has what the trees could not take; replay will tell
            self.failure = error
            raise
        self.volume.note_records(len(request.keys))
        dirty = self.history.dirty_bytes
        self.volume.promise(dirty)
        logged, records = self.volume.replay_size
        due = logged > REPLAY_BYTES_MAX or records > REPLAY_RECORDS_MAX or dirty > DIRTY_NODES_MAX
        if due and self._checkpoint is None:
            self._start_checkpoint(now)
        return tid

    def _make_room(self, now: int) -> None:
        """Begin a checkpoint: the log since the last one, and what died meanwhile, are free after it."""
        if self._checkpoint is None and self.volume.replay_size[1]:
            self._start_checkpoint(now)

    def _hand_over(self) -> None:
        """Give pending log bytes to the device; a failed device ends all writing, a full one may recover."""
        try:
            self.volume.flush()
        except DeviceFailed as error:
            self.failure = error
            raise

    # Durability.

    def _settled(self, request: Barrier) -> None:
        """Answer at once when nothing was written since the last sync, else after the next."""
        if self._durable == self.volume.written and self.failure is None:
            self._effects.append(Reply(request, self.last_tid))
        else:
            self._barrier(lambda error: self._effects.append(Reply(request, error or self.last_tid)))

    def _barrier(self, done: Callable[[GavelError | None], None]) -> None:
        if self.failure is not None:
            done(None if isinstance(self.failure, ReadOnly) else self.failure)
            return
        try:
            self._hand_over()
        except (DeviceFailed, DeviceFull, VolumeFull) as error:
            done(error)
            return
        self._waiting.append(done)
        self._next_sync()

    def _next_sync(self) -> None:
        """One sync serves all who came while the last one ran; those who come during it need the next."""
        if self._syncing is None and self._waiting:
            self._syncing, self._waiting = self._waiting, []
            self._ticket += 1
            self._sync_covers = self.volume.written
            self._effects.append(Sync(self._ticket))

    def _synced(self, ticket: int, error: GavelError | None) -> None:
        assert ticket == self._ticket and self._syncing is not None, "a sync that nobody asked for"
        served, self._syncing = self._syncing, None
        if error is None:
            self._durable = self._sync_covers
            self.volume.synced(self._sync_covers)
            self._next_sync()
        else:
            served += self._waiting
            self._waiting = []
        for done in served:
            done(error)

    # Checkpoints: frozen roots written in slices, between which commits go on.

    def _ask_checkpoint(self, request: Checkpoint, now: int) -> None:
        """One under way began before this was asked, so it is the next one that answers."""
        if self.failure is not None:
            self._effects.append(Reply(request, self.failure))
            return
        self._checkpoint_next.append(request)
        if self._checkpoint is None:
            self._start_checkpoint(now)

    def _start_checkpoint(self, now: int) -> None:
        self._checkpoint_for, self._checkpoint_next = self._checkpoint_next, []
        self._checkpoint = self.history.checkpoint(any(request.clean for request in self._checkpoint_for))
        self._effects.append(Arm(now))

    def _resume_checkpoint(self, now: int) -> None:
        if self._checkpoint is None:
            return
        try:
            step = next(self._checkpoint, None)
        except GavelError as error:
            if not error.retry:
                self.failure = error
            self._effects.append(Observe("checkpoint failed", {"error": str(error)}))
            self._end_checkpoint(error, now)
            return
        if step is None:
            self._end_checkpoint(None, now)
        elif step is Step.SYNC:
            self._barrier(lambda error: self._end_checkpoint(error, now) if error else self._effects.append(Arm(now)))
        else:
            self._effects.append(Arm(now))

    def _end_checkpoint(self, error: GavelError | None, now: int) -> None:
        assert self._checkpoint is not None
        self._checkpoint.close()
        self._checkpoint = None
        answered, self._checkpoint_for = self._checkpoint_for, []
        self._effects.extend(Reply(request, error or self.last_tid) for request in answered)
        if self._checkpoint_next:
            self._start_checkpoint(now)
