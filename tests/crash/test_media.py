"""Cuts at every device write of a workload on a volume, and planted bugs that the same checks must catch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gavel.errors import DeviceFailed, DeviceFull, GavelError, VolumeFull
from gavel.limits import BIG_BLOCK
from gavel.media import recovery
from gavel.media.log import Log
from gavel.media.room import Trimmer
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.crash.toy import Workload, judge

SEEDS = range(40) if os.environ.get("GAVEL_SOAK") else range(2)
SIZE = 14 * BIG_BLOCK


def make(seed: int) -> Workload:
    device = SimDevice(SIZE, seed, sector=4096)
    Volume.format(device, identity=bytes(16), salt=0xABCDEF + seed, label="", created_tid=1)
    return Workload(device, seed)


def run(workload: Workload, steps: int) -> None:
    """So many steps; a full volume gets its checkpoint, as the replica would do it."""
    for _ in range(steps):
        try:
            workload.step()
        except VolumeFull:
            workload.finish_checkpoint()
            workload.begin_checkpoint()
            workload.finish_checkpoint()


def cut_everywhere(workload: Workload, steps: int) -> int:
    """Judge what a power cut leaves at each write of a run, and now and then live on there; how many cuts."""
    random = Random(steps)
    cuts = 0

    def strike(device: SimDevice) -> None:
        judge(device.crash(random), workload)

    def cut(device: SimDevice) -> None:
        nonlocal cuts
        cuts += 1
        crashed = device.crash(random, random.choice([None, None, 0.0, 1.0]))
        if cuts % 7 == 0:  # the power fails again at each write of the recovery
            crashed.on_write = strike
        toy = judge(crashed, workload)
        crashed.on_write = None
        if cuts % 10 == 0:
            second = Workload(toy.volume._device.crash(random), cuts, workload.key)
            run(second, 20)
            judge(second.device.crash(random), second)

    workload.device.on_write = cut
    run(workload, steps)
    return cuts


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_at_every_write_loses_nothing_that_was_synced(seed: int) -> None:
    workload = make(seed)
    assert cut_everywhere(workload, 1200) > 300
    assert workload.toy.volume._header.generation > 8
    assert max(workload.toy.volume._map.generation) > 2, "no big-block was used again; the run proves too little"


def _sync_left_out(step: int) -> Callable[[Workload, pytest.MonkeyPatch], None]:
    def plant(workload: Workload, _: pytest.MonkeyPatch) -> None:
        workload.skipped_sync = step

    return plant


def _freed_before_the_image_is_durable(_: Workload, patch: pytest.MonkeyPatch) -> None:
    settle = Volume.settle

    def eager(volume: Any, sequence: int) -> None:
        settle(volume, sequence)
        kept, volume._durable_live = volume._durable_live, [0] * len(volume._map)
        last_of, volume._log.last_of = volume._log.last_of, {}
        volume._retire_dead()
        volume._durable_live, volume._log.last_of = kept, last_of

    patch.setattr(Volume, "settle", eager)


def _staged_data_freed(_: Workload, patch: pytest.MonkeyPatch) -> None:
    settle = Volume.settle
    patch.setattr(Volume, "settle", lambda volume, sequence: settle(volume, volume.written))


def _replay_window_freed(_: Workload, patch: pytest.MonkeyPatch) -> None:
    retire_dead = Volume._retire_dead

    def forgetful(volume: Any) -> None:
        volume._log.last_of.clear()
        retire_dead(volume)

    patch.setattr(Volume, "_retire_dead", forgetful)


class _Equal:
    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def _payload_not_verified(_: Workload, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "xxh3_128_digest", lambda data: _Equal())


def _sync_believed_too_soon(workload: Workload, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(workload.device, "sync", lambda: None)


def _superseded_counted_as_live(_: Workload, patch: pytest.MonkeyPatch) -> None:
    save_node = Volume.save_node
    patch.setattr(Volume, "save_node", lambda volume, payload, superseded=False: save_node(volume, payload))


def _flush_forgets_a_run(_: Workload, patch: pytest.MonkeyPatch) -> None:
    write_out = Log.write_out

    def forgetful(log: Any) -> None:
        if len(log.runs) > 1:
            log.runs.pop(0)
            log.waiting = sum(len(part) for run in log.runs for part in run.parts)
        write_out(log)

    patch.setattr(Log, "write_out", forgetful)


def _holes_where_data_is_again(_: Workload, patch: pytest.MonkeyPatch) -> None:
    def run(trimmer: Any, blockmap: object, everything: bool) -> None:
        for block in trimmer._waiting:
            trimmer._device.trim(block * BIG_BLOCK, BIG_BLOCK)
        trimmer._waiting, trimmer._fresh = trimmer._fresh, []

    patch.setattr(Trimmer, "run", run)


def _holes_before_the_header_is_durable(_: Workload, patch: pytest.MonkeyPatch) -> None:
    freeze = Volume.freeze

    def eager(volume: Any) -> None:
        freeze(volume)
        for block in volume._map.used():
            if block not in volume._spared() and not volume._map.live[block]:
                volume._device.trim(block * BIG_BLOCK, BIG_BLOCK)

    patch.setattr(Volume, "freeze", eager)


@pytest.mark.parametrize(
    "plant",
    [
        _sync_left_out(0),
        _sync_left_out(1),
        _freed_before_the_image_is_durable,
        _staged_data_freed,
        _replay_window_freed,
        _payload_not_verified,
        _sync_believed_too_soon,
        _superseded_counted_as_live,
        _flush_forgets_a_run,
        _holes_where_data_is_again,
        _holes_before_the_header_is_durable,
    ],
    ids=[
        "sync before publish",
        "sync before retire",
        "freed early",
        "staged data freed",
        "replay window freed",
        "payload unverified",
        "no sync",
        "superseded counted",
        "run forgotten",
        "hole in data",
        "hole too early",
    ],
)
def test_a_planted_bug_is_caught(
    plant: Callable[[Workload, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        workload = make(seed)
        with monkeypatch.context() as patch:
            plant(workload, patch)
            try:
                cut_everywhere(workload, 1200)
            except (GavelError, AssertionError):
                return
    raise AssertionError("no check noticed the planted bug")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_disk_at_any_write_loses_nothing(seed: int) -> None:
    workload = make(seed)
    device = workload.device
    random = Random(seed)
    refused = 0
    for _ in range(700):
        if random.random() < 0.1:
            device.full_at(random.randrange(1, 6))
        try:
            run(workload, 1)
        except DeviceFull:
            refused += 1
            workload.abandon()
        assert workload.toy.state() == workload.state
    device.heal()
    workload.toy.verify()
    workload.finish_checkpoint()
    workload.sync()
    judge(device.crash(random, 0.0), workload)
    assert refused > 20


@pytest.mark.parametrize("call", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144])
def test_a_device_that_fails_takes_no_more_and_keeps_what_was_synced(call: int) -> None:
    workload = make(call)
    workload.device.fail_at(call)
    with pytest.raises(DeviceFailed):
        run(workload, 2000)
    workload.device.heal()
    volume = workload.toy.volume
    if volume._log.failed:
        for action in (lambda: volume.append_data(b"x"), lambda: volume.append(1, b"x"), volume.flush, volume.freeze):
            with pytest.raises(DeviceFailed):
                action()
    judge(workload.device.crash(Random(call)), workload)


def test_the_same_seed_writes_the_same_bytes_whatever_the_hash_seed() -> None:
    program = (
        "from hashlib import sha256\n"
        "from tests.crash.test_media import make, run\n"
        "workload = make(3)\n"
        "run(workload, 300)\n"
        "print(sha256(repr(sorted(workload.device._sectors.items())).encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            cwd=root, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1 and "" not in digests
