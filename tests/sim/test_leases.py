"""Whole runs with leases: fresh seeds for a third of GAVEL_SIM_SECONDS, the same digest every time, and every rule
removed in turn: somebody must notice."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from gavel.coherency.rules import Rules
from gavel.sim.leases.plan import Habits, LeasePlan, draw, options, remade
from gavel.sim.leases.simulation import run
from gavel.sim.network import Weather
from gavel.sim.plan import Fault
from tests.sim.test_lease_rules import SCHEDULES
from tests.sim.test_mutants import QUICK
from tests.sim.test_seeds import SECONDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "internals" / "coherency.md"

MS = 1_000_000


def crowded(seed: int, rule: str) -> LeasePlan:
    """Three clients read and write one key, mostly without leases, and lose messages."""
    weather = Weather(delay=MS // 2, jitter=MS // 2, loss=0.1)
    plan = LeasePlan(seed, keys=1, duration=3000 * MS, think=3 * MS, writes=10, direct=40, weather=weather)
    return replace(plan, without=frozenset([rule]))


def unheard(seed: int, rule: str) -> LeasePlan:
    """One client does not hear its masters for longer than a term, while they hear it."""
    clogs = tuple(Fault(1500 * MS, "clog", node, 101, 2200 * MS) for node in (1, 2, 3))
    plan = LeasePlan(seed, clients=1, keys=1, duration=5000 * MS, think=3 * MS, direct=0, fsyncs=0, faults=clogs)
    return replace(plan, without=frozenset([rule]))


def drawn(seed: int, rule: str) -> LeasePlan:
    return draw(seed, without=frozenset([rule]))


BY_CHANCE = {
    "propose_waits": (4000, 10, drawn),
    "grants_wait": (4000, 60, drawn),
    "fence": (4000, 60, drawn),
    "renewal_recalls": (4000, 60, drawn),
    "majority": (5000, 40, drawn),
    "same_token": (5000, 20, drawn),
    "released_since": (5000, 20, drawn),
    "newest": (5000, 20, drawn),
    "own_blocked": (0, 60, crowded),
    "limbo": (0, 40, unheard),
    "flush_first": (5000, 20, drawn),
    "cap": (5000, 20, drawn),
}  # noticed from this seed on, within so many
NOT_NEEDED = {
    "ask_after",  # with `released_since` a grant that came too soon does not count; this saves asking again
}


def test_fresh_seeds() -> None:
    first = secrets.randbelow(1 << 32)
    until, seed = time.monotonic() + SECONDS / 3, first
    while time.monotonic() < until or seed == first:
        result = run(draw(seed))
        assert not result.violations, f"gavel sim {options(result.plan)}: {result.violations}"
        seed += 1


@pytest.mark.parametrize("seed", range(2))
def test_a_run_is_its_seed(seed: int) -> None:
    assert run(draw(seed)).digest == run(draw(seed)).digest


def test_the_digest_does_not_depend_on_how_strings_hash() -> None:
    program = (
        "from gavel.sim.leases.plan import draw; from gavel.sim.leases.simulation import run\n"
        "for seed in range(2): print(run(draw(seed)).digest)"
    )

    def digests(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert digests("1") == digests("4242") != ""


def test_the_options_of_a_plan_make_it_again() -> None:
    for seed in range(30):
        plan = draw(seed)
        for smaller in [plan, *plan.smaller()]:
            words = options(smaller).split()[1:]
            given = dict(zip(words[::2], words[1::2], strict=True))
            again = remade(
                int(given["--seed"]),
                masters=int(given["--masters"]),
                faults=given.get("--faults"),
                clients=int(given["--clients"]) if "--clients" in given else None,
                seconds=float(given["--seconds"]) if "--seconds" in given else None,
            )
            assert again == smaller


def test_a_rule_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no rule floor"):
        remade(1, without=frozenset(["floor"]))


def every_rule() -> list[str]:
    return [field.name for kind in (Rules, Habits) for field in fields(kind)]


def test_every_rule_is_accounted_for() -> None:
    assert BY_CHANCE.keys() | SCHEDULES.keys() | NOT_NEEDED == set(every_rule())
    assert not NOT_NEEDED & (BY_CHANCE.keys() | SCHEDULES.keys())


def test_the_page_says_how_each_rule_is_noticed() -> None:
    row = r"^\| (\w+) \| [\d ]*\| .* \| (chance|schedule|both|not needed) \|$"
    said = dict(re.findall(row, PAGE.read_text(), re.MULTILINE))
    assert said == {
        rule: "both" if rule in BY_CHANCE and rule in SCHEDULES
        else "chance" if rule in BY_CHANCE
        else "schedule" if rule in SCHEDULES
        else "not needed"
        for rule in every_rule()
    }  # fmt: skip


@pytest.mark.skipif(QUICK, reason="`make test` runs it")
@pytest.mark.parametrize("rule", BY_CHANCE)
def test_a_removed_rule_is_noticed_by_chance(rule: str) -> None:
    first, within, plan = BY_CHANCE[rule]
    for seed in range(first, first + within):
        if run(plan(seed, rule)).violations:
            return
    pytest.fail(f"{within} seeds hold without {rule}")
