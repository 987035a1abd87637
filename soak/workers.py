"""Clients that do one kind of thing again and again in a directory that they share with their like.

Most would show an anomaly by themselves: a counter, transfers between accounts with an auditor, names that several
move at once, names of one file, directories that are moved into each other, files that are fsynced, archives that are
unpacked. Registers and lists are only noted; their histories are judged at the end (histories.py).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gavel
from gavel.client.cluster import Cluster, Transaction
from gavel.errors import Collision, QuorumLost
from gavel.node.lab import Lab
from soak import histories
from soak.histories import NEVER, Access
from soak.labs import WAIT

ACCOUNTS, MONEY = 5, 100
TOKENS, PLACES = 3, 4
REGISTERS, LISTS, LINKS = 2, 3, 4
PAUSE = 0.1  # seconds on average between two steps by the API: mounts take many requests to a step, and need room
DOUBT = (errno.ETIMEDOUT, errno.EIO)  # a mount answers so where nobody knows whether it happened


class Worker(threading.Thread):
    """Does its `step` again and again, until it is told to stop or something goes wrong.

    `top` is the directory of the workload as clients name it, `mount` where this worker has the cluster mounted.
    """

    least: ClassVar[int] = 2  # steps after which it has got on
    by_mount: ClassVar[bool] = False

    def __init__(self, lab: Lab, top: str, mount: Path, seed: int, number: int) -> None:
        super().__init__(daemon=True, name=f"{type(self).__name__}-{number}")
        self.lab, self.top, self.number, self.random = lab, top, number, random.Random(f"{seed}-{number}")
        self.here = Path(f"{mount}{top}") if self.by_mount else Path(top)
        self.steps = 0
        self.over = threading.Event()
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            with self.client() as fs:
                while not self.over.is_set():
                    self.step(fs)
                    self.steps += 1
                    if not self.by_mount:
                        self.over.wait(self.random.uniform(0, 2 * PAUSE))
        except BaseException as problem:
            self.problem = problem

    def client(self) -> contextlib.AbstractContextManager[Any]:
        """What it works with: a client of its own, or nothing but its mount."""
        if self.by_mount:
            return contextlib.nullcontext(os)
        return gavel.connect(self.lab.url, patience=WAIT)

    def path(self, *names: object) -> str:
        """Below its directory."""
        return str(self.here.joinpath(*map(str, names)))

    def step(self, fs: Any) -> None:
        """Do it once."""
        raise AssertionError("a worker has something to do")


def alone(fs: Cluster, work: Callable[[Transaction], Any]) -> Any:
    """The result of a transaction, however often others come first."""
    return fs.run(work, retries=1_000_000)


class Counting(Worker):
    def step(self, fs: Cluster) -> None:
        path = self.path("counter")
        alone(fs, lambda tx: tx.write_bytes(path, b"%d" % (int(tx.read_bytes(path)) + 1)))


class Transferring(Worker):
    def step(self, fs: Cluster) -> None:
        source, target = (self.path("bank", account) for account in self.random.sample(range(ACCOUNTS), 2))
        amount = self.random.randint(1, 30)

        def transfer(tx: Transaction) -> None:
            left, there = int(tx.read_bytes(source)), int(tx.read_bytes(target))
            if left >= amount:
                tx.write_bytes(source, b"%d" % (left - amount))
                tx.write_bytes(target, b"%d" % (there + amount))

        alone(fs, transfer)


def balances(fs: Any, top: str) -> list[int]:
    return [int(fs.read_bytes(f"{top}/bank/{account}")) for account in range(ACCOUNTS)]


class Auditing(Worker):
    """Sees the money whole: in a transaction, and in the past."""

    def step(self, fs: Cluster) -> None:
        for found in (alone(fs, lambda tx: balances(tx, self.top)), balances(fs.as_of(fs.tid()), self.top)):
            assert sum(found) == ACCOUNTS * MONEY and min(found) >= 0, found


class Moving(Worker):
    """Moves tokens from anywhere to anywhere; others do, too, and one of them wins."""

    def step(self, fs: Any) -> None:
        token, (source, target) = self.random.randrange(TOKENS), self.random.sample(range(PLACES), 2)
        with contextlib.suppress(FileNotFoundError):
            fs.rename(self.path("places", source, f"token-{token}"), self.path("places", target, f"token-{token}"))


class MovingByMount(Moving):
    by_mount = True


class Linking(Worker):
    """Gives one file names, and takes them away. Its count of links is always that of its names."""

    def step(self, fs: Any) -> None:
        name = self.path("links", f"name-{self.random.randrange(LINKS)}")
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            if self.random.random() < 0.5:
                fs.link(self.path("links", "file"), name)
            else:
                fs.unlink(name)
        self.look(fs)

    def look(self, fs: Any) -> None:
        names, count = alone(fs, lambda tx: links(tx, self.top))
        assert len(names) == count, f"{count} links of {names}"


class LinkingByMount(Linking):
    by_mount = True

    def look(self, fs: Any) -> None:
        """Names and count are two requests here."""


def links(fs: Any, top: str) -> tuple[list[str], int]:
    return sorted(fs.listdir(f"{top}/links")), fs.stat(f"{top}/links/file").st_nlink


class Cycling(Worker):
    """Moves two directories into each other and out again; both at once would make a circle that nothing leads to."""

    allowed = (errno.ENOENT, errno.EINVAL, errno.ENOTEMPTY, errno.EEXIST, errno.ESTALE)

    def step(self, fs: Any) -> None:
        one, two = self.random.sample("ab", 2)
        source, target = self.random.choice([(one, f"{two}/{one}"), (f"{two}/{one}", one)])
        try:
            fs.rename(self.path("cycle", source), self.path("cycle", target))
        except OSError as error:
            if error.errno not in self.allowed:
                raise
        self.look(fs)

    def look(self, fs: Any) -> None:
        found = alone(fs, lambda tx: tree(tx, f"{self.top}/cycle"))
        assert found == ["a", "b", "in-a", "in-b"], found


class CyclingByMount(Cycling):
    by_mount = True

    def look(self, fs: Any) -> None:
        """A walk is many requests here."""


def tree(fs: Any, top: str) -> list[str]:
    """All names below, in order."""
    return sorted(name for _, directories, files in fs.walk(top) for name in (*directories, *files))


class Saving(Worker):
    """Writes files, fsyncs each and renames it to its name, as editors do."""

    by_mount = True

    def step(self, fs: Any) -> None:
        fresh = self.path("saved", "fresh")
        with open(fresh, "wb") as file:
            file.write(saved(self.steps))
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, self.path("saved", self.steps))


def saved(number: int) -> bytes:
    return b"%d " % number * (1 << number % 15)


class Unpacking(Worker):
    """Unpacks an archive."""

    by_mount = True
    least = 0  # it takes some hundred requests

    def step(self, fs: Any) -> None:
        with tarfile.open(fileobj=io.BytesIO(ARCHIVE)) as archive:
            archive.extraction_filter = lambda member, path: member  # it is ours
            archive.extractall(self.path("unpacked", f"{self.steps}.part"))
        os.rename(self.path("unpacked", f"{self.steps}.part"), self.path("unpacked", self.steps))


FILES = {f"d{number % 3}/f{number}": (f"{number} " * (10**number % 7001)).encode() for number in range(8)}


def _archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in FILES.items():
            one = tarfile.TarInfo(name)
            one.size, one.mtime, one.mode = len(content), 1_000_000_000, 0o640
            archive.addfile(one, io.BytesIO(content))
        link = tarfile.TarInfo("again")
        link.type, link.linkname = tarfile.LNKTYPE, "d1/f1"
        archive.addfile(link)
    return file.getvalue()


ARCHIVE = _archive()


class Registering(Worker):
    """Reads and writes registers, and notes what it saw."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: dict[int, list[Access]] = {register: [] for register in range(REGISTERS)}

    def step(self, fs: Any) -> None:
        register = self.random.randrange(REGISTERS)
        path, write = self.path("registers", register), self.random.random() < 0.4
        value = f"{self.number}:{self.steps}"
        began, ended = time.monotonic(), NEVER
        try:
            if write:
                self.put(fs, path, padded(value))
            else:
                value = self.get(fs, path).decode().strip()
            ended = time.monotonic()
        except QuorumLost:
            pass
        except OSError as error:
            if error.errno not in DOUBT:
                raise
        self.seen[register].append(Access(began, ended, write, value, self.name))

    def put(self, fs: Any, path: str, content: bytes) -> None:
        fs.write_bytes(path, content)

    def get(self, fs: Any, path: str) -> bytes:
        found: bytes = fs.read_bytes(path)
        return found


class RegisteringByMount(Registering):
    by_mount = True

    def put(self, fs: Any, path: str, content: bytes) -> None:
        with open(path, "r+b", buffering=0) as file:
            assert file.write(content) == len(content)

    def get(self, fs: Any, path: str) -> bytes:
        with open(path, "rb", buffering=0) as file:
            return file.read(100)


def padded(value: str) -> bytes:
    """As long as any other: what is written in one request is never half there."""
    return value.encode().ljust(20)


class Listing(Worker):
    """Transactions that read some lists and append to some of them; notes what they saw."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[histories.Transaction] = []

    def step(self, fs: Cluster) -> None:
        keys = self.random.sample(range(LISTS), self.random.randint(1, LISTS))
        written = [key for key in keys if self.random.random() < 0.6]
        while self.attempt(fs, keys, written) == "aborted":
            pass

    def attempt(self, fs: Cluster, keys: list[int], written: list[int]) -> histories.Status:
        name = f"{self.number}.{len(self.seen)}"
        reads: dict[str, tuple[str, ...]] = {}
        tid, status = 0, "unknown"
        began, ended = time.monotonic(), NEVER
        try:
            with fs.transaction() as tx:
                for key in keys:
                    path = self.path("lists", key)
                    content = tx.read_bytes(path)
                    reads[str(key)] = tuple(content.decode().split())
                    if key in written:
                        tx.write_bytes(path, content + f"{name}.{key} ".encode())
                tid, status = tx.commit(), "committed"
            ended = time.monotonic()
        except Collision:
            ended, status = time.monotonic(), "aborted"
        except QuorumLost:
            pass
        appends = {str(key): f"{name}.{key}" for key in written}
        self.seen.append(histories.Transaction(name, began, ended, status, reads, appends, tid))  # type: ignore[arg-type]
        return status  # type: ignore[return-value]
