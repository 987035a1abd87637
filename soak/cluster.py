"""`python -m soak --cluster [--seconds 7200]`: a lab of three masters, two mounts and many clients, struck by faults.

Time is cut into eras. In each of them workers (workers.py) work in a directory of the era, faults (nemesis.py) strike
one after the other, and at its end the workers stop and all they were told is checked, histories included. The
directory of an era is removed when the next but one has ended, and the past is pruned. After a quarter of the time one
master's process is spared: its memory and descriptors, and those of a mount, have to be flat by the rules in
verdict.py. At the very end every master's volume is opened by itself, compared, and checked deeply.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import gavel
from benchmarks.places import run_gavel
from gavel.node import places
from soak import verdict
from soak.labs import WAIT, TroubledLab, running
from soak.nemesis import Nemesis
from soak.verdict import Sample
from soak.workloads import Workload

ERA_SECONDS = 90.0  # after which no fault is begun in an era
KEPT = 2  # eras whose directories stay
KEPT_SECONDS = 300  # of the past: longer than any master is away, as one cannot be told what the others dropped
MEMORY_SECONDS = 3600.0  # caches of nodes fill slowly here: small transactions, and a past that is pruned
QUARTER = 4  # a part of the time in which every process may end


class ClusterSoak:
    """One run, in a lab that runs."""

    def __init__(self, lab: TroubledLab, options: argparse.Namespace) -> None:
        self.lab, self.seconds, self.began = lab, float(options.seconds), time.monotonic()
        self.random = random.Random(options.seed)
        self.nemesis = Nemesis(lab, options.seed)
        self.ways: list[str] = []
        self.mounts = [lab.mnt, lab.mount_another()]
        self.eras: list[Workload] = []
        self.struck: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.samples: dict[str, list[Sample]] = {}

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def run(self) -> None:
        """All of it; raises what goes wrong."""
        self.lab.whole()
        run_gavel("retention", str(self.lab.mnt), f"all:{KEPT_SECONDS}s")
        while self.passed < self.seconds:
            if not self.nemesis.steady and self.passed >= self.seconds / QUARTER:
                self.nemesis.steady = self.random.choice(sorted(self.lab.nodes))
            self.era(f"/era{len(self.eras)}")
        self.finish()

    def era(self, top: str) -> None:
        """One era."""
        workload = Workload(self.lab, top, self.mounts, self.random.randrange(1 << 32))
        with gavel.connect(self.lab.url, patience=WAIT) as fs:
            workload.found(fs)
        self.eras.append(workload)
        end = time.monotonic() + ERA_SECONDS
        try:
            workload.start()
            workload.goes_on()
            while time.monotonic() < end and self.passed < self.seconds:
                self.strike(workload)
        finally:
            workload.stop()
        with gavel.connect(self.lab.url, patience=WAIT) as fs:
            workload.check(fs)
            if len(self.eras) > KEPT:
                fs.rmtree(self.eras[-1 - KEPT].top)
        for number in self.lab.nodes:
            run_gavel("prune", str(self.lab.directory(number)))
        for worker in workload.workers:
            self.done[type(worker).__name__] += worker.steps

    def strike(self, workload: Workload) -> None:
        """The next fault; all ways come before any comes again."""
        self.ways = self.ways or self.nemesis.plan(len(self.nemesis.ways))
        way = self.ways.pop()
        began = time.monotonic()
        self.nemesis.strike(way, workload)
        self.struck[way] += 1
        self.take_samples()
        print(f"{self.passed:7.0f} s  {workload.top}  {way}: {time.monotonic() - began:.1f} s", flush=True)

    def take_samples(self) -> None:
        """Look at the processes that are not to end."""
        watched = {"mount": next(one.pid for one in places.running() if one.directory == str(self.lab.mnt))}
        if self.nemesis.steady:
            watched["master"] = int(self.lab.nodes[self.nemesis.steady]["pid"])
        for name, pid in watched.items():
            self.samples.setdefault(name, []).append(verdict.sample(pid, self.passed))

    def finish(self) -> None:
        """Compare what each master holds by itself, and check it."""
        left = self.eras[-KEPT:]
        with gavel.connect(self.lab.url, patience=WAIT) as fs:
            self.lab.all_know(fs.tid())
        self.lab.down()
        for number in self.lab.nodes:
            volume = self.lab.directory(number) / "volume.gavel"
            with gavel.open(str(volume), read_only=True) as fs:
                for workload in left:
                    workload.check(fs)
            run_gavel("check", "--deep", str(volume))

    def leaks(self) -> list[str]:
        """What is not flat. Memory is judged in runs that fill the caches."""
        long = self.seconds >= MEMORY_SECONDS
        enough = {name: samples for name, samples in self.samples.items() if len(samples) >= verdict.LEAST}
        return [
            f"{name}: {wrong}"
            for name, samples in enough.items()
            for wrong in verdict.leaks(samples, judge_memory=long)
        ]

    def report(self) -> dict[str, Any]:
        """Everything about the run, for JSON."""
        return {
            "seconds": round(self.passed),
            "eras": len(self.eras),
            "struck": dict(sorted(self.struck.items())),
            "done": dict(sorted(self.done.items())),
            "leaks": self.leaks(),
            "memory judged": self.seconds >= MEMORY_SECONDS,
            **{
                f"{name} resident MiB": [one.resident >> 20 for one in samples[:: max(1, len(samples) // 24)]]
                for name, samples in self.samples.items()
            },
            **{
                f"{name} descriptors": [one.descriptors for one in samples[:: max(1, len(samples) // 24)]]
                for name, samples in self.samples.items()
            },
        }


def soak(base: Path, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Run it in a directory; the report, and what was wrong. If anything was, all is left there but the processes."""
    wrong: list[str] = []
    report: dict[str, Any] = {}
    with running(base / "lab") as lab:
        run = ClusterSoak(lab, options)
        try:
            run.run()
        except Exception as error:
            traceback.print_exc()
            wrong.append(f"{type(error).__name__}: {error}"[:4000])
            _keep_logs(lab, base)
        report = run.report()
        wrong += report["leaks"] if not wrong else []
    return {**report, "faults": wrong}, wrong


def _keep_logs(lab: TroubledLab, base: Path) -> None:
    """What the mounts say is gone with a clean end of them; and how the masters see it."""
    for one in places.running():
        if one.directory.startswith(str(lab.path)):
            shutil.copy(places.place(one.pid).log, base / f"{Path(one.directory).name}.log")
    for number in lab.nodes:
        print(f"n{number} sees {lab.seen_by(number)}", file=sys.stderr)


def needs() -> str:
    """Why it cannot run here; empty if it can."""
    from gavel.node.lab import _can_cut

    if not _can_cut():
        return "network namespaces need root and ip(8)"
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse is missing"
