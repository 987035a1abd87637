"""What clients do to a cluster while it is in trouble, by the API and by mounts, and what must be true of it then."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gavel.client.cluster import Cluster
from gavel.errors import HistoryPruned
from gavel.node.lab import Lab
from soak import histories
from soak.histories import Access
from soak.labs import WAIT
from soak.workers import (
    ACCOUNTS,
    FILES,
    LISTS,
    MONEY,
    PLACES,
    REGISTERS,
    TOKENS,
    Auditing,
    Counting,
    Cycling,
    CyclingByMount,
    Linking,
    LinkingByMount,
    Listing,
    Moving,
    MovingByMount,
    Registering,
    RegisteringByMount,
    Saving,
    Transferring,
    Unpacking,
    Worker,
    balances,
    links,
    padded,
    saved,
    tree,
)  # fmt: skip

MANY: tuple[type[Worker], ...] = (
    Counting, Counting, Transferring, Transferring, Auditing, Moving, MovingByMount, Linking, LinkingByMount,
    Cycling, CyclingByMount, Saving, Unpacking, Registering, Registering, RegisteringByMount, RegisteringByMount,
    Listing, Listing, Listing,
)  # fmt: skip


class Workload:
    """Workers of these kinds in a directory `top` of a lab; those by mount take turns with the mounts."""

    def __init__(self, lab: Lab, top: str, mounts: list[Path], seed: int, kinds: Iterable[type[Worker]] = MANY) -> None:
        self.lab, self.top = lab, top
        self.workers: list[Worker] = []
        turns = 0
        for number, kind in enumerate(kinds):
            turns += kind.by_mount
            self.workers.append(kind(lab, top, mounts[turns % len(mounts)], seed, number))

    def found(self, fs: Cluster) -> None:
        """Make what the workers begin with."""
        top = self.top
        for directory in ("", "/bank", "/saved", "/unpacked", "/links", "/registers", "/lists", "/cycle", "/places"):
            fs.mkdir(top + directory)
        fs.write_bytes(f"{top}/counter", b"0")
        fs.write_bytes(f"{top}/links/file", b"one file")
        for account in range(ACCOUNTS):
            fs.write_bytes(f"{top}/bank/{account}", b"%d" % MONEY)
        for place in range(PLACES):
            fs.mkdir(f"{top}/places/{place}")
        for token in range(TOKENS):
            fs.write_bytes(f"{top}/places/0/token-{token}", b"token %d" % token)
        for register in range(REGISTERS):
            fs.write_bytes(f"{top}/registers/{register}", padded("new"))
        for key in range(LISTS):
            fs.write_bytes(f"{top}/lists/{key}", b"")
        for name in "ab":
            fs.mkdir(f"{top}/cycle/{name}")
            fs.write_bytes(f"{top}/cycle/{name}/in-{name}", b"")

    def start(self) -> None:
        """Let them work."""
        for worker in self.workers:
            worker.start()

    def goes_on(self) -> None:
        """Return when each worker has got on some more; raises what one of them met."""
        before = [worker.steps for worker in self.workers]
        deadline = time.monotonic() + WAIT
        for worker, steps in zip(self.workers, before, strict=True):
            while worker.steps < steps + worker.least:
                if worker.problem is not None:
                    raise worker.problem
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{worker.name} does not get on")
                time.sleep(0.01)

    def stop(self) -> None:
        """Have them end; raises what one of them met."""
        for worker in self.workers:
            worker.over.set()
        for worker in self.workers:
            if worker.ident is not None:
                worker.join(WAIT)
                if worker.problem is not None:
                    raise worker.problem
                if worker.is_alive():
                    raise TimeoutError(f"{worker.name} does not end")

    def steps(self, kind: type[Worker]) -> int:
        """How often workers of a kind have done it."""
        return sum(worker.steps for worker in self.workers if isinstance(worker, kind))

    # What must be true. `fs` is a client, or the volume of one master.

    def check(self, fs: Any) -> None:
        """All that the workers were told is true of what `fs` shows; raises AssertionError."""
        top = self.top
        assert int(fs.read_bytes(f"{top}/counter")) == self.steps(Counting), "every increment once"
        assert sum(balances(fs, top)) == ACCOUNTS * MONEY, "money is conserved"
        there = sorted(name for place in range(PLACES) for name in fs.listdir(f"{top}/places/{place}"))
        assert there == [f"token-{token}" for token in range(TOKENS)], f"each token is in one place: {there}"
        names, count = links(fs, top)
        assert len(names) == count, f"{count} links of {names}"
        assert tree(fs, f"{top}/cycle") == ["a", "b", "in-a", "in-b"]
        self._check_files(fs)
        wrong = self.judged(fs)
        assert not wrong, "\n".join(wrong)

    def _check_files(self, fs: Any) -> None:
        written = self.steps(Saving)
        assert sorted(fs.listdir(f"{self.top}/saved")) == sorted(map(str, range(written)))
        for number in range(written):
            assert fs.read_bytes(f"{self.top}/saved/{number}") == saved(number), number
        for number in range(self.steps(Unpacking)):
            where = f"{self.top}/unpacked/{number}"
            assert {name: fs.read_bytes(f"{where}/{name}") for name in FILES} == FILES, where
            assert fs.stat(f"{where}/again").st_nlink == 2, where

    def judged(self, fs: Any) -> list[str]:
        """What is wrong with the histories of registers and lists, and with the tids that transactions were told."""
        wrong: list[str] = []
        now = time.monotonic()
        for register in range(REGISTERS):
            value = fs.read_bytes(f"{self.top}/registers/{register}").decode().strip()
            accesses = [one for worker in self._of(Registering) for one in worker.seen[register]]
            last = Access(now, now, False, value, "the end")
            wrong += [f"register {register}: {one}" for one in histories.register([*accesses, last], "new")]
        final = {str(key): self._list(fs, str(key)) for key in range(LISTS)}
        seen = [one for worker in self._of(Listing) for one in worker.seen]
        wrong += [f"lists: {one}" for one in histories.lists(seen, final)]
        wrong += [f"told: {one}" for one in histories.told(seen, final)]
        return wrong + self._as_of(fs, [one for one in seen if one.status == "committed" and one.appends])

    def _as_of(self, fs: Any, seen: list[histories.Transaction]) -> list[str]:
        """The tid that a transaction was told is where the past has it, and nowhere before; if that is still kept."""
        wrong = []
        for one in random.Random(len(seen)).sample(seen, min(10, len(seen))):
            for key, value in one.appends.items():
                try:
                    then, before = self._list(fs.as_of(one.tid), key), self._list(fs.as_of(one.tid - 1), key)
                except HistoryPruned:
                    continue
                if [*before, value] != then:
                    wrong.append(f"{one.name} at {one.tid:#x} is not what happened then: {before[-2:]}, {then[-2:]}")
        return wrong

    def _list(self, fs: Any, key: str) -> list[str]:
        found: list[str] = fs.read_bytes(f"{self.top}/lists/{key}").decode().split()
        return found

    def _of(self, kind: type[Any]) -> list[Any]:
        return [worker for worker in self.workers if isinstance(worker, kind)]
