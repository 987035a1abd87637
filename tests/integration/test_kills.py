"""Power cuts, as far as a machine that stays up can have them: the process of a mount is killed at random moments.

The volume lives through all of them and grows old: rounds of two workloads (ledger.py), with jobs of upkeep beside
them, and SIGKILL in the middle; now and then during the recovery, too. After each the volume is mounted anew and
everything that was fsynced has to be there, whole, in order, and so has what earlier rounds have left.

The kernel's page cache outlives a process, so what the process has written to the volume's file is not lost here.
Lost, torn and reordered writes are the matter of tests/crash.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import gavel
from gavel.errors import GavelError
from gavel.node import access
from tests.integration import ledger
from tests.integration.ledger import Account, Ledger
from tests.integration.mount_daemon import eventually, needs_mount

KILLS = int(os.environ.get("GAVEL_KILLS", "300" if os.environ.get("GAVEL_SOAK") else "12"))
CHECKED_EVERY = 10 if KILLS > 12 else 4
WORKERS = 2
KEPT = 3  # rounds whose directories stay


class Victim:
    """A mount in the foreground, to be killed."""

    def __init__(self, volume: Path, directory: Path) -> None:
        self.directory = directory
        command = [sys.executable, "-m", "gavel", "mount", str(volume), str(directory), "--foreground"]
        self.log = volume.with_suffix(".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ready(self) -> None:
        """Return when it answers."""
        eventually(lambda: self.process.poll() is not None or access.socket_of(str(self.directory)) is not None, 60)
        assert self.process.poll() is None, self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        subprocess.run(["umount", "-l", str(self.directory)], stderr=subprocess.DEVNULL, check=False)


def upkeep(directory: Path, names: list[str]) -> None:
    """Jobs, one after the other, until the mount is gone."""
    try:
        session = access.RemoteSession(
            access.Mounted(access.socket_of(str(directory)) or "", str(directory), "/"), settled=True
        )
    except GavelError:
        return
    try:
        for name in names:
            session.call(name, {"path": "/"} if name == "prune" else {})
    except (OSError, GavelError):
        pass
    finally:
        session.close()


class Rounds:
    """A volume and what was done to it."""

    def __init__(self, base: Path, seed: int) -> None:
        self.base, self.random = base, random.Random(seed)
        self.volume, self.directory = base / "disk.gavel", base / "mnt"
        self.directory.mkdir()
        gavel.format_volume(self.volume, size=2 << 30)
        with gavel.open(self.volume) as fs:
            fs.set_retention("/", "all:20s")
        self.kept: list[tuple[Path, dict[str, ledger.Found]]] = []  # of earlier rounds

    def top(self, number: int, worker: int) -> Path:
        return self.directory / f"round{number}-{worker}"

    def book(self, number: int, worker: int) -> Path:
        return self.base / f"ledger{number}-{worker}"

    def cut(self, number: int) -> None:
        """Mount, work, kill."""
        victim = Victim(self.volume, self.directory)
        try:
            if self.random.random() < 0.15:  # while it opens and recovers
                time.sleep(self.random.uniform(0.3, 0.8))
                return
            victim.ready()
            self._make_room()
            jobs = self.random.sample(["prune", "reblock", "dedup", "scrub"] * 3, 12)
            upkept = threading.Thread(target=upkeep, args=(self.directory, jobs))
            upkept.start()
            self._work_until_killed(number, victim)
            upkept.join(60)
            assert not upkept.is_alive(), "an admin call outlives its mount"
        finally:
            victim.kill()

    def _work_until_killed(self, number: int, victim: Victim) -> None:
        workers = [self._begin(number, worker) for worker in range(WORKERS)]
        books = [self.book(number, worker) for worker in range(WORKERS)]
        try:
            eventually(lambda: all(book.exists() and Account(book).done for book in books), 60)
            time.sleep(self.random.uniform(0.0, 1.0) if self.random.random() < 0.8 else self.random.uniform(1, 6))
            assert all(worker.poll() is None for worker in workers), "a workload ended by itself"
            killed = time.monotonic()
            victim.kill()
            for worker in workers:
                worker.wait(60)
        finally:
            victim.kill()
            for worker in workers:
                worker.kill()
                worker.wait()
        for ended in [Account(book).ended for book in books]:
            assert ended is not None and ended[1] >= killed, f"an error before the cut: {ended}"

    def _begin(self, number: int, worker: int) -> subprocess.Popen[bytes]:
        arguments = [str(self.top(number, worker)), str(self.book(number, worker)), str(self.random.randrange(1 << 30))]
        return subprocess.Popen([sys.executable, ledger.__file__, *arguments])

    def _make_room(self) -> None:
        """Remove what old rounds have left, as part of what a cut may hit."""
        gone, self.kept = self.kept[: -KEPT * WORKERS], self.kept[-KEPT * WORKERS :]
        for top, _ in gone:
            shutil.rmtree(top)

    def verify(self, number: int) -> int:
        """Mount, look, unmount in order; how many operations were found done."""
        victim = Victim(self.volume, self.directory)
        try:
            victim.ready()
            accounts = [Account(self.book(number, worker)) for worker in range(WORKERS)]
            for worker, account in enumerate(accounts):
                top = self.top(number, worker)
                account.check(top, accounts)
                if top.exists():
                    self.kept.append((top, ledger.observed(top)))
            for top, before in self.kept:
                assert ledger.observed(top) == before, f"{top} is not any more what it was"
            victim.process.terminate()
            assert victim.process.wait(60) == 0, victim.log.read_text()
        finally:
            victim.kill()
        return sum(len(account.done) for account in accounts)

    def check(self) -> None:
        with gavel.open(self.volume, read_only=True) as fs:
            assert fs.check(deep=True) == []


@needs_mount
@pytest.mark.mounts
@pytest.mark.timeout(KILLS * 60)
def test_a_mount_that_is_killed_again_and_again_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    rounds, done = Rounds(tmp_path, seed=KILLS), 0
    for number in range(KILLS):
        rounds.cut(number)
        done += rounds.verify(number)
        if number % CHECKED_EVERY == CHECKED_EVERY - 1:
            rounds.check()
    rounds.check()
    assert done > 20 * KILLS, "hardly anything was done"
    print(f"{KILLS} kills, {done} operations")


# Whether the account could find anything: on the host's filesystem, where nothing is lost.


@pytest.fixture
def worked(tmp_path: Path) -> tuple[Path, Path]:
    """A directory in which a workload has been, and its ledger."""
    umask = os.umask(0o022)
    try:
        ledger.work(tmp_path / "top", Ledger(tmp_path / "ledger"), 3, 400)
    finally:
        os.umask(umask)
    return tmp_path / "top", tmp_path / "ledger"


def test_where_nothing_is_lost_the_account_agrees(worked: tuple[Path, Path]) -> None:
    top, book = worked
    account = Account(book)
    assert len(account.done) == 400 and account.ended is None
    assert 380 < account.durable([account]) <= 400
    account.check(top, [account])


def test_a_lost_file_a_changed_byte_and_a_lost_xattr_are_found(worked: tuple[Path, Path]) -> None:
    top, book = worked
    account = Account(book)
    here = ledger.observed(top)
    path = next(one for one, (_, inode) in here.items() if inode is not None and inode.content)
    content = (top / path).read_bytes()
    (top / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AssertionError, match="content"):
        account.check(top, [account])
    (top / path).write_bytes(content)
    marked = next(one for one, (_, inode) in here.items() if inode is not None and inode.xattrs)
    name = os.listxattr(top / marked)[0]
    value = os.getxattr(top / marked, name)
    os.removexattr(top / marked, name)
    with pytest.raises(AssertionError, match="attributes"):
        account.check(top, [account])
    os.setxattr(top / marked, name, value)
    account.check(top, [account])
    (top / path).unlink()
    with pytest.raises(AssertionError, match="names"):
        account.check(top, [account])


def test_what_was_claimed_but_is_not_there_is_found(worked: tuple[Path, Path]) -> None:
    """A whole operation is missing: as if its fsync had returned and the crash had taken it nevertheless."""
    top, book = worked
    claims = Ledger(book)
    claims.write("begin", ["mkdir", "never made"])
    Account(book).check(top, [])  # it may or may not have happened
    claims.write("done")
    Account(book).check(top, [])  # nobody said that it is durable
    claims.write("begin", ["sync", ""])
    claims.write("syncing", False)
    Account(book).check(top, [])
    claims.write("synced")
    with pytest.raises(AssertionError, match="never made"):
        Account(book).check(top, [])


def test_an_fsync_of_another_process_counts(worked: tuple[Path, Path], tmp_path: Path) -> None:
    top, book = worked
    claims = Ledger(book)
    claims.write("begin", ["mkdir", "never made"])
    claims.write("done")
    other = Ledger(tmp_path / "other")
    for line in (("begin", ["sync", ""]), ("syncing", False), ("synced",)):
        other.write(*line)
    Account(book).check(top, [Account(book)])
    with pytest.raises(AssertionError, match="never made"):
        Account(book).check(top, [Account(book), Account(tmp_path / "other")])
