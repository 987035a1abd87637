"""Rolling upgrades: this release and the recorded peers of all wire versions understand each other, byte for byte."""

from __future__ import annotations

import msgspec
import pytest

from gavel.wire import frames
from gavel.wire.connection import NEWEST, OLDEST, Connection, Ended, Greeted, Ponged
from gavel.wire.frames import Kind
from gavel.wire.messages import Role
from tests.formats.wire_peers import CLUSTER, NOW, act, lines, path, recorded, shown, us

RECORDED = ["1", "2", "3"]


def replayed(name: str, spoil: bool = False) -> None:
    """Play a recording against the code; what we do is checked against it."""
    side = Connection(us(max(2, int(name))), dialled=True, window=16, requests=4)
    events: list[str] = []
    for word, rest in lines(name):
        match word:
            case "us":
                sent = b"".join(side.outgoing())
                assert sent.hex() == rest
            case "do":
                act(side, rest)
            case "them":
                assert not events
                data = bytearray.fromhex(rest)
                data[-1] ^= spoil
                events = [shown(event) for event in side.receive(bytes(data), NOW)]
            case "event":
                assert events.pop(0) == rest
    assert not events
    assert not side.outgoing()
    assert side.version == int(name)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_peer_is_understood_and_answered_as_ever(name: str) -> None:
    replayed(name)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recording_is_what_the_code_says_as_a_peer_too(name: str) -> None:
    assert path(name).read_text(encoding="utf-8") == "\n".join(recorded(int(name))) + "\n"


def test_a_spoilt_recording_is_noticed() -> None:
    with pytest.raises(AssertionError):
        replayed("1", spoil=True)


def test_every_version_that_is_spoken_is_recorded_and_there_are_two() -> None:
    assert [str(version) for version in range(OLDEST, NEWEST + 1)] == RECORDED
    assert NEWEST > OLDEST


def test_a_peer_of_tomorrow_is_met_in_the_version_of_today() -> None:
    """Its greeting has elements that nobody knows yet, and it speaks from our newest version on."""
    hello = [NEWEST, NEWEST + 1, 0, CLUSTER, 9, bytes(16), Role.MASTER, 100, 10, "tomorrow", b"epoch", {"new": [1]}, 5]
    side = Connection(us(NEWEST), dialled=False)
    (greeted,) = side.receive(b"".join(frames.encode(0, Kind.HELLO, 0, (msgspec.msgpack.encode(hello),))), 0)
    assert isinstance(greeted, Greeted)
    side.welcome()
    assert side.version == NEWEST
    pong = msgspec.msgpack.encode([1, 2, "what came later"])
    side.outgoing()
    assert side.receive(b"".join(frames.encode(NEWEST, Kind.PONG, 0, (pong,))), 0) == [Ponged(1, 2)]


def test_a_release_that_is_two_versions_ahead_is_refused_with_what_to_do() -> None:
    hello = [NEWEST + 1, NEWEST + 2, 0, CLUSTER, 9, bytes(16), Role.MASTER, 100, 10]
    side = Connection(us(NEWEST), dialled=False)
    (ended,) = side.receive(b"".join(frames.encode(0, Kind.HELLO, 0, (msgspec.msgpack.encode(hello),))), 0)
    assert isinstance(ended, Ended)
    assert "one release at a time" in str(ended.error)
