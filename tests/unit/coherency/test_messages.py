"""Lease messages: whatever is encoded comes back; anything else is refused, typed."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gavel.coherency import messages as m
from gavel.errors import BadPeer
from gavel.limits import LEASE_KEY_MAX, LEASE_MESSAGE_MAX, LEASE_WANTS_MAX

AGE = m.Age(7, b"s" * 16)
WANT = m.Want(b"a", b"b", m.X)
FROM_CLIENT: list[m.FromClient] = [
    m.Alive(1, 2, [3, 4]),
    m.Ask(1, AGE, [WANT], True, False, 2),
    m.Release(2, 1, [m.Want(b"a", b"b", m.NONE)], 90),
    m.Leave(),
]
FROM_MASTER: list[m.FromMaster] = [
    m.Recall(1, b"a", b"b", m.S, AGE, m.WANTED),
    m.Renewed(1, m.Token(1, 2), 3, [1, 2, 3], 4, 5, 6, [m.Recall(1, b"a", b"b", m.S, AGE, m.CROWDED)]),
    m.Grant(1, m.Token(1, 2), True, [m.Granted(b"a", b"b", m.X, 2**63)], 5, 6),
    m.Refused(1, m.FLOOD),
]


def test_what_is_encoded_comes_back() -> None:
    assert m.from_client(m.encode(FROM_CLIENT)) == FROM_CLIENT
    assert m.from_master(m.encode(FROM_MASTER)) == FROM_MASTER


def test_a_client_says_nothing_that_only_masters_say() -> None:
    with pytest.raises(BadPeer):
        m.from_client(m.encode(FROM_MASTER))
    with pytest.raises(BadPeer):
        m.from_master(m.encode(FROM_CLIENT))


@given(st.binary(max_size=200))
def test_noise_is_refused_typed(data: bytes) -> None:
    for decode in (m.from_client, m.from_master):
        with suppress(BadPeer):
            decode(data)


@pytest.mark.parametrize(
    "bad",
    [
        [[2, 1, [7, b"s"], [[b"a" * (LEASE_KEY_MAX + 1), b"b", 2]], True, True, 0]],
        [[2, 1, [7, b"s"], [[b"a", b"b", 3]], True, True, 0]],
        [[2, 1, [7, b"s"], [[b"a", b"b", 2]] * (LEASE_WANTS_MAX + 1), True, True, 0]],
        [[2, -1, [7, b"s"], [[b"a", b"b", 2]], True, True, 0]],
        [[99]],
        {"no": "list"},
    ],
)
def test_what_is_beyond_a_bound_is_refused(bad: object) -> None:
    with pytest.raises(BadPeer):
        m.from_client(msgspec.msgpack.encode(bad))


def test_more_than_a_message_may_have_is_refused() -> None:
    with pytest.raises(BadPeer, match="messages"):
        m.from_client(b"\x90" + bytes(LEASE_MESSAGE_MAX))


def test_later_tokens_are_higher() -> None:
    assert m.Token(1, 9) < m.Token(2, 1) < m.Token(2, 2)
