"""An undo in several slices while a prune or a reblock takes away, or moves, what it brings back.

It once carried the records of its next slice over a turn: what they refer to was dropped or moved meanwhile, its
big-block freed and written anew, and the undo put back references to the bytes of other files.
"""

from __future__ import annotations

from collections.abc import Generator
from random import Random

import pytest

from gavel.client.devices import _answered
from gavel.client.driving import drive
from gavel.client.fs import Fs
from gavel.client.results import Progress
from gavel.errors import HistoryPruned
from gavel.limits import BIG_BLOCK
from gavel.sim.device import SimDevice
from tests.contracts.api import opened

PIECES = 250  # data records: two slices, the second of which the undo has in hand while the first is written
NEW = Random(3).randbytes(3 * BIG_BLOCK)


@pytest.fixture
def scattered(fs: Fs) -> Fs:
    """A file whose two halves lie in big-blocks of their own, among much that is gone."""
    random = Random(1)
    with fs.open("f", "wb", buffering=0) as file:
        for n in range(PIECES):
            if n == 128:
                fs.write_bytes("filler", random.randbytes(BIG_BLOCK + 1))
            file.seek(n * 1000)
            file.write(random.randbytes(600))
    fs.write_bytes("more", random.randbytes(BIG_BLOCK + 1))
    fs.sync()
    fs.remove("filler")
    fs.remove("more")
    return fs


def begun(fs: Fs, to: int) -> Generator[Progress, None, object]:
    """An undo that has written its first slice."""
    job = fs.undo_job("f", to, False)
    while next(job).total is None:
        pass
    return job


def used_again(fs: Fs) -> None:
    """What is free is written anew."""
    for _ in range(2):
        drive(_answered(fs._engine, "checkpoint", fs._engine.request_checkpoint), None)
    fs.write_bytes("new", NEW)
    fs.sync()


def sound(device: SimDevice) -> bytes:
    """What the file is, read from the device by another engine."""
    with opened(device.crash(keep=1.0)) as again:
        assert again.check(deep=True) == []
        assert again.read_bytes("new") == NEW
        return again.read_bytes("f")


def test_what_a_prune_took_is_refused_and_nothing_is_half(scattered: Fs, device: SimDevice) -> None:
    to = scattered.tid()
    scattered.remove("f")
    job = begun(scattered, to)
    scattered.prune("/", everything=True)
    used_again(scattered)
    with pytest.raises(HistoryPruned):
        drive(job, None)
    scattered.sync()
    assert len(sound(device)) == 128_000 - 400, "the first slice has come back"


@pytest.mark.parametrize("present", [False, True])
def test_what_a_reblock_moved_comes_back_from_where_it_is(scattered: Fs, device: SimDevice, present: bool) -> None:
    before = scattered.read_bytes("f")
    to = scattered.tid()
    scattered.snapshot_create("s", to)
    if present:
        scattered.truncate("f", 0)
        scattered.write_bytes("f", b"".join(Random(n).randbytes(700) for n in range(900)))
    else:
        scattered.remove("f")
    job = begun(scattered, to)
    scattered.prune("/", everything=True)
    assert scattered.reblock().moved
    used_again(scattered)
    drive(job, None)
    scattered.sync()
    assert sound(device) == before
