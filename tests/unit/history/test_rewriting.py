"""Prune, walk, relocate, evacuate, and the bytes of file data that history keeps count of."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import msgspec
import pytest

from gavel.btree.checker import walk
from gavel.btree.dues import Due
from gavel.btree.pool import Pool
from gavel.errors import Damaged
from gavel.history import roots
from gavel.history.history import History
from gavel.history.horizon import Horizon
from gavel.history.versions import Version
from gavel.keys import records
from gavel.limits import BIG_BLOCK
from gavel.media import extents, layout
from tests.unit.btree.memory_store import small_nodes
from tests.unit.history.fake_volume import FakeVolume
from tests.unit.history.systems import FakeSystem, VolumeSystem, check_counts, node_addresses

T = 1_763_800_000_000_000 << 8
DATA = [records.extent(0, 7, (n + 1) * 4096) for n in range(40)]
NODES = [records.inode(0, n) for n in range(1, 40)]


def grown() -> FakeSystem:
    """Forty data records and as many inodes, each with five versions."""
    system = FakeSystem()
    for n in range(5):
        values = [system.stage(bytes([n]) * (1000 + i)) for i in range(len(DATA))]
        system.apply(T + n, [*NODES, *DATA], [*[b"%d" % n] * len(NODES), *values])
    return system


def walked(history: History, **how: bool) -> list[Version]:
    return [version for version, _ in history.walk(b"", **how)]


def moved(value: bytes, by: int = 1 << 20) -> bytes:
    shown = extents.decode(value)
    assert shown.extent is not None
    return extents.encode_view(shown.extent._replace(place=shown.extent.place + by), shown.skip, shown.view)


def checkpoint(system: FakeSystem) -> None:
    for _ in system.checkpoint():
        pass


def rot(volume: FakeVolume, address: int) -> None:
    volume.nodes[address] = b"\xc1"


# -- counts ----------------------------------------------------------------------------------------------------


def test_bytes_of_live_and_closed_versions_are_counted() -> None:
    system = grown()
    size = sum(range(1000, 1040))
    counts = system.history.counts()
    assert (counts.live_data, counts.past_data) == (size, 4 * size)
    system.apply(T + 9, DATA[:10], [None] * 10)
    gone = sum(range(1000, 1010))
    counts = system.history.counts()
    assert (counts.live_data, counts.past_data) == (size - gone, 4 * size + gone)
    system.apply(T + 10, DATA[10:12], [b"\0inline", system.history.get(DATA[11])])
    counts = system.history.counts()
    assert (counts.live_data, counts.past_data) == (size - gone - 1010, 4 * size + gone + 1010)
    checkpoint(system)
    system.crash(0)
    assert system.history.counts()[-2:] == counts[-2:]
    assert [problem for problem in system.history.check(True) if problem] == []


def test_roots_of_a_release_that_did_not_count_are_counted_once() -> None:
    system = grown()
    checkpoint(system)
    old = roots.decode(system.volume.roots)
    expected = system.history.counts()[-2:]
    system.volume.roots = msgspec.msgpack.encode(list(msgspec.to_builtins(old))[:5])
    assert roots.decode(system.volume.roots).live_data == roots.UNKNOWN
    assert History(system.volume).counts()[-2:] == expected  # type: ignore[arg-type]


def test_a_wrong_count_is_a_problem() -> None:
    system = grown()
    checkpoint(system)
    size = system.history.counts().live_data
    system.volume.roots = roots.encode(msgspec.structs.replace(roots.decode(system.volume.roots), live_data=size + 7))
    found = [problem for problem in History(system.volume).check(True) if problem]  # type: ignore[arg-type]
    assert found == [f"current: {size + 7} bytes of file data are counted, versions refer to {size}"]


# -- prune -----------------------------------------------------------------------------------------------------


def pruned(history: History, limit: int = 10) -> tuple[int, int]:
    """Prune all of it; how many versions were dropped, in how many steps."""
    dropped, calls = 0, 0
    cursor: bytes | None = b""
    while cursor is not None:
        after, count = history.prune(cursor, limit)
        assert after is None or after > cursor
        cursor, dropped, calls = after, dropped + count, calls + 1
    return dropped, calls


def test_a_prune_looks_at_a_leaf_and_goes_on() -> None:
    with small_nodes():
        history = grown().history
        history.set_horizon(T + 3, [T + 1])
        leaves = sum(1 for _ in history._past.slices())
        dropped, calls = pruned(history)
        assert dropped == 2 * (len(DATA) + len(NODES)), "of five, those of T and T + 2"
        assert leaves >= calls > leaves // 2 > 50, "small leaves are joined meanwhile"
        check_counts(history)
        assert [problem for problem in history.check(True) if problem] == []


def read_by(work: Callable[[], object]) -> int:
    """How many nodes are read meanwhile."""
    with patch.object(Pool, "load", autospec=True, side_effect=Pool.load) as load:
        work()
    return int(load.call_count)


def test_a_prune_reads_nothing_where_nothing_ended_and_nothing_is_kept_no_longer() -> None:
    with small_nodes():
        system = grown()
        system.history.set_horizon(T + 3, [T, T + 1])
        assert pruned(system.history)[0] == len(DATA) + len(NODES)
        checkpoint(system)
        history = History(system.volume)  # type: ignore[arg-type]
        history.set_horizon(T + 3, [T, T + 1])
        assert read_by(lambda: pruned(history)) == 0
        system.apply(T + 9, [NODES[7]], [b"ended"])
        assert read_by(lambda: pruned(history)) == 0
        history = system.history
        history.set_horizon(T + 9, [T, T + 1, T + 5])
        assert pruned(history)[0] == len(DATA) + len(NODES)
        assert pruned(history)[0] == 0, "what was joined is looked at once more"
        checkpoint(system)
        history = History(system.volume)  # type: ignore[arg-type]
        history.set_horizon(T + 9, [T, T + 1, T + 5])
        assert read_by(lambda: pruned(history)) == 0
        history.set_horizon(T + 9, [T, T + 5])
        assert pruned(history)[0] == len(DATA) + len(NODES)
        assert [problem for problem in history.check(True) if problem] == []


def test_a_prune_reads_only_where_something_ended_since() -> None:
    with small_nodes():
        system = grown()
        system.history.set_horizon(T + 4, [T + 1])
        pruned(system.history)
        system.apply(T + 9, [NODES[7]], [b"ended"])
        system.apply(T + 10, [NODES[7]], [b"again"])
        checkpoint(system)
        history = History(system.volume)  # type: ignore[arg-type]
        history.set_horizon(T + 11, [T + 1])
        height = history._past.root.level
        found = [0]
        assert read_by(lambda: found.append(pruned(history)[0])) <= 2 * height
        assert found[-1] == 2, "that of T + 9, and the one before"
        assert history._past.nodes > 10 * height


def test_nodes_that_say_nothing_are_looked_at_once() -> None:
    """A volume of format 2 is taken over: its inner nodes have no dues."""
    with small_nodes():
        system = grown()
        with patch.object(system.history._past, "ends", None):
            for placed in walk(system.history._past):
                placed.node.dues = None  # type: ignore[assignment]
            checkpoint(system)
        assert all(node[:1] == b"\x94" for node in system.volume.nodes.values())
        history = system.history = History(system.volume)  # type: ignore[arg-type]
        assert [problem for problem in history.check(True) if problem] == []
        history.set_horizon(T + 3, [])
        assert pruned(history)[0] == 3 * (len(DATA) + len(NODES))
        checkpoint(system)
        history = History(system.volume)  # type: ignore[arg-type]
        history.set_horizon(T + 3, [])
        assert read_by(lambda: pruned(history)) == 0


def test_a_version_that_a_prune_would_pass_over_is_a_problem() -> None:
    with small_nodes():
        history = grown().history
        history.set_horizon(T + 3, [])
        root = history._past.root
        root.dues[1] = Due(T + 4)
        found = [problem for problem in history.check(True) if problem]
        assert found and all("a prune passes over" in problem for problem in found)
        root.dues[1] = Due(T + 3)
        assert not any(history.check(True))
        root.dues.pop()
        assert any("dues differ in number" in problem for problem in history.check(True))


def test_what_a_prune_would_drop_is_what_it_drops() -> None:
    with small_nodes():
        history = grown().history
        held = Horizon(T + 3, (T + 1,))
        found: list[Version] = []
        cursor: bytes | None = b""
        while cursor is not None:
            some, cursor = history.needless(cursor, 20, held)
            found += some
        before = walked(history, closed_only=True)
        history.set_horizon(*msgspec.structs.astuple(held))
        pruned(history)
        assert sorted(found) == sorted(frozenset(before) - frozenset(walked(history, closed_only=True))) != []


def test_what_was_pruned_still_does_not_look_changed() -> None:
    with small_nodes(), patch.object(Pool, "load", autospec=True, side_effect=Pool.load) as load:
        system = grown()
        system.apply(T + 20, [NODES[3]], [b"late"])
        system.history.set_horizon(T + 10, [T])
        assert system.history.prune(b"", 10_000)[1] > 100
        checkpoint(system)
        fresh = History(system.volume)  # type: ignore[arg-type]
        load.reset_mock()
        assert [change.key for change in fresh.changes(T + 11, T + 20)] == [NODES[3]]
        assert load.call_count < 12


def test_the_rest_is_pruned_and_walked_where_a_node_is_damaged() -> None:
    with small_nodes():
        system = grown()
        checkpoint(system)
        all_of = walked(system.history)
        addresses, _ = system.history.node_addresses(b"p", 1000)
        rot(system.volume, addresses[len(addresses) // 2])
        history = History(system.volume)  # type: ignore[arg-type]
        history.set_horizon(T + 4, [])
        left = walked(history)
        assert 0 < len(all_of) - len(left) < 30
        assert [version for version in all_of if version in left] == left
        assert 100 < history.prune(b"", 10_000)[1] < 4 * (len(DATA) + len(NODES))
        with pytest.raises(Damaged):
            list(history.changes(0, T + 9) if history.horizon == 0 else history._past.slices())


# -- walk ------------------------------------------------------------------------------------------------------


def test_a_walk_meets_each_version_and_goes_on_from_any_cursor() -> None:
    history = grown().history
    found = list(history.walk(b""))
    assert len(found) == 5 * (len(DATA) + len(NODES))
    for index in range(0, len(found), 29):
        assert list(history.walk(found[index][1])) == found[index + 1 :]
    data = walked(history, data_only=True)
    assert data == [version for version, _ in found if records.is_data(version.key)]
    assert walked(history, closed_only=True) == [version for version, _ in found if version.delete_tid is not None]


def test_a_walk_meets_what_is_closed_behind_or_before_it() -> None:
    system = grown()
    before = set(walked(system.history))
    met = []
    for n, (version, _) in enumerate(system.history.walk(b"")):
        met.append(version)
        if n % 7 == 0 and n < 140:
            system.apply(T + 100 + n, [NODES[n % 39], DATA[n % 40]], [b"%d" % n, None])
    known = {(version.key, version.create_tid) for version in met}
    assert known >= {(version.key, version.create_tid) for version in before}


# -- relocate --------------------------------------------------------------------------------------------------


def test_a_version_is_relinked_where_it_is_and_in_no_other_way() -> None:
    system = grown()
    history = system.history
    before = walked(history, data_only=True)
    for version in before[::3]:
        key, created, deleted, value = version
        assert not history.relocate(key, created + 1, deleted, value, moved(value))
        assert not history.relocate(key, created, deleted, moved(value), value)
        assert history.relocate(key, created, deleted, value, moved(value))
        assert not history.relocate(key, created, deleted, value, moved(value))
    after = walked(history, data_only=True)
    assert [version[:3] for version in after] == [version[:3] for version in before]
    assert [version.value for version in after[::3]] == [moved(version.value) for version in before[::3]]
    system.check_live()
    assert history.changed(b"", b"\xff", T + 4) is None
    checkpoint(system)
    system.check_image()
    system.crash(0)
    assert walked(system.history, data_only=True) == after


def test_a_version_that_was_closed_meanwhile_is_found() -> None:
    system = grown()
    history = system.history
    found = history.version(DATA[3])
    assert found is not None
    created, value = found
    system.apply(T + 9, [DATA[3]], [None])
    assert history.relocate(DATA[3], created, None, value, moved(value))
    assert history.versions(DATA[3])[-1] == Version(DATA[3], created, T + 9, moved(value))
    assert not history.relocate(DATA[3], created + 9, None, value, moved(value))
    assert not history.relocate(DATA[39], T + 5, None, value, moved(value))
    system.check_live()


def test_replay_closes_a_version_wherever_it_lies() -> None:
    """After a crash what was relinked is where it was, and the log closes it there."""
    system = grown()
    checkpoint(system)
    found = system.history.version(DATA[5])
    assert found is not None
    value = found[1]
    assert system.history.relocate(DATA[5], found[0], None, value, moved(value))
    system.apply(T + 9, [DATA[5]], [value])  # to the record as it was: a version of its own here, none in replay
    system.apply(T + 10, [DATA[5]], [None])
    seen = [system.history.get_at(DATA[5], at) for at in range(T + 4, T + 12)]
    system.crash(0)
    for one, other in zip(seen, [system.history.get_at(DATA[5], at) for at in range(T + 4, T + 12)], strict=True):
        assert one == other or (one == moved(value) and other == value)
    system.check_live()
    assert [problem for problem in system.history.check(True) if problem] == []


# -- evacuate --------------------------------------------------------------------------------------------------


def test_nodes_leave_their_big_blocks_and_take_nothing_along() -> None:
    with small_nodes():
        system = VolumeSystem()
        for n in range(4):
            values = [system.stage(bytes([n]) * 100) for _ in DATA]
            system.apply(T + n, [*NODES, *DATA], [*[b"%d" % n] * len(NODES), *values])
        for _ in system.checkpoint():
            pass
        history = system.history
        before, counts = walked(history), history.counts()
        blocks = {layout.node_extent(address)[0] // BIG_BLOCK for address in sorted(node_addresses(history))}
        cursor, size = b"", 0
        while cursor is not None:
            cursor, some = history.evacuate(blocks, cursor, 2)  # type: ignore[assignment]
            size += some
        assert size > 0
        assert node_addresses(history) == set(), "all are to be written"
        assert (walked(history), history.counts()[:2]) == (before, counts[:2])
        for _ in system.checkpoint():
            pass
        system.check_live()
        system.check_image()


def test_what_cannot_be_read_stays_where_it_is() -> None:
    with small_nodes():
        system = grown()
        checkpoint(system)
        there, _ = system.history.node_addresses(b"c", 1000)
        rot(system.volume, there[-1])
        history = History(system.volume, 0)  # type: ignore[arg-type]
        with patch("gavel.history.history.layout.node_extent", lambda address: (address, 64)):
            cursor, size = b"", 0
            while cursor is not None:
                cursor, some = history.evacuate({0}, cursor, 3)  # type: ignore[assignment]
                size += some
        assert size > 0
        left = system.history.node_addresses(b"c", 1000)[0]
        assert there[-1] in left
        assert system.volume.live_nodes == {there[-1]}
