"""Dedup: the same content is stored once, verified, past and present; nothing that can be seen changes."""

from __future__ import annotations

from unittest.mock import patch

from gavel.filesystem import data
from gavel.keys.records import ROOT_OBJECT
from gavel.media import extents
from gavel.upkeep.dedup import dedup
from gavel.upkeep.prune import prune
from gavel.upkeep.walk import versions
from tests.crash.simulated import System, lookup, opened, state
from tests.unit.upkeep.systems import noise, problems, put, remove, run, volume

SIZE = 60_000


def twice(system: System, count: int = 10) -> None:
    """Files of which each second has the content of the one before; written so that no other means shares them."""
    with patch("gavel.cache.lately.Lately.find", lambda *_: None):
        for n in range(count):
            put(system, b"f%02d" % n, noise(SIZE, n // 2))


def places(system: System) -> list[int]:
    found, _ = versions(system.engine.history, b"", data_only=True, count=10**6)
    return [place[0] for version in found if (place := extents.reference(version.value)) is not None]


def test_the_same_content_is_stored_once() -> None:
    system = volume()
    twice(system)
    engine = system.engine
    before = state(engine)
    assert len(set(places(system))) == 10
    simulated = run(system, dedup(engine.history, engine.volume, simulate=True))
    assert (simulated.extents, simulated.duplicates, simulated.bytes) == (10, 5, 5 * SIZE)
    assert len(set(places(system))) == 10, "simulated only"
    done = run(system, dedup(engine.history, engine.volume))
    assert done == simulated
    assert len(set(places(system))) == 5
    assert state(engine) == before
    assert problems(system) == []
    after = opened(system.device.crash(keep=0.0), system.shell.clock())
    assert state(after.engine) == before
    assert len(set(places(after))) == 5
    assert run(system, dedup(engine.history, engine.volume)).duplicates == 0


def test_what_is_in_the_past_is_shared_too_and_parts_keep_their_place_in_it() -> None:
    system = volume()
    twice(system, 4)
    engine = system.engine
    put(system, b"f01", b"changed", offset=10_000)
    then = remove(system, b"f03") - 1
    before, past = state(engine), state(engine, then)
    assert run(system, dedup(engine.history, engine.volume)).duplicates == 2
    assert (state(engine), state(engine, then)) == (before, past)
    assert len(set(places(system))) == 2
    assert problems(system) == []


def test_several_passes_find_as_much_as_one() -> None:
    system = volume()
    twice(system, 20)
    engine = system.engine
    done = run(system, dedup(engine.history, engine.volume, table=5))
    assert (done.extents, done.duplicates) == (20, 10)
    assert len(set(places(system))) == 10


def test_equal_sums_of_different_bytes_are_not_shared() -> None:
    system = volume()
    engine = system.engine
    with (
        patch("gavel.cache.views.xxh3_128_digest", lambda _: bytes(16)),
        patch("gavel.media.extents.xxh3_128_digest", lambda _: bytes(16)),
        patch("gavel.cache.lately.Lately.find", lambda *_: None),
    ):
        for n in range(4):
            put(system, b"f%d" % n, noise(SIZE, n))
        run(system, dedup(engine.history, engine.volume))
        assert len(set(places(system))) == 4


def test_a_damaged_extent_is_not_shared() -> None:
    system = volume()
    twice(system, 2)
    system.checkpoint()
    system.device.rot(places(system)[0] + 9)
    done = run(system, dedup(system.engine.history, system.engine.volume))
    assert done.damaged == 1
    assert len(set(places(system))) == 2


def test_what_goes_while_it_runs_is_not_shared_with() -> None:
    system = volume()
    twice(system, 40)
    engine = system.engine
    engine.jobs.slice_ns = 1
    job = engine.jobs.start("dedup", dedup(engine.history, engine.volume))
    n = 0
    while not job.over:
        if n < 40:
            remove(system, b"f%02d" % n)
            engine.write(lambda tx: data.write(tx, lookup(tx, ROOT_OBJECT, b"f39"), 0, b"x"))
            for _ in _without_driver(system):
                pass
        n += 2
        system.shell.run(0.002)
    job.result()
    assert problems(system) == []


def _without_driver(system: System) -> list[int]:
    """A prune of everything between two slices, as a slice of another job could not be, but replay could."""
    from gavel.upkeep.job import Write

    steps = prune(system.engine.history, everything=True)
    step = next(steps)
    try:
        while True:
            if isinstance(step, Write):
                answer = system.engine.write(step.operation)
                system.engine.flush()
                step = steps.send(answer)
            else:
                step = next(steps)
    except StopIteration:
        return []
