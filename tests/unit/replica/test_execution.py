"""What transactions come to, the same on masters whose volumes differ in everything but their history."""

import pytest

from gavel.history import horizon
from gavel.keys import records
from gavel.media.extents import decode
from gavel.quorum.messages import TxId
from gavel.replica.digest import digest
from gavel.replica.execution import payload, remembered
from gavel.transaction import portable
from gavel.transaction.requests import Collided, Committed, Refused, TooOld, pack
from tests.unit.replica.masters import SESSION, Hand, Master, blob, body, data_key, key, shows, stage


@pytest.fixture
def hand() -> Hand:
    """Three masters, one of which has another layout: something else came first into its log."""
    masters = [Master(seed=number) for number in (1, 2, 3)]
    masters[1].volume.append_data(b"?" * 10_000)
    return Hand(*masters)


def digests(hand: Hand) -> set[bytes]:
    return {digest(master.history, hand.tid) for master in hand.masters}


def test_disjoint_writes_commit_and_overlapping_ones_collide_with_the_lowest_key(hand: Hand) -> None:
    assert hand.decide(body({key("a"): b"1", key("b"): b"1"})) == Committed(hand.tid)
    first = hand.tid
    read = (key("a"), key("c"), first)
    assert hand.decide(body({key("b"): b"2", key("a"): b"2"}, [read])) == Committed(hand.tid)
    second = hand.tid
    assert hand.decide(body({key("z"): b"3"}, [read])) == Collided(key("a"), second, first)
    assert hand.masters[0].history.get(key("z")) is None
    assert len(digests(hand)) == 1


def test_the_collision_told_is_the_same_whatever_the_trees_look_like(hand: Hand) -> None:
    """One master has the history through a checkpoint and a reopening, so its leaves lie elsewhere."""
    for number in range(400):
        hand.decide(body({key(f"k{number % 200:03}"): b"x" * 100 + b"%d" % number}))
    hand.masters[2].checkpoint()
    hand.masters[2].crash()
    since = hand.tid - 500
    outcome = hand.decide(body({}, [(key(""), key("~"), since)]))
    assert isinstance(outcome, Collided) and outcome.key == key("k150") and since < outcome.tid


def test_a_range_read_before_the_horizon_is_too_old_everywhere(hand: Hand) -> None:
    hand.decide(body({key("a"): b"1"}))
    old = hand.tid
    hand.decide(body({horizon.KEY: horizon.encode(horizon.Horizon(old + 5))}))
    assert hand.decide(body({key("b"): b"2"}, [(key("a"), key("b"), old)])) == TooOld(old, old + 5)


def test_staged_data_is_found_by_its_number_and_dropped_when_it_is_part_of_the_state(hand: Hand) -> None:
    content = b"content" * 1000
    name = hand.stage(7, content)
    assert hand.decide(body({data_key(5, 7000): shows(7, content)}, blobs=[name])) == Committed(hand.tid)
    assert [master.read(data_key(5, 7000)) for master in hand.masters] == [content] * 3
    assert not any(len(master.staging) for master in hand.masters)
    assert len(digests(hand)) == 1
    places = [decode(master.history.get(data_key(5, 7000)) or b"").extent for master in hand.masters]
    assert places[0] != places[1], "the second one has it elsewhere"


def test_what_is_staged_for_another_transaction_is_not_there_for_this_one(hand: Hand) -> None:
    """Else a master that happens to have it would commit what others refuse."""
    content = b"content" * 1000
    hand.masters[0].blobs.stage(stage(7, content))
    outcome = hand.decide(body({data_key(5, 7000): shows(7, content)}))
    assert isinstance(outcome, Refused) and "7" in outcome.why
    wrong = portable.staged(7, len(content), 0, 10, bytes(16))
    name = hand.stage(7, content)
    assert isinstance(hand.decide(body({data_key(5, 10): wrong}, blobs=[name])), Refused)


def test_records_refer_to_what_other_records_refer_to_now_and_then(hand: Hand) -> None:
    content = b"0123456789" * 1000
    name = hand.stage(1, content)
    hand.decide(body({data_key(5, 10_000): shows(1, content)}, blobs=[name]))
    then, total = hand.tid, name[-16:]
    hand.decide(body({data_key(5, 10_000): None}))
    part = portable.kept(data_key(5, 10_000), then, len(content), 10, 20, total)
    assert hand.decide(body({data_key(6, 20): part})) == Committed(hand.tid)
    assert [master.read(data_key(6, 20)) for master in hand.masters] == [content[10:30]] * 3
    again = portable.kept(data_key(6, 20), hand.tid, len(content), 0, 5, total)
    assert hand.decide(body({data_key(7, 5): again})) == Committed(hand.tid)
    assert hand.masters[2].read(data_key(7, 5)) == content[:5]
    nowhere = portable.kept(data_key(5, 10_000), hand.tid, len(content), 0, 5, total)
    assert isinstance(hand.decide(body({data_key(8, 5): nowhere})), Refused)
    hand.decide(body({horizon.KEY: horizon.encode(horizon.Horizon(hand.tid))}))
    assert isinstance(hand.decide(body({data_key(9, 20): part})), TooOld)
    assert len(digests(hand)) == 1


def test_a_record_that_says_what_it_said_is_no_version_though_its_bytes_lie_elsewhere(hand: Hand) -> None:
    """Written again with the same content, and moved by one master's upkeep in between."""
    content = b"content" * 1000
    hand.decide(body({data_key(5, 7000): shows(1, content)}, blobs=[hand.stage(1, content)]))
    first = hand.tid
    one = hand.masters[0]
    held = one.history.get(data_key(5, 7000))
    assert held is not None
    place = one.volume.append_data(content)
    moved = held[:1] + place.to_bytes(8, "little") + held[9:]
    assert one.history.relocate(data_key(5, 7000), first, None, held, moved)
    hand.decide(body({data_key(5, 7000): shows(2, content)}, blobs=[hand.stage(2, content)]))
    for master in hand.masters:
        assert master.history.version(data_key(5, 7000))[0] == first  # type: ignore[index]
    assert len(digests(hand)) == 1


def test_a_long_body_comes_by_what_is_staged(hand: Hand) -> None:
    packed = pack({key(f"{number:04}"): b"v" * 40 for number in range(4000)})
    pieces = [packed[at : at + 100_000] for at in range(0, len(packed), 100_000)]
    names = [hand.stage(number, piece) for number, piece in enumerate(pieces)]
    carried = body({}, blobs=names)
    carried = type(carried)([], [], names, payload(b"", list(range(len(pieces)))))
    assert hand.decide(carried) == Committed(hand.tid)
    assert hand.masters[1].history.get(key("3999")) == b"v" * 40
    assert len(digests(hand)) == 1


def test_outcomes_are_remembered_until_they_have_arrived(hand: Hand) -> None:
    history = hand.masters[0].history
    committed = hand.decide(body({key("a"): b"1"}))
    collided = hand.decide(body({key("b"): b"1"}, [(key("a"), key("b"), hand.tid - 1)]))
    assert remembered(history, SESSION, 1) == committed and remembered(history, SESSION, 2) == collided
    assert isinstance(collided, Collided)
    assert hand.masters[0].machine.outcome(TxId(0, SESSION, 2, 1)) == collided
    hand.decide(body({}, settled=2))
    assert remembered(history, SESSION, 1) is None and remembered(history, SESSION, 2) == collided
    hand.decide(body({}, settled=99))
    assert remembered(history, SESSION, 2) is None
    assert remembered(history, SESSION, 4) == Committed(hand.tid), "never its own"
    assert history.counts().past_records == 0, "outcomes have no past"


@pytest.mark.parametrize(
    "carried",
    [
        b"", b"\7", b"\0", b"\0garbage", b"\1garbage", payload(b"", [9]),
        payload(pack({records.outcome(SESSION, 1): b"forged"}), []), payload(pack({b"short": b"x"}), []),
        payload(pack({key("long"): bytes(200_000)}), []), payload(pack({data_key(1, 1): b""}), []),
        payload(pack({data_key(1, 1): b"\1" + bytes(41)}), []), payload(pack({data_key(1, 1): b"\4" + bytes(28)}), []),
        payload(pack({data_key(1, 1): shows(1, b"xx", 2, 1)}), []),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_changes_nothing(hand: Hand, carried: bytes) -> None:
    bad = body({})
    outcome = hand.decide(type(bad)([], [], [], carried))
    assert isinstance(outcome, Refused)
    assert [row for row, _ in hand.masters[0].history.scan(b"", b"\xff" * 16)] == [records.outcome(SESSION, 1)]


def test_what_was_staged_survives_crashes_and_checkpoints(hand: Hand) -> None:
    content = b"content" * 1000
    name = hand.stage(1, content)
    for master in hand.masters:
        master.sync()
    one, two, _ = hand.masters
    one.crash()
    for _ in range(3):
        two.checkpoint()
    two.crash()
    assert two.machine.lacks(body({}, blobs=[name])) == [] and two.staging.content(name) == content
    two.checkpoint()
    two.checkpoint()
    two.volume.append_data(b"!" * 100_000)
    assert hand.decide(body({data_key(5, 7000): shows(1, content)}, blobs=[name])) == Committed(hand.tid)
    assert [master.read(data_key(5, 7000)) for master in hand.masters] == [content] * 3
    assert blob(1, content) == name
