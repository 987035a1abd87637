"""Scrub: everything is read from the medium; what is rotten is told by path, bytes and time."""

from __future__ import annotations

import pytest

from gavel.errors import Damaged
from gavel.filesystem import data
from gavel.keys.records import ROOT_OBJECT
from gavel.media import extents, layout
from gavel.runtime.jobs import State
from gavel.transaction.transaction import Transaction
from gavel.upkeep.job import Cursor, Steps
from gavel.upkeep.scrub import Scrubbed, scrub
from tests.crash.simulated import System, lookup, opened
from tests.unit.upkeep.systems import get, noise, put, remove, run, volume


def steps(system: System, cursor: Cursor | None = None) -> Steps[Scrubbed]:
    engine = system.engine
    return scrub(engine.history, engine.volume, engine.look, cursor)


def filled() -> System:
    system = volume()
    for n in range(30):
        put(system, b"f%02d" % n, noise(20_000, n))
    put(system, b"f03", noise(20_000, 99))
    remove(system, b"f04")
    system.checkpoint()
    return system


def reopened(system: System) -> System:
    """The same device, with nothing in memory."""
    system.checkpoint(clean=True)
    system.engine.abandon()
    return opened(system.device, system.shell.clock())


def extent_of(system: System, name: bytes, at: int | None = None) -> extents.Extent:
    def operation(tx: Transaction) -> extents.Extent:
        from gavel.keys import records

        _, value = next(tx.scan(*records.extents(tx.pfs, lookup(tx, ROOT_OBJECT, name))))
        found = extents.decode(value).extent
        assert found is not None
        return found

    return system.engine.read(operation) if at is None else system.engine.read_at(at, operation)


def test_a_sound_volume_is_read_whole() -> None:
    system = filled()
    done = run(system, steps(system))
    assert done.damages == 0
    assert done.found == []
    assert done.extents == 31
    assert done.bytes >= 31 * 20_000
    counts = system.engine.history.counts()
    assert done.nodes >= counts.live_nodes + counts.past_nodes


def test_rotten_file_data_is_told_and_gives_an_error_for_itself_alone() -> None:
    system = filled()
    live, past = extent_of(system, b"f07"), extent_of(system, b"f04", _tid_of_f04(system))
    system = reopened(system)
    system.device.rot(live.place + 11)
    system.device.rot(past.place + 11)
    done = run(system, steps(system))
    assert done.damages == 2
    present, gone = sorted(done.found, key=lambda one: one.until or 0)
    assert (present.path, present.start, present.end, present.until) == ("/f07", 0, 20_000, None)
    assert gone.path == "/f04"
    assert gone.until is not None
    assert gone.since < gone.until
    with pytest.raises(Damaged):
        get(system, b"f07")
    assert get(system, b"f08") == noise(20_000, 8)
    assert get(system, b"f03") == noise(20_000, 99)


def _tid_of_f04(system: System) -> int:
    """A moment at which f04 was there."""
    for change in system.engine.history.changes(0, system.engine.history.last_tid):
        if change.new is None:
            return change.tid - 1
    raise AssertionError


def test_a_rotten_node_is_told_although_a_sound_copy_is_in_memory() -> None:
    system = filled()
    addresses, _ = system.engine.history.node_addresses(b"", 10)
    offset, size = layout.node_extent(addresses[-1])
    system.device.rot(offset + size // 2)
    done = run(system, steps(system))
    assert [one.path for one in done.found] == ["the trees"]
    assert done.found[0].start == offset


def test_a_rate_holds_it_back_and_a_cursor_lets_it_go_on_after_a_restart() -> None:
    system = filled()
    system.engine.jobs.slice_ns = 1
    cursor = Cursor()
    before = system.shell.clock()
    job = system.engine.jobs.start("scrub", steps(system, cursor), rate=100_000)
    system.shell.run(seconds=2)
    assert job.progress is not None
    assert job.progress.done < 100_000 * 4
    system.engine.jobs.cancel(job)
    assert job.state is State.STOPPED
    assert cursor.value
    assert system.shell.clock() - before < 3e9
    extent = extent_of(system, b"f29")
    system = reopened(system)
    system.device.rot(extent.place)
    done = run(system, steps(system, cursor))
    assert 0 < done.extents < 31
    assert [one.path for one in done.found] == ["/f29"]
    assert cursor.value == b""


def test_a_volume_opened_for_reading_can_be_scrubbed() -> None:
    system = filled()
    system.checkpoint(clean=True)
    system.engine.abandon()
    system = opened(system.device, system.shell.clock(), read_only=True)
    assert run(system, steps(system)).extents == 31


def test_what_is_shown_in_part_is_told_by_its_own_bytes() -> None:
    system = filled()
    system.engine.write(lambda tx: data.write(tx, lookup(tx, ROOT_OBJECT, b"f01"), 5000, noise(5000, 7)))
    system.engine.flush()
    extent = extent_of(system, b"f01")
    system = reopened(system)
    system.device.rot(extent.place)
    done = run(system, steps(system))
    assert {(one.start, one.end) for one in done.found} <= {(0, 5000), (10_000, 20_000), (0, 20_000)}
    assert done.damages >= 1
