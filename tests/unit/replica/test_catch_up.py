"""What a master that was away is told, and that it ends up with the same history."""

from unittest.mock import patch

import pytest

from gavel.errors import BadRequest, Damaged, HistoryPruned
from gavel.history import horizon
from gavel.keys import records
from gavel.limits import EXTENT_MAX, VOLUME_MIN
from gavel.media.extents import RAW, describe, encode_view
from gavel.media.volume import Volume
from gavel.replica import catch_up
from gavel.replica.digest import digest
from gavel.sim.device import SimDevice
from tests.unit.replica.masters import Hand, Master, body, data_key, key, shows


def busy(hand: Hand, rounds: int = 60) -> None:
    """Files written, overwritten, cut and deleted; records that change often."""
    for number in range(rounds):
        content = b"%d " % number * 400
        name = hand.stage(number, content)
        writes: dict[bytes, bytes | None] = {
            data_key(number % 7, len(content)): shows(number, content),
            data_key(100 + number, 50): shows(number, content, 5, 50),
            key(f"{number % 5}"): b"%d" % number,
            key(f"once {number}"): bytes(50),
        }
        if number > 10:
            writes[data_key(90 + number, 50)] = None
        hand.decide(body(writes, blobs=[name], settled=number))


def tell(source: Master, target: Master, lo: int | None = None, limit: int = 3000, pieces: int = -1) -> int:
    """Have the target told what it lacks, at most so many pieces; returns how many it took."""
    start = target.history.last_tid if lo is None else lo
    hi, cursor, count, position = source.history.last_tid, None, 0, 0
    while count != pieces:
        piece, cursor, now, total = source.machine.changes(start, hi, cursor, limit)
        assert position <= now <= total or not total
        assert len(piece) < limit + EXTENT_MAX + 10_000
        position = now
        target.machine.install(start, hi, piece, cursor is None)
        count += 1
        if cursor is None:
            assert now == total and target.machine.applied_tid == hi
            break
    return count


def same(one: Master, other: Master) -> bool:
    upto = min(one.history.last_tid, other.history.last_tid)
    assert not list(filter(None, other.history.check(True)))
    return digest(one.history, upto) == digest(other.history, upto)


@pytest.fixture(params=[50_000, 40])
def window(request: pytest.FixtureRequest) -> object:
    """With the real window, and with one so small that there are many."""
    with patch.object(catch_up, "CATCH_UP_WINDOW", request.param), patch.object(catch_up, "CATCH_UP_STEP", 25):
        yield request.param


def test_an_empty_master_gets_everything(window: int) -> None:
    source, target = Master(seed=1), Master(seed=2)
    hand = Hand(source)
    busy(hand)
    assert tell(source, target) > 10
    assert same(source, target)
    assert target.read(data_key(3, len(b"59 " * 400))) == source.read(data_key(3, len(b"59 " * 400)))
    hand.masters = (source, target)
    busy(hand, 5)
    assert same(source, target)


def test_a_past_older_than_the_volume_is_there_to_be_asked_for() -> None:
    """A master whose disk was lost has a volume of today, and the others' history of years."""
    source = Master(seed=1)
    hand, root = Hand(source), records.inode(0, records.ROOT_OBJECT)
    first = hand.decide(body({root: b"made"})).tid
    hand.decide(body({root: b"touched"}))
    device = SimDevice(VOLUME_MIN, 2)
    Volume.format(device, identity=bytes(16), salt=2, label="", created_tid=source.history.last_tid + 1)
    target = Master(device)
    assert target.history.created_tid == source.history.last_tid + 1
    tell(source, target)
    assert target.history.created_tid == first and target.history.get_at(root, first) == b"made"
    assert source.history.created_tid == 1


def test_one_that_was_away_gets_the_rest_and_all_past_states(window: int) -> None:
    source, target = Master(seed=1), Master(seed=2)
    hand = Hand(source, target)
    busy(hand, 20)
    left = hand.tid
    hand.masters = (source,)
    busy(hand)
    tell(source, target)
    assert same(source, target)
    for at in (left, left + 100, left + 300):
        assert list(source.history.scan_at(key(""), key("~"), at)) == list(
            target.history.scan_at(key(""), key("~"), at)
        )


def test_a_crash_in_between_loses_what_was_not_synced_and_it_goes_on_with_another_peer(window: int) -> None:
    source, other, target = Master(seed=1), Master(seed=2), Master(seed=3)
    hand = Hand(source, other)
    busy(hand)
    tell(source, target, pieces=12)
    target.sync()
    reached = target.history.last_tid
    assert 0 < reached < hand.tid and same(source, target), "every piece leaves a state that was once true"
    tell(source, target, pieces=12)
    target.crash()
    assert target.history.last_tid == reached
    tell(other, target)
    assert same(source, target)


def test_pieces_that_come_again_change_nothing() -> None:
    source, target = Master(seed=1), Master(seed=2)
    busy(Hand(source), 20)
    hi, cursor, pieces = source.history.last_tid, None, []
    while True:
        piece, cursor, _, _ = source.machine.changes(0, hi, cursor, 2000)
        pieces.append((piece, cursor is None))
        if cursor is None:
            break
    for number in range(len(pieces) // 2):
        target.machine.install(0, hi, *pieces[number])
    for piece, last in pieces:
        target.machine.install(0, hi, piece, last)
    assert same(source, target)
    written = target.volume.written
    for piece, last in pieces:
        target.machine.install(0, hi, piece, last)
    assert same(source, target) and target.volume.written == written


def test_a_transaction_larger_than_a_piece_is_applied_whole_or_not_at_all() -> None:
    source, target = Master(seed=1), Master(seed=2)
    hand = Hand(source)
    contents = [b"%d" % number * 20_000 for number in range(10)]
    names = [hand.stage(number, content) for number, content in enumerate(contents)]
    writes = {data_key(1, (number + 1) * 20_000): shows(number, content) for number, content in enumerate(contents)}
    hand.decide(body(writes, blobs=names))
    assert tell(source, target, limit=50_000, pieces=3) == 3
    assert target.history.last_tid == 0 and target.history.counts().live_records == 0
    target.checkpoint()
    tell(source, target, limit=50_000)
    assert same(source, target)
    late, cursor = Master(seed=3), None
    while True:
        piece, cursor, _, _ = source.machine.changes(0, hand.tid, cursor, 50_000)
        late.machine.install(0, hand.tid, piece, cursor is None)
        if cursor is None:
            break
        source.machine._teller._streams.clear()  # as if another peer were asked for the rest
    assert same(source, late)
    target.sync()
    target.crash()
    assert target.read(data_key(1, 200_000)) == contents[9]


def test_prune_and_relocation_at_the_source_make_no_difference() -> None:
    source, pruned, target = Master(seed=1), Master(seed=2), Master(seed=3)
    hand = Hand(source, pruned)
    busy(hand, 40)
    kept = hand.tid - 200
    hand.decide(body({horizon.KEY: horizon.encode(horizon.Horizon(hand.tid - 50, (kept,)))}))
    while pruned.history.prune(b"", 10_000)[1]:
        pass
    assert same(source, pruned)
    tell(pruned, target)
    assert same(source, target)
    late = Master(seed=4)
    with pytest.raises(HistoryPruned):
        pruned.machine.changes(1100, hand.tid, None, 1000)
    tell(pruned, late, lo=0)
    assert same(pruned, late)


def test_data_that_has_moved_since_it_was_put_in_order_is_found() -> None:
    source, target = Master(seed=1), Master(seed=2)
    hand = Hand(source)
    content = b"content" * 1000
    hand.decide(body({data_key(1, 7000): shows(1, content)}, blobs=[hand.stage(1, content)]))
    hi = source.history.last_tid
    with patch.object(catch_up, "CATCH_UP_STEP", 1):
        piece, cursor, _, _ = source.machine.changes(0, hi, None, 1000)
    target.machine.install(0, hi, piece, False)
    held = source.history.get(data_key(1, 7000))
    assert held is not None
    moved = encode_view(describe(content, source.volume.append_data(content)), 0, 7000)
    assert source.history.relocate(data_key(1, 7000), hi, None, held, moved)
    read = source.volume.read

    def used_anew(place: int, stored: int) -> bytes:
        return bytes(stored) if place == int.from_bytes(held[1:9], "little") else bytes(read(place, stored))

    with patch.object(source.volume, "read", used_anew):
        while cursor is not None:
            piece, cursor, _, _ = source.machine.changes(0, hi, cursor, 1000)
            target.machine.install(0, hi, piece, cursor is None)
    assert target.read(data_key(1, 7000)) == content


def test_a_version_that_says_what_the_one_before_said_is_a_version_there_too() -> None:
    """A group of one makes such versions: the same content written anew lies elsewhere."""
    source, target = Master(seed=1), Master(seed=2)
    content = b"content" * 1000
    for tid in (100, 200):
        value = encode_view(describe(content, source.volume.append_data(content)), 0, 7000)
        source.log.commit(tid, [data_key(1, 7000)], [value])
    tell(source, target)
    assert [version.create_tid for version in target.history.versions(data_key(1, 7000))] == [100, 200]
    assert same(source, target)


def test_garbage_is_refused() -> None:
    source, target = Master(seed=1), Master(seed=2)
    busy(Hand(source), 3)
    hi = source.history.last_tid
    with pytest.raises(Damaged):
        target.machine.install(0, hi, b"garbage", False)
    with pytest.raises(BadRequest):
        source.machine.changes(0, hi, b"garbage", 1000)
    own = b"\4" + (5).to_bytes(4, "little") + bytes(4) + (5).to_bytes(4, "little") + bytes(16)
    for told, blobs in (
        (catch_up.Told(10, [key("b"), key("a")], [b"", b""], True), []),
        (catch_up.Told(10, [data_key(1, 5)], [own], True), []),
        (catch_up.Told(10, [data_key(1, 5)], [own], True), [catch_up.Blob(RAW, 5, bytes(16), b"wrong")]),
        (catch_up.Told(10, [data_key(1, 5)], [shows(1, b"12345")], True), []),
    ):
        with pytest.raises(Damaged):
            target.machine.install(0, hi, catch_up._encode(catch_up.Piece([told], blobs)), False)
    assert target.history.last_tid == 0
    assert records.is_data(data_key(1, 5))


def test_a_part_of_a_transaction_is_not_said_to_survive() -> None:
    """It is in memory only: whoever resumes behind it after a crash would have the rest without the beginning."""
    source, target = Master(seed=1), Master(seed=2)
    hand = Hand(source)
    hand.decide(body({key(f"{number:03}"): bytes(50) for number in range(100)}))
    hi, cursor, survived = source.history.last_tid, None, []
    while True:
        piece, following, _, _ = source.machine.changes(0, hi, cursor, 1000)
        survived.append(target.machine.install(0, hi, piece, following is None))
        if following is None:
            break
        cursor = following
    assert survived.count(False) > 3 and survived[-1]
    assert same(source, target)
