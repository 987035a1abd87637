"""Whole masters, replicas on volumes on simulated devices, under the same faults and checkers as the quorum alone."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import replace
from typing import Any

import pytest

from gavel.quorum.machine import Admission, Committed
from gavel.replica.leases import Leases
from gavel.sim.plan import FOCI, Plan, draw
from gavel.sim.simulation import Simulation, run
from gavel.sim.whole import VolumeDisk
from gavel.sim.world import MILLISECOND

SECONDS = float(os.environ.get("GAVEL_SIM_SECONDS", "3600" if os.environ.get("GAVEL_SOAK") else "8")) / 2


def whole(seed: int, focus: str = "") -> Plan:
    return replace(draw(seed, focus=focus), whole=True)


def test_fresh_seeds_of_whole_masters() -> None:
    first = secrets.randbelow(1 << 32)
    until, seed, committed = time.monotonic() + SECONDS, first, 0
    while time.monotonic() < until or not committed:
        focus = sorted(FOCI)[seed % len(FOCI)]
        result = run(whole(seed, focus))
        assert not result.violations, f"gavel sim --whole --focus {focus} --seed {seed}: {result.violations}"
        committed += result.counts.get(Committed.__name__, 0)
        seed += 1


def test_a_whole_run_is_its_seed() -> None:
    assert run(whole(2)).digest == run(whole(2)).digest != run(draw(2)).digest


def test_histories_of_whole_masters_pass_their_own_check() -> None:
    simulation = Simulation(whole(3))
    assert not simulation.run().violations
    assert simulation.account.order
    for host in simulation.cluster.up():
        master: Any = host.program
        assert not list(filter(None, master.replica.history.check(True)))


def test_a_disk_that_lies_about_syncs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VolumeDisk, "end_sync", VolumeDisk.tell)
    assert any(run(whole(seed, "restarts")).violations for seed in range(40))


def test_masters_that_admit_what_leases_stand_against_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leases, "admit", lambda self, txid, body, keys: Admission.GO)
    found = (run(replace(whole(seed), readers=4, clients=4, think=5 * MILLISECOND)).property for seed in range(40))
    assert "current" in found
