"""A wiped master of a cluster catches up: how fast, how right its progress and the time left are, what commits pay.

Its disk is lost, it joins anew as a slave, gets everything from another master, and becomes a master again. Measured is
from its first piece to its last, by what `gavel status` says four times a second; once while nobody works, once
while a client writes one small file after the other, as it does for some seconds before and after, to compare.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

import gavel
from benchmarks.measure import Row
from gavel.client import operations
from gavel.client.volumes import caller, format_volume
from gavel.node.connecting import engine_of
from gavel.node.lab import Lab
from gavel.node.reach import reach

SIZE = 10_240  # bytes of a file
VOLUME = 8 << 30
LOOK = 0.25  # seconds
CLEAR = 1.0  # seconds left; with fewer, how right an estimate is does not matter
PATIENCE = 900.0


class Sample(NamedTuple):
    """What the status said of the one that catches up, `at` seconds; `left` None while it could not tell."""

    at: float
    position: int
    total: int
    left: float | None


def filled(volume: Path, directories: int, files: int) -> Path:
    """A volume with so many directories of so many files each, no two alike, for the first master."""
    format_volume(volume, size=VOLUME, label="filled", key=None)
    with gavel.open(str(volume)) as past:
        for directory in range(directories):

            def make(tx: Any, name: str = f"/{directory}") -> None:
                tx.mkdir(name)
                for number in range(files):
                    tx.write_bytes(f"{name}/{number}", os.urandom(SIZE))

            past.run(make)
    return volume


def rows(lab: Lab, beside: float) -> list[Row]:
    """Wipe a master of a filled lab twice. Commits go on for `beside` seconds around it."""
    number = max(lab.nodes)
    quiet = _wiped(lab, number)
    found = _told("while nobody works", quiet)
    with _Writer(lab.url) as writer:
        time.sleep(beside)
        begin = time.perf_counter()
        busy = _wiped(lab, number)
        end = time.perf_counter()
        time.sleep(beside)
    found += _told("while a client writes", busy)
    during = writer.between(busy[0].at, busy[-1].at)
    usual = writer.between(0, begin) + writer.between(end, end + beside)
    for name, of in (("mean", statistics.fmean), ("p50", statistics.median)):
        slower = (of(during) / of(usual) - 1) * 100
        found.append(
            Row(f"  ... a commit takes longer, {name}", "%", slower, "", 0, 0, "<= 10" if name == "mean" else "")
        )
    found.append(Row("  ... a commit else, mean", "ms", statistics.fmean(usual) * 1000, "", 0, 0))
    return found


def _told(when: str, samples: list[Sample]) -> list[Row]:
    first, last = samples[0], samples[-1]
    whole = last.at - first.at
    speed = (last.position - first.position) / whole / 1e6
    wrong = [
        abs(one.left - (last.at - one.at)) / (last.at - one.at) * 100
        for one in samples
        if one.left is not None and last.at - one.at > CLEAR
    ]
    astray = [abs(one.position / max(one.total, 1) - (one.at - first.at) / whole) * 100 for one in samples if one.total]
    return [
        Row(f"catch-up of a wiped master, {last.total / 1e6:.0f} MB, {when}", "MB/s", speed, "", 0, 0, ">= 80"),
        Row("  ... error of the time left, median", "%", statistics.median(wrong or [0]), "", 0, 0, "<= 20"),
        Row("  ... error of the time left, nine of ten", "%", sorted(wrong or [0])[int(len(wrong) * 0.9)], "", 0, 0),
        Row("  ... progress off the share of the time, most", "% of all", max(astray), "", 0, 0, "<= 20"),
    ]


def _wiped(lab: Lab, number: int) -> list[Sample]:
    """Wipe a master and wait until it is one again; what the status said meanwhile of how far it is."""
    voters = sum(one["role"] == "master" for one in lab.ask("status", {})["members"])
    lab.wipe(number)
    samples: list[Sample] = []
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        members = lab.ask("status", {})["members"]
        now = time.perf_counter()
        told = next((one["catch_up"] for one in members if one["catch_up"]), None)
        if told is not None and told["total"] >= max((one.total for one in samples), default=0) // 2:
            left = told["left_ms"]  # what comes after it is the rest that happened meanwhile, and small
            samples.append(Sample(now, told["position"], told["total"], None if left is None else left / 1000))
        if len(members) == voters and all(one["up"] and one["role"] == "master" for one in members):
            return samples
        time.sleep(LOOK)
    raise RuntimeError("the wiped master has not caught up")


class _Writer:
    """A client in a thread of its own that writes a small file, again and again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = False
        self._times: list[tuple[float, float]] = []  # (when it ended, how long it took)
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over = True
        self._thread.join()

    def between(self, begin: float, end: float) -> list[float]:
        """How long those took that ended then, seconds."""
        return [took for at, took in self._times if begin <= at <= end]

    def _work(self) -> None:
        async def write() -> None:
            engine = engine_of(await asyncio.to_thread(reach, self._url))
            number = 0
            while not self._over:
                number += 1
                path = b"beside-%d" % (number % 100)
                begin = time.perf_counter()
                await engine.run(lambda tx, path=path: operations.write_whole(tx, path, bytes(100), caller()))
                end = time.perf_counter()
                if number > 50:
                    self._times.append((end, end - begin))
            await engine.close()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(write())
