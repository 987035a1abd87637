"""A volume in virtual time with files by name, and jobs run to their end."""

from __future__ import annotations

from random import Random
from typing import Any

from gavel.filesystem import data, directory, namespace, orphans
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import VOLUME_MIN
from gavel.runtime.jobs import Job
from gavel.transaction.transaction import Transaction
from gavel.upkeep.job import Steps
from tests.crash.simulated import WHO, System, fresh, lookup

MIB = 1 << 20


def volume(size: int = VOLUME_MIN, seed: int = 0) -> System:
    system = fresh(seed, size)
    system.engine.jobs.slice_ns = 50_000  # as much as some fifty steps
    return system


def run(system: System, steps: Steps[Any], **how: Any) -> Any:
    job = system.engine.jobs.start("job", steps, **how)
    return ended(system, job)


def ended(system: System, job: Job[Any]) -> Any:
    system.shell.run_until(lambda: job.over)
    return job.result()


def put(system: System, name: bytes, content: bytes, offset: int = 0) -> int:
    """Write a file; the tid of the state after it."""

    def operation(tx: Transaction) -> None:
        found = directory.lookup(tx, ROOT_OBJECT, name)
        obj = found[0] if found else namespace.create(tx, ROOT_OBJECT, name, 0o100644, WHO)[0]
        data.write(tx, obj, offset, content)

    system.engine.write(operation)
    return system.engine.flush()


def remove(system: System, name: bytes) -> int:
    obj = system.engine.read(lookup, ROOT_OBJECT, name)
    system.engine.write(namespace.unlink, ROOT_OBJECT, name)
    while not system.engine.write(orphans.reap, obj):
        pass
    return system.engine.flush()


def get(system: System, name: bytes, at: int | None = None) -> bytes:
    def operation(tx: Transaction) -> bytes:
        return b"".join(map(bytes, data.read(tx, lookup(tx, ROOT_OBJECT, name), 0, 1 << 30)))

    return system.engine.read(operation) if at is None else system.engine.read_at(at, operation)


def noise(size: int, seed: int) -> bytes:
    """Bytes that neither compress nor repeat."""
    return Random(seed).randbytes(size)


def problems(system: System) -> list[str]:
    """All that is wrong with volume and trees."""
    history = system.engine.history
    return [*system.engine.volume.check(), *(text for text in history.check(deep=True) if text)]
