"""A power cut at every write of a workload that writes the same few contents again and again, compressed or not."""

import os
from collections.abc import Callable
from random import Random

import pytest

from gavel.filesystem import compression, data, namespace
from gavel.filesystem.check import check as check_filesystem
from gavel.keys.records import ROOT_OBJECT
from gavel.runtime.engine import Engine
from gavel.transaction.transaction import Transaction
from gavel.upkeep.prune import prune
from gavel.upkeep.reblock import reblock
from tests.crash.simulated import WHO, System, fresh, lookup, opened, random_operation, state
from tests.crash.test_engine import CUTS, Ledger, check

SEEDS = range(20 if os.environ.get("GAVEL_SOAK") else 2)
OPERATIONS = 80


def copying(random: Random) -> Callable[[Engine], object]:
    """Make a file, write one anew, or empty one: one of two contents, or of their beginnings."""
    name = b"n%d" % random.randrange(6)
    content = (b"%d bottles of the same; " % random.randrange(2) * 8000)[: random.choice([0, 5000, 140_000])]

    def write(tx: Transaction) -> None:
        try:
            obj = lookup(tx, ROOT_OBJECT, name)
        except FileNotFoundError:
            obj, _ = namespace.create(tx, ROOT_OBJECT, name, 0o100644, WHO)
        data.truncate(tx, obj, 0)
        data.write(tx, obj, 0, content)

    return lambda engine: engine.write(write)


def work(system: System, random: Random, ledger: Ledger, upkeep: bool = False) -> None:
    """Operations, syncs and checkpoints; with `upkeep` prune and reblock take away what is shared meanwhile."""
    engine = system.engine
    job = None
    for _ in range(OPERATIONS):
        if upkeep and (job is None or job.over) and not random.randrange(6):
            everything = random.randrange(2)
            steps = prune(engine.history, everything=True) if everything else reblock(engine.history, engine.volume)
            job = engine.jobs.start("upkeep", steps)
        if job is not None and not random.randrange(4):
            system.shell.run(seconds=0.001)
        try:
            random.choice([copying, copying, random_operation])(random)(system.engine)
        except OSError:
            continue
        ledger.states.append(state(system.engine))
        match random.randrange(5):
            case 0:
                system.sync()
                ledger.promised = len(ledger.states) - 1
            case 1:
                system.checkpoint()
                ledger.promised = len(ledger.states) - 1
    if job is not None:
        system.shell.run_until(lambda: job.over)
        job.result()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("choice", ["on", "off"])
@pytest.mark.parametrize("upkeep", [False, True])
def test_a_cut_at_any_write_never_takes_what_is_shared(
    seed: int, choice: str, upkeep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    system = fresh(seed)
    system.engine.write(compression.set_compression, ROOT_OBJECT, choice)
    system.sync()
    shared: list[int] = []
    borrow = system.engine.volume.borrow
    monkeypatch.setattr(system.engine.volume, "borrow", lambda place: (shared.append(place), borrow(place)))
    ledger = Ledger(system, random, every=1)
    work(system, random, ledger, upkeep)
    assert len(shared) > 10, "too little is shown"
    step = max(1, len(ledger.cuts) // CUTS)
    ledger.cuts = ledger.cuts[seed % step :: step]
    check(ledger)
    after = opened(ledger.cuts[-1][1].crash(Random(seed)))
    assert [one for one in after.engine.read(lambda tx: list(check_filesystem(tx, deep=True))) if one] == []
