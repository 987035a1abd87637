"""`python -m soak [--cluster] [--seconds 7200] [--report FILE]`: mixed load on a mount, with upkeep beside it, and a
verdict; or load on a cluster under faults (cluster.py).

Workers make, write, rename and remove files, look at the past and undo, and compare all of it with a model. Meanwhile
prune, reblock, scrub and dedup follow one another without end, and memory and descriptors of the mount's process are
noted. In the end everything is compared once more, before and after the volume is mounted anew, and `gavel check
--deep` has to find nothing. Exit code 0 if all was as it should be, and flat by the rules in verdict.py; else 1.
Needs root and /dev/fuse.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.places import run_gavel
from soak import cluster, verdict
from soak.load import Worker
from soak.model import compare
from soak.mounted import Mounted, upkeep
from soak.verdict import Sample

SAMPLES = 720  # of a whole run
SAID_EVERY = 60.0  # seconds between two lines on the terminal
ROOM = 0.3  # part of the volume that workers leave free: full volumes are another test's


class Soak:
    """One run."""

    def __init__(self, base: Path, options: argparse.Namespace) -> None:
        self.mounted = Mounted(base, options.size, options.keep)
        self.seconds, self.began = float(options.seconds), time.monotonic()
        self.ended = threading.Event()
        self.faults: list[str] = []
        self.samples: list[Sample] = []
        self.upkept: Counter[str] = Counter()
        self._cramped = False
        tops = [self.mounted.directory / f"w{number}" for number in range(options.workers)]
        self.workers = [Worker(top, options.seed + at, self.mounted, self.cramped) for at, top in enumerate(tops)]

    def cramped(self) -> bool:
        """Whether there was too little room lately."""
        return self._cramped

    def work(self, worker: Worker) -> None:
        """Let a worker work until the end."""
        while not self.ended.is_set():
            worker.step()

    def watch(self) -> None:
        """Take samples until the time is over."""
        said = self.began
        while not self.ended.wait(max(self.seconds / SAMPLES, 0.1)):
            now = time.monotonic()
            self.samples.append(verdict.sample(self.mounted.pid, now - self.began))
            space = os.statvfs(self.mounted.directory)
            self._cramped = space.f_bavail < ROOM * space.f_blocks
            if now - said >= SAID_EVERY:
                said = now
                self.say()
            if now - self.began >= self.seconds:
                return

    def say(self) -> None:
        """One line about how it stands."""
        last = self.samples[-1]
        steps = sum(sum(worker.done.values()) for worker in self.workers)
        jobs = " ".join(f"{name} {self.upkept[name]}" for name in ("prune", "reblock", "scrub", "dedup"))
        memory = f"{last.resident >> 20} MiB, {last.descriptors} descriptors"
        print(f"{last.seconds:7.0f} s  {steps:9,} steps  {memory}; {jobs}", flush=True)

    def guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        """The work; what goes wrong in it is a fault and ends the run."""

        def guarded() -> None:
            try:
                work()
            except Exception as error:
                self.faults.append(f"{type(error).__name__}: {error}"[:2000])
                self.ended.set()
                traceback.print_exc()

        return guarded

    def run(self) -> None:
        """All of it; faults and samples are noted."""
        works: list[Callable[[], None]] = [partial(self.work, worker) for worker in self.workers]
        works.append(partial(upkeep, self.mounted, self.ended, self.upkept))
        threads = [threading.Thread(target=self.guarded(work)) for work in works]
        for thread in threads:
            thread.start()
        self.guarded(self.watch)()
        self.ended.set()
        for thread in threads:
            thread.join()
        if self.faults:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.mounted.log, self.mounted.volume.with_name("mount.log"))  # gone with a clean end
        self.guarded(self.finish)()
        if self.faults:
            with contextlib.suppress(RuntimeError):
                self.mounted.unmount()

    def finish(self) -> None:
        """Compare all there is, mounted as it was and mounted anew, and check the volume."""
        self.compare_all()
        self.mounted.unmount()
        run_gavel("check", "--deep", str(self.mounted.volume))
        self.mounted.mount()
        self.compare_all()
        self.mounted.unmount()

    def compare_all(self) -> None:
        """Compare what every worker has made, unless one of them is in doubt about it."""
        if not self.faults:
            for worker in self.workers:
                compare(worker.directory, worker.tree)

    def leaks(self) -> list[str]:
        """What is not flat; a run that a fault has cut short says nothing about that."""
        return [] if self.faults else verdict.leaks(self.samples)

    def report(self) -> dict[str, object]:
        """Everything about the run, for JSON."""
        done: Counter[str] = Counter()
        for worker in self.workers:
            done.update(worker.done)
        return {
            "seconds": round(self.samples[-1].seconds) if self.samples else 0,
            "faults": self.faults,
            "leaks": self.leaks(),
            "memory judged": self.seconds >= verdict.MEMORY_SECONDS,
            "rise": round(verdict.rise([one for one in self.samples if one.seconds >= self.seconds / 4]), 4),
            "resident MiB": [one.resident >> 20 for one in self.samples[:: max(1, len(self.samples) // 24)]],
            "descriptors": [one.descriptors for one in self.samples[:: max(1, len(self.samples) // 24)]],
            "done": dict(sorted(done.items())),
            "upkeep": dict(sorted(self.upkept.items())),
            "samples": self.samples,
        }


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cluster", action="store_true", help="masters and clients under faults instead: cluster.py")
    parser.add_argument("--seconds", type=float, default=7200, help="how long (two hours)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", default="16G", help="of the volume, which is sparse")
    parser.add_argument("--keep", type=int, default=120, help="seconds of the past that are kept")
    parser.add_argument("--base", type=Path, help="where to put volume and mount; kept if something went wrong")
    parser.add_argument("--report", type=Path, help="write everything as JSON to this file, too")
    return parser.parse_args()


def soak(base: Path, options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    """Run it in a directory; the report, and what was wrong."""
    run = Soak(base, options)
    run.run()
    return run.report(), [*run.faults, *run.leaks()]


def main() -> int:
    """Run, say what came of it; the exit code."""
    options = arguments()
    lacking = cluster.needs() if options.cluster else ""
    if lacking:
        print(f"no soak of a cluster here: {lacking}", file=sys.stderr)
        return 1
    base = options.base or Path(tempfile.mkdtemp(prefix="gavel-soak-"))
    base.mkdir(exist_ok=True)
    report, bad = cluster.soak(base, options) if options.cluster else soak(base, options)
    if options.report:
        options.report.write_text(json.dumps(report) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "samples"}, indent=1))
    if bad:
        print(f"not flat, or not sound; everything is left in {base}", *bad, sep="\n  ", file=sys.stderr)
        return 1
    shutil.rmtree(base, ignore_errors=True)
    print("flat, and all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
