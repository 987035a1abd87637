"""File data on its way: kept and passed on, asked for when it is lacking, refused when it is not what it says."""

import pytest

from gavel.effects import Observe, Send
from gavel.errors import BadPeer, BadRequest, Damaged
from gavel.limits import STAGED_LIFE_NS, WANT_NS
from gavel.media.extents import ZSTD, Compressor
from gavel.quorum.messages import Batch
from gavel.replica import peers
from gavel.replica.peers import Lost, Want
from tests.unit.replica.masters import SESSION, Master, blob, stage

CONTENT = b"content" * 1000
NAME = blob(1, CONTENT)


def test_what_a_client_stages_is_kept_and_the_very_message_passed_on() -> None:
    one = Master()
    one.peers = [2, 3]
    staged = stage(1, CONTENT)
    one.blobs.stage(staged)
    assert one.effects == [Send(2, staged), Send(3, staged)]
    assert one.effects[0].message is staged  # type: ignore[union-attr]
    assert one.arrived == [] and one.staging.content(NAME) == CONTENT, "nobody lacked it"
    one.blobs.stage(stage(1, CONTENT))
    assert len(one.effects) == 2 and len(one.staging) == 1, "again it changes nothing"


def test_what_is_lacking_is_asked_for_after_a_while_of_one_peer_after_the_other() -> None:
    one, two = Master(seed=1), Master(seed=2)
    one.peers = [2, 3]
    assert one.blobs.lacks([NAME]) == [NAME] and one.blobs.lacks([NAME]) == [NAME]
    (due,) = one.blobs.ask()
    assert due == WANT_NS and one.blobs.ask() == [] and one.effects == []
    asked = []
    for _ in range(4):
        one.blobs.now = due
        (due,) = one.blobs.ask()
        asked.append(one.effects.pop())
        assert one.effects == []
    assert asked == [Send(peer, Want([NAME])) for peer in (2, 3, 2, 3)]
    two.blobs.stage(stage(1, CONTENT))
    two.blobs.wanted(1, Want([NAME, blob(2, b"other")]))
    assert two.effects == [Send(1, stage(1, CONTENT)), Send(1, Lost([blob(2, b"other")]))]
    one.blobs.lost(Lost([NAME, blob(2, b"other")]))
    assert one.gone == [NAME]
    one.blobs.received(2, stage(1, CONTENT))
    assert one.arrived == [NAME] and one.blobs.ask() == [] and one.blobs.lacks([NAME]) == []


def test_while_file_data_comes_what_is_lacking_may_be_on_its_way() -> None:
    one = Master()
    one.peers = [2]
    one.blobs.now = now = 10**9
    assert one.blobs.lacks([NAME]) == [NAME]
    (due,) = one.blobs.ask()
    assert due == now + WANT_NS
    other = 1
    while due < now + 10 * WANT_NS:  # so long other extents are a reason to wait
        one.blobs.now = due - WANT_NS // 4
        one.blobs.received(2, stage(other := other + 1, b"other %d" % other))
        one.blobs.now = due
        (due,) = one.blobs.ask()
        assert one.effects == []
    assert due == now + 10 * WANT_NS
    one.blobs.now = due
    one.blobs.received(2, stage(other + 1, b"and another one"))
    one.blobs.ask()
    assert one.effects == [Send(2, Want([NAME]))]


def test_not_all_that_is_lacking_is_asked_for_at_once() -> None:
    one = Master()
    one.peers = [2]
    names = [blob(number, b"content %d" % number) for number in range(40)]
    one.blobs.lacks(names)
    asked: list[bytes] = []
    due = WANT_NS
    for _ in range(3):
        one.blobs.now = due
        (due,) = one.blobs.ask()
        assert due > one.blobs.now
        (effect,) = one.effects
        asked += effect.message.blobs  # type: ignore[union-attr]
        one.effects.clear()
    assert asked == names + names[:8], "those first that were never asked for"


def test_what_is_not_what_it_says_is_refused_of_a_client_and_dropped_of_a_peer() -> None:
    one = Master()
    wrong = stage(1, CONTENT)
    for bad in (
        type(wrong)(SESSION, 1, 0, 6999, wrong.sum, CONTENT), type(wrong)(SESSION, 1, 7, 7000, wrong.sum, CONTENT),
        type(wrong)(b"short", 1, 0, 7000, wrong.sum, CONTENT),
        type(wrong)(SESSION, 1 << 32, 0, 7000, wrong.sum, CONTENT),
        type(wrong)(SESSION, 1, 0, 7000, bytes(16), CONTENT), type(wrong)(SESSION, 1, ZSTD, 7000, wrong.sum, CONTENT),
        stage(1, bytes(200_000)),
    ):  # fmt: skip
        with pytest.raises(BadRequest):
            one.blobs.stage(bad)
        one.blobs.received(2, bad)
        assert isinstance(one.effects.pop(), Observe)
    assert len(one.staging) == 0 and one.arrived == []


def test_compressed_data_stays_as_it_came() -> None:
    one = Master()
    packed = Compressor().compress(CONTENT)
    assert packed is not None
    plain = stage(1, CONTENT)
    one.blobs.stage(type(plain)(SESSION, 1, ZSTD, 7000, plain.sum, packed))
    assert one.staging.content(NAME) == CONTENT
    found = one.staging.load(NAME)
    assert found is not None and found.data == packed


def test_what_nobody_refers_to_expires_also_what_a_restart_found() -> None:
    one = Master()
    one.blobs.stage(stage(1, CONTENT))
    one.sync()
    one.crash()
    one.staging.expire(5, [])
    one.staging.expire(5 + STAGED_LIFE_NS, [])
    one.staging.expire(6 + STAGED_LIFE_NS, [NAME])
    assert len(one.staging) == 1, "young, or needed by a transaction that may happen yet"
    one.staging.expire(6 + STAGED_LIFE_NS, [])
    assert len(one.staging) == 0 and one.volume._pins == {}


def test_a_frame_that_is_none_is_damage() -> None:
    with pytest.raises(Damaged):
        Master().staging.replay(7, b"garbage")


def test_messages_travel_as_bytes() -> None:
    batch = Batch(1, 2, 3, 4, None, [])
    for message in (batch, stage(1, CONTENT), Want([NAME]), Lost([NAME])):
        assert peers.decode(b"".join(peers.encode(message))) == message
    assert peers.encode(stage(1, CONTENT))[1] is CONTENT or len(peers.encode(stage(1, CONTENT))) == 2
    for garbage in (b"", b"\0", b"\1", b"\1\0\5hello", b"\2x", b"\3x", b"\7"):
        with pytest.raises(BadPeer):
            peers.decode(garbage)
