"""Batches and pages survive their encoding; anything else ends in a typed error."""

import random
from typing import Any, get_args

import pytest

from gavel.errors import BadPeer, Damaged
from gavel.limits import BATCH_AIM, BATCH_MAX
from gavel.quorum import entries, messages
from gavel.quorum.messages import Batch, Body, Member, Prepare, Record, TxId, Vouch
from gavel.quorum.sizes import size_of, weigh

TX = TxId(5, bytes(16), 7, 3)
BODY = Body([(b"a", b"b", 4)], [b"k"], [b"blob"], b"payload")
RECORD = Record(3, [Member(1, 0), Member(2, 2)], [(TX, 9)], 8, 7)

SAMPLES: dict[str, Any] = {
    "tx": TX, "body": BODY, "ballot": 1 << 40, "patient": True, "proposal": 2**64 - 1, "accepted": 1, "value": 0,
    "proposing": True, "fenced": True, "leasing": True,
    "promised": 3, "through": 4, "stable": 5, "number": 6, "highest": 7, "members": [Member(1, 0)], "record": RECORD,
    "known": [(TX, 1, 2, -1)], "clock": 8, "lo": 9, "hi": 10, "cursor": b"c", "least": 11, "known_above": 12,
    "data": b"d", "following": None, "position": 13, "total": 14, "incarnation": 15, "epoch": 16, "carry": [(TX, 1)],
    "floor": 17, "tick": 18, "start": 19, "tid": 20, "node": 21, "informed": True, "decided": -1, "since": 22,
    "complete": 23, "untold": 27, "stream": 24, "window": 25, "horizon": 26,
}  # fmt: skip


def sample(kind: Any) -> Any:
    values = {name: SAMPLES[name] for name in kind.__struct_fields__}
    if kind is messages.Piece:
        values["known"] = [(TX, 3)]
    return kind(**values)


def batch(said: list[messages.Message]) -> Batch:
    vouch = Vouch(1, 2, 3, 4, [(TX, 5, -1)], 6, 7)
    return Batch(1, 2, 3, 4, vouch, said)


def test_every_message_is_what_it_was() -> None:
    told = batch([sample(kind) for kind in get_args(messages.Message)])
    assert messages.decode(messages.encode(told)) == told


def test_every_entry_is_what_it_was() -> None:
    page = [sample(kind) for kind in get_args(entries.Entry)]
    assert entries.decode(entries.encode(40, page)) == entries.Page(40, page)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", bytes(BATCH_MAX + 1)])
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(BadPeer):
        messages.decode(data)


def test_garbage_is_refused_or_is_a_batch() -> None:
    whole = messages.encode(batch([sample(kind) for kind in get_args(messages.Message)]))
    dice = random.Random(4)
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 4))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            messages.decode(bytes(data[: dice.choice((len(data), dice.randrange(len(data))))]))
        except BadPeer:
            refused += 1
    assert refused > 1000


def test_a_record_that_is_none_is_damage() -> None:
    with pytest.raises(Damaged):
        entries.decode(b"\x92\x01\x02")


def test_negative_numbers_and_short_sessions_are_refused() -> None:
    for wrong in (TX._replace(born=-1), TX._replace(session=b"short"), TX._replace(coord=256)):
        with pytest.raises(BadPeer):
            messages.decode(messages.encode(batch([messages.BodyAsk(wrong)])))


def test_large_bodies_are_weighed_into_parts_in_order() -> None:
    large = Body([], [], [], bytes(400_000))
    said: list[messages.Message] = [Prepare(TX, number, large, True) for number in range(7)]
    parts = list(weigh(said, BATCH_AIM))
    assert [message for part in parts for message in part] == said
    assert len(parts) == 4
    assert all(len(messages.encode(batch(part))) < BATCH_MAX for part in parts)
    assert size_of(large) >= 400_000
