"""Whole runs: fresh seeds for as long as GAVEL_SIM_SECONDS says, past failures, and the same digest every time."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gavel.sim.plan import FOCI, draw
from gavel.sim.shrink import options, remade
from gavel.sim.simulation import run
from gavel.sim.world import MILLISECOND

SECONDS = float(os.environ.get("GAVEL_SIM_SECONDS", "3600" if os.environ.get("GAVEL_SOAK") else "8"))
PAST = tomllib.loads((Path(__file__).parent / "seeds.toml").read_text()).get("failure", [])


def test_fresh_seeds() -> None:
    first = secrets.randbelow(1 << 32)
    until, seed = time.monotonic() + SECONDS * 2 / 3, first  # the rest is for test_leases.py
    while time.monotonic() < until:
        result = run(draw(seed, focus=sorted(FOCI)[seed % len(FOCI)]))
        assert not result.violations, f"gavel sim {options(result.plan)}: {result.violations}"
        seed += 1
    assert seed - first >= 3


@pytest.mark.parametrize("seed", range(4))
def test_a_run_is_its_seed(seed: int) -> None:
    assert run(draw(seed)).digest == run(draw(seed)).digest


def test_the_digest_does_not_depend_on_how_strings_hash() -> None:
    program = (
        "from gavel.sim.plan import FOCI, draw; from gavel.sim.simulation import run\n"
        "for seed in range(3): print(run(draw(seed)).digest)"
    )

    def digests(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert digests("1") == digests("4242") != ""


@pytest.mark.parametrize("failure", PAST, ids=[f"seed {failure['seed']}" for failure in PAST])
def test_past_failures(failure: dict[str, Any]) -> None:
    words = failure.get("options", "").split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    plan = remade(
        failure["seed"],
        masters=int(given["--masters"]) if "--masters" in given else None,
        faults=given.get("--faults"),
        clients=int(given["--clients"]) if "--clients" in given else None,
        transactions=int(given["--transactions"]) if "--transactions" in given else None,
        seconds=float(given["--seconds"]) if "--seconds" in given else None,
        focus=given.get("--focus", ""),
        without=frozenset([given["--without"]] if "--without" in given else []),
    )
    plan = replace(plan, whole=failure.get("whole", False), readers=failure.get("readers", 0))
    if "refusing" in failure:  # older than machines that refuse
        plan = replace(plan, refusing=failure["refusing"])
    assert run(plan).property == failure.get("property", "")


def test_the_options_of_a_plan_make_it_again() -> None:
    for seed in range(50):
        plan = draw(seed, focus=sorted(FOCI)[seed % len(FOCI)])
        for smaller in [plan, *plan.smaller()]:
            words = options(smaller).split()
            given = dict(zip(words[::2], words[1::2], strict=True))
            again = remade(
                int(given["--seed"]),
                masters=int(given["--masters"]),
                faults=given.get("--faults"),
                clients=int(given["--clients"]) if "--clients" in given else None,
                transactions=int(given["--transactions"]) if "--transactions" in given else None,
                seconds=float(given["--seconds"]) if "--seconds" in given else None,
                focus=given.get("--focus", ""),
                readers=int(given["--readers"]) if "--readers" in given else None,
            )
            assert again == smaller
        assert all(fault.at <= max(plan.duration * 40, MILLISECOND) for fault in plan.faults)
