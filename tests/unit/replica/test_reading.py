"""What a client reads of a master: unchanged, records as of now or then, file data; in bounded answers."""

from unittest.mock import patch

import pytest

from gavel.errors import BadRequest, HistoryPruned
from gavel.history import horizon
from gavel.media.extents import ZSTD, Compressor, Extent, encode_view, restore
from gavel.replica import reading
from gavel.transaction import portable
from gavel.transaction.requests import Data, Fetch, Look, Records
from tests.unit.replica.masters import Hand, Master, body, data_key, key, shows


@pytest.fixture
def hand() -> Hand:
    return Hand(Master())


def test_a_look_tells_what_is_unchanged_and_the_records_of_what_is_not(hand: Hand) -> None:
    history = hand.masters[0].history
    hand.decide(body({key("a"): b"1", key("m"): b"1"}))
    since = hand.tid
    hand.decide(body({key("m"): b"2", key("n"): b"2"}))
    hand.decide(body({key("n"): None}))
    ranges = [
        (key("a"), key("b"), since),
        (key("m"), key("z"), since),
        (key("m"), key("z"), hand.tid),
        (b"", key("b"), 0),
    ]
    looked = reading.look(history, Look(ranges), 77)
    assert (looked.at, looked.clock) == (hand.tid, 77)
    assert looked.parts == [None, Records([key("m")], [b"2"]), None, Records([key("a")], [b"1"])]
    deleted = reading.look(history, Look([(key("n"), key("o"), hand.tid - 10)]), 0)
    assert deleted.parts == [Records([], [])], "what was deleted since has changed"


def test_what_was_read_before_the_horizon_is_told_anew(hand: Hand) -> None:
    hand.decide(body({key("a"): b"1"}))
    since = hand.tid
    hand.decide(body({horizon.KEY: horizon.encode(horizon.Horizon(since + 5))}))
    looked = reading.look(hand.masters[0].history, Look([(key("a"), key("b"), since)]), 0)
    assert looked.parts == [Records([key("a")], [b"1"])]


def test_long_answers_end_early_and_can_be_gone_on_with(hand: Hand) -> None:
    history = hand.masters[0].history
    hand.decide(body({key(f"{number:03}"): b"v" * 100 for number in range(200)}))
    with patch.object(reading, "ANSWER_BYTES", 5000):
        looked = reading.look(history, Look([(key("0"), key("1"), 0), (key("1"), key("2"), 0)]), 0)
        assert len(looked.parts) == 1 and looked.parts[0] is not None
        rows, end = list(looked.parts[0].keys), looked.parts[0].end
        assert 10 < len(rows) < 100 and end is not None
        while end is not None:
            (part,) = reading.fetch(history, Fetch([(end, key("1"))], looked.at)).parts
            rows, end = rows + part.keys, part.end
    assert rows == [key(f"{number:03}") for number in range(100)]


def test_the_past_is_fetched_as_it_was_or_not_at_all(hand: Hand) -> None:
    history = hand.masters[0].history
    hand.decide(body({key("a"): b"1"}))
    then = hand.tid
    hand.decide(body({key("a"): b"2"}))
    assert reading.fetch(history, Fetch([(key("a"), key("b"))], then)).parts == [Records([key("a")], [b"1"])]
    with pytest.raises(BadRequest):
        reading.fetch(history, Fetch([(key("a"), key("b"))], hand.tid + 1))
    hand.decide(body({horizon.KEY: horizon.encode(horizon.Horizon(hand.tid))}))
    with pytest.raises(HistoryPruned):
        reading.fetch(history, Fetch([(key("a"), key("b"))], then))


def test_data_records_go_by_their_own_key_and_file_data_as_it_is_kept(hand: Hand) -> None:
    one = hand.masters[0]
    content = b"content" * 2000
    hand.decide(body({data_key(1, 100): shows(1, content, 50, 100)}, blobs=[hand.stage(1, content)]))
    first = hand.tid
    packed = Compressor().compress(content)
    assert packed is not None
    total = hand.stage(9, content)[-16:]
    place = one.volume.append_data(packed)
    one.log.commit(hand.tid + 5, [data_key(2, 9)], [encode_view(Extent(place, len(packed), 14_000, ZSTD, total), 0, 9)])
    (part,) = reading.look(one.history, Look([(data_key(1, 0), data_key(3, 0), 0)]), 0).parts
    assert part is not None
    named = [portable.parse(value) for value in part.values]
    assert [(each.form, each.length, each.skip, each.view) for each in named if each] == [
        (portable.OWN, 14_000, 50, 100),
        (portable.OWN, 14_000, 0, 9),
    ]
    question = Data([data_key(1, 100), key("none"), data_key(2, 9)], one.history.last_tid)
    plain, nothing, compressed = reading.data(one.history, one.volume, question).extents
    assert nothing is None and plain is not None and compressed is not None
    assert bytes(plain[1]) == content
    assert compressed[0] == ZSTD and restore(Extent(0, 0, 14_000, ZSTD, total), compressed[1]) == content
    assert reading.data(one.history, one.volume, Data([data_key(2, 9)], first)).extents == [None]
    with patch.object(reading, "ANSWER_BYTES", 1000):
        assert len(reading.data(one.history, one.volume, question).extents) == 1
