"""What a run with leases consists of, drawn from its seed: masters, clients, their work, weather, clocks and faults.

As with sim/plan.py each run draws first which kinds of fault exist in it at all. A plan is plain data: shrinking takes
parts of it away. Masters are numbered from 1, clients from CLIENTS + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Final

from gavel.coherency.rules import Rules
from gavel.limits import LEASE_DRIFT
from gavel.sim.network import Weather
from gavel.sim.plan import Fault, Kind
from gavel.sim.shrink import changed, chosen
from gavel.sim.world import MICROSECOND, MILLISECOND, SECOND

CLIENTS: Final = 100
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Habits:
    """What a cache owes its holder, by name; like the rules of the room itself each may be taken away."""

    own_blocked: bool = True  # what an own transaction without a lease writes is not read until its end is known
    limbo: bool = True  # what is dirty under a lease that lapsed is neither read nor written until its end is known
    flush_first: bool = True  # what is dirty is flushed before its range is released
    cap: bool = True  # what was recalled, or lapsed, is not taken for current any more


@dataclass(frozen=True, slots=True)
class LeasePlan:
    """A run. Times in ns; `drift`: how far clocks are off, in parts of the bound; `without`: rules and habits that are
    removed."""

    seed: int
    masters: int = 3
    clients: int = 3
    keys: int = 4
    duration: int = 10 * SECOND
    think: int = 10 * MILLISECOND
    writes: int = 50  # per cent of operations
    direct: int = 10  # per cent of operations that use no lease
    fsyncs: int = 5  # per cent of operations
    certify: bool = False  # flushes say what they read, so that certification could refuse them as well
    drift: float = 1.0
    weather: Weather = Weather()  # noqa: RUF009  it is frozen
    faults: tuple[Fault, ...] = ()
    without: frozenset[str] = frozenset()

    def smaller(self) -> list[LeasePlan]:
        """Plans that are a step smaller, the greatest steps first."""
        plans: list[LeasePlan] = []
        step = count = len(self.faults)
        while step:
            plans += [replace(self, faults=self.faults[:at] + self.faults[at + step :]) for at in range(0, count, step)]
            step //= 2
        if self.clients > 2:
            plans.append(replace(self, clients=self.clients - 1))
        if self.duration > 500 * MILLISECOND:
            plans += [replace(self, duration=self.duration // 2), replace(self, duration=self.duration * 7 // 8)]
        return plans


KINDS: Final[dict[str, Kind]] = {
    "crash": Kind(500 * MILLISECOND, 6),  # of a master
    "stop": Kind(3 * SECOND, 8),  # of any process
    "cut": Kind(4 * SECOND, 10),  # one direction of one link
    "isolate": Kind(4 * SECOND, 6),  # one machine from all others
    "clog": Kind(3 * SECOND, 10),  # one direction holds back
    "lossy": Kind(4 * SECOND, 8, (1, 60)),  # per cent of what is sent in one direction
    "quit": Kind(500 * MILLISECOND, 3),  # a client's process ends, and begins anew with nothing
    "flap": Kind(1, 8),  # a connection of a client is closed and opened
}


def draw(seed: int, masters: int | None = None, without: frozenset[str] = frozenset(), drift: float = 1.0) -> LeasePlan:
    """The plan of a seed."""
    random = Random(f"{seed}/leases")
    usual = random.choice((3, 3, 3, 3, 5, 2))
    count = usual if masters is None else masters
    clients = random.choice((2, 3, 3, 5))
    duration = random.choice((4, 10, 20)) * SECOND
    choose: Callable[..., int | float] = lambda *values: random.choice(values)  # noqa: E731
    delay = int(choose(100, 500, 2000, 20_000)) * MICROSECOND
    weather = Weather(
        delay=delay,
        jitter=int(delay * choose(0.1, 1, 3)),
        loss=choose(0.0, 0.0, 0.02, 0.15),
        double=choose(0.0, 0.0, 0.05, 0.3),
        late=choose(0.0, 0.0, 0.02, 0.2),
        late_by=int(choose(5, 100, 1500)) * MILLISECOND,
        ordered=random.random() < 0.5,
    )
    exist = [kind for kind in KINDS if random.random() < 0.4]
    faults = [fault for kind in exist for fault in _faults(random, kind, count, clients, duration)]
    return LeasePlan(
        seed=seed,
        masters=count,
        clients=clients,
        keys=random.choice((1, 2, 4, 12)),
        duration=duration,
        think=random.choice((3, 10, 40)) * MILLISECOND,
        writes=random.choice((10, 50, 90)),
        direct=random.choice((0, 5, 30)),
        certify=random.random() < 0.5,
        drift=drift,
        weather=weather,
        faults=tuple(sorted(faults)),
        without=without,
    )


def _faults(random: Random, kind: str, masters: int, clients: int, duration: int) -> list[Fault]:
    shape = KINDS[kind]
    servers = list(range(1, masters + 1))
    callers = list(range(CLIENTS + 1, CLIENTS + clients + 1))
    found = []
    for _ in range(random.randint(1, shape.most)):
        node, other = random.sample(servers + callers, 2)
        if kind == "crash":
            node = random.choice(servers)
        elif kind in ("quit", "flap"):
            node, other = random.choice(callers), random.choice(servers)
        lasts = int(shape.lasts * random.random() ** 2)
        found.append(Fault(random.randrange(duration), kind, node, other, lasts, random.randint(*shape.amounts)))
    return found


def rate(random: Random, drift: float) -> int:
    """How fast a clock runs, in parts per million: as far off as is promised, times `drift`, or right."""
    bound = int(MILLION // LEASE_DRIFT * drift)
    return MILLION + random.choice((-bound, 0, bound, random.randint(-bound, bound)))


def options(plan: LeasePlan) -> str:
    """The options of `gavel sim` that make this plan again, from its seed."""
    drawn = draw(plan.seed, masters=plan.masters, without=plan.without, drift=plan.drift)
    words = ["--leases", f"--seed {plan.seed}", f"--masters {plan.masters}"]
    words += changed(plan, drawn)
    if plan.drift != 1.0:
        words.append(f"--drift {plan.drift:g}")
    words += [f"--without {rule}" for rule in sorted(plan.without)]
    return " ".join(words)


def remade(
    seed: int,
    masters: int | None = None,
    faults: str | None = None,
    clients: int | None = None,
    seconds: float | None = None,
    drift: float = 1.0,
    without: frozenset[str] = frozenset(),
) -> LeasePlan:
    """The plan that such options make; raises ValueError for a fault or a rule that there is not."""
    unknown = sorted(without - {rule.name for kind in (Rules, Habits) for rule in fields(kind)})
    if unknown:
        raise ValueError(f"leases have no rule {unknown[0]}; docs/internals/coherency.md lists them")
    plan = draw(seed, masters=masters, without=without, drift=drift)
    if faults is not None:
        plan = replace(plan, faults=chosen(plan.faults, faults, seed))
    if clients is not None:
        plan = replace(plan, clients=clients)
    if seconds is not None:
        plan = replace(plan, duration=round(seconds * SECOND))
    return plan
