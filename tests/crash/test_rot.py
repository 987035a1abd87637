"""Rot of any sector: what cannot be verified is refused, for itself alone; nothing else is harmed, and it is found.

A byte changes in one sector that was ever written, for every sector (every few, where time is short). Then either the
volume does not open, which is a typed error; or it opens, and every file is what it was or has pieces that cannot be
read. `check --deep` and scrub tell of it when anything that can be seen is damaged.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from gavel.cache import views
from gavel.errors import Damaged, GavelError
from gavel.sim.device import SimDevice
from tests.crash.machine import Machine
from tests.crash.workloads import SMALL, WORKLOADS

SOAK = bool(os.environ.get("GAVEL_SOAK"))
LOOKED_AT = 1_000_000 if SOAK else 50  # sectors of each volume
NAMES = ["small files", "appends with fsync", "sparse writes", "snapshots and prune", "undo of a tree", "transactions"]


def worked(name: str, clean: bool) -> Machine:
    """A machine after its work; the process was `clean`ly ended, or else its log is to be replayed."""
    machine = WORKLOADS[name].prepared(SMALL).opened()
    for _ in WORKLOADS[name].run(machine, SMALL):
        pass
    machine.sync()
    if clean:
        machine.checkpoint(clean=True)
    machine.stop()
    return machine


def rotten(machine: Machine, offset: int, random: Random) -> tuple[str, int]:
    """Let a byte of a sector rot and look; how that came out, and how many files have pieces that cannot be read."""
    device = machine.device.crash(keep=1.0)
    assert isinstance(device, SimDevice)
    device.rot(offset + random.randrange(512), 1 << random.randrange(8))
    try:
        after = Machine(device, machine.shell.clock())
    except GavelError:
        return "refused", 0
    try:
        lost = damaged_files(after, machine)
        trees = [problem for problem in after.engine.history.check(deep=True) if problem]
        problems = after.fs.check(deep=True)
        assert bool(problems) >= bool(lost or trees), "what is damaged was not found"
        assert bool(after.fs.scrub(progress=after.tick).damages) >= bool(lost)
        return ("found" if problems else "harmless"), lost
    except Damaged:
        return "trees", 0
    finally:
        after.stop()


def damaged_files(after: Machine, before: Machine) -> int:
    """Every file that is there is as it was in some state, or cannot be read in part."""
    lost = 0
    tree = after.fs
    for base, _, names in tree.walk("/"):
        for name in names:
            path = f"{base.strip('/')}/{name}".strip("/")
            if tree.is_symlink(path):
                continue
            once = [held.get(f"/{path}") for held in before.ledger.states]
            contents = [held[5] for held in once if held is not None]
            try:
                assert tree.read_bytes(path) in contents, f"{path} shows what it never held"
            except Damaged:
                lost += 1
    return lost


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_rot_of_any_sector(name: str, clean: bool) -> None:
    machine = worked(name, clean)
    random = Random(name)
    sectors = machine.device.sectors()  # type: ignore[union-attr]
    written = [offset for offset in sectors if any(machine.device.read(offset, 512))]
    step = max(1, len(written) // LOOKED_AT)
    outcomes = [rotten(machine, offset, random) for offset in written[random.randrange(step) :: step]]
    kinds = {kind for kind, _ in outcomes}
    assert "harmless" in kinds, "there are copies of headers, and what is not in use any more"
    assert kinds & {"found", "trees", "refused"}, "the run proves too little"
    assert all(lost <= 8 for _, lost in outcomes), "rot in one sector is the loss of many files"


def test_rot_that_no_sum_tells_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = worked("sparse writes", True)
    monkeypatch.setattr(views, "restore", lambda extent, stored: stored)
    random = Random(1)
    sectors = machine.device.sectors()  # type: ignore[union-attr]
    with pytest.raises(AssertionError, match="never held"):
        all(rotten(machine, offset, random) for offset in sectors)
