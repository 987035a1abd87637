"""Durability of one log, shared: one device sync serves all who asked while the last one ran.

Invariants: at most one sync is under way; whoever asks during it is served by the next, which begins after he asked;
after a failed sync nobody is served any more, everybody is told. A sync begins when a step is over, so that all that
came of the step shares it.
"""

from __future__ import annotations

from collections.abc import Callable

from gavel.effects import Effect, Sync
from gavel.errors import DeviceFailed, DeviceFull, GavelError, ReadOnly, VolumeFull
from gavel.media.volume import Volume
from gavel.replica.log import Log

Done = Callable[[GavelError | None], None]


class Syncs:
    """Who waits for the log to be durable."""

    def __init__(self, volume: Volume, log: Log, effects: list[Effect]) -> None:
        self._volume = volume
        self._log = log
        self._effects = effects
        self._syncing: list[Done] | None = None
        self._waiting: list[Done] = []
        self._ticket = 0
        self._covers = 0
        self._durable = -1  # what was replayed may still be in the host's memory only

    @property
    def settled(self) -> bool:
        """Whether everything written is durable."""
        return self._durable == self._volume.written

    def barrier(self, done: Done) -> None:
        """Call `done` when everything written by the next begin() is durable, or with what keeps it from that."""
        if self._log.failure is not None:
            done(None if isinstance(self._log.failure, ReadOnly) else self._log.failure)
        else:
            self._waiting.append(done)

    def begin(self) -> None:
        """Ask for a sync if anybody waits and none is under way."""
        if self._syncing is not None or not self._waiting:
            return
        served, self._waiting = self._waiting, []
        try:
            self._log.hand_over()
        except (DeviceFailed, DeviceFull, VolumeFull) as error:
            for done in served:
                done(error)
            return
        self._syncing = served
        self._ticket += 1
        self._covers = self._volume.written
        self._effects.append(Sync(self._ticket))

    def synced(self, ticket: int, error: GavelError | None) -> None:
        """The sync with this ticket has ended."""
        assert ticket == self._ticket and self._syncing is not None, "a sync that nobody asked for"
        served, self._syncing = self._syncing, None
        if error is None:
            self._durable = self._covers
            self._volume.synced(self._covers)
        else:
            served += self._waiting
            self._waiting = []
        for done in served:
            done(error)
