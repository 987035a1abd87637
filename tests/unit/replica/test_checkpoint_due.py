"""When a master begins a checkpoint by itself."""

from unittest.mock import patch

import pytest

from gavel.effects import Requested, Sync, Synced, Ticked
from gavel.errors import VolumeFull
from gavel.filesystem import namespace, superblock
from gavel.media.volume import Volume
from gavel.replica import checkpoints
from gavel.replica.replica import Replica
from gavel.transaction.requests import Checkpoint, Commit
from tests.crash.simulated import WHO, format_device, opened


def test_a_commit_that_finds_no_room_makes_a_checkpoint_due_and_fits_after_it() -> None:
    system = opened(format_device())
    system.engine.write(superblock.make_root, WHO)
    system.sync()
    volume = system.engine.volume
    system.engine.write(namespace.create, 1, b"file", 0o100644, WHO)
    generation = volume._header.generation
    with patch.object(volume, "append", side_effect=VolumeFull(0, 1)), pytest.raises(VolumeFull):
        system.engine.flush()
    system.shell.run(1)
    assert volume._header.generation == generation + 1
    with patch.object(volume, "append", side_effect=VolumeFull(0, 1)), pytest.raises(VolumeFull):
        system.engine.flush()
    system.shell.run(1)
    assert volume._header.generation == generation + 1, "a further checkpoint would free nothing"
    system.engine.flush()


def test_many_dirty_nodes_make_a_checkpoint_due() -> None:
    system = opened(format_device())
    system.engine.write(superblock.make_root, WHO)
    system.sync()
    history, before = system.engine.replica.history, system.engine.replica.volume.roots
    with patch.object(checkpoints, "DIRTY_NODES_MAX", 1000):
        for number in range(20):
            system.engine.write(namespace.create, 1, b"file%d" % number, 0o100644, WHO)
        system.engine.flush()
        assert history.dirty_bytes > 1000
        system.shell.run(1)
    assert system.engine.replica.volume.roots != before
    assert history.dirty_bytes == 0
    assert history.counts().live_records > 40


def test_a_checkpoint_waits_for_its_sync_whoever_else_has_the_time_told() -> None:
    """The quorum arms timers of its own: their Ticked must not publish a header before what it names is durable."""
    device = format_device()
    volume = Volume.open(device)
    master = Replica(volume, 10**18)
    master.step(Requested(Commit(1, [b"\0" * 20], [b"v"])), 10**18)
    master.step(Requested(Checkpoint(2)), 10**18)
    generation = volume._header.generation
    sync = None
    for now in range(10**18, 10**18 + 50):
        master.step(Ticked(), now)
        sync = next((effect for effect in master.drain() if isinstance(effect, Sync)), sync)
    assert sync is not None and volume._image is not None and not volume._image.published
    for number in range(2):
        device.sync()
        master.step(Synced(sync.ticket + number), 10**18 + 60)
        for _ in range(3):
            master.drain()
            master.step(Ticked(), 10**18 + 70)
    assert volume._header.generation == generation + 1
