"""Masters are killed, stopped, cut off and wiped while clients work, by the API and by a mount. Nothing may be lost.

The workloads are ones whose histories show anomalies by themselves: a counter, transfers between accounts with an
auditor, appends to one list with readers of it, tokens that several move at once, files that are fsynced. All they
were told is checked at the end: by a client, and in the volume of each master by itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gavel
from gavel.client.cluster import Cluster
from gavel.client.transactions import Transaction
from gavel.node.lab import Lab, _can_cut
from tests.integration.mount_daemon import needs_mount

MASTERS = 3
ROUNDS = int(os.environ.get("GAVEL_NEMESIS", "60" if os.environ.get("GAVEL_SOAK") else "4"))
STEPS = 3  # that every worker does while a master is lost, and again when it is back
WAIT = 200  # seconds that something may take on a machine with much else to do
ACCOUNTS, MONEY = 5, 100
TOKENS, PLACES = 3, 4


class Worker(threading.Thread):
    """Does its `step` again and again, until it is told to stop or something goes wrong."""

    def __init__(self, lab: Lab, seed: int) -> None:
        super().__init__(daemon=True, name=f"{type(self).__name__}-{seed}")
        self.lab, self.random, self.number = lab, random.Random(seed), seed
        self.steps = 0
        self.over = threading.Event()
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            with self.client() as fs:
                while not self.over.is_set():
                    self.step(fs)
                    self.steps += 1
        except BaseException as problem:
            self.problem = problem

    def client(self) -> contextlib.AbstractContextManager[Any]:
        return gavel.connect(self.lab.url, patience=WAIT)

    def step(self, fs: Any) -> None:
        raise AssertionError("a worker has something to do")


def alone(fs: Cluster, work: Callable[[Transaction], Any]) -> Any:
    """The result of a transaction, however often others come first."""
    return fs.run(work, retries=1_000_000)


class Counting(Worker):
    def step(self, fs: Cluster) -> None:
        alone(fs, lambda tx: tx.write_bytes("/counter", b"%d" % (int(tx.read_bytes("/counter")) + 1)))


class Transferring(Worker):
    def step(self, fs: Cluster) -> None:
        source, target = self.random.sample(range(ACCOUNTS), 2)
        amount = self.random.randint(1, 30)

        def transfer(tx: Transaction) -> None:
            left, there = int(tx.read_bytes(f"/bank/{source}")), int(tx.read_bytes(f"/bank/{target}"))
            if left >= amount:
                tx.write_bytes(f"/bank/{source}", b"%d" % (left - amount))
                tx.write_bytes(f"/bank/{target}", b"%d" % (there + amount))

        alone(fs, transfer)


def balances(fs: Any) -> list[int]:
    return [int(fs.read_bytes(f"/bank/{account}")) for account in range(ACCOUNTS)]


class Auditing(Worker):
    """Sees the money whole: in a transaction, and in the past."""

    def step(self, fs: Cluster) -> None:
        for found in (alone(fs, balances), balances(fs.as_of(fs.tid()))):
            assert sum(found) == ACCOUNTS * MONEY, found
            assert min(found) >= 0, found


class Appending(Worker):
    """Appends to the list, and keeps what it has seen: each must be the beginning of what comes later."""

    seen = b""

    def step(self, fs: Cluster) -> None:
        line = b"%d:%d\n" % (self.number, self.steps)
        alone(fs, lambda tx: tx.write_bytes("/list", tx.read_bytes("/list") + line))
        found = fs.read_bytes("/list")
        assert found.startswith(self.seen), "what was read once is not there any more"
        assert line in found, "its own append is not there after it was acknowledged"
        self.seen = found


class Moving(Worker):
    """Moves tokens from anywhere to anywhere; others do, too, and one of them wins."""

    def step(self, fs: Any) -> None:
        token, (source, target) = self.random.randrange(TOKENS), self.random.sample(range(PLACES), 2)
        with contextlib.suppress(FileNotFoundError):
            self.move(fs, f"/places/{source}/token-{token}", f"/places/{target}/token-{token}")

    def move(self, fs: Any, source: str, target: str) -> None:
        fs.rename(source, target)


class MovingByMount(Moving):
    def client(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def move(self, fs: Any, source: str, target: str) -> None:
        os.rename(f"{self.lab.mnt}{source}", f"{self.lab.mnt}{target}")


class Saving(Worker):
    """Writes files through the mount, fsyncs each and renames it to its name, as editors do."""

    def client(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def step(self, fs: Any) -> None:
        fresh = self.lab.mnt / "saved" / "fresh"
        with open(fresh, "wb") as file:
            file.write(saved(self.steps))
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, self.lab.mnt / "saved" / str(self.steps))


def saved(number: int) -> bytes:
    return b"%d " % number * (1 << number % 15)


def founded(fs: Cluster) -> None:
    """What the workers begin with."""
    fs.write_bytes("/counter", b"0")
    fs.write_bytes("/list", b"")
    for directory in ("/bank", "/saved", "/places", *(f"/places/{place}" for place in range(PLACES))):
        fs.mkdir(directory)
    for account in range(ACCOUNTS):
        fs.write_bytes(f"/bank/{account}", b"%d" % MONEY)
    for token in range(TOKENS):
        fs.write_bytes(f"/places/0/token-{token}", b"token %d" % token)


def check(fs: Any, workers: list[Worker]) -> None:
    """All that the workers were told is true of what `fs` shows."""

    def steps(kind: type[Worker]) -> int:
        return sum(worker.steps for worker in workers if type(worker) is kind)

    assert int(fs.read_bytes("/counter")) == steps(Counting), "every increment once"
    assert sum(balances(fs)) == ACCOUNTS * MONEY, "money is conserved"
    content = fs.read_bytes("/list")
    lines = content.splitlines()
    for worker in workers:
        if isinstance(worker, Appending):
            own = [line for line in lines if line.startswith(b"%d:" % worker.number)]
            assert own == [b"%d:%d" % (worker.number, step) for step in range(worker.steps)], "each append once"
            assert content.startswith(worker.seen)
    assert len(lines) == steps(Appending)
    there = sorted(name for place in range(PLACES) for name in fs.listdir(f"/places/{place}"))
    assert there == [f"token-{token}" for token in range(TOKENS)], "each token is in one place"
    assert sorted(fs.listdir("/saved")) == sorted(map(str, range(steps(Saving))))
    for number in range(steps(Saving)):
        assert fs.read_bytes(f"/saved/{number}") == saved(number), number


class Nemesis:
    """What happens to the masters, while all workers have to get on."""

    def __init__(self, lab: Lab, workers: list[Worker], seed: int) -> None:
        self.lab, self.workers, self.random = lab, workers, random.Random(seed)

    def goes_on(self) -> None:
        """Return when each worker has done some more steps."""
        before = [worker.steps for worker in self.workers]
        deadline = time.monotonic() + WAIT
        for worker, steps in zip(self.workers, before, strict=True):
            while worker.steps < steps + STEPS:
                if worker.problem is not None:
                    raise worker.problem
                assert time.monotonic() < deadline, f"{worker.name} does not get on"
                time.sleep(0.01)

    def all_up(self) -> list[dict[str, Any]]:
        """The members, when all of them are up and vote."""
        deadline = time.monotonic() + WAIT
        while True:
            found: list[dict[str, Any]] = self.lab.ask("status", {})["members"]
            if len(found) == MASTERS and all(one["up"] and one["role"] == "master" for one in found):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def all_know(self, tid: int) -> None:
        """Return when every master has everything up to a tid."""
        deadline = time.monotonic() + WAIT
        while any(int(one["sync_tid"], 16) < tid for one in self.all_up()):
            assert time.monotonic() < deadline, f"not everybody knows {tid:#x}"
            time.sleep(0.05)

    def strike(self, way: str) -> None:
        """Lose a master in one way, and get it back."""
        lab, victim = self.lab, self.random.randint(1, MASTERS)
        print(f"{way} {victim}", flush=True)
        if way == "wipe":
            lab.kill(victim)
            self.goes_on()
            lab.wipe(victim)
        else:
            lose, back = {"kill": (lab.kill, lab.start), "stop": (lab.stop, lab.cont), "cut": (lab.cut, lab.heal)}[way]
            lose(victim)
            self.goes_on()
            back(victim)
        self.goes_on()
        self.all_up()


@contextlib.contextmanager
def running(path: Path) -> Iterator[Lab]:
    """A lab with its mount; down at the end, whatever happens."""
    try:
        yield Lab.make(path, MASTERS)
    finally:
        if (path / "lab.json").exists():
            Lab(path).down()


@needs_mount
@pytest.mark.mounts
@pytest.mark.skipif(not _can_cut(), reason="network namespaces need root and ip(8)")
@pytest.mark.timeout(0 if ROUNDS > 4 else 600)
def test_nothing_acknowledged_is_lost_whatever_happens_to_one_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("GAVEL_SEED", random.randrange(1 << 32)))
    print(f"GAVEL_SEED={seed}")
    with running(tmp_path / "lab") as lab:
        monkeypatch.setenv("GAVEL_IDENTITY", str(lab.identity))
        with gavel.connect(lab.url, patience=WAIT) as fs:
            founded(fs)
        kinds = (Counting, Counting, Transferring, Transferring, Auditing, Appending, Appending)
        workers = [kind(lab, number) for number, kind in enumerate((*kinds, Moving, MovingByMount, Saving))]
        nemesis = Nemesis(lab, workers, seed)
        nemesis.all_up()
        try:
            for worker in workers:
                worker.start()
            nemesis.goes_on()
            ways = ["kill", "stop", "cut", "wipe"] * (ROUNDS // 4 + 1)
            for way in nemesis.random.sample(ways[:ROUNDS], ROUNDS):
                nemesis.strike(way)
        finally:
            for worker in workers:
                worker.over.set()
        for worker in workers:
            worker.join(WAIT)
            assert worker.problem is None and not worker.is_alive(), (worker.name, worker.problem)
        print({worker.name: worker.steps for worker in workers})
        with gavel.connect(lab.url, patience=WAIT) as fs:
            check(fs, workers)
            nemesis.all_know(fs.tid())
        lab.down()
        for number in lab.nodes:
            with gavel.open(str(lab.path / f"n{number}" / "volume.gavel"), read_only=True) as fs:
                check(fs, workers)
