"""What a run consists of, drawn from its seed: the cluster, its work, its weather and its faults.

Swarm testing (Groce et al., ISSTA 2012): each run draws first which kinds of fault exist in it at all, because faults
that happen all at once hide each other's consequences. A plan is plain data: shrinking takes parts of it away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from gavel.sim.network import Weather
from gavel.sim.world import MICROSECOND, MILLISECOND, SECOND


class Fault(NamedTuple):
    """At a time, something goes wrong at a master (and another), and lasts; `amount` is what the kind makes of it."""

    at: int
    kind: str
    node: int
    other: int
    lasts: int
    amount: int = 0

    def __str__(self) -> str:
        return f"{self.kind}({self.node}, {self.other}) at {self.at / 1e6:.1f} ms for {self.lasts / 1e6:.1f} ms"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run. Times in ns; `without` names the rules of the quorum that are removed from it."""

    seed: int
    masters: int = 3
    focus: str = ""
    spares: int = 0
    clients: int = 2
    transactions: int = 10
    keys: int = 6
    duration: int = SECOND
    think: int = 10 * MILLISECOND
    sync_ns: int = 200 * MICROSECOND
    weather: Weather = Weather()  # noqa: RUF009  it is frozen
    faults: tuple[Fault, ...] = ()
    without: frozenset[str] = frozenset()
    whole: bool = False  # replicas on volumes, not the quorum over a toy
    readers: int = 0  # clients with leases, of whole masters
    refusing: int = 0  # per cent of proposals that a machine does not admit at first

    def smaller(self) -> list[Plan]:
        """Plans that are a step smaller, the greatest steps first."""
        plans: list[Plan] = []
        count = len(self.faults)
        step = count
        while step:
            for at in range(0, count, step):
                plans.append(replace(self, faults=self.faults[:at] + self.faults[at + step :]))
            step //= 2
        if self.clients > 1:
            plans.append(replace(self, clients=max(1, self.clients // 2)))
            plans.append(replace(self, clients=self.clients - 1))
        if self.readers > 0:
            plans.append(replace(self, readers=self.readers - 1))
        if self.transactions > 1:
            plans.append(replace(self, transactions=max(1, self.transactions // 2)))
            plans.append(replace(self, transactions=self.transactions - 1))
        if self.duration > 50 * MILLISECOND:
            plans.append(replace(self, duration=self.duration // 2))
        return plans


class Kind(NamedTuple):
    """A kind of fault: how long it lasts at most (ns), how many there are at most in a run, and the amount's range."""

    lasts: int
    most: int
    amounts: tuple[int, int] = (0, 0)


KINDS: dict[str, Kind] = {
    "crash": Kind(400 * MILLISECOND, 6),
    "blackout": Kind(300 * MILLISECOND, 2),  # all machines at once
    "stop": Kind(600 * MILLISECOND, 4),
    "cut": Kind(600 * MILLISECOND, 6),  # one direction of one link
    "split": Kind(600 * MILLISECOND, 4),  # both directions of one link
    "isolate": Kind(600 * MILLISECOND, 4),  # one machine from all others
    "clog": Kind(500 * MILLISECOND, 8),  # one direction holds back
    "slow": Kind(800 * MILLISECOND, 4, (20_000, 2_000_000)),  # bytes a second of one direction
    "lossy": Kind(800 * MILLISECOND, 6, (1, 60)),  # per cent of what is sent in one direction
    "rate": Kind(
        900 * MILLISECOND, 3, (900_000, 1_100_000)
    ),  # parts per million; a real clock is a thousand times better
    "step": Kind(1, 4, (-2_000, 2_000)),  # milliseconds
    "flap": Kind(1, 6),  # a connection is closed and opened again
    "disk": Kind(600 * MILLISECOND, 3, (5, 60)),  # syncs take so many times as long
    "eio": Kind(300 * MILLISECOND, 2),  # a sync fails, and with it the process
    "wipe": Kind(300 * MILLISECOND, 1),  # a machine loses its disk and comes back as another member
    "checkpoint": Kind(1, 8),  # not a fault, but one may follow it
    "members": Kind(1, 4, (0, 1 << 30)),  # another set of members
}


LASTING, LONG = ("crash", "isolate"), 6

FOCI: dict[str, tuple[str, ...]] = {
    "": (),
    "members": ("members", "checkpoint"),
    "forgetting": ("checkpoint",),
    "absence": ("crash", "isolate", "checkpoint"),
    "restarts": ("crash", "blackout", "checkpoint"),
}


def draw(seed: int, masters: int | None = None, focus: str = "", without: frozenset[str] = frozenset()) -> Plan:
    """The plan of a seed; `focus`, one of FOCI, has what it names exist in the run."""
    random = Random(f"{seed}/plan/{focus}")
    usual = random.choice((3, 3, 3, 3, 5, 5, 2, 4, 7))
    count = usual if masters is None else masters
    spares = random.choice((0, 0, 1, 2))
    if focus == "members":
        usual, spares = random.choice((2, 3, 3, 4)), 2
        count = usual if masters is None else masters
    duration = random.choice((300, 800, 1500, 3000) if focus != "absence" else (2000, 4000)) * MILLISECOND
    slow = random.random() < 0.1 or focus in ("forgetting", "absence")
    stretch = 40 if slow else 1  # at leisure: transactions outlive their life
    plan = Plan(
        seed=seed,
        masters=count,
        focus=focus,
        spares=spares,
        clients=random.randint(1, 5),
        transactions=random.choice((3, 10, 30)),
        keys=random.choice((1, 2, 6, 30)),
        duration=duration * stretch,
        think=random.choice((0, 2, 20, 100)) * MILLISECOND * stretch,
        sync_ns=random.choice((20, 200, 1000, 8000)) * MICROSECOND,
        weather=_weather(random),
        without=without,
    )
    exist = [kind for kind in KINDS if random.random() < 0.35 or kind in FOCI[focus]]
    if not spares:
        exist = [kind for kind in exist if kind not in ("members", "wipe")]
    elif count < 3 and "wipe" in exist:  # a group of two cannot bear it
        exist.remove("wipe")
    faults = [fault for kind in exist for fault in _faults(random, kind, count + spares, duration, stretch)]
    if focus == "absence":  # longer than others remember
        faults = [fault._replace(lasts=fault.lasts * LONG) if fault.kind in LASTING else fault for fault in faults]
    refusing = Random(f"{seed}/refusing").choice((0, 0, 0, 3, 20, 60))
    readers = Random(f"{seed}/readers").choice((0, 1, 2, 4))
    return replace(plan, faults=tuple(sorted(faults)), refusing=refusing, readers=readers)


def _weather(random: Random) -> Weather:
    choose: Callable[..., int | float] = lambda *values: random.choice(values)  # noqa: E731
    delay = int(choose(50, 300, 2000, 20_000)) * MICROSECOND
    return Weather(
        delay=delay,
        jitter=int(delay * choose(0.1, 1, 3)),
        loss=choose(0.0, 0.0, 0.01, 0.1, 0.3),
        double=choose(0.0, 0.0, 0.05, 0.3),
        late=choose(0.0, 0.0, 0.02, 0.2),
        late_by=int(choose(5, 50, 400)) * MILLISECOND,
        ordered=random.random() < 0.5,
    )


def _faults(random: Random, kind: str, nodes: int, duration: int, stretch: int) -> list[Fault]:
    shape = KINDS[kind]
    found = []
    for _ in range(random.randint(1, shape.most)):
        node, other = random.sample(range(1, nodes + 1), 2) if nodes > 1 else (1, 1)
        lasts = int(shape.lasts * random.random() ** 2 * stretch)
        found.append(
            Fault(random.randrange(duration * stretch), kind, node, other, lasts, random.randint(*shape.amounts))
        )
    return found
