"""Ten workloads, and an error at the nth call of the device for every n until a run completes clean.

Writes, syncs and reads that fail, a full disk at every write and at every allocation of the host, a full volume at
every big-block that is taken. Whatever the call: only typed errors come out, what can be seen is the state after some
whole operations, and what a power cut leaves passes all verdicts. Where nothing but room was lacking, or a read failed,
the same process goes on: what it did can be made durable, removing works, and `check --deep` is clean.

Runs are the same up to the error, so their states are those of one run that was noted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import cache
from itertools import chain, count
from random import Random
from typing import NamedTuple

import pytest

from gavel.cache.views import CurrentView
from gavel.effects import Event, Synced, SyncFailed
from gavel.errors import DeviceFull, GavelError, VolumeFull
from gavel.media.blockmap import BlockMap
from gavel.media.stream import Stream
from gavel.replica.replica import Replica
from gavel.transaction.transaction import Transaction
from tests.crash.machine import AnyDevice, Beginning, Ledger, Machine
from tests.crash.verdicts import Cut, goes_on, judge
from tests.crash.workloads import WORKLOADS, Workload

SOAK = bool(os.environ.get("GAVEL_SOAK"))
SIZE = 6 if SOAK else 1
ALL = 40  # calls of which each is struck also where time is short; of those after them every fourth
UNIT = 4096  # what the host allocates at a time
ERRNOS = {errno.EIO, errno.ENOSPC, errno.EROFS}

Arm = Callable[[AnyDevice, int], None]


class Noted(NamedTuple):
    """A run in which nothing failed."""

    beginning: Beginning
    ledger: Ledger


@cache
def noted(name: str) -> Noted:
    beginning = WORKLOADS[name].prepared(SIZE)
    machine = beginning.opened()
    for _ in WORKLOADS[name].run(machine, SIZE):
        pass
    return Noted(beginning, machine.ledger)


def struck(workload: Workload, arm: Arm, call: int) -> tuple[AnyDevice, Machine | None]:
    """A run on a device that fails as armed; the machine as it is then, None where the volume could not be opened."""
    beginning, ledger = noted(workload.name)
    device = beginning.fork()
    arm(device, call)
    machine = None
    try:
        machine = beginning.opened(device, ledger)
        for _ in workload.run(machine, SIZE):
            pass
    except OSError as error:
        if error.errno not in ERRNOS:
            raise AssertionError("an error of another kind") from error
    except GavelError:
        pass
    device.heal()
    device.faults.only = ""
    return device, machine


def seen(machine: Machine) -> None:
    """What the process shows is the state after whole operations, the last one included."""
    ledger = machine.ledger
    assert machine.state() in ledger.states[ledger.count : ledger.count + 2], "half an operation can be seen"


def survives(workload: Workload, device: AnyDevice, machine: Machine | None, random: Random) -> None:
    """A power cut now leaves what the verdicts want."""
    ledger = machine.ledger if machine is not None else Ledger(noted(workload.name).ledger)
    ledger.named = noted(workload.name).ledger.named
    now = noted(workload.name).beginning.now + 10**12
    for keep in (None, 0.0, 1.0) if SOAK else (random.choice([None, 0.0, 0.0, 1.0]),):
        found = judge(Cut(device.crash(random, keep), ledger, ledger.promised, ledger.count, now))
        if random.random() < 0.1:
            goes_on(found)
        found.machine.stop()


def recovers(machine: Machine) -> None:
    """There is room again, or the medium can be read again: the same process goes on as if nothing had been."""
    machine.sync()
    assert machine.ledger.promised == machine.ledger.count
    machine.notes()
    for path in sorted(path for path, content in machine.tree.items() if content is not None)[:1]:
        if machine.fs.exists(path):
            machine.fs.remove(path)
    machine.fs.write_bytes("room again", b"x" * 5000)
    machine.sync()
    machine.checkpoint()
    assert machine.fs.check(deep=True) == []
    ledger, now = machine.ledger, machine.shell.clock()
    judge(Cut(machine.device.crash(keep=0.0), ledger, ledger.promised, ledger.count, now)).machine.stop()


def every_call(workload: Workload, arm: Arm, goes_on: bool) -> int:
    """Strike the first call, the second and so on until a run completes clean; which call was the last one struck."""
    random, last = Random(workload.name), 0
    for call in count(1) if SOAK else chain(range(1, ALL + 1), count(ALL + 1, 4)):
        device, machine = struck(workload, arm, call)
        if not device.faults.struck:
            assert machine is not None
            machine.stop()
            return last
        last = call
        if machine is not None:
            seen(machine)
        survives(workload, device, machine, random)
        if machine is not None:
            if goes_on and machine.engine.replica.failure is None:
                recovers(machine)
            machine.stop()
    raise AssertionError("there is no end to the calls")


# -- the tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("action", ["write", "sync", "read"])
def test_an_error_at_every_call(name: str, action: str) -> None:
    """Once, or from then on. After a failed write or sync nothing more is taken; a read may go well the next time."""
    assert every_call(WORKLOADS[name], failing(action), goes_on=action == "read") > 5


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_full_disk_at_every_write(name: str) -> None:
    assert every_call(WORKLOADS[name], full, goes_on=True) > 10


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_host_that_is_full_at_every_allocation(name: str) -> None:
    """What was allocated can be written all the time, as in a sparse file on a full disk."""

    def arm(device: AnyDevice, call: int) -> None:
        device.thin(call - 1, UNIT)

    assert every_call(WORKLOADS[name], arm, goes_on=True) > 1


@pytest.mark.parametrize("name", ["volume remove"])
def test_a_volume_that_is_full_at_every_big_block_it_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other workloads write less than a big-block and take none; the two tests above strike all ten."""
    take = BlockMap.take
    armed: list[tuple[AnyDevice, int]] = []

    def refuse(blockmap: BlockMap, kind: int, keep: int) -> int:
        if armed:
            device, left = armed.pop()
            if left > 1:
                armed.append((device, left - 1))
            else:
                device.faults.struck += 1
                raise VolumeFull(0, 1)
        return take(blockmap, kind, keep)

    def arm(device: AnyDevice, call: int) -> None:
        armed[:] = [(device, call)]

    monkeypatch.setattr(BlockMap, "take", refuse)
    assert every_call(WORKLOADS[name], arm, goes_on=True) > 0, "it never took one"


def failing(action: str) -> Arm:
    def arm(device: AnyDevice, call: int) -> None:
        device.faults.only = action
        device.fail_at(call, lasting=call % 2 == 0)

    return arm


def full(device: AnyDevice, call: int) -> None:
    device.faults.only = "write"
    device.full_at(call, lasting=call % 2 == 0)


# -- planted bugs ----------------------------------------------------------------------------------------------------


def test_a_sync_whose_error_is_not_heard_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Replica.step

    def deaf(replica: Replica, event: Event, now: int) -> None:
        step(replica, Synced(event.ticket) if isinstance(event, SyncFailed) else event, now)

    monkeypatch.setattr(Replica, "step", deaf)
    with pytest.raises(AssertionError):
        every_call(WORKLOADS["appends with fsync"], failing("sync"), goes_on=False)


def test_what_finds_no_room_and_is_dropped_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Stream.flush

    def dropping(stream: Stream) -> None:
        try:
            flush(stream)
        except DeviceFull:
            stream.runs[:] = stream.runs[-1:]
            stream.runs[0].parts.clear()
            stream.runs[0].starts.clear()
            stream.runs[0].start = stream.cursor
            stream.waiting = 0

    monkeypatch.setattr(Stream, "flush", dropping)
    with pytest.raises((AssertionError, GavelError)):
        every_call(WORKLOADS["renames"], full, goes_on=True)


def test_an_operation_that_fails_half_way_and_leaves_its_half_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Transaction.put

    def at_once(tx: Transaction, key: bytes, value: bytes) -> None:
        put(tx, key, value)
        if isinstance(tx.view, CurrentView):
            tx.view.dirty.merge({key: value})

    monkeypatch.setattr(Transaction, "put", at_once)
    with pytest.raises(AssertionError, match="half an operation"):
        every_call(WORKLOADS["small files"], full, goes_on=False)
