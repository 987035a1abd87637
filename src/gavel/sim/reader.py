"""A simulated client that reads under leases of whole masters: the real holder, and a clock of its own.

It asks for leases over keys that others write, and at random moments, as long as it may read, notes what it would take
for current: everything up to the tid that was granted with the lease. It writes nothing.

Invariant: its clock runs at most limits.LEASE_DRIFT fast or slow; beyond that nothing is promised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gavel.coherency.holder import Answered, Established, Holder, Recalled, ToMaster
from gavel.coherency.messages import Granted, S, Want, X
from gavel.coherency.space import EVERYTHING, lease_range
from gavel.keys.ranges import just
from gavel.keys.records import config
from gavel.limits import LEASE_DRIFT
from gavel.sim.account import Account, Reading
from gavel.sim.clock import PARTS, HostClock
from gavel.sim.plan import Plan
from gavel.sim.world import MILLISECOND, World

ASKS: Final = 40  # of one reader in a run, about
READS: Final = 6  # after each


class Reader:
    """One client; `send(node, session, messages)` puts messages on their way to a master, `nodes` are all there are."""

    def __init__(
        self,
        world: World,
        number: int,
        plan: Plan,
        account: Account,
        send: Callable[[int, bytes, list[Any]], None],
        nodes: list[int],
    ) -> None:
        self.name = f"r{number}"
        self._world, self._plan, self._account, self._send = world, plan, account, send
        self._random = world.stream(f"reader {number}")
        self.session = self._random.randbytes(16)
        drift = PARTS // LEASE_DRIFT
        self._clock = HostClock(world, rate=PARTS + self._random.randint(-drift, drift))
        self._holder = Holder(self.session)
        self._known: list[Granted] = []  # what was granted, and as of when, the latest last
        self._asked: dict[int, tuple[int, bytes]] = {}  # when, and for which key
        self._ticking = 0
        self._over = False
        for node in nodes:
            self._holder.connected(node, self._now)

    @property
    def _now(self) -> int:
        return self._clock.steady()

    def begin(self) -> None:
        """Begin to ask, after a while."""
        self._world.after(1 + self._random.randrange(2 * MILLISECOND + self._plan.think), self._act)
        self._carry_out()

    def end(self) -> None:
        """Ask for nothing more, and give up everything."""
        self._over = True
        self._holder.leave(self._now)
        self._carry_out()

    def told(self, node: int, messages: list[Any]) -> None:
        """A master said something."""
        for message in messages:
            self._holder.hear(node, message, self._now)
        self._carry_out()

    # -- what it does ------------------------------------------------------------------------------------------

    def _key(self) -> bytes:
        return config(0, b"k%02d" % self._random.randrange(self._plan.keys))

    def _act(self) -> None:
        if self._over:
            return
        key = self._key()
        lo, hi = EVERYTHING if self._random.random() < 0.1 else lease_range(*just(key))
        wants = [Want(lo, hi, X if self._random.random() < 0.2 else S)]
        hold, wide = self._random.random() < 0.85, self._random.random() < 0.5
        number = self._holder.need(wants, self._now, hold=hold, wide=wide)
        self._asked[number] = self._world.now, key
        self._carry_out()
        pause = self._random.randrange(2 * self._plan.duration // ASKS)
        for _ in range(READS):
            self._world.after(self._random.randrange(1 + pause), self._read)
        self._world.after(1 + pause, self._act)

    def _read(self) -> None:
        key = self._key()
        lo, hi = lease_range(*just(key))
        if not self._holder.covers(lo, hi, S) or self._now >= self._holder.valid_until:
            return
        for granted in reversed(self._known):
            if granted.lo <= lo and hi <= granted.hi:
                self._account.readings.append(Reading(self.name, self._world.now, key, granted.tid))
                return

    def _carry_out(self) -> None:
        for event in self._holder.drain():
            if isinstance(event, ToMaster):
                self._send(event.master, self.session, [event.message])
            elif isinstance(event, Established):
                self._known += event.ranges
                if event.number is not None:
                    self._world.after(self._random.randrange(5 * MILLISECOND), self._done, event.number)
            elif isinstance(event, Answered):
                at, key = self._asked[event.number]
                self._account.readings.append(Reading(self.name, at, key, event.tid))
                self._done(event.number)
            elif isinstance(event, Recalled):
                self._world.after(self._random.randrange(5 * MILLISECOND), self._released, event.recall)
        wake = self._holder.wake_at
        if wake is not None and not self._over:
            self._ticking += 1
            self._world.after(1 + self._clock.true_delay(wake - self._now), self._tick, self._ticking)

    def _tick(self, number: int) -> None:
        if number == self._ticking:
            self._holder.tick(self._now)
            self._carry_out()

    def _done(self, number: int) -> None:
        self._holder.done(number, self._now)
        self._carry_out()

    def _released(self, recall: int) -> None:
        self._holder.released(recall, 0, self._now)
        self._carry_out()
