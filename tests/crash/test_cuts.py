"""Ten workloads, and a power cut at every write and every sync of each: all verdicts hold for whatever it leaves.

The run goes on behind the cut: what each write leaves is forked from the device then and there, in several ways (all
that was not synced lost, all of it kept, and drawn: lost, torn, reordered), so that every write costs but its verdicts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest

from gavel.effects import Reply
from gavel.history.history import History
from gavel.history.versions import Step
from gavel.replica import journal
from gavel.replica.replica import Replica
from gavel.runtime.engine import Engine
from gavel.sim.device import Faults, SimDevice
from gavel.transaction.requests import Barrier
from tests.crash.machine import AnyDevice, Ledger, Machine
from tests.crash.verdicts import Cut, goes_on, judge
from tests.crash.workloads import SMALL, WORKLOADS, Workload

SOAK = bool(os.environ.get("GAVEL_SOAK"))
SIZE = 12 if SOAK else SMALL
DRAWN = 12 if SOAK else 2  # what else a cut may leave, for each write


class Cutter:
    """Keeps what a power cut would leave, at every write and sync of a machine."""

    def __init__(self, machine: Machine, seed: str) -> None:
        self.machine = machine
        self.random = Random(seed)
        self.cuts: list[Cut] = []
        self.moments = 0
        self._lost: object = None
        machine.device.on_write = machine.device.on_sync = self.strike

    def strike(self, device: AnyDevice) -> None:
        """The power fails now, in each of the ways."""
        self.moments += 1
        ledger = self.machine.ledger
        since = device.syncs, ledger.promised
        if since != self._lost:  # after the same sync, the same is left when all is lost
            self._lost = since
            self.keep(device.crash(self.random, 0.0))
        if not device.unsynced():
            return
        self.keep(device.crash(self.random, 1.0))
        for _ in range(DRAWN):
            self.keep(device.crash(self.random))

    def keep(self, left: AnyDevice) -> None:
        ledger, now = self.machine.ledger, self.machine.shell.clock()
        self.cuts.append(Cut(left, ledger, ledger.promised, ledger.count, now))

    def left(self) -> Iterator[Cut]:
        """What has been kept since the last time, to be judged."""
        cuts, self.cuts = self.cuts, []
        return iter(cuts)


def cut_everywhere(workload: Workload, seed: str) -> tuple[int, int]:
    """Judge every cut of a run; how many writes and syncs were cut, and how many outcomes were judged."""
    machine = workload.prepared(SIZE).opened()
    cutter = Cutter(machine, seed)
    judged = 0
    for _ in workload.run(machine, SIZE):
        for cut in cutter.left():
            judged += 1
            found = judge(cut)
            if judged % 16 == 0:
                goes_on(found)
            found.machine.stop()
    return cutter.moments, judged


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_cut_at_every_write_and_sync(name: str) -> None:
    moments, judged = cut_everywhere(WORKLOADS[name], name)
    assert moments > 20
    assert judged > moments


# -- planted bugs ------------------------------------------------------------------------------------------------


def _noticed(workload: str) -> str:
    for seed in range(4):
        try:
            cut_everywhere(WORKLOADS[workload], f"{seed}")
        except AssertionError as error:
            return str(error)
    return ""


def test_a_device_that_lies_about_its_sync_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimDevice, "sync", lambda device: device.faults.called("sync", 0))
    assert _noticed("appends with fsync")


def test_a_sync_answered_before_it_is_done_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(replica: Replica, request: Barrier) -> None:
        replica._syncs.barrier(lambda error: None)
        replica._effects.append(Reply(request, replica.last_tid))

    monkeypatch.setattr(Replica, "_settled", hasty)
    assert "older than what was synced" in _noticed("renames")


def test_a_log_with_half_an_operation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = journal.encode

    def torn(tid: int, keys: list[bytes], values: list[bytes | None]) -> list[tuple[int, bytes]]:
        half = len(keys) // 2
        return encode(tid, keys[half:], values[half:])

    monkeypatch.setattr(journal, "encode", torn)
    assert _noticed("renames")


def test_a_header_that_is_written_before_what_it_names_is_durable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = History.checkpoint

    def hasty(history: History, clean: bool = False) -> Iterator[Step]:
        return (step for step in checkpoint(history, clean) if step is not Step.SYNC)

    monkeypatch.setattr(History, "checkpoint", hasty)
    assert _noticed("sparse writes")


def test_a_ledger_that_promises_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Ledger.note

    def boasting(ledger: Ledger, engine: Engine, faults: Faults) -> None:
        note(ledger, engine, faults)
        ledger.promised = ledger.count

    monkeypatch.setattr(Ledger, "note", boasting)
    assert "older than what was synced" in _noticed("small files")
