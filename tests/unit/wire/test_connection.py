"""A connection: greetings, what may be said when, credit, and a fault of each side told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gavel.errors import BadPeer, Collision, DoubleIdentity, GavelError, NoCommonVersion, WrongCluster
from gavel.limits import WIRE_FRAME_MAX
from gavel.wire import frames
from gavel.wire.connection import (
    LEASES_SINCE,
    NEWEST,
    Answered,
    Asked,
    Carried,
    Connection,
    Credited,
    Ended,
    Farewelled,
    Leased,
    Ponged,
    Staged,
)
from gavel.wire.frames import Kind
from gavel.wire.messages import Role, Status
from gavel.wire.states import Misuse, State
from tests.unit.wire.pairs import opened, party, passed, sent

SESSION = b"s" * 16
BLOB = SESSION + bytes(8)


def fault(connection: Connection, data: bytes) -> BadPeer:
    """How a connection ends that gets this; it has told the peer."""
    *_, ended = connection.receive(data, 0)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, BadPeer)
    assert connection.closed
    assert connection.outgoing()
    return ended.error


def message(kind: Kind, *parts: bytes, stream: int = 0, version: int = NEWEST) -> bytes:
    return b"".join(frames.encode(version, kind, stream, parts))


def test_both_sides_learn_who_the_other_is() -> None:
    dialler, listener = opened(party(1), party(2, Role.SLAVE))
    assert dialler.peer is not None
    assert listener.peer is not None
    assert (dialler.peer.node, dialler.peer.role, dialler.peer.name) == (2, Role.SLAVE, "node 2")
    assert listener.peer.incarnation == b"\1" * 16
    assert dialler.version == listener.version == NEWEST


def test_what_members_say_goes_both_ways_whatever_its_size() -> None:
    dialler, listener = opened()
    large = bytes(range(256)) * (WIRE_FRAME_MAX // 100)
    dialler.carry(0, b"votes")
    dialler.carry(3, large)
    events = passed(dialler, listener, size=100_000)
    assert [(event.channel, bytes(event.body)) for event in events if isinstance(event, Carried)] == [
        (0, b"votes"),
        (3, large),
    ]


def test_a_request_is_answered_once() -> None:
    client, master = opened(party(0, Role.CLIENT))
    client.request(5, SESSION, 2**40, b"look")
    (asked,) = passed(client, master)
    assert isinstance(asked, Asked)
    assert (asked.stream, asked.session, asked.seq, bytes(asked.body)) == (5, SESSION, 2**40, b"look")
    assert (client.waiting, master.owing) == (1, 1)
    master.respond(5, Status.ELSEWHERE, b"why")
    with pytest.raises(Misuse, match="nobody asked"):
        master.respond(5, Status.DONE, b"")
    (answered,) = passed(master, client)
    assert isinstance(answered, Answered)
    assert (answered.stream, answered.status, bytes(answered.body)) == (5, Status.ELSEWHERE, b"why")
    assert (client.waiting, master.owing) == (0, 0)
    assert "answer" in str(fault(client, message(Kind.RESPONSE, b"\0", stream=5)))


def test_requests_under_way_are_bounded_on_both_sides() -> None:
    client, master = opened(party(0, Role.CLIENT), requests=2)
    for stream in (1, 2):
        client.request(stream, SESSION, stream, b"")
    assert client.request_room == 0
    with pytest.raises(Misuse, match="under way"):
        client.request(3, SESSION, 3, b"")
    passed(client, master)
    assert "requests under way" in str(fault(master, message(Kind.REQUEST, SESSION, bytes(8), stream=3)))


def test_a_request_whose_stream_is_under_way_is_a_fault() -> None:
    client, master = opened(party(0, Role.CLIENT))
    client.request(1, SESSION, 1, b"")
    passed(client, master)
    fault(master, message(Kind.REQUEST, SESSION, bytes(8), stream=1))


def test_blobs_go_as_far_as_the_credit() -> None:
    client, master = opened(party(0, Role.CLIENT), window=100)
    assert client.blob_room == 100
    client.blob(BLOB, b"d" * 60)
    with pytest.raises(Misuse, match="room"):
        client.blob(BLOB, b"d" * 60)
    (staged,) = passed(client, master)
    assert isinstance(staged, Staged)
    assert (staged.blob, bytes(staged.data)) == (BLOB, b"d" * 60)
    master.took(20)
    assert not master.outgoing()  # not worth a message yet
    master.took(40)
    assert passed(master, client) == [Credited(100)]
    client.blob(BLOB, b"d" * 100)
    passed(client, master)
    assert "sent ahead" in str(fault(master, message(Kind.BLOB, BLOB, b"d")))


def test_more_cannot_be_taken_than_came() -> None:
    _, master = opened(window=100)
    with pytest.raises(AssertionError, match="more was taken"):
        master.took(1)


def test_credit_does_not_go_back() -> None:
    client, _ = opened(window=100)
    assert "credit" in str(fault(client, message(Kind.CREDIT, b"\x91\x05")))


def test_a_round_trip_is_told_with_the_clock_of_the_other_side() -> None:
    dialler, listener = opened()
    dialler.ping(7)
    assert passed(dialler, listener, now=1234) == []
    assert passed(listener, dialler) == [Ponged(7, 1234)]


def test_a_draining_side_answers_what_it_has() -> None:
    client, master = opened(party(0, Role.CLIENT))
    client.request(1, SESSION, 1, b"")
    crossing = sent(client)
    master.goaway("going down")
    assert [event.reason for event in passed(master, client) if isinstance(event, Farewelled)] == ["going down"]
    assert client.request_room == 0
    with pytest.raises(Misuse):
        client.request(2, SESSION, 2, b"")
    assert isinstance(master.receive(crossing, 0)[0], Asked)
    master.respond(1, Status.DONE, b"ok")
    assert isinstance(passed(master, client)[0], Answered)
    assert (client.state, master.state) == (State.LEAVING, State.DRAINING)
    client.goaway("as you wish")
    passed(client, master)
    assert client.state is master.state is State.PARTING


@pytest.mark.parametrize(
    ("dialler", "error"),
    [
        (party(1, cluster=b"another cluster."), WrongCluster),
        (party(1, oldest=NEWEST + 1, newest=NEWEST + 2), NoCommonVersion),
        (party(2), DoubleIdentity),
        (party(0), BadPeer),
        (party(1, Role.CLIENT), BadPeer),
        (party(1, role=77), BadPeer),
    ],
)
def test_who_cannot_be_welcome_hears_why(dialler: object, error: type[GavelError]) -> None:
    one, other = Connection(dialler, dialled=True), Connection(party(2), dialled=False)  # type: ignore[arg-type]
    (ended,) = passed(one, other)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, error)
    (told,) = passed(other, one)
    assert isinstance(told, Ended)
    assert type(told.error) is error
    assert one.closed
    assert other.closed


def test_a_shell_that_refuses_is_heard_with_its_evidence() -> None:
    one, other = Connection(party(1), dialled=True), Connection(party(2), dialled=False)
    passed(one, other)
    other.refuse(Collision(b"key", 5, 4, ["/a"]))
    (told,) = passed(other, one)
    assert isinstance(told, Ended)
    assert isinstance(told.error, Collision)
    assert (told.error.key, told.error.tid, told.error.paths) == (b"key", 5, ("/a",))


def test_a_client_does_not_speak_for_members() -> None:
    _, master = opened(party(0, Role.CLIENT))
    assert "members" in str(fault(master, message(Kind.PEER, b"vote")))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.HELLO,)])
def test_nothing_comes_before_the_greeting(kind: Kind) -> None:
    assert "order" in str(fault(Connection(party(1), dialled=False), message(kind, b"\x91\0", version=0)))


@pytest.mark.parametrize("version", [0, 1, NEWEST + 1])
def test_frames_have_the_version_agreed_on(version: int) -> None:
    _, listener = opened()
    assert "version" in str(fault(listener, message(Kind.PEER, b"vote", version=version)))


def test_messages_about_leases_go_both_ways_between_clients_and_members_that_know_of_them() -> None:
    client, master = opened(party(0, Role.CLIENT))
    large = bytes(range(256)) * (WIRE_FRAME_MAX // 100)
    client.lease(b"alive")
    master.lease(b"granted")
    master.lease(large)
    assert passed(client, master) == [Leased(b"alive")]  # type: ignore[arg-type]
    assert [bytes(event.body) for event in passed(master, client) if isinstance(event, Leased)] == [b"granted", large]
    master.goaway("upgrade")
    client.lease(b"released")
    assert passed(client, master)
    for one, other in (
        (party(1), party(2)),
        (party(0, Role.CLIENT), party(2, newest=LEASES_SINCE - 1)),
        (party(0, Role.CLIENT, newest=LEASES_SINCE - 1), party(2)),
    ):
        sides = opened(one, other)
        for side in sides:
            assert not side.leasing
            with pytest.raises(Misuse):
                side.lease(b"alive")
        assert "leases" in str(fault(sides[1], message(Kind.LEASE, b"alive", version=sides[1].version)))


def test_nothing_is_sent_in_a_state_that_does_not_allow_it() -> None:
    listener = Connection(party(1), dialled=False)
    for act in (lambda: listener.carry(0, b""), lambda: listener.ping(1), lambda: listener.goaway("")):
        with pytest.raises(Misuse):
            act()
    with pytest.raises(Misuse):
        listener.request(1, SESSION, 1, b"")


def test_an_end_in_the_middle_of_a_message_is_a_fault_and_one_between_is_none() -> None:
    dialler, listener = opened()
    dialler.carry(0, b"vote")
    listener.receive(sent(dialler)[:-1], 0)
    (ended,) = listener.receive_eof()
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, BadPeer)
    assert dialler.receive_eof() == [Ended(None)]
    assert dialler.receive_eof() == []
    assert dialler.receive(b"more", 0) == []


def test_events_before_a_fault_are_told() -> None:
    dialler, listener = opened()
    dialler.carry(0, b"vote")
    first, second = listener.receive(sent(dialler) + b"x" * 20, 0)
    assert isinstance(first, Carried)
    assert isinstance(second, Ended)


@given(st.data())
def test_control_messages_made_by_nobody_end_the_connection_or_mean_something(data: st.DataObject) -> None:
    client, master = opened(party(0, Role.CLIENT))
    client.request(1, SESSION, 1, b"")
    passed(client, master)
    side = data.draw(st.sampled_from([client, master, Connection(party(3), dialled=False)]))
    kind = data.draw(st.sampled_from(list(Kind)))
    version = side.version if data.draw(st.booleans()) else data.draw(st.integers(0, NEWEST + 1))
    body = data.draw(st.binary(max_size=64) | st.sampled_from([b"\x91\x80", b"\x93\xa1x\xa1y\x90", b"\xc1", b""]))
    for event in side.receive(message(kind, body, stream=data.draw(st.sampled_from([0, 1, 2])), version=version), 0):
        if isinstance(event, Ended):
            assert event.error is None or isinstance(event.error, GavelError)
            assert side.closed
