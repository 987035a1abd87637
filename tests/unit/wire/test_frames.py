"""Frames: what is encoded is found again, however it is cut; what is no frame is refused at once."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gavel.errors import BadPeer
from gavel.limits import WIRE_FRAME_MAX, WIRE_MESSAGE_MAX
from gavel.wire.frames import CHUNK_MAX, FRAME_MAX, HEAD, HEAD_SIZE, MAGIC, MORE, Kind, Parser, encode


def joined(*messages: tuple[Kind, int, bytes]) -> bytes:
    return b"".join(b"".join(encode(2, kind, stream, (body,))) for kind, stream, body in messages)


def found(data: bytes, sizes: list[int] | None = None) -> list[tuple[Kind, int, bytes]]:
    parser, at, frames = Parser(), 0, []
    for size in sizes or []:
        frames += list(parser.feed(data[at : at + size]))
        at += size
    frames += list(parser.feed(data[at:]))
    return [(frame.kind, frame.stream, bytes(frame.payload)) for frame in frames]


@given(
    st.lists(st.tuples(st.sampled_from([Kind.PEER, Kind.REQUEST]), st.integers(0, 2**32 - 1), st.binary(max_size=99))),
    st.lists(st.integers(1, 60), max_size=40),
)
def test_messages_are_found_however_they_are_cut(messages: list[tuple[Kind, int, bytes]], cuts: list[int]) -> None:
    assert found(joined(*messages), cuts) == messages


def test_a_large_message_goes_in_parts_between_which_others_pass() -> None:
    body = Random(1).randbytes(2 * WIRE_FRAME_MAX + 5)
    large = b"".join(encode(2, Kind.RESPONSE, 7, (b"\0", body)))
    cut = HEAD_SIZE + WIRE_FRAME_MAX
    vote = joined((Kind.PEER, 0, b"vote"))
    assert found(large[:cut] + vote + large[cut:], [1000, 300_000]) == [
        (Kind.PEER, 0, b"vote"),
        (Kind.RESPONSE, 7, b"\0" + body),
    ]


def test_a_payload_is_a_view_of_the_buffer_it_was_received_into() -> None:
    parser = Parser()
    data = joined((Kind.PEER, 0, b"x" * 5000))
    room = parser.buffer()
    room[: len(data)] = data
    (frame,) = parser.filled(len(data))
    assert frame.payload.obj is room.obj
    sent = b"y" * 100_000
    assert encode(2, Kind.PEER, 0, (sent,))[1] is sent


def test_what_somebody_has_a_view_of_never_changes_and_what_nobody_has_is_used_again() -> None:
    parser, kept, buffers = Parser(), [], []
    for number in range(200):
        data = joined((Kind.PEER, number, bytes([number]) * 3000))
        room = parser.buffer()
        buffers.append(room.obj)
        room[: len(data)] = data
        room.release()
        (frame,) = parser.filled(len(data))
        if 50 <= number < 100:
            kept.append(frame)
        del frame
    assert all(bytes(frame.payload) == bytes([frame.stream]) * 3000 for frame in kept)
    assert len({id(buffer) for buffer in buffers[:50]}) == 1
    assert len({id(buffer) for buffer in buffers[50:100]}) > 5
    assert len({id(buffer) for buffer in buffers[101:]}) == 1


def test_feeding_single_bytes_takes_time_in_proportion() -> None:
    data = joined(*[(Kind.PEER, 0, b"z" * 5000)] * 4)
    assert len(found(data, [1] * len(data))) == 4


@pytest.mark.parametrize(
    ("what", "head"),
    [
        ("beginning", HEAD.pack(b"GET", 2, Kind.PEER, 0, 0, 0, 5)),
        ("kind", HEAD.pack(MAGIC, 2, 99, 0, 0, 0, 5)),
        ("flags", HEAD.pack(MAGIC, 2, Kind.PEER, 2, 0, 0, 5)),
        ("flags", HEAD.pack(MAGIC, 2, Kind.PEER, 0, 1, 0, 5)),
        ("flags", HEAD.pack(MAGIC, 2, Kind.BLOB, MORE, 0, 0, 5)),
        *[("length", HEAD.pack(MAGIC, 2, kind, 0, 0, 0, FRAME_MAX[kind] + 1)) for kind in Kind],
        ("length", HEAD.pack(MAGIC, 2, Kind.PEER, MORE, 0, 0, 2**32 - 1)),
    ],
)
def test_a_header_that_cannot_be_is_refused_before_its_payload_comes(what: str, head: bytes) -> None:
    with pytest.raises(BadPeer, match=what):
        list(Parser().feed(head + b"sum!"))
    cut = Parser()
    list(cut.feed(head[:9]))
    with pytest.raises(BadPeer, match=what):
        list(cut.feed(head[9:] + b"sum!"))


def test_every_changed_bit_is_noticed() -> None:
    data = joined((Kind.REQUEST, 3, b"some request"))
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        parser = Parser()
        try:
            frames = list(parser.feed(bytes(changed)))
        except BadPeer:
            continue
        assert not frames, f"bit {bit}"
        assert parser.holding  # a greater length: it waits for what never comes


def test_what_came_before_a_fault_is_told_first() -> None:
    frames = Parser().feed(joined((Kind.PEER, 0, b"good")) + b"garbage" * 9)
    assert bytes(next(frames).payload) == b"good"
    with pytest.raises(BadPeer):
        next(frames)


def test_parts_without_end_are_refused_within_their_bound() -> None:
    part = bytearray(b"".join(encode(2, Kind.PEER, 0, (bytes(WIRE_FRAME_MAX + 1),)))[: HEAD_SIZE + WIRE_FRAME_MAX])
    parser = Parser()
    tracemalloc.start()
    try:
        for _ in range(WIRE_MESSAGE_MAX // WIRE_FRAME_MAX):
            assert list(parser.feed(part)) == []
        with pytest.raises(BadPeer, match="parts"):
            list(parser.feed(part))
        assert tracemalloc.get_traced_memory()[1] < WIRE_MESSAGE_MAX + 3 * CHUNK_MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, WIRE_FRAME_MAX - 1])
def test_small_parts_are_refused_as_there_could_be_any_number(size: int) -> None:
    from crc32c import crc32c

    head = HEAD.pack(MAGIC, 2, Kind.PEER, MORE, 0, 0, size)
    with pytest.raises(BadPeer, match="part of a message"):
        list(Parser().feed(head + crc32c(bytes(size), crc32c(head)).to_bytes(4, "little") + bytes(size)))


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waits_for_more(data: bytes) -> None:
    parser = Parser()
    try:
        assert list(parser.feed(data)) == []
    except BadPeer:
        return
    assert len(data) < HEAD_SIZE
