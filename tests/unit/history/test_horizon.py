"""What can be read below the horizon, and that nothing brings back what may be gone."""

from __future__ import annotations

import msgspec
import pytest

from gavel.errors import Damaged, HistoryPruned
from gavel.history import roots
from gavel.history.history import History
from gavel.history.horizon import KEY, Horizon, encode, recalled
from gavel.history.versions import Version
from gavel.keys import records
from tests.unit.history.systems import FakeSystem

T = 1_763_800_000_000_000 << 8
NODE = records.inode(0, 7)
END = b"\xff"


def grown(count: int = 20) -> FakeSystem:
    """An inode with another value at each of T + 1 … T + count."""
    system = FakeSystem()
    for n in range(1, count + 1):
        system.apply(T + n, [NODE], [b"%d" % n])
    return system


def say(system: FakeSystem, horizon: int, *kept: int) -> None:
    system.apply(system.history.last_tid + 1, [KEY], [encode(Horizon(horizon, kept))])


def prune(history: History) -> int:
    dropped, cursor = 0, b""
    while cursor is not None:
        cursor, count = history.prune(cursor, 3)
        dropped += count
    return dropped


def checkpoint(system: FakeSystem) -> None:
    for _ in system.checkpoint():
        pass


def test_a_record_moves_the_horizon_with_its_transaction() -> None:
    system = grown()
    assert (system.history.horizon, system.history.kept) == (0, ())
    say(system, T + 10, T + 3, T + 7)
    assert (system.history.horizon, system.history.kept) == (T + 10, (T + 3, T + 7))
    for n in range(1, 21):
        if n in (3, 7) or n >= 10:
            assert system.history.get_at(NODE, T + n) == b"%d" % n
        else:
            with pytest.raises(HistoryPruned):
                system.history.get_at(NODE, T + n)


def test_the_error_names_what_can_be_read_next_to_it() -> None:
    history = grown().history
    history.set_horizon(T + 10, [T + 3, T + 7])
    for at, nearest in ((1, (T + 3,)), (5, (T + 3, T + 7)), (8, (T + 7, T + 10))):
        with pytest.raises(HistoryPruned) as caught:
            history.scan_at(b"", END, T + at)
        assert caught.value.nearest == nearest
        assert all(f"0x{tid:016x}" in str(caught.value) for tid in nearest)


def test_a_prune_keeps_what_can_be_read_and_nothing_else() -> None:
    system = grown()
    say(system, T + 10, T + 3, T + 7)
    assert prune(system.history) == 7
    assert [version.create_tid - T for version in system.history.versions(NODE)] == [3, 7, *range(10, 21)]
    assert prune(system.history) == 0
    for n in (3, 7, 10, 15):
        assert system.history.get_at(NODE, T + n) == b"%d" % n
    assert [problem for problem in system.history.check(True) if problem] == []


def test_the_horizon_never_goes_back_and_nothing_is_kept_again() -> None:
    system = grown()
    say(system, T + 10, T + 3, T + 7)
    say(system, T + 5, T + 2, T + 3)
    assert (system.history.horizon, system.history.kept) == (T + 10, (T + 3, T + 7))
    say(system, T + 15, T + 2, T + 7, T + 12, T + 18)
    assert (system.history.horizon, system.history.kept) == (T + 15, (T + 7, T + 12))


@pytest.mark.parametrize("value", [None, b"", b"\xc1", b"text", msgspec.msgpack.encode([1, "x"])])
def test_a_record_of_no_known_form_changes_nothing_nor_is_lost_what_it_replaced(value: bytes | None) -> None:
    system = grown()
    say(system, T + 10, T + 3)
    prune(system.history)
    system.apply(system.history.last_tid + 1, [KEY], [value])
    assert (system.history.horizon, system.history.kept) == (T + 10, (T + 3,))
    prune(system.history)
    checkpoint(system)
    system.crash(0)
    assert (system.history.horizon, system.history.kept) == (T + 10, (T + 3,))
    prune(system.history)
    assert system.history.get_at(NODE, T + 3) == b"3"


def test_a_crash_brings_back_the_horizon_of_the_last_transaction() -> None:
    system = grown()
    say(system, T + 5, T + 2)
    checkpoint(system)
    system.crash(0)
    assert (system.history.horizon, system.history.kept) == (T + 5, (T + 2,))
    say(system, T + 10, T + 2, T + 7)
    system.crash(0)
    assert (system.history.horizon, system.history.kept) == (T + 10, (T + 2, T + 7))


def test_what_is_dropped_before_a_checkpoint_comes_back_unseen() -> None:
    system = grown()
    checkpoint(system)
    say(system, T + 10, T + 3)
    assert prune(system.history) == 8
    system.crash(0)
    assert len(system.history.versions(NODE)) == 20
    with pytest.raises(HistoryPruned):
        system.history.get_at(NODE, T + 4)
    assert prune(system.history) == 8


def test_without_a_record_that_explains_the_roots_nothing_is_dropped() -> None:
    system = grown()
    checkpoint(system)
    system.volume.roots = roots.encode(msgspec.structs.replace(roots.decode(system.volume.roots), horizon=T + 9))
    history = History(system.volume)  # type: ignore[arg-type]
    with pytest.raises(HistoryPruned):
        history.get_at(NODE, T + 3)
    with pytest.raises(Damaged):
        history.prune(b"", 100)
    history.set_horizon(T + 9, [T + 3])
    assert history.get_at(NODE, T + 3) == b"3"
    assert prune(history) == 7


def test_a_collision_below_the_horizon_is_refused_not_guessed() -> None:
    history = grown().history
    history.set_horizon(T + 10, [T + 3])
    for since in (1, 3, 9):
        with pytest.raises(HistoryPruned):
            history.changed(b"", END, T + since)
    assert history.changed(b"", END, T + 10) == (NODE, T + 20)


def test_changes_from_a_kept_state_on_begin_and_end_with_what_was_there() -> None:
    system = grown()
    other = records.inode(0, 8)
    system.apply(T + 30, [other], [b"there"])
    say(system, T + 32, T + 3, T + 7)
    prune(system.history)
    told = list(system.history.changes(T + 3, T + 7, NODE, END))
    assert (told[0].old, told[-1].new) == (b"3", b"7")
    told = list(system.history.changes(T + 7, T + 40, NODE, other))
    assert (told[0].old, told[-1].new) == (b"7", b"20")
    assert [change.new for change in system.history.changes(T + 7, T + 40, other, END)] == [b"there"]
    for t0, t1 in ((2, 40), (3, 5)):
        with pytest.raises(HistoryPruned):
            system.history.changes(T + t0, T + t1)


def test_recalled_from_all_versions_of_the_record() -> None:
    said = [encode(Horizon(10, (2, 5))), b"\xc1", encode(Horizon(7, (1,))), encode(Horizon(20, (5, 8, 12)))]
    versions = [Version(KEY, n + 30, n + 31, value) for n, value in enumerate(said)]
    assert recalled(versions) == Horizon(20, (5, 12))
    assert recalled([]) == Horizon()
