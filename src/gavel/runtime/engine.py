"""One volume open in this process: device, master and client wired together, and the effects carried out.

What is below is pure; this is where it meets time and threads. All methods are plain functions that return at once,
but for the few that say that they wait. Whoever calls them owns the cores for that moment: on an event loop its
thread is the only caller; elsewhere callers hold `turn`.

The way of a write: operation -> Transaction -> Cache.stage ... Cache.flush -> Replica (log, history) -> Barrier.
The way of a read: operation -> Transaction -> CurrentView (dirty, in flight, History.get) -> nodes, log.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from gavel.cache.cache import Cache
from gavel.effects import Arm, Observe, Reply, Requested, Sync, Synced, SyncFailed, Ticked
from gavel.errors import BadRequest, Damaged, DeviceFailed, GavelError
from gavel.filesystem import orphans
from gavel.limits import FLUSH_SECONDS
from gavel.media.cipher import LOCK_ENTROPY, SEED_SIZE, Key
from gavel.media.device import Device
from gavel.media.room import Space
from gavel.media.volume import Volume
from gavel.replica.replica import Replica
from gavel.runtime.cleanup import Cleanup
from gavel.runtime.jobs import Jobs
from gavel.runtime.shells import LoopShell, Shell, ThreadShell
from gavel.runtime.turn import Turn
from gavel.transaction.requests import Barrier, Checkpoint, Commit, Request
from gavel.transaction.transaction import Transaction, sorted_writes

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate[Transaction, P], T]
Waiter = Callable[[int | GavelError], None]
Heard = Callable[[Any, BaseException | None], None]  # the result of an operation, or what it raised

log = logging.getLogger("gavel.engine")


class Optimistic(NamedTuple):
    """A transaction under way: end it by Engine.commit or Engine.give_up."""

    number: int
    freeze: int
    tx: Transaction


class Engine:
    """A volume at work.

    `on_commit` callbacks get (tid, keys) of everything that is committed. `on_outside` callbacks get the keys that
    were changed by others than the caller of `write` (the mount), so that it can tell its kernel.
    """

    def __init__(
        self,
        device: Device,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        shell: Shell | None = None,
        read_only: bool = False,
        key: Key | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open the volume on a device; raises NotAVolume, NewerFormat, KeyNeeded, WrongKey, Damaged, DeviceFailed.

        Effects are carried out by `shell`, else on `loop`, else by a thread of its own.
        """
        volume = Volume.open(device, read_only=read_only, key=key, seed=secrets.token_bytes(SEED_SIZE))
        replica, turn = Replica(volume, clock()), Turn()
        if not read_only and not replica.alone:
            raise BadRequest(
                "the volume is that of a node of a cluster; start the node by `gavel serve DIR` and name DIR instead"
            )
        if shell is None:
            shell = LoopShell(device, loop) if loop is not None else ThreadShell(device, turn)
        self._assemble(device, replica, turn, shell, clock)
        self._carry_out()
        if not read_only:
            self._reap_left_overs()

    def _assemble(self, device: Device, replica: Replica, turn: Turn, shell: Shell, clock: Callable[[], int]) -> None:
        """Put together what an engine consists of."""
        self.turn, self.clock, self.device = turn, clock, device
        self.volume, self.replica, self.history = replica.volume, replica, replica.history
        self.cache = Cache(self.volume, self.history)
        self.on_commit: list[Callable[[int, list[bytes]], None]] = []
        self.on_outside: list[Callable[[list[bytes]], None]] = []
        self._waiters: dict[int, Waiter] = {}
        self._tickets = count(1)  # negated, so that none is one of the cache's
        self._flush_armed = False
        self._stuck: GavelError | None = None
        self._shell = shell
        self.threaded = isinstance(shell, ThreadShell)  # who waits for it waits in a thread
        self.jobs = Jobs(self)
        self.cleanup = Cleanup(self)
        self.present = self.cache.reader(0)  # reads the present whenever it is used; for reading only, its `now` is 0

    # Operations.

    def read(self, op: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that only reads, on the present."""
        return op(self.cache.reader(self.clock()), *args, **kwargs)

    def read_at(self, at: int, op: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that only reads, as of `at`; raises HistoryPruned."""
        return op(self.cache.frozen(at, self.clock()), *args, **kwargs)

    def look(self, at: int) -> Transaction:
        """A transaction that only reads, as of `at`; what it reads raises HistoryPruned where that is gone."""
        return self.cache.frozen(at, self.clock())

    def write(self, op: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation on the present and take in its writes as one atomic group; not durable yet.

        One that raises has changed nothing. Raises what stopped the last flush while that still stands.
        """
        if self._stuck is not None or self.replica.failure is not None:
            self._try_again()
        tx = self.cache.writer(self.clock())
        result = op(tx, *args, **kwargs)
        if tx.writes:
            flush_due = self.cache.stage(tx.writes)
            if not self._flush_armed:
                self._flush_armed = True
                self._shell.later(FLUSH_SECONDS, self._flush_in_time)
            if flush_due:
                self._flush_or_note()
        return result

    def write_outside(self, op: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like write, for callers other than the mount: tells `on_outside` which keys were written."""
        written: list[bytes] = []

        def noted(tx: Transaction) -> T:
            result = op(tx, *args, **kwargs)
            written.extend(tx.writes)
            return result

        result = self.write(noted)
        self._tell_outside(written)
        return result

    def transact(self, op: Callable[[Transaction], Any], heard: Heard) -> None:
        """Run an operation for a job; `heard` gets its result, or what it raised, once it is written, perhaps now.

        Others see it then; it is committed after the next flush.
        """
        try:
            result = self.write_outside(op)
        except (GavelError, OSError) as error:
            heard(None, error)
        else:
            heard(result, None)

    def _tell_outside(self, keys: list[bytes]) -> None:
        for callback in self.on_outside:
            callback(keys)

    # Optimistic transactions.

    def begin(self) -> Optimistic:
        """Start a transaction that sees the state of this moment and its own writes, whatever others do."""
        freeze = self.flush()
        number, tx = self.cache.optimistic(freeze, self.clock())
        return Optimistic(number, freeze, tx)

    def commit(self, work: Optimistic) -> int:
        """Commit; returns the tid (the freeze point when nothing was written). Not durable yet.

        Raises Collision when something it read has changed since it began, or a prune has taken the state it saw;
        then nothing was applied.
        """
        try:
            if not work.tx.writes:
                return work.freeze
            self.flush()
            keys, values = sorted_writes(work.tx.writes)
            tid = self._commit(Commit(0, keys, values, work.freeze, work.tx.footprint))
        finally:
            self.cache.optimistic_done(work.number)
        self._tell_outside(keys)
        return tid

    def give_up(self, work: Optimistic) -> None:
        """Drop a transaction; it has changed nothing."""
        self.cache.optimistic_done(work.number)

    # Flush and sync.

    def flush(self) -> int:
        """Commit everything dirty as one transaction; returns the newest tid. Not durable yet.

        Raises DeviceFull, VolumeFull, DeviceFailed; everything stays dirty then.
        """
        if not self.cache.dirty:
            return self.replica.last_tid
        try:
            tid = self._commit(self.cache.flush())
        except GavelError as error:
            self.cache.flush_failed()
            self._stuck = error
            raise
        self.cache.flushed()
        self._stuck = None
        return tid

    def request_sync(self, waiter: Waiter) -> None:
        """Flush, and call `waiter` with the tid that names this state once it is durable, or with what went wrong.

        Returns at once; the call may come before it returns.
        """
        self._request(Barrier(-next(self._tickets)), waiter)

    def request_checkpoint(self, waiter: Waiter, clean: bool = False, flush: bool = True) -> None:
        """Like request_sync, with a checkpoint; `clean` when nothing will be written any more.

        Without `flush` it is of what is committed by now.
        """
        self._request(Checkpoint(-next(self._tickets), clean), waiter, flush)

    def new_lock(self, key: Key) -> bytes:
        """What request_rekey() wants for a key; takes long, so call it without the turn, in a thread of its own.

        Raises BadRequest for a volume in clear or a key that cannot be, ReadOnly.
        """
        return self.volume.new_lock(key, secrets.token_bytes(LOCK_ENTROPY))

    def request_rekey(self, lock: bytes, waiter: Waiter) -> None:
        """Let the key of a new_lock() open the volume; `waiter` hears when the old one opens no copy of the header.

        Raises ReadOnly.
        """
        self.volume.rekey(lock)

        def again(result: int | GavelError) -> None:
            if isinstance(result, GavelError):
                waiter(result)
            else:
                self.request_checkpoint(waiter)

        self.request_checkpoint(again)

    def make_room(self, done: Callable[[], None]) -> bool:
        """Begin a checkpoint after VolumeFull, if one may free anything; whether it does.

        The log since the last one is free then, and so is what has died meanwhile. `done` is called when it has ended,
        well or not: it is time to try again, once.
        """
        if not (self.volume.replay_size[1] or self.cache.dirty):
            return False
        self.request_checkpoint(lambda _: done())
        return True

    def make_room_now(self) -> bool:
        """Like make_room, for threads: waits until it has ended, so call it without the turn."""
        ended = threading.Event()
        with self.turn:
            begun = self.make_room(ended.set)
        return begun and ended.wait()

    async def sync(self) -> int:
        """Flush and wait until it is durable; returns the tid that names this state. Raises as flush."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.request_sync(lambda result: _settle(future, result))
        return await future

    def sync_now(self) -> int:
        """Like sync, for threads: waits without holding the turn, so call it without."""
        future: Future[int] = Future()
        with self.turn:
            self.request_sync(lambda result: _settle(future, result))
        return future.result()

    def space(self) -> Space:
        """Sizes of the volume in bytes."""
        return self.volume.space()

    @property
    def waited_for(self) -> bool:
        """Whether somebody waits for a sync or a checkpoint."""
        return bool(self._waiters)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after so many seconds, on the engine's loop or holding its turn; not once it is closed."""
        self._shell.later(seconds, callback)

    def fetch(self, ranges: list[tuple[int, int]], done: Callable[[], None]) -> None:
        """Have the host read these (offset, length) of the volume into its memory, as far as it can; then call back."""
        self._shell.fetch(ranges, done)

    def abandon(self) -> None:
        """Stop without flushing: what a crash would do. The device is the caller's to close."""
        self._shell.close()

    async def close(self) -> None:
        """End the jobs, flush, checkpoint and stop, on an event loop. Raises what kept it from being durable."""
        self.jobs.close()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            if self.replica.failure is None:
                self.request_checkpoint(lambda result: _settle(future, result), clean=True)
                await future
        finally:
            self._shell.close()

    def close_now(self) -> None:
        """Like close, for threads; call it without holding the turn."""
        with self.turn:
            self.jobs.close()
        future: Future[int] = Future()
        try:
            if self.replica.failure is None:
                with self.turn:
                    self.request_checkpoint(lambda result: _settle(future, result), clean=True)
                future.result()
        finally:
            self._shell.close()

    # Inside.

    def _commit(self, request: Commit) -> int:
        tid = self._ask(request)
        for callback in self.on_commit:
            callback(tid, request.keys)
        return tid

    def _ask(self, request: Commit) -> int:
        """A request that a group of one answers in the same step."""
        answers: list[int | GavelError] = []
        self._waiters[request.ticket] = answers.append
        self.replica.step(Requested(request), self.clock())
        self._carry_out()
        (answer,) = answers
        if isinstance(answer, GavelError):
            raise answer
        return answer

    def _request(self, request: Barrier | Checkpoint, waiter: Waiter, flush: bool = True) -> None:
        if flush:
            try:
                self.flush()
            except GavelError as error:
                waiter(error)
                return
        self._waiters[request.ticket] = waiter
        self.replica.step(Requested(request), self.clock())
        self._carry_out()

    def _carry_out(self) -> None:
        for effect in self.replica.drain():
            match effect:
                case Reply(request, result):
                    self._answer(request, result)
                case Sync(ticket):
                    self._shell.sync(lambda error, ticket=ticket: self._sync_ended(ticket, error))  # type: ignore[misc]
                case Arm(at):
                    self._shell.later((at - self.clock()) / 1e9, self._tick)
                case Observe(name, fields):
                    log.info("%s %s", name, fields)
                case _:
                    raise AssertionError(f"no shell for {effect!r}")

    def _answer(self, request: Request, result: int | GavelError) -> None:
        self._waiters.pop(request.ticket)(result)

    def _sync_ended(self, ticket: int, error: DeviceFailed | None) -> None:
        event = Synced(ticket) if error is None else SyncFailed(ticket, error.reason)
        self.replica.step(event, self.clock())
        self._carry_out()

    def _tick(self) -> None:
        self.replica.step(Ticked(), self.clock())
        self._carry_out()

    def _try_again(self) -> None:
        if self.replica.failure is not None:
            raise self.replica.failure
        self.flush()

    def _flush_or_note(self) -> None:
        """Flush because enough is dirty; the operation that tripped it has succeeded, the next one hears of trouble."""
        try:
            self.flush()
        except GavelError as error:
            log.warning("cannot flush: %s", error)

    def _flush_in_time(self) -> None:
        """Nothing stays volatile for longer than limits.FLUSH_SECONDS; what fails is tried again after as long."""
        self._flush_armed = False
        self.request_sync(self._flushed_in_time)

    def _flushed_in_time(self, result: int | GavelError) -> None:
        if isinstance(result, GavelError):
            log.warning("cannot make changes durable: %s", result)
            if self.cache.dirty and self.replica.failure is None and not self._flush_armed:
                self._flush_armed = True
                self._shell.later(FLUSH_SECONDS, self._flush_in_time)

    def _reap_left_overs(self) -> None:
        """Objects that were open without a name when the last process ended: nobody can have them open now.

        Listed before anything else runs here, lest one be among them that somebody has just opened and unlinked.
        """
        try:
            left = self.read(orphans.listed)
        except Damaged as damage:
            log.warning("cannot look for objects without a name: %s", damage)
            return
        if left:
            log.info("reaping %d objects that were open without a name", len(left))
            self.reap_later(left)

    def reap_later(self, left: list[int]) -> None:
        """Delete what is left of these orphans, slice by slice, when there is time; the next start does the rest."""
        self._shell.later(0, lambda: self._reap_next(left))

    def _reap_next(self, left: list[int]) -> None:
        if self.write(orphans.reap, left[-1]):
            left.pop()
        if left:
            self.reap_later(left)


def _settle(future: Future[int] | asyncio.Future[int], result: int | GavelError) -> None:
    if future.cancelled():
        return
    if isinstance(result, GavelError):
        future.set_exception(result)
    else:
        future.set_result(result)
