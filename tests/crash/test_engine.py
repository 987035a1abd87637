"""A power cut at every write of a random workload: whole operations, in order, and nothing synced is lost.

What a crash leaves is compared with the state after each operation. It must equal one of them, and none before the
last operation whose sync had returned.
"""

import os
from random import Random

import pytest

from gavel.errors import DeviceFailed, GavelError
from gavel.sim.device import SimDevice
from tests.crash.simulated import State, System, fresh, opened, random_operation, state

SEEDS = range(40 if os.environ.get("GAVEL_SOAK") else 3)
OPERATIONS = 120
CUTS = 40  # devices kept per run, spread over all writes


class Ledger:
    """The states after each operation, and how far durability was promised when the device was cut."""

    def __init__(self, system: System, random: Random, every: int) -> None:
        self.states: list[State] = [state(system.engine)]
        self.promised = 0
        self.cuts: list[tuple[int, SimDevice]] = []
        self._random = random
        self._every = every
        system.device.on_write = self.wrote

    def wrote(self, device: SimDevice) -> None:
        if device.writes % self._every == 0:
            self.cuts.append((self.promised, device.crash(Random(self._random.getrandbits(32)))))


def work(system: System, random: Random, ledger: Ledger) -> None:
    for _ in range(OPERATIONS):
        try:
            random_operation(random)(system.engine)
        except OSError:
            continue
        ledger.states.append(state(system.engine))
        match random.randrange(8):
            case 0 | 1:
                system.sync()
                ledger.promised = len(ledger.states) - 1
            case 2:
                system.shell.run(seconds=random.choice([1, 6]))
            case 3:
                system.checkpoint()
                ledger.promised = len(ledger.states) - 1


def check(ledger: Ledger) -> None:
    for promised, device in ledger.cuts:
        after = opened(device)
        found = state(after.engine)
        possible = [n for n, held in enumerate(ledger.states) if held == found]
        assert possible, "a state that never was"
        assert max(possible) >= promised, f"promised {promised}, found {possible}"
        assert [problem for problem in after.engine.history.check(deep=True) if problem] == []
        assert after.engine.volume.check() == []
        after.engine.abandon()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_at_any_write_leaves_whole_operations_in_order(seed: int) -> None:
    random = Random(seed)
    system = fresh(seed)
    ledger = Ledger(system, random, every=1)
    work(system, random, ledger)
    step = max(1, len(ledger.cuts) // CUTS)
    ledger.cuts = ledger.cuts[seed % step :: step]
    assert len(ledger.cuts) > 10
    check(ledger)


class NeverSyncs(SimDevice):
    """A device that lies about sync: what the test above must notice."""

    def sync(self) -> None:
        self.faults.called("sync", 0)


def test_a_device_that_does_not_sync_is_noticed() -> None:
    random = Random(1)
    system = fresh(1)
    system.device.__class__ = NeverSyncs
    ledger = Ledger(system, random, every=1)
    work(system, random, ledger)
    with pytest.raises((AssertionError, OSError, GavelError)):
        check(ledger)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_error_at_any_call_of_the_device_loses_nothing_promised(seed: int) -> None:
    """The nth call fails, for growing n, until a run completes clean."""
    for call in range(1, 400, 7):
        random = Random(seed)
        system = fresh(seed)
        ledger = Ledger(system, random, every=1 << 40)
        system.device.fail_at(call)
        try:
            work(system, random, ledger)
        except DeviceFailed:
            system.device.heal()
            ledger.cuts = [(ledger.promised, system.device.crash(Random(call)))]
            check(ledger)
        else:
            return
    pytest.fail("no run completed clean")
