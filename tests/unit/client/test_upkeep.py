"""Upkeep through the functions that every face calls, on a volume with a thread of its own, and on a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from random import Random
from typing import Any

import pytest

from gavel.client import upkeep
from gavel.client.driving import drive_on_loop
from gavel.client.fs import Fs, drive
from gavel.client.results import Progress
from gavel.errors import BadRequest, BadWhen, HistoryPruned
from gavel.keys import tid as tids
from gavel.runtime.engine import Engine
from gavel.sim.device import SimDevice
from gavel.upkeep.cleanup import DEFAULTS, Task
from tests.contracts.api import WHO, opened


def done(job: Generator[Progress, None, Any]) -> Any:
    return drive(job, None)


def aged(fs: Fs, versions: int = 5) -> list[int]:
    moments = []
    for n in range(versions):
        fs.write_bytes("f", Random(n).randbytes(10_000))
        moments.append(fs.tid())
    return moments


def test_policies_are_set_shown_and_listed(fs: Fs) -> None:
    fs.makedirs("a/b")
    assert upkeep.retention_get(fs._present, b"a/b") == ("all:forever", None)
    assert upkeep.retention_set(fs._present, b"a", "all:1d, daily:9d") == ("all:1d,daily:9d", "/a")
    assert upkeep.retention_get(fs._present, b"a/b") == ("all:1d,daily:9d", "/a")
    assert upkeep.retention_list(fs._present) == [("/", "all:forever"), ("/a", "all:1d,daily:9d")]
    assert upkeep.retention_set(fs._present, b"a", None) == ("all:forever", None)
    with pytest.raises(BadRequest):
        upkeep.retention_set(fs._present, b"a", "none")
    with pytest.raises(FileNotFoundError):
        upkeep.retention_get(fs._present, b"nowhere")


def test_prune_everything_keeps_the_present_and_the_snapshots(fs: Fs) -> None:
    moments = aged(fs)
    fs.snapshot_create("kept", moments[2])
    expected = done(upkeep.prune(fs._present, b"", everything=True, dry_run=True))
    assert fs.as_of(moments[0]).read_bytes("f") == Random(0).randbytes(10_000)
    result = done(upkeep.prune(fs._present, b"", everything=True))
    assert result.versions >= expected.versions > 0
    assert expected.bytes == 30_000
    assert fs.as_of("kept").read_bytes("f") == Random(2).randbytes(10_000)
    assert fs.as_of(moments[2]).read_bytes("f") == Random(2).randbytes(10_000)
    with pytest.raises(HistoryPruned):
        fs.as_of(moments[1]).read_bytes("f")
    with pytest.raises(BadWhen, match="beginning"):
        fs.as_of(1)
    assert fs.check(deep=True) == []
    assert list(fs.log("/")) == [] or all(one.tid > result.horizon for one in fs.log("/"))
    assert fs.info().horizon == result.horizon


def test_a_policy_for_once_and_what_is_refused(fs: Fs) -> None:
    aged(fs)
    fs.mkdir("d")
    assert done(upkeep.prune(fs._present, b"")).horizon == 0, "the root keeps everything"
    assert done(upkeep.prune(fs._present, b"d", keep="all:1s")).horizon == 0, "the root still does"
    assert done(upkeep.prune(fs._present, b"", keep="all:1d")).horizon < tids.make(fs.last_tid)
    with pytest.raises(BadRequest, match="root"):
        upkeep.prune(fs._present, b"d", everything=True)
    with pytest.raises(BadRequest, match="--everything"):
        upkeep.prune(fs._present, b"", keep="all:1d", everything=True)
    with pytest.raises(NotADirectoryError):
        upkeep.prune(fs._present, b"f")


def test_the_other_jobs(fs: Fs) -> None:
    moments = aged(fs)
    fs.snapshot_create("one", moments[1])
    seen: list[Progress] = []
    scrubbed = drive(upkeep.run_scrub(fs._present, rate=10**9), seen.append)
    assert (scrubbed.damages, scrubbed.extents) == (0, 5)
    assert all(step.pause > 0 for step in seen)
    assert done(upkeep.run_dedup(fs._present, simulate=True)).duplicates == 0
    assert done(upkeep.run_dedup(fs._present)).duplicates == 0
    assert done(upkeep.run_reblock(fs._present)).damaged == 0
    assert done(upkeep.space_of_snapshots(fs._present)) == {"one": 10_000}


def test_cleanup_runs_what_is_configured(fs: Fs) -> None:
    aged(fs)
    assert {name: task for name, (task, _) in upkeep.cleanup_show(fs._present).items()} == DEFAULTS
    assert upkeep.cleanup_set(fs._present, "dedup", "7d", "10m")["dedup"] == Task(7 * 86_400, 600)
    assert upkeep.cleanup_set(fs._present, "scrub", "never")["scrub"].every is None
    runs = done(upkeep.cleanup(fs._present))
    assert [(run.name, run.error) for run in runs] == [("prune", None), ("dedup", None), ("reblock", None)]
    assert [run.name for run in done(upkeep.cleanup(fs._present, ["scrub"]))] == ["scrub"]
    shown = upkeep.cleanup_show(fs._present)
    assert all(course is not None for _, course in shown.values())
    with pytest.raises(BadRequest, match="there is no task"):
        done(upkeep.cleanup(fs._present, ["polish"]))
    for every in ("forever", "1x"):
        with pytest.raises(BadRequest):
            upkeep.cleanup_set(fs._present, "prune", every)


def test_dropping_a_generator_stops_its_job(fs: Fs) -> None:
    aged(fs)
    job = upkeep.run_scrub(fs._present, rate=1)
    next(job)
    assert fs._engine.jobs.current is not None
    job.close()
    assert fs._engine.jobs.current is None


def test_a_job_that_fails_raises_here(device: SimDevice) -> None:
    fs = opened(device)
    aged(fs)
    device.fail_at(1)
    with pytest.raises(Exception, match="failed"):
        done(upkeep.run_reblock(fs._present))
    fs._engine.abandon()


def test_on_a_loop_the_same_generators_are_driven_while_the_engine_works(device: SimDevice) -> None:
    async def main() -> None:
        fs = Fs(Engine(device, loop=asyncio.get_running_loop()), WHO)
        try:
            fs.write_bytes("f", bytes(100_000))
            result = await drive_on_loop(upkeep.run_scrub(fs._present), None)
            assert result.damages == 0
            assert (await drive_on_loop(upkeep.prune(fs._present, b"", everything=True), None)).horizon > 0
        finally:
            await fs.close_on_loop()

    asyncio.run(main())
