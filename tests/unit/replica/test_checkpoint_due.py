"""When a master begins a checkpoint by itself."""

from unittest.mock import patch

from gavel.filesystem import namespace, superblock
from gavel.replica import replica
from tests.crash.simulated import WHO, format_device, opened


def test_many_dirty_nodes_make_a_checkpoint_due() -> None:
    system = opened(format_device())
    system.engine.write(superblock.make_root, WHO)
    system.sync()
    history, before = system.engine.replica.history, system.engine.replica.volume.roots
    with patch.object(replica, "DIRTY_NODES_MAX", 1000):
        for number in range(20):
            system.engine.write(namespace.create, 1, b"file%d" % number, 0o100644, WHO)
        system.engine.flush()
        assert history.dirty_bytes > 1000
        system.shell.run(1)
    assert system.engine.replica.volume.roots != before
    assert history.dirty_bytes == 0
    assert history.counts().live_records > 40
