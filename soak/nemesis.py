"""What happens to the masters of a lab while clients work: one way after the other, each survived before the next.

Every way takes something away, waits until all workers have got on without it, brings it back, and waits until the
cluster is whole again. Where a majority is gone nobody gets on, so that waits for the end only.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Final

import gavel
from benchmarks.places import run_gavel
from soak.labs import WAIT, TroubledLab, eventually
from soak.workloads import Workload

YEAR_US: Final = 365 * 86_400_000_000
CLOCKS: Final = (400_000, -400_000, 5_000_000, -5_000_000, YEAR_US, -YEAR_US)
SILENCE: Final = 2.0  # seconds without a majority; mounts have more patience


class Nemesis:
    """Strikes at a lab. `steady`: a node whose process is not to end, 0 for none."""

    def __init__(self, lab: TroubledLab, seed: int, steady: int = 0) -> None:
        self.lab, self.random, self.steady = lab, random.Random(seed), steady
        self.ways: dict[str, Callable[[], None]] = {
            name: getattr(self, name)
            for name in (
                "kill", "stop", "cut", "cut_in", "cut_out", "clock", "bad_disk", "full_disk", "wipe", "demote",
                "replace", "grow", "silence", "restart", "blackout", "upkeep",
            )
        }  # fmt: skip
        self.workload: Workload | None = None

    def plan(self, rounds: int) -> list[str]:
        """So many ways: all of them before any comes again, in an order of chance; or those of GAVEL_WAYS."""
        ways = os.environ.get("GAVEL_WAYS", " ".join(self.ways)).split()
        planned: list[str] = []
        while len(planned) < rounds:
            planned += self.random.sample(ways, len(ways))
        return planned[:rounds]

    def strike(self, way: str, workload: Workload) -> None:
        """One way, to a node of chance; raises what a worker met, TimeoutError when something does not go on."""
        self.workload = workload
        if self.steady and way == "blackout":
            return
        self.ways[way]()
        self.goes_on()
        self.lab.whole()

    def goes_on(self) -> None:
        """Return when everybody has got on."""
        assert self.workload is not None
        self.workload.goes_on()

    def some(self, ends: bool = False) -> int:
        """A node; one whose process may end."""
        return self.random.choice([number for number in self.lab.nodes if not ends or number != self.steady])

    # The ways.

    def kill(self) -> None:
        """SIGKILL."""
        victim = self.some(ends=True)
        self.lab.kill(victim)
        self.goes_on()
        self.lab.start(victim)

    def stop(self) -> None:
        """SIGSTOP."""
        victim = self.some()
        self.lab.stop(victim)
        self.goes_on()
        self.lab.cont(victim)

    def cut(self) -> None:
        """All packets get lost."""
        victim = self.some()
        self.lab.cut(victim)
        self.goes_on()
        self.lab.heal(victim)

    def cut_in(self) -> None:
        """It is heard, and hears nobody."""
        victim = self.some()
        self.lab.cut(victim, "in")
        self.goes_on()
        self.lab.heal(victim)

    def cut_out(self) -> None:
        """It hears everybody, and is not heard."""
        victim = self.some()
        self.lab.cut(victim, "out")
        self.goes_on()
        self.lab.heal(victim)

    def clock(self) -> None:
        """Its host's clock is set, and set right again."""
        victim = self.some()
        self.lab.trouble(victim, clock_us=self.random.choice(CLOCKS))
        self.goes_on()
        self.lab.trouble(victim)

    def bad_disk(self) -> None:
        """Its disk fails; it says so, and is started again when the disk is well."""
        self._fails(self.some(ends=True), "Input/output error", **{self.random.choice(("sync", "write")): True})

    def full_disk(self) -> None:
        """Its host has no room for anything new; it says so, and is started again when there is."""
        self._fails(self.some(ends=True), "full", full=True)

    def _fails(self, victim: int, why: str, **trouble: bool) -> None:
        self.lab.trouble(victim, **trouble)
        name = f"n{victim}"

        def says_so() -> bool:
            if trouble.get("full"):
                with gavel.connect(self.lab.url, patience=WAIT) as fs:
                    fs.write_bytes("/much", self.random.randbytes(1 << 20))
            return why in (self.lab.seen_by(victim).get(name, {}).get("problem") or "")

        eventually(says_so, f"{why!r} of {name}")
        self.goes_on()
        self.lab.kill(victim)
        self.lab.trouble(victim)
        self.lab.start(victim)

    def wipe(self) -> None:
        """Its disk is lost, and it joins anew."""
        victim = self.some(ends=True)
        self.lab.kill(victim)
        self.goes_on()
        self.lab.wipe(victim)

    def demote(self) -> None:
        """It loses its vote, and gets it back."""
        victim = self.some()
        for role in ("slave", "master"):
            self.lab.ask("role", {"node": self.lab.seen_by(victim)[f"n{victim}"]["node"], "role": role})
            eventually(lambda role=role: self._role(victim) == role, f"n{victim} a {role}")  # type: ignore[misc]
            self.goes_on()

    def _role(self, victim: int) -> str | None:
        return self.lab.seen_by(victim).get(f"n{victim}", {}).get("role")

    def replace(self) -> None:
        """It dies for good, is removed, and another one comes in its place."""
        victim = self.some(ends=True)
        self.lab.kill(victim)
        self.goes_on()
        self.lab.remove(victim)
        self.goes_on()
        self.lab.add()

    def grow(self) -> None:
        """One more; then another one leaves, alive."""
        self.lab.add()
        self.lab.whole()
        self.goes_on()
        self.lab.remove(self.some(ends=True))

    def silence(self) -> None:
        """A majority stops for a while: nothing happens until it is back."""
        lost = self.random.sample(sorted(self.lab.nodes), len(self.lab.nodes) // 2 + 1)
        for victim in lost:
            self.lab.stop(victim)
        time.sleep(SILENCE)
        for victim in lost:
            self.lab.cont(victim)

    def restart(self) -> None:
        """All in turn are asked to end, and started again, as for an upgrade."""
        for victim in sorted(self.lab.nodes):
            if victim != self.steady:
                self.lab.end(victim)
                self.goes_on()
                self.lab.start(victim)
                self.lab.whole()

    def upkeep(self) -> None:
        """Not a fault, but work beside all the other: what a node does about its volume."""
        victim = str(self.lab.directory(self.some()))
        for job in (["prune"], ["reblock"], ["dedup"], ["scrub"], ["check", "--deep"]):
            run_gavel(job[0], victim, *job[1:])

    def blackout(self) -> None:
        """All die in one moment, as when the power fails."""
        for victim in sorted(self.lab.nodes):
            self.lab.kill(victim)
        for victim in sorted(self.lab.nodes):
            self.lab.start(victim)
