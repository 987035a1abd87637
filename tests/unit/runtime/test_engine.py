"""The engine over a simulated device in virtual time: flush, durability, transactions, trouble."""

import pytest

from gavel.errors import Collision, DeviceFailed, DeviceFull, HistoryPruned, ReadOnly, VolumeFull
from gavel.filesystem import data, directory, namespace
from gavel.keys import records, tid
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import EXTENT_MAX, FLUSH_SECONDS, OBJECT_ID_BLOCK, OVERLAY_RECORDS
from gavel.transaction.transaction import Transaction
from tests.crash.simulated import WHO, System, fresh, lookup, opened, state


def put(system: System, name: bytes, content: bytes) -> int:
    def operation(tx: Transaction) -> int:
        found = directory.lookup(tx, ROOT_OBJECT, name)
        obj = found[0] if found else namespace.create(tx, ROOT_OBJECT, name, 0o100644, WHO)[0]
        data.write(tx, obj, 0, content)
        return obj

    return system.engine.write(operation)


def content(system: System, name: bytes, at: int | None = None) -> bytes:
    def operation(tx: Transaction) -> bytes:
        return b"".join(map(bytes, data.read(tx, lookup(tx, ROOT_OBJECT, name), 0, 1 << 20)))

    return system.engine.read(operation) if at is None else system.engine.read_at(at, operation)


def crashed(system: System, keep: float = 0.0) -> System:
    """The system after a power cut that lost everything unsynced, started a minute later."""
    return opened(system.device.crash(keep=keep), system.shell.clock() + 60 * 10**9)


def test_a_state_has_a_name_and_stays_readable() -> None:
    system = fresh()
    put(system, b"a", b"one")
    first = system.sync()
    put(system, b"a", b"two")
    second = system.sync()
    assert first < second
    assert (content(system, b"a", first), content(system, b"a", second), content(system, b"a")) == (
        b"one", b"two", b"two",
    )  # fmt: skip
    with pytest.raises(FileNotFoundError):
        content(system, b"a", first - 1)
    assert system.sync() == second, "nothing changed, so the state keeps its name"


def test_what_is_synced_survives_and_what_is_not_does_not_come_back_in_part() -> None:
    system = fresh()
    put(system, b"a", b"kept")
    named = system.sync()
    put(system, b"b", bytes(100_000))
    after = crashed(system)
    assert set(state(after.engine)) == {"/", "/a"}
    assert content(after, b"a") == b"kept"
    assert content(after, b"a", named) == b"kept"


def test_without_sync_at_most_five_seconds_are_lost() -> None:
    system = fresh()
    put(system, b"a", b"x")
    system.shell.run(seconds=FLUSH_SECONDS + 1)
    assert content(crashed(system), b"a") == b"x"


def test_enough_dirty_records_flush_by_themselves() -> None:
    system = fresh()
    before = system.engine.history.last_tid
    for n in range(OVERLAY_RECORDS // 2):
        put(system, b"f%d" % n, b"")
    assert system.engine.history.last_tid > before


def test_a_tid_is_never_used_again_even_after_a_crash_and_with_a_clock_set_back() -> None:
    system = fresh()
    named = system.sync()
    put(system, b"a", b"1")
    lost = system.engine.flush()
    after = opened(system.device.crash(keep=0.0), start=1_600_000_000 * 10**9)
    assert after.engine.history.last_tid == named
    put(after, b"b", b"2")
    assert after.sync() > lost


def test_an_object_id_is_never_used_again() -> None:
    system = fresh()
    first = put(system, b"a", b"1")
    system.engine.write(namespace.unlink, ROOT_OBJECT, b"a")
    system.sync()
    after = crashed(system)
    assert first < put(after, b"b", b"2") < first + 2 * OBJECT_ID_BLOCK


def test_a_transaction_sees_its_freeze_point_and_collides_with_what_changed() -> None:
    system = fresh()
    put(system, b"a", b"1")
    put(system, b"b", b"1")
    work, other, apart = (system.engine.begin() for _ in range(3))
    assert bytes(data.read(work.tx, lookup(work.tx, ROOT_OBJECT, b"a"), 0, 9)[0]) == b"1"
    data.write(other.tx, lookup(other.tx, ROOT_OBJECT, b"a"), 0, b"2")
    data.write(apart.tx, lookup(apart.tx, ROOT_OBJECT, b"b"), 0, b"2")
    made = system.engine.commit(other)
    assert bytes(data.read(work.tx, lookup(work.tx, ROOT_OBJECT, b"a"), 0, 9)[0]) == b"1", "as of its freeze point"
    data.write(work.tx, lookup(work.tx, ROOT_OBJECT, b"a"), 0, b"3")
    with pytest.raises(Collision) as caught:
        system.engine.commit(work)
    assert caught.value.tid == made
    assert caught.value.freeze == work.freeze
    assert system.engine.commit(apart) > made, "what it read did not change"
    assert (content(system, b"a"), content(system, b"b")) == (b"2", b"2")


def test_an_ordinary_write_makes_a_transaction_collide() -> None:
    system = fresh()
    work = system.engine.begin()
    assert directory.lookup(work.tx, ROOT_OBJECT, b"new") is None
    put(system, b"new", b"theirs")
    namespace.create(work.tx, ROOT_OBJECT, b"new", 0o100644, WHO)
    with pytest.raises(Collision):
        system.engine.commit(work)
    assert content(system, b"new") == b"theirs"


def test_a_transaction_given_up_has_changed_nothing() -> None:
    system = fresh()
    before = state(system.engine)
    work = system.engine.begin()
    obj, _ = namespace.create(work.tx, ROOT_OBJECT, b"x", 0o100644, WHO)
    data.write(work.tx, obj, 0, bytes(EXTENT_MAX))
    system.engine.give_up(work)
    assert state(system.engine) == before


def test_observers_are_told_what_was_committed_and_what_came_from_outside() -> None:
    system = fresh()
    commits: list[tuple[int, list[bytes]]] = []
    outside: list[list[bytes]] = []
    system.engine.on_commit.append(lambda tid, keys: commits.append((tid, keys)))
    system.engine.on_outside.append(outside.append)
    obj = put(system, b"a", b"1")
    assert not outside
    system.engine.write_outside(data.write, obj, 0, b"2")
    assert records.inode(0, obj) in outside[0]
    named = system.engine.flush()
    assert [tid for tid, _ in commits] == [named]
    assert records.inode(0, obj) in commits[0][1]


def test_an_open_file_without_a_name_is_reaped_at_the_next_start() -> None:
    system = fresh()
    obj = put(system, b"a", bytes(300_000))
    system.engine.write(namespace.unlink, ROOT_OBJECT, b"a")
    system.sync()
    after = crashed(system)
    assert after.engine.read(data.read, obj, 0, 1)
    after.shell.run()
    with pytest.raises(OSError):
        after.engine.read(data.read, obj, 0, 1)


def test_a_checkpoint_leaves_nothing_to_replay_and_commits_go_on_beside_it() -> None:
    system = fresh()
    put(system, b"a", b"1")
    done: list[object] = []
    system.engine.request_checkpoint(done.append)
    put(system, b"b", b"2")
    system.engine.flush()
    system.shell.run_until(lambda: bool(done))
    system.sync()
    after = crashed(system)
    assert {"/a", "/b"} <= set(state(after.engine))
    after.checkpoint(clean=True)
    again = opened(after.device)
    assert {"/a", "/b"} <= set(state(again.engine))


def test_a_full_disk_under_the_volume_loses_nothing_and_goes_on_when_there_is_room() -> None:
    system = fresh()
    put(system, b"a", b"1")
    system.device.full_at(1, lasting=True)
    with pytest.raises(DeviceFull):
        system.sync()
    assert content(system, b"a") == b"1"
    system.device.heal()
    put(system, b"b", b"2")
    system.sync()
    assert {"/a", "/b"} <= set(state(crashed(system).engine))


def test_a_device_that_fails_stops_writes_and_leaves_reads() -> None:
    system = fresh()
    put(system, b"a", b"1")
    system.sync()
    put(system, b"b", b"2")
    system.device.fail_at(1, lasting=False)
    with pytest.raises(DeviceFailed):
        system.sync()
    with pytest.raises(DeviceFailed):
        put(system, b"c", b"3")
    with pytest.raises(DeviceFailed):
        system.sync()
    assert content(system, b"a") == b"1"
    assert content(crashed(system), b"a") == b"1"


def fill(system: System) -> int:
    """Write files until the volume is full; how many there was room for."""
    for n in range(2000):
        try:
            put(system, b"f%d" % n, n.to_bytes(4, "big") * (EXTENT_MAX // 4))
        except VolumeFull:
            return n
    raise AssertionError("it never got full")


def test_a_full_volume_says_so_and_deleting_works() -> None:
    system = fresh()
    written = fill(system)
    system.sync()
    assert written > 50
    for n in range(written):
        system.engine.write(namespace.unlink, ROOT_OBJECT, b"f%d" % n)
    system.sync()
    assert "/f0" not in state(crashed(system).engine)


def test_a_volume_opened_for_reading_takes_no_writes_and_writes_nothing() -> None:
    system = fresh()
    put(system, b"a", b"1")
    system.sync()
    device = system.device.crash(keep=1.0)
    reader = opened(device, read_only=True)
    assert content(reader, b"a") == b"1"
    with pytest.raises(ReadOnly):
        put(reader, b"a", b"2")
    reader.shell.run(seconds=20)
    assert device.writes == 0


def test_the_future_and_the_time_before_the_beginning() -> None:
    system = fresh()
    put(system, b"a", b"1")
    system.sync()
    assert content(system, b"a", tid.TID_MAX) == b"1"
    with pytest.raises((HistoryPruned, FileNotFoundError)):
        content(system, b"a", 1)
