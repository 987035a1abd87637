"""Whole masters under lost messages, crashes that tear what was not synced, checkpoints and prunes; from a seed.

The simulator tries the quorum harder; what is tried here is that the parts of a master agree about it: log, staging,
checkpoints, recovery, catching up, execution.
"""

import os
from random import Random
from typing import Any

import pytest

from gavel.errors import GavelError
from gavel.history import horizon
from gavel.keys import records
from gavel.transaction.requests import Collided, Committed, Dropped, Refused, TooOld
from tests.unit.replica.group import Group
from tests.unit.replica.masters import blob, data_key, key, shows, stage

SEEDS = range(200 if os.environ.get("GAVEL_SOAK") else 6)
STEPS = 120


class Run:
    """One run: what was asked, what was answered, and what must be there in the end."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.group = Group(3)
        self.group.run(200)
        self.asked: dict[int, tuple[dict[bytes, bytes | None], list[tuple[bytes, bytes, int]]]] = {}
        self.loss = self.random.choice((0.0, 0.02, 0.2))
        self.group.lose = lambda source, target, message: self.random.random() < self.loss
        self.blobs = 0

    def step(self) -> None:
        group, random = self.group, self.random
        choice = random.random()
        if choice < 0.6 and group.up:
            self.submit(random.choice(sorted(group.up)))
        elif choice < 0.68 and group.up:
            group.crash(random.choice(sorted(group.up)), random.choice((0.0, None, 0.5, 1.0)))
        elif choice < 0.84:
            down = [node for node in group.nodes if node not in group.up]
            if down:
                group.start(random.choice(down))
        elif choice < 0.88 and group.up:
            self.checkpoint(random.choice(sorted(group.up)))
        elif choice < 0.9:
            group.run(random.choice((100, 1000, 40_000)))
        group.run(random.choice((0, 0, 1, 20, 100)))

    def submit(self, node: int) -> None:
        group, random = self.group, self.random
        writes: dict[bytes, bytes | None] = {
            key(f"{random.randrange(12)}"): random.choice((None, b"%d" % random.randrange(1000))) for _ in range(2)
        }
        names = []
        if random.random() < 0.4:
            self.blobs += 1
            content = b"%d " % random.randrange(50) * random.randrange(100, 2000)
            group.ask(node, stage(self.blobs, content))
            writes[data_key(random.randrange(5), 50)] = shows(self.blobs, content, 3, 50)
            names.append(blob(self.blobs, content)[records.SESSION_SIZE :])
        reads = []
        if random.random() < 0.5:
            lo = random.randrange(12)
            reads.append((key(f"{lo}"), key(f"{lo}") + b"\0", group.up[node].last_tid))
        if random.random() < 0.05 and len(group.up) == 3:  # who lags behind a horizon has to start anew
            writes = {horizon.KEY: horizon.encode(horizon.Horizon(min(group.tids().values())))}
            names = []
        submission = group.submission(node, writes, reads, names)
        self.asked[group.ask(node, submission)] = writes, reads

    def checkpoint(self, node: int) -> None:
        replica = self.group.up[node]
        while replica.history.prune(b"", 1000)[1]:
            pass
        self.group.checkpoint(node)

    def end(self) -> None:
        """All faults stop; everybody comes to the same history, and every answer is true of it."""
        group = self.group
        self.loss = 0.0
        for node in group.nodes:
            if node not in group.up:
                group.start(node)
        group.run(70_000)
        assert isinstance(group.submit(1, {key("end"): b""}), Committed)
        group.settle()
        history = group.up[1].history
        tids = set()
        for ticket, (writes, reads) in self.asked.items():
            answer: Any = group.answers.get(ticket)
            assert isinstance(answer, Committed | Collided | TooOld | Dropped | GavelError | None), answer
            assert not isinstance(answer, Refused)
            if isinstance(answer, Committed):
                assert answer.tid not in tids
                tids.add(answer.tid)
                self.check_applied(history, answer.tid, writes, reads)
        self.replace(self.random.choice(group.nodes))

    def replace(self, lost: int) -> None:
        """One loses its volume, and another one takes its place under a number of its own."""
        group = self.group
        group.crash(lost)
        left = sorted(group.up)
        group.nodes = [*left, 4]
        group.devices[4] = group.fresh(4)
        group.start(4)
        group.reconfigure(left[0], *group.nodes)
        assert isinstance(group.submit(4, {key("new"): b""}), Committed)
        group.settle()

    @staticmethod
    def check_applied(history: Any, tid: int, writes: dict[bytes, bytes | None], reads: Any) -> None:
        if tid < history.horizon:
            return
        for name, value in writes.items():
            found = history.get_at(name, tid)
            assert (found is None) == (value is None)
            assert found == value or records.is_data(name)
        for lo, hi, since in reads:
            if since >= history.horizon:
                assert not [change for change in history.changes(since, tid, lo, hi) if change.tid < tid]


@pytest.mark.parametrize("seed", SEEDS)
def test_masters_that_fail_and_come_back_agree_in_the_end(seed: int) -> None:
    run = Run(seed)
    for _ in range(STEPS):
        run.step()
    run.end()
