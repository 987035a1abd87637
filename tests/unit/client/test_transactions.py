"""Transactions: all or nothing, collisions with their paths, retries."""

import threading
from typing import Any
from unittest.mock import patch

import pytest

import gavel
from gavel.client.fs import Fs
from gavel.client.transactions import Transaction
from gavel.errors import Collision, FreezePruned, HistoryPruned
from gavel.upkeep.prune import moving


def test_all_of_it_happens_at_one_tid(fs: Fs) -> None:
    with fs.transaction() as tx:
        tx.makedirs("a/b")
        tx.write_text("a/b/f", "x")
        assert tx.listdir("a/b") == ["f"]
        assert not fs.exists("a")
    assert tx.tid is not None and fs.read_text("a/b/f") == "x"
    (entry,) = fs.log("a")
    assert entry.tid == tx.tid
    assert not fs.as_of(tx.tid - 1).exists("a")


def test_a_block_that_raises_has_changed_nothing(fs: Fs) -> None:
    tx = fs.transaction()
    with pytest.raises(ZeroDivisionError), tx:
        _write_and_fail(tx)
    assert fs.listdir() == []
    tx.rollback()
    with pytest.raises(ValueError, match="over"):
        tx.read_bytes("a")


def _write_and_fail(tx: Transaction) -> None:
    tx.write_text("a", "x")
    raise ZeroDivisionError


def test_it_sees_the_state_it_began_with(fs: Fs) -> None:
    fs.write_text("a", "1")
    with fs.transaction() as tx:
        fs.write_text("b", "new")
        assert not tx.exists("b")
        assert tx.read_text("a") == "1"


def test_a_collision_names_the_paths(fs: Fs) -> None:
    fs.makedirs("d")
    fs.write_text("d/a", "1")
    tx = fs.transaction()
    tx.write_text("b", tx.read_text("d/a"))
    fs.write_text("d/a", "2")
    with pytest.raises(gavel.Collision) as info:
        tx.commit()
    assert info.value.paths == ("/d/a",)
    assert "/d/a" in str(info.value) and info.value.retry
    assert not fs.exists("b")


def test_a_collision_about_a_name(fs: Fs) -> None:
    tx = fs.transaction()
    assert not tx.exists("new")
    tx.mkdir("other")
    fs.write_text("new", "")
    with pytest.raises(Collision) as info:
        tx.commit()
    assert info.value.paths in (("/new",), ("/",))


def test_transactions_on_different_things_do_not_collide(fs: Fs) -> None:
    for name in ("a", "b"):
        fs.mkdir(name)
    one, other = fs.transaction(), fs.transaction()
    one.write_text("a/f", "1")
    other.write_text("b/f", "2")
    assert one.commit() < other.commit()
    assert fs.read_text("a/f") + fs.read_text("b/f") == "12"


def test_run_again_until_it_holds(fs: Fs) -> None:
    fs.write_text("n", "0")
    calls = 0

    def increment(tx: Transaction) -> int:
        nonlocal calls
        calls += 1
        number = int(tx.read_text("n")) + 1
        if calls < 3:
            fs.write_text("n", str(number))  # somebody else was faster
        tx.write_text("n", str(number))
        return number

    assert fs.run(increment) == 3
    assert (calls, fs.read_text("n")) == (3, "3")

    def always(tx: Transaction) -> None:
        tx.write_text("m", tx.read_text("n"))
        fs.write_text("n", fs.read_text("n") + "0")

    with pytest.raises(Collision):
        fs.run(always, retries=2)
    assert fs.read_text("n") == "3000"


def test_an_operation_that_fails_inside_leaves_nothing_behind(fs: Fs) -> None:
    fs.write_text("a", "")
    with fs.transaction() as tx:
        with pytest.raises(NotADirectoryError):
            tx.write_text("a/b", "x")
        with pytest.raises(FileExistsError):
            tx.makedirs("c/d"), tx.mkdir("c")
        tx.write_text("e", "kept")
    assert fs.listdir() == ["a", "c", "e"]
    assert fs.check(deep=True) == []


def test_files_left_open_are_flushed_at_the_commit(fs: Fs) -> None:
    with fs.transaction() as tx:
        file = tx.open("a", "w")
        file.write("buffered")
    assert fs.read_text("a") == "buffered"
    with pytest.raises(ValueError, match="over"):
        file.write("x" * 1_000_000)
    file.detach()  # type: ignore[union-attr]  # so that its end does not try to flush


def test_durable_when_it_returns(fs: Fs) -> None:
    with fs.transaction(sync=True) as tx:
        tx.write_text("a", "x")
    assert fs._engine.replica._syncs.settled
    with pytest.raises(ValueError, match="commit"), fs.transaction() as tx:
        tx.write_bytes("b", b"", sync=True)


def test_the_past_from_within(fs: Fs) -> None:
    fs.write_text("a", "1")
    tid = fs.tid()
    fs.write_text("a", "2")
    with fs.transaction() as tx:
        assert tx.read_text(f"a@@0x{tid:x}") == "1"
        tx.write_text("a", "3")
        assert tx.read_text("a@@") == "3"


def test_what_a_transaction_unlinked_is_dropped(fs: Fs) -> None:
    fs.write_bytes("a", b"x" * 100_000)
    fs.sync()
    before = fs.info().records
    with fs.transaction() as tx:
        tx.remove("a")
    fs.sync()
    assert fs.info().records <= before - 3
    assert fs.check(deep=True) == []


def test_an_empty_transaction_commits_to_its_freeze_point(fs: Fs) -> None:
    with fs.transaction() as tx:
        assert tx.listdir() == []
    assert tx.tid == tx.freeze


def move_horizon(fs: Fs) -> None:
    """As another master would: a prune in this process waits until no transaction is open."""
    fs.write_text("other", "x")
    fs.tid()
    fs._engine.write(moving(fs._engine.history, everything=True))
    fs.tid()


def test_a_prune_that_passes_the_freeze_point_is_a_collision_for_reads_and_for_the_commit(fs: Fs) -> None:
    fs.write_text("a", "1")
    tx = fs.transaction()
    tx.write_text("b", tx.read_text("a"))
    move_horizon(fs)
    with pytest.raises(FreezePruned, match="run the transaction again") as info:
        tx.read_text("a")
    assert (info.value.freeze, info.value.tid) == (tx.freeze, fs._engine.history.horizon)
    with pytest.raises(Collision):
        tx.listdir()
    with pytest.raises(FreezePruned):
        tx.commit()
    assert not fs.exists("b")


def test_it_is_run_again_when_a_prune_has_passed_it(fs: Fs) -> None:
    fs.write_text("a", "1")
    calls = 0

    def copy(tx: Transaction) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            move_horizon(fs)  # before it reads anything
        text = tx.read_text("a")
        if calls == 2:
            move_horizon(fs)  # before it commits
        tx.write_text("b", text)
        return text

    assert fs.run(copy) == "1"
    assert (calls, fs.read_text("b")) == (3, "1")


def test_a_state_that_is_kept_below_the_horizon_is_seen_and_collides_at_the_commit(fs: Fs) -> None:
    """What changed since and was changed back may be gone, so nobody can certify it."""
    fs.write_text("a", "1")
    tx = fs.transaction()
    fs.snapshot_create("s", tx.freeze)
    move_horizon(fs)
    tx.write_text("b", tx.read_text("a"))
    with pytest.raises(FreezePruned):
        tx.commit()


def test_a_time_below_the_horizon_is_no_collision(fs: Fs) -> None:
    """Running it again would not help: what was asked for is gone for good."""
    fs.write_text("a", "1")
    old = fs.tid()
    move_horizon(fs)
    with pytest.raises(HistoryPruned):
        fs.run(lambda tx: tx.read_text(f"a@@0x{old:x}"))


def test_what_a_transaction_does_has_the_turn(fs: Fs) -> None:
    """The volume's own thread, which writes out and checkpoints, would else find a log that is half written."""
    free: list[bool] = []
    volume, turn = fs._engine.volume, fs._engine.turn
    append = volume.append_data

    def look() -> None:
        free.append(turn.acquire(False))
        if free[-1]:
            turn.release()

    def noted(*args: Any, **kwargs: Any) -> int:
        other = threading.Thread(target=look)
        other.start()
        other.join()
        return append(*args, **kwargs)

    with fs.transaction() as tx, patch.object(volume, "append_data", noted):
        tx.write_bytes("file", bytes(range(256)) * 64)
    assert free == [False]
