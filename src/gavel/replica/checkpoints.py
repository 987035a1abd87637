"""When a master writes checkpoints, and how: frozen roots in slices, between which everything goes on.

Invariants: at most one is under way; who asks for one while it runs is answered by the next, which begins after he
asked. Behind a checkpoint's MARK, before any other frame, stands what the log before it said that is still needed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from gavel.effects import Arm, Effect, Observe, Reply
from gavel.errors import GavelError
from gavel.history.history import History
from gavel.history.versions import Step
from gavel.limits import DIRTY_NODES_MAX, REPLAY_BYTES_MAX, REPLAY_RECORDS_MAX
from gavel.media.volume import Volume
from gavel.replica.log import Log
from gavel.replica.syncs import Syncs
from gavel.transaction.requests import Checkpoint


class Checkpoints:
    """The driver of history's checkpoints. `snapshot(clean)` gives the frames (kind, body) that replay still needs."""

    def __init__(
        self,
        volume: Volume,
        history: History,
        log: Log,
        syncs: Syncs,
        effects: list[Effect],
        snapshot: Callable[[bool], Iterable[tuple[int, bytes]]],
    ) -> None:
        self._volume = volume
        self._history = history
        self._log = log
        self._syncs = syncs
        self._effects = effects
        self._snapshot = snapshot
        self._running: Generator[Step] | None = None
        self._clean = False
        self._held = False  # until a sync: whoever else has the time told must not move it on
        self._for: list[Checkpoint] = []  # those it answers
        self._next: list[Checkpoint] = []  # those who came while it ran

    def ask(self, request: Checkpoint, now: int) -> None:
        """One under way began before this was asked, so it is the next one that answers."""
        if self._log.failure is not None:
            self._effects.append(Reply(request, self._log.failure))
            return
        self._next.append(request)
        if self._running is None:
            self._start(now)

    def look(self, now: int) -> None:
        """Start one if so much was written since the last one."""
        dirty = self._history.dirty_bytes
        self._volume.promise(dirty)
        if dirty > DIRTY_NODES_MAX and self._running is None:
            self._start(now)
        self.look_at_log(now)

    def look_at_log(self, now: int) -> None:
        """Start one if the log has grown so much since the last one, also by what changes no record."""
        logged, records = self._volume.replay_size
        if (logged > REPLAY_BYTES_MAX or records > REPLAY_RECORDS_MAX) and self._running is None:
            self._start(now)

    def make_room(self, now: int) -> None:
        """Start one if that frees anything: the log since the last one, and what died meanwhile, are free after it."""
        if self._running is None and self._volume.replay_size[1]:
            self._start(now)

    def _start(self, now: int) -> None:
        self._for, self._next = self._next, []
        self._clean = any(request.clean for request in self._for)
        self._running = self._history.checkpoint(self._clean)
        self._effects.append(Arm(now))

    def resume(self, now: int) -> None:
        """Go on with the one under way, if there is one and it waits for no sync."""
        if self._running is None or self._held:
            return
        try:
            step = next(self._running, None)
            if step is Step.MARKED:
                for kind, body in self._snapshot(self._clean):
                    self._volume.append(kind, body, reserve=True)
        except GavelError as error:
            if not error.retry:
                self._log.failure = error
            self._effects.append(Observe("checkpoint failed", {"error": str(error)}))
            self._end(error, now)
            return
        if step is None:
            self._end(None, now)
        elif step is Step.SYNC:
            self._held = True
            self._syncs.barrier(lambda error: self._synced(error, now))
        else:
            self._effects.append(Arm(now))

    def _synced(self, error: GavelError | None, now: int) -> None:
        self._held = False
        if error is not None:
            self._end(error, now)
        else:
            self._effects.append(Arm(now))

    def _end(self, error: GavelError | None, now: int) -> None:
        assert self._running is not None
        self._running.close()
        self._running = None
        answered, self._for = self._for, []
        tid = self._history.last_tid
        self._effects.extend(Reply(request, error or tid) for request in answered)
        if self._next:
            self._start(now)
