"""The map counted afresh from the trees, at any moment of a checkpoint; and left open where others work meanwhile."""

from __future__ import annotations

from gavel.history.versions import Step
from gavel.limits import BIG_BLOCK, EXTENT_MAX
from tests.unit.upkeep.systems import noise, put, remove, volume


def test_it_agrees_at_every_step_of_a_checkpoint() -> None:
    system = volume()
    engine = system.engine
    for n in range(40):
        put(system, b"f%d" % n, noise(3000, n))
    put(system, b"large", noise(3 * EXTENT_MAX, 100))
    system.checkpoint()
    for n in range(0, 40, 3):
        remove(system, b"f%d" % n)
    looks = 0
    for step in engine.history.checkpoint():
        looks += 1
        assert [text for text in engine.history.recount() if text] == []
        put(system, b"beside", noise(2000, looks))
        if step is Step.SYNC:
            system.device.sync()
    assert looks > 1
    assert [text for text in engine.history.recount() if text] == []
    assert sum(engine.volume.alive().values()) <= engine.space().live


def test_it_tells_the_big_block_and_both_counts() -> None:
    system = volume()
    place = system.engine.volume.append_data(b"x")
    put(system, b"f", noise(3000, 1))
    system.engine.volume.add_live(place, 100)
    (told,) = [text for text in system.engine.history.recount() if text]
    assert told.startswith(f"big-block {place // BIG_BLOCK}: the map counts ")
    live = system.engine.volume.alive()[place // BIG_BLOCK]
    assert f" {live} live bytes" in told and told.endswith(f" {live - 100}")


def test_what_changes_meanwhile_is_no_miscount() -> None:
    system = volume()
    for n in range(300):
        put(system, b"f%d" % n, noise(300, n))
    count = system.engine.history.recount()
    assert next(count) == ""
    put(system, b"more", noise(5000, 1))
    assert list(count) == []
