"""Upkeep of a volume that is encrypted and compresses: places move, sums and seals hold."""

from __future__ import annotations

from gavel.filesystem import compression, superblock
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import VOLUME_MIN
from gavel.media.cipher import FORMAT_ENTROPY, KeyFile
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine
from gavel.sim.device import SimDevice
from gavel.sim.shell import SimShell
from gavel.upkeep.dedup import dedup
from gavel.upkeep.prune import prune
from gavel.upkeep.reblock import reblock
from gavel.upkeep.scrub import scrub
from tests.crash.simulated import WHO, System, state
from tests.unit.upkeep.systems import noise, problems, put, remove, run

KEY = KeyFile(bytes(range(32)))


def opened(device: SimDevice, start: int) -> System:
    shell = SimShell(device, start)
    return System(device, shell, Engine(device, shell=shell, clock=shell.clock, key=KEY))


def test_everything_works_on_a_sealed_volume_as_on_one_in_clear() -> None:
    device = SimDevice(VOLUME_MIN, 1)
    Volume.format(
        device, identity=bytes(16), salt=7, label="", created_tid=1 << 40, key=KEY, entropy=bytes(FORMAT_ENTROPY)
    )
    system = opened(device, 1_600_000_000 * 10**9)
    engine = system.engine
    engine.write(superblock.make_root, WHO)
    engine.write(compression.set_compression, ROOT_OBJECT, "on")
    for n in range(320):
        put(system, b"f%03d" % n, noise(60_000, n) + b"the same " * 8000)
    for n in range(320):
        if n % 4:
            remove(system, b"f%03d" % n)
    before = state(engine)
    assert run(system, prune(engine.history, everything=True)).versions > 0
    assert run(system, dedup(engine.history, engine.volume)).damaged == 0
    moved = run(system, reblock(engine.history, engine.volume))
    assert moved.blocks > 0
    assert moved.damaged == 0
    scrubbed = run(system, scrub(engine.history, engine.volume, engine.look))
    assert (scrubbed.damages, scrubbed.extents > 0) == (0, True)
    assert state(engine) == before
    assert problems(system) == []
    after = opened(system.device.crash(keep=0.0), system.shell.clock())
    assert state(after.engine) == before
    assert run(after, scrub(after.engine.history, after.engine.volume, after.engine.look)).damages == 0
