"""A simulated machine: a disk, a clock, and the process that runs on them.

The shell's side of `effects.py` in virtual time, and what can happen to a process: it crashes and forgets all that was
not synced, restarts as a new incarnation, is stopped for a while (what arrives meanwhile waits), loses its disk.

Invariants:
- a Synced is stepped only when a sync that began after its Sync was drained has ended, in this incarnation;
- nothing of a former incarnation (timers, syncs, answers) reaches a later one;
- a stopped process does nothing, but its disk and its clock go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

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
    Send,
    Sync,
    Synced,
    SyncFailed,
    Tell,
    Ticked,
)
from gavel.sim.clock import HostClock
from gavel.sim.world import MICROSECOND, World

INBOX_MAX = 4 << 20  # bytes that wait for a stopped process; a socket's buffers


class Program(Protocol):
    """A core: the two verbs of effects.py."""

    def step(self, event: Event, now: int) -> None:
        """Take an event."""

    def drain(self) -> list[Effect]:
        """What is to be done."""


class Disk(Protocol):
    """What a program keeps its state on."""

    def begin_sync(self) -> Any:
        """Begin a sync; the mark says what it covers."""

    def end_sync(self, mark: Any) -> None:
        """What the mark covers is durable."""

    def crash(self) -> None:
        """Lose what was not synced, or any part of it."""

    def wipe(self) -> None:
        """Lose everything."""


class Wire(Protocol):
    """How messages between masters become bytes; the cores never see what a network keeps of them."""

    def encode(self, message: Any) -> bytes:
        """The bytes of a message."""

    def decode(self, data: bytes) -> Any:
        """The message in the bytes."""

    def describe(self, message: Any) -> str:
        """The message for a trace."""


class Host:
    """One machine. `boot(host)` makes a program of what its disk holds; `post` and `answer` take what comes out."""

    def __init__(
        self,
        world: World,
        node: int,
        disk: Disk,
        wire: Wire,
        boot: Callable[[Host], Program],
        post: Callable[[int, int, bytes], None],
        answer: Callable[[Host, Any, Any], None],
    ) -> None:
        self.world = world
        self.node = node
        self.name = f"n{node}"
        self.disk = disk
        self.clock = HostClock(world)
        self.sync_ns = 200 * MICROSECOND
        self.slow_sync = 0.0  # the chance of a sync that takes fifty times as long
        self.program: Program | None = None
        self.incarnation = 0
        self.stopped = False
        self.fail_next_sync = False
        self.failed: Callable[[int], None] | None = None  # called when the process ended of itself
        self.observed: Callable[[Host, Observe], None] | None = None
        self.told: Callable[[Host, Tell], None] | None = None  # given what clients are told unasked
        self.stepped: Callable[[Host], None] | None = None  # called when all effects of a step are carried out
        self._boot, self._wire, self._post, self._answer = boot, wire, post, answer
        self._random = world.stream(f"disk {node}")
        self._inbox: list[Event] = []
        self._inbox_bytes = 0
        self._waiting: list[int] = []
        self._syncing = False
        self._armed: set[int] = set()  # when, in true time, a Ticked is due
        self._lane = b"%d" % node

    # -- the process -------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether there is a process, be it stopped."""
        return self.program is not None

    def start(self) -> None:
        """Start the process, from what is on the disk."""
        if self.program is not None:
            return
        self.incarnation += 1
        self._note(b"start")
        self.program = self._boot(self)
        self._carry_out()

    def crash(self) -> None:
        """End the process at once, and lose what was not synced."""
        if self.program is None:
            return
        self._note(b"crash")
        self.program = None
        self.stopped = False
        self._inbox.clear()
        self._inbox_bytes = 0
        self._waiting.clear()
        self._syncing = False
        self._armed.clear()
        self.disk.crash()

    def wipe(self) -> None:
        """End the process and lose the disk."""
        self.crash()
        self._note(b"wipe")
        self.disk.wipe()

    def stop(self) -> None:
        """Stop the process as SIGSTOP does."""
        if self.program is not None:
            self._note(b"stop")
            self.stopped = True

    def resume(self) -> None:
        """Let a stopped process go on; what waited for it comes at once."""
        if not self.stopped:
            return
        self._note(b"resume")
        self.stopped = False
        inbox, self._inbox = self._inbox, []
        self._inbox_bytes = 0
        for event in inbox:
            self.step(event)

    # -- what comes in -----------------------------------------------------------------------------------------

    def receive(self, peer: int, data: bytes) -> None:
        """A message of a peer has arrived."""
        if self.program is None:
            return
        if self.stopped:
            if self._inbox_bytes + len(data) > INBOX_MAX:
                return
            self._inbox_bytes += len(data)
        world = self.world
        world.happened(b"%s<%d " % (self._lane, peer) + data)
        message = self._wire.decode(data)
        if world.trace is not None:
            world.tell(self.name, f"<- n{peer}  {self._wire.describe(message)}")
        self._step(Received(peer, message))

    def peer(self, peer: int, up: bool) -> None:
        """A peer can or can no longer be reached."""
        if self.program is not None:
            self._note(b"peer %d %s" % (peer, b"up" if up else b"down"))
            self._step(PeerUp(peer) if up else PeerDown(peer))

    def request(self, request: Any, label: str = "request") -> None:
        """Somebody asks the process for something; the answer goes to `answer`."""
        if self.program is not None:
            self._note(label.encode())
            self._step(Requested(request))

    def hear(self, session: bytes, messages: list[Any]) -> None:
        """A session of a client says something."""
        if self.program is not None:
            self._note(b"heard %s %d" % (session.hex().encode(), len(messages)))
            self._step(Heard(session, messages))

    def step(self, event: Event) -> None:
        """Step any event, if there is a process."""
        if self.program is not None:
            self._step(event)

    def _step(self, event: Event) -> None:
        assert self.program is not None
        if self.stopped:
            self._inbox.append(event)
            return
        self.program.step(event, self.clock.now())
        self._carry_out()

    # -- what goes out -----------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        program = self.program
        assert program is not None
        for effect in program.drain():
            kind = type(effect)
            if kind is Send:
                self._send(effect)  # type: ignore[arg-type]
            elif kind is Sync:
                self._sync(effect.ticket)  # type: ignore[union-attr]
            elif kind is Arm:
                self._arm(effect.at)  # type: ignore[union-attr]
            elif kind is Reply:
                self._answer(self, effect.request, effect.result)  # type: ignore[union-attr]
            elif kind is Tell:
                if self.told is not None:
                    self.told(self, effect)  # type: ignore[arg-type]
            else:
                assert isinstance(effect, Observe)
                if self.world.trace is not None:
                    self.world.tell(self.name, f"   {effect.name} {effect.fields}")
                if self.observed is not None:
                    self.observed(self, effect)
        if self.stepped is not None:
            self.stepped(self)

    def _send(self, effect: Send) -> None:
        data = self._wire.encode(effect.message)
        if self.world.trace is not None:
            self.world.tell(self.name, f"-> n{effect.peer}  {self._wire.describe(effect.message)}")
        self._post(self.node, effect.peer, data)

    def _arm(self, at: int) -> None:
        when = self.world.now + self.clock.true_delay(at - self.clock.now())
        if when not in self._armed:
            self._armed.add(when)
            self.world.at(when, self._tick, self.incarnation, when)

    def _tick(self, incarnation: int, armed: int) -> None:
        if incarnation == self.incarnation and self.program is not None:
            self._armed.discard(armed)
            self._note(b"tick")
            self._step(Ticked())

    # -- the disk ----------------------------------------------------------------------------------------------

    def _sync(self, ticket: int) -> None:
        self._waiting.append(ticket)
        if not self._syncing:
            self._begin_sync()

    def _begin_sync(self) -> None:
        tickets, self._waiting = self._waiting, []
        self._syncing = True
        takes = int(self.sync_ns * (0.5 + self._random.random()))
        if self.slow_sync and self._random.random() < self.slow_sync:
            takes *= 50
        self.world.after(takes, self._end_sync, self.incarnation, tickets, self.disk.begin_sync())

    def _end_sync(self, incarnation: int, tickets: list[int], mark: Any) -> None:
        if incarnation != self.incarnation or self.program is None:
            return
        if self.fail_next_sync:
            self.fail_next_sync = False
            self._note(b"sync failed")
            for ticket in tickets:
                self.step(SyncFailed(ticket, "input/output error (simulated)"))
            self.crash()
            if self.failed is not None:
                self.failed(self.node)
            return
        self._note(b"synced")
        self.disk.end_sync(mark)
        self._syncing = False
        for ticket in tickets:
            self.step(Synced(ticket))
        if self._waiting and not self._syncing:
            self._begin_sync()

    def _note(self, what: bytes) -> None:
        self.world.happened(self._lane + b" " + what)
        if self.world.trace is not None:
            self.world.tell(self.name, what.decode())
