"""History's edges: what the machines do not reach, and what goes wrong."""

import msgspec
import pytest

from gavel.errors import Damaged, HistoryPruned, NewerFormat, VolumeFull
from gavel.history import roots
from gavel.history.accounting import data_runs, live_bytes
from gavel.history.history import History
from gavel.history.past import past_bounds, past_key, past_range, split_key
from gavel.history.versions import Change, Step
from gavel.keys import records
from gavel.keys.ranges import just
from gavel.limits import BIG_BLOCK
from gavel.media.extents import describe, encode_inline, encode_view
from tests.unit.history.fake_volume import FakeVolume
from tests.unit.history.systems import FakeSystem

T = 1_763_800_000_000_000 << 8
A, B, C = (records.inode(0, obj) for obj in (1, 2, 3))


def history_of(volume: FakeVolume, cache_bytes: int = 1 << 20) -> History:
    return History(volume, cache_bytes)  # type: ignore[arg-type]


def run(history: History) -> list[Step]:
    return list(history.checkpoint())


def test_an_empty_history_answers() -> None:
    history = history_of(FakeVolume(created_tid=5))
    assert (history.created_tid, history.horizon, history.last_tid) == (5, 0, 0)
    assert history.get(A) is None and history.version(A) is None and history.get_at(A, T) is None
    assert list(history.scan(b"", b"\xff")) == [] == list(history.scan_at(b"", b"\xff", T))
    assert history.versions(A) == [] and history.changed(b"", b"\xff", 0) is None
    assert list(history.changes(0, T)) == []
    assert not any(history.check(True))


def test_the_newest_change_of_a_range_is_told_without_reading() -> None:
    volume = FakeVolume()
    history = history_of(volume)
    for n in range(2000):
        history.apply(T + n, [records.inode(0, n + 1)], [bytes(100)])
    history.apply(T + 5000, [records.inode(0, 1999)], [None])
    assert history.newest(*just(records.inode(0, 7))) == T + 6  # to the record: its leaf is in memory
    assert history.newest(records.inode(0, 1), records.inode(0, 101)) == T + 99
    assert history.newest(*just(records.inode(0, 1999))) == T + 5000  # what is gone changed, too
    assert history.newest(b"", b"\xff") == T + 5000
    run(history)
    again = history_of(volume.reopened())
    assert T + 6 <= again.newest(*just(records.inode(0, 7))) <= T + 5000  # what is not in memory may have changed


def test_a_checkpoint_of_nothing_can_be_opened() -> None:
    volume = FakeVolume()
    assert run(history_of(volume)) == [Step.MARKED, Step.SYNC, Step.SYNC]
    assert history_of(volume.reopened()).get(A) is None


def test_a_life_of_a_record() -> None:
    history = history_of(FakeVolume())
    history.apply(T, [A], [b"one"])
    history.apply(T + 10, [A], [b"two"])
    history.apply(T + 20, [A], [None])
    history.apply(T + 30, [A], [b"three"])
    seen = [history.get_at(A, T + at) for at in (-1, 0, 9, 10, 19, 20, 29, 30, 99)]
    assert seen == [None, b"one", b"one", b"two", b"two", None, None, b"three", b"three"]
    assert [(v.create_tid - T, v.delete_tid and v.delete_tid - T) for v in history.versions(A)] == [
        (0, 10),
        (10, 20),
        (30, None),
    ]
    assert list(history.changes(T, T + 30)) == [
        Change(A, T + 10, b"one", b"two"),
        Change(A, T + 20, b"two", None),
        Change(A, T + 30, None, b"three"),
    ]
    assert list(history.changes(T + 10, T + 20)) == [Change(A, T + 20, b"two", None)]


def test_created_and_deleted_within_the_interval_is_told() -> None:
    history = history_of(FakeVolume())
    history.apply(T, [B], [b"short"])
    history.apply(T + 1, [B], [None])
    assert list(history.changes(T - 1, T + 1)) == [Change(B, T, None, b"short"), Change(B, T + 1, b"short", None)]


def test_changed_notices_a_deletion_by_a_range_that_ends_with_the_key() -> None:
    history = history_of(FakeVolume())
    history.apply(T, [A, B, C], [b"a", b"b", b"c"])
    assert history.changed(*just(B), T) is None
    history.apply(T + 1, [B], [None])
    assert history.changed(*just(B), T) == (B, T + 1)
    assert history.changed(*just(B), T + 1) is None
    assert history.changed(*just(A), T) is None and history.changed(*just(C), T) is None
    assert history.changed(*records.whole(0), T) == (B, T + 1)
    assert history.changed(*records.whole(1), T) is None


def test_past_bounds_take_in_the_versions_of_a_last_single_key() -> None:
    lo, hi = past_bounds(*just(B))
    for tid in (0, T, 2**64 - 1):
        assert lo <= past_key(B, tid) < hi
        assert split_key(past_key(B, tid)) == (B, tid)
        assert past_range(B)[0] <= past_key(B, tid) < past_range(B)[1]


def test_below_the_horizon_is_an_error_not_an_answer() -> None:
    volume = FakeVolume()
    old = history_of(volume)
    old.apply(T, [A], [b"a"])
    run(old)
    volume.roots = roots.encode(msgspec.structs.replace(roots.decode(volume.roots), horizon=T + 50))
    history = history_of(volume)
    history.apply(T + 110, [B], [b"b"])
    assert history.get_at(A, T + 50) == b"a"  # also what has not changed since is not shown below
    for ask in (
        lambda: history.get_at(A, T + 49),
        lambda: history.scan_at(b"", b"\xff", T + 49),
        lambda: history.changes(T + 49, T + 60),
    ):
        with pytest.raises(HistoryPruned) as caught:
            ask()
        assert (caught.value.at, caught.value.horizon) == (T + 49, T + 50)
    run(history)
    assert history_of(volume.reopened()).horizon == T + 50


def test_a_tid_applied_before_changes_nothing() -> None:
    history = history_of(FakeVolume())
    history.apply(T, [A], [b"a"])
    history.apply(T, [A], [b"other"])
    history.apply(T - 5, [B], [b"b"])
    assert history.get(A) == b"a" and history.get(B) is None and history.last_tid == T


def test_an_empty_transaction_moves_the_last_tid() -> None:
    history = history_of(FakeVolume())
    history.apply(T, [], [])
    assert history.last_tid == T


def test_deleting_what_is_not_there_makes_no_version() -> None:
    history = history_of(FakeVolume())
    history.apply(T, [A], [None])
    assert history.versions(A) == [] and history.changed(*just(A), 0) is None


@pytest.mark.parametrize("data", [b"\x00", b"\x90", b"\x91\xa1x", b"\x95\x01\x00\x00\x01\x02", b"garbage"])
def test_roots_that_are_none_are_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        roots.decode(data)


def test_roots_of_a_later_release_are_refused_by_version_alone() -> None:
    with pytest.raises(NewerFormat) as caught:
        roots.decode(msgspec.msgpack.encode([roots.VERSION + 1, "whatever", {}]))
    assert caught.value.version == roots.VERSION + 1


def test_a_full_volume_ends_a_checkpoint_and_the_next_one_succeeds() -> None:
    volume = FakeVolume()
    history = history_of(volume)
    keys = [records.inode(0, obj) for obj in range(2000)]
    history.apply(T, keys, [b"x" * 50] * len(keys))
    volume.full_after = 4
    with pytest.raises(VolumeFull):
        run(history)
    volume.full_after = -1
    history.apply(T + 1, [A], [None])
    assert history.get(keys[-1]) == b"x" * 50
    run(history)
    again = history_of(volume.reopened())
    assert again.last_tid == T + 1 and dict(again.scan(b"", b"\xff")) == dict(history.scan(b"", b"\xff"))
    assert again._volume.live_nodes == volume.image_nodes  # type: ignore[attr-defined]


def test_damage_in_the_midst_of_a_transaction_ends_all_writing_but_not_reading() -> None:
    volume = FakeVolume()
    history = history_of(volume)
    keys = [records.inode(0, obj) for obj in range(2000)]
    history.apply(T, keys, [b"x" * 50] * len(keys))
    run(history)
    broken = history_of(volume.reopened(), cache_bytes=0)
    store: FakeVolume = broken._volume  # type: ignore[assignment]
    victim = broken._current.root.values[5].address
    store.nodes[victim] = b"rot"
    with pytest.raises(Damaged):
        broken.apply(T + 1, keys, [b"y"] * len(keys))
    with pytest.raises(Damaged):
        broken.apply(T + 2, [keys[0]], [b"z"])
    with pytest.raises(Damaged):
        run(broken)
    assert broken.last_tid == T
    assert broken.get(keys[-1]) == b"x" * 50


def rotten(victim: int) -> tuple[History, list[bytes], range]:
    """A history of some leaves of which one does not verify; its keys, and which of them are in that leaf."""
    volume = FakeVolume()
    history = history_of(volume)
    keys = [records.inode(0, obj) for obj in range(2000)]
    history.apply(T, keys, [b"x" * 50] * len(keys))
    run(history)
    volume = volume.reopened()
    leaves = [leaf.address for leaf in history_of(volume)._current.root.values]
    first = sum(len(msgspec.msgpack.decode(volume.nodes[address])[1]) for address in leaves[:victim])
    count = len(msgspec.msgpack.decode(volume.nodes[leaves[victim]])[1])
    volume.nodes[leaves[victim]] = b"rot"
    return history_of(volume), keys, range(first, first + count)


def test_prepare_refuses_what_cannot_be_applied_before_anything_changed() -> None:
    history, keys, bad = rotten(5)
    with pytest.raises(Damaged):
        history.prepare(T + 1, keys)
    with pytest.raises(Damaged):
        history.prepare(T + 1, [keys[bad.start]])
    fine = [key for number, key in enumerate(keys) if number not in bad]
    history.prepare(T + 1, fine)
    history.apply(T + 1, fine, [b"y"] * len(fine))
    history.prepare(T + 2, fine)
    history.apply(T + 2, fine, [None] * len(fine))
    assert history.last_tid == T + 2 and history.counts().live_records == len(bad)
    run(history)


def test_deleting_all_around_a_damaged_leaf_leaves_it_alone() -> None:
    history, keys, bad = rotten(5)
    for tid, number in enumerate([*range(bad.start), *range(bad.stop, 2000)], T + 1):
        history.apply(tid, [keys[number]], [None])
    assert history.counts().live_records == len(bad)
    with pytest.raises(Damaged):
        history.get(keys[bad.start])


def test_check_tells_what_is_wrong_between_the_trees() -> None:
    system = FakeSystem(1 << 20)
    history = system.history
    for at in range(5):
        history.apply(T + at, [A, B], [b"%d" % at, b"%d" % at])
    history._past.root.tids[0] = T + 3  # begins after it was closed
    history._past.root.tids[2] = T  # begins before the one before it was closed
    history._current.root.tids[1] = T
    history.last_tid = T
    found = "\n".join(history.check(True))
    for message in ("was true from", "overlap", "is live since", "younger"):
        assert message in found
    assert not any(history.check(False))


def test_data_is_found_among_the_keys_of_several_filesystems() -> None:
    keys = sorted(
        [records.inode(pfs, 1) for pfs in (0, 1, 9)]
        + [records.extent(pfs, 1, n) for pfs in (1, 9, 0xFFFF) for n in (10, 20)]
        + [records.entry(9, 1, b"a")]
    )
    runs = data_runs(keys)
    assert [key for first, last in runs for key in keys[first:last]] == [key for key in keys if records.is_data(key)]
    assert data_runs([]) == []


def test_live_bytes_are_added_up_by_big_block() -> None:
    extent = describe(b"x" * 100, 3 * BIG_BLOCK + 5)
    values = [
        encode_view(extent, 0, 50),
        encode_view(extent, 50, 50),
        None,
        encode_inline(b"inline"),
        encode_inline(b""),
    ]
    assert live_bytes(values) == {3 * BIG_BLOCK: 200}
    assert live_bytes([encode_inline(b"y" * 41)]) == {}  # as long as an extent record
