"""The upkeep of a volume under its names in Python, blocking and on a loop."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path

import pytest

import gavel
from gavel.client.chosen import Chosen
from gavel.client.upkept import AsyncUpkept, Upkept
from gavel.errors import BadRequest, WrongKey

SIZE = 128 * 1024**2
MIB = 1024**2


def names(face: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in vars(face).items()
        if inspect.isfunction(method) and not name.startswith("_") and not name.endswith("_job")
    }


def test_both_faces_have_the_same_names_and_parameters() -> None:
    assert names(Upkept) | names(Chosen) == names(AsyncUpkept)


def test_everything_on_a_loop(tmp_path: Path) -> None:
    steps: list[object] = []

    async def work() -> None:
        async with gavel.aio.open(tmp_path / "v", create=True, size=SIZE) as fs:
            await fs.write_bytes("f", os.urandom(12 * MIB))
            await fs.snapshot_create("kept")
            await fs.tid()
            await fs.remove("f")
            await fs.tid()
            assert await fs.snapshot_space() == {"kept": 12 * MIB}
            assert (await fs.set_retention("/", "all:1d")).policy == "all:1d"
            assert await fs.retention_list() == [("/", "all:1d")]
            await fs.snapshot_delete("kept")
            assert (await fs.prune(everything=True, progress=steps.append)).versions > 0
            assert (await fs.reblock()).damaged == 0
            assert (await fs.info()).history == 0
            await fs.cleanup_set("dedup", "1d")
            assert [run.error for run in await fs.cleanup()] == [None] * 4
            assert (await fs.cleanup_show())["scrub"][1] is not None
            assert (await fs.dedup(simulate=True)).bytes == 0
            assert await fs.set_compression("/", "on") == await fs.compression() == "on"
            member = await fs.volume_add(tmp_path / "more", size=SIZE)
            assert [one.number for one in await fs.volume_list()] == [0, member.number]
            await fs.volume_remove(str(tmp_path / "more"))
            assert (await fs.volume_format()).version == await fs.upgrade()
            with pytest.raises(BadRequest):
                await fs.rekey(gavel.Passphrase("x"))
            assert await fs.check(deep=True) == []

    asyncio.run(work())
    assert steps


def test_a_cancelled_job_leaves_the_volume_to_others(tmp_path: Path) -> None:
    async def work() -> None:
        async with gavel.aio.open(tmp_path / "v", create=True, size=SIZE) as fs:
            await fs.write_bytes("f", os.urandom(4 * MIB))
            await fs.tid()
            slow = asyncio.ensure_future(fs.scrub(1000))
            await asyncio.sleep(0.1)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert (await fs.scrub()).bytes == 4 * MIB

    asyncio.run(work())


def test_a_removal_that_is_stopped_leaves_the_member_in_use(tmp_path: Path) -> None:
    with gavel.open(tmp_path / "v", create=True, size=SIZE) as fs:
        fs.volume_add(tmp_path / "more", size=SIZE)
        job = fs.volume_remove_job("1")
        next(job)
        assert fs.volume_list()[1].leaving
        job.close()
        assert not fs.volume_list()[1].leaving
        fs.write_bytes("f", b"x" * MIB)
        fs.volume_remove("1")
        assert len(fs.volume_list()) == 1 and fs.check(deep=True) == []


def test_the_first_device_stays(tmp_path: Path) -> None:
    with gavel.open(tmp_path / "v", create=True, size=SIZE) as fs:
        for which in ("0", str(tmp_path / "v")):
            with pytest.raises(BadRequest, match=r"\bstays\b"):
                fs.volume_remove(which)
        assert not fs.volume_list()[0].leaving


def test_rekey(tmp_path: Path) -> None:
    first, second = gavel.Passphrase("one"), gavel.Passphrase("two")
    with gavel.open(tmp_path / "v", create=True, size=SIZE, key=first) as fs:
        fs.write_text("f", "secret")
        assert fs.rekey(second) == fs.volume_format().encryption == "passphrase"
    with pytest.raises(WrongKey):
        gavel.open(tmp_path / "v", key=first)
    with gavel.open(tmp_path / "v", key=second) as fs:
        assert fs.read_text("f") == "secret"
