"""A checkpoint waits for its syncs, however often somebody else has the time told.

Found by the simulator (whole masters, seed 74): the quorum's ticks moved a checkpoint on past a sync that had not
ended; the header was written before the map it names was durable, and after a crash the volume did not open.
"""

from gavel.effects import Requested, Sync, Synced, Ticked
from gavel.limits import VOLUME_MIN
from gavel.media.volume import Volume
from gavel.replica.replica import Replica
from gavel.sim.device import SimDevice
from gavel.transaction.requests import Checkpoint, Commit
from tests.unit.replica.group import START
from tests.unit.replica.masters import key


def test_ticks_do_not_move_a_checkpoint_past_its_sync() -> None:
    device = SimDevice(VOLUME_MIN, 1)
    Volume.format(device, identity=bytes(16), salt=1, label="", created_tid=1)
    replica = Replica(Volume.open(device), START, 1, resident=False)
    replica.step(Requested(Commit(1, [key("k")], [b"1"])), START)
    replica.step(Requested(Checkpoint(2)), START)
    asked: list[int] = []
    for turn in range(200):
        replica.step(Ticked(), START + turn)
        asked += [effect.ticket for effect in replica.drain() if isinstance(effect, Sync)]
        Volume.open(device.crash(keep=0.0))
        Volume.open(device.crash())
    assert len(asked) == 1
    writes = device.writes
    device.sync()
    replica.step(Synced(asked[0]), START)
    for turn in range(200):
        replica.step(Ticked(), START + turn)
        replica.drain()
    assert device.writes > writes
