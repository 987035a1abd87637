"""Each verdict of a crash notices what it is there for: a volume, or a ledger, that is wrong in just that."""

from __future__ import annotations

import pytest

from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.media import layout
from gavel.sim.device import SimDevice
from tests.crash import verdicts
from tests.crash.machine import Machine, formatted
from tests.crash.simulated import lookup
from tests.crash.verdicts import Cut, Found, judge, opens


def worked() -> Machine:
    """Six operations: two files, a snapshot, a rename, a file more; durable up to the rename."""
    machine = Machine(formatted())
    machine.notes()
    machine.write("a", b"a" * 1000)
    machine.write("b", b"b" * 1000)
    machine.snapshot("s")
    machine.mkdir("d")
    machine.rename("a", "d/a")
    machine.sync()
    machine.write("late", b"late")
    machine.agrees()
    return machine


def cut(machine: Machine, keep: float = 0.0) -> Cut:
    ledger = machine.ledger
    device = machine.device.crash(keep=keep)
    return Cut(device, ledger, ledger.promised, ledger.count, machine.shell.clock())


def passed(found: Found, of: Cut) -> set[str]:
    """The verdicts that find nothing wrong."""
    names = set()
    for verdict in verdicts.VERDICTS:
        try:
            verdict(found, of)
        except AssertionError:
            continue
        names.add(verdict.__name__)
    return names


ALL = {verdict.__name__ for verdict in verdicts.VERDICTS}


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_what_is_right_passes_all(keep: float) -> None:
    one = cut(worked(), keep)
    assert passed(judge(one), one) == ALL


def test_a_volume_without_headers_does_not_open() -> None:
    one = cut(worked())
    assert isinstance(one.device, SimDevice)
    for slot in range(layout.SLOTS):
        one.device.rot(layout.slot_offset(slot))
    with pytest.raises(AssertionError, match="does not open"):
        opens(one)


def test_a_file_that_cannot_be_read_does_not_open() -> None:
    machine = worked()
    obj = machine.engine.read(lookup, ROOT_OBJECT, b"b")
    value = machine.engine.read(lambda tx: tx.get(records.extent(0, obj, 1000)))
    machine.checkpoint()
    one = cut(machine)
    assert value is not None and isinstance(one.device, SimDevice)
    one.device.rot(int.from_bytes(value[1:9], "little") + 5)
    with pytest.raises(AssertionError, match="does not open"):
        opens(one)


def test_check_notices_what_does_not_add_up() -> None:
    machine = worked()
    machine.engine.ledger = None
    machine.engine.write(lambda tx: tx.delete(records.entry(0, ROOT_OBJECT, b"late")))
    machine.engine.sync_now()
    one = cut(machine)
    assert "check_is_clean" not in passed(opens(one), one)


@pytest.mark.parametrize("error", [8, -8])
def test_check_counts_the_map_afresh(error: int) -> None:
    """One miscount is space that never comes back, the other file data that is overwritten."""
    machine = worked()
    volume = machine.engine.volume
    machine.checkpoint()
    (block,) = [block for block, live in volume.alive().items() if volume._map.kinds[block] == layout.LOG]
    volume._map.live[block] += error
    volume._map.dirty.add(0)
    assert any("the map counts" in problem.text for problem in machine.fs.check(deep=True))
    machine.checkpoint()
    one = cut(machine)
    assert passed(opens(one), one) == ALL - {"check_is_clean"}


def test_what_was_synced_and_is_gone_is_noticed() -> None:
    """The state is whole and in order; it is only older than what was promised."""
    machine = worked()
    one = cut(machine)
    boasted = one._replace(promised=one.latest)
    assert passed(opens(boasted), boasted) == ALL - {"fsynced_is_there", "order_is_kept"}


def test_half_an_operation_is_noticed() -> None:
    """The rename has made the new name and not taken the old one away."""
    one = cut(worked())
    found = opens(one)
    then = next(state for state in one.ledger.states if "/d" in state and "/a" in state)
    both = found._replace(state={**found.state, "/a": then["/a"]})
    assert not {"operations_are_whole", "order_is_kept"} & passed(both, one)


def test_a_later_operation_without_an_earlier_one_is_noticed_by_the_order_alone() -> None:
    """Two files that were written one after the other and never synced: the second is there, the first is not."""
    machine = Machine(formatted())
    machine.mkdir("x")
    machine.mkdir("y")
    machine.sync()
    machine.notes()
    machine.write("x/1", b"1")
    machine.write("y/2", b"2")
    one = cut(machine, 1.0)
    found = opens(one)
    before, after = one.ledger.states[0], one.ledger.states[-1]
    for keep in ("/", "/x", "/x/1"):
        assert keep in before or keep in after
    root = {"/": before["/"], "/x": before["/x"], "/y": after["/y"], "/y/2": after["/y/2"]}
    assert passed(found._replace(state=root), one) == ALL - {"order_is_kept"}


def test_a_content_that_never_was_is_noticed() -> None:
    one = cut(worked())
    found = opens(one)
    entry = found.state["/b"]
    other = found._replace(state={**found.state, "/b": (*entry[:5], b"?" * 1000, *entry[6:])})
    assert not {"fsynced_is_there", "operations_are_whole", "order_is_kept"} & passed(other, one)


def test_a_snapshot_of_another_state_is_noticed() -> None:
    one = cut(worked())
    one.ledger.named["s"] = one.ledger.states[1]
    assert passed(opens(one), one) == ALL - {"snapshots_show_what_they_named"}
