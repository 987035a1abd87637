"""A simulated network: between any two hosts, in each direction, a link of its own with faults of its own.

The fault model. A message (bytes) is delivered once, twice, late or never, but never changed: frames carry sums and
run over TLS. On a link that keeps the order (a connection) a message never overtakes another, and what is lost takes
the connection with it only if somebody closes it. Each direction may be cut alone. A clogged link holds everything
back and delivers it all when it is freed. A slow link has a bandwidth, behind which messages queue. What is under way
on a link is bounded: what does not fit is lost, as it is with a peer that does not read.

Invariant: after heal(), everything sent arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from gavel.sim.world import MICROSECOND, SECOND, World

FLIGHT_MAX = 8 << 20  # bytes under way on one link; a socket's buffers and a sender's queue


@dataclass(frozen=True, slots=True)
class Weather:
    """What a link does to messages. Delays in ns, chances from 0 to 1, bandwidth in bytes a second (0: no limit)."""

    delay: int = 200 * MICROSECOND
    jitter: int = 100 * MICROSECOND
    loss: float = 0.0
    double: float = 0.0
    late: float = 0.0
    late_by: int = 20_000 * MICROSECOND
    ordered: bool = True
    bandwidth: int = 0


class Link:
    """One direction between two hosts."""

    __slots__ = ("busy", "clogged", "cut", "flight", "held", "last", "weather")

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.cut = False
        self.clogged = False
        self.held: list[bytes] = []
        self.flight = 0
        self.busy = 0  # until when the wire is taken by what was sent before
        self.last = 0  # when the last message arrives


class Network:
    """All links. `deliver(source, target, message)` is called when a message arrives."""

    def __init__(self, world: World, deliver: Callable[[int, int, bytes], None], weather: Weather) -> None:
        self._world = world
        self._deliver = deliver
        self._random: Random = world.stream("network")
        self._links: dict[tuple[int, int], Link] = {}
        self._weather = weather
        self._calm = False
        self.sent = 0
        self.lost = 0

    def link(self, source: int, target: int) -> Link:
        """The link from one host to another."""
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link(self._weather)
        return link

    def send(self, source: int, target: int, message: bytes) -> None:
        """Put a message on its way; what becomes of it is the link's matter."""
        link = self._links.get((source, target)) or self.link(source, target)
        self.sent += 1
        weather = link.weather
        random = self._random.random
        if link.cut or link.flight + len(message) > FLIGHT_MAX or (weather.loss and random() < weather.loss):
            self.lost += 1
            return
        link.flight += len(message)
        if link.clogged:
            link.held.append(message)
            return
        self._carry(source, target, link, message)
        if weather.double and random() < weather.double:
            link.flight += len(message)
            self._carry(source, target, link, message)

    def _carry(self, source: int, target: int, link: Link, message: bytes) -> None:
        weather, random, now = link.weather, self._random.random, self._world.now
        arrives = now + weather.delay + int(weather.jitter * random())
        if weather.bandwidth:
            link.busy = max(link.busy, now) + len(message) * SECOND // weather.bandwidth
            arrives += link.busy - now
        if weather.late and random() < weather.late:
            arrives += int(weather.late_by * random())
        if weather.ordered:
            arrives = max(arrives, link.last)
            link.last = arrives
        self._world.at(arrives, self._arrive, source, target, link, message)

    def _arrive(self, source: int, target: int, link: Link, message: bytes) -> None:
        link.flight -= len(message)
        if link.cut:
            self.lost += 1
            return
        if link.clogged:
            link.flight += len(message)
            link.held.append(message)
            return
        self._deliver(source, target, message)

    # -- faults ------------------------------------------------------------------------------------------------

    def cut(self, source: int, target: int) -> None:
        """Lose everything in this direction, what is under way included."""
        link = self.link(source, target)
        link.cut = True
        link.flight -= sum(map(len, link.held))
        link.held.clear()

    def mend(self, source: int, target: int) -> None:
        """End a cut."""
        self.link(source, target).cut = False

    def clog(self, source: int, target: int) -> None:
        """Hold everything back in this direction."""
        self.link(source, target).clogged = True

    def unclog(self, source: int, target: int) -> None:
        """Deliver what was held back, in its order, and what comes."""
        link = self.link(source, target)
        if not link.clogged:
            return
        link.clogged = False
        held, link.held = link.held, []
        for message in held:
            self._carry(source, target, link, message)

    def change(self, source: int, target: int, weather: Weather) -> None:
        """Give a link weather of its own."""
        if not self._calm:
            self.link(source, target).weather = weather

    def heal(self) -> None:
        """From now on everything sent arrives, in order and soon; new weather is not let in."""
        self._calm = True
        self._weather = Weather()
        for (source, target), link in sorted(self._links.items()):
            link.weather = self._weather
            link.cut = False
            self.unclog(source, target)
