"""What a client believes, and until when."""

from __future__ import annotations

from dataclasses import replace

from gavel.coherency.holder import Answered, Denied, Established, Holder, Lapsed, Recalled, ToMaster
from gavel.coherency.messages import (
    NONE,
    Age,
    Ask,
    FromClient,
    Grant,
    Granted,
    Leave,
    Recall,
    Refused,
    Release,
    S,
    Token,
    Want,
    X,
)
from gavel.coherency.rules import ALL, Rules
from gavel.limits import LEASE_DRIFT, LEASE_TERM_NS
from tests.unit.coherency.stage import FIRST, MS, C, D, renewed

A = Want(b"a", b"b", X)
THREE = (1, 2, 3)


def holder(voters: tuple[int, ...] = THREE, rules: Rules = ALL) -> Holder:
    """A client that every voter has renewed at 0."""
    found = Holder(C, rules)
    for node in voters:
        found.connected(node, 0)
        found.hear(node, renewed(0, voters=voters), 0)
    found.drain()
    return found


def grant(number: int, want: Want = A, tid: int = 7, held: bool = True, token: Token = FIRST) -> Grant:
    return Grant(number, token, held, [Granted(*want, tid)], 8, 0)


def events(found: Holder) -> list[object]:
    return [event for event in found.drain() if not isinstance(event, ToMaster)]


def said(found: Holder) -> list[tuple[int, FromClient]]:
    return [(event.master, event.message) for event in found.drain() if isinstance(event, ToMaster)]


def test_a_majority_establishes_and_names_the_newest_tid() -> None:
    client = holder()
    number = client.need([A], 0)
    client.hear(1, grant(number, tid=7), 0)
    assert events(client) == [] and not client.covers(*A)
    client.hear(2, grant(number, tid=9), 0)
    assert events(client) == [Established(number, [Granted(*A, 9)])]
    assert client.covers(*A) and client.tokens([(b"a", b"b")]) == ((1, 1, 1), (2, 1, 1))
    client.hear(3, grant(number, tid=30), 0)
    assert events(client) == []
    assert client.tokens([(b"a", b"b")]) == ((1, 1, 1), (2, 1, 1), (3, 1, 1))


def test_what_all_grant_less_is_the_intersection() -> None:
    client = holder()
    number = client.need([Want(b"b", b"c", S)], 0)
    client.hear(1, grant(number, Want(b"a", b"d", S)), 0)
    client.hear(2, grant(number, Want(b"b", b"f", S)), 0)
    assert client.covers(b"b", b"d", S) and not client.covers(b"a", b"b", S) and not client.covers(b"d", b"e", S)


def test_the_term_is_counted_from_the_keep_alive_and_shortened_by_both_drifts() -> None:
    client = holder((1,))
    client.hear(1, grant(client.need([A], 0)), 0)
    client.hear(1, renewed(500 * MS), 900 * MS)
    assert client.valid_until == 500 * MS + LEASE_TERM_NS - 2 * LEASE_TERM_NS // LEASE_DRIFT


def test_at_the_worst_rates_the_client_is_over_first() -> None:
    def true_ends(rules: Rules) -> tuple[int, int]:
        client = holder((1,), rules)
        client.hear(1, grant(client.need([A], 0)), 0)
        slow, fast = LEASE_DRIFT - 1, LEASE_DRIFT + 1
        return client.valid_until * LEASE_DRIFT // slow, LEASE_TERM_NS * LEASE_DRIFT // fast

    client_ends, master_ends = true_ends(ALL)
    assert client_ends < master_ends
    client_ends, master_ends = true_ends(replace(ALL, shortened=False))
    assert client_ends > master_ends


def test_a_lapse_is_reported_and_a_renewal_under_the_same_token_brings_it_back() -> None:
    client = holder((1,))
    client.hear(1, grant(client.need([A], 0)), 0)
    events(client)
    client.tick(LEASE_TERM_NS)
    assert events(client) == [Lapsed([Want(b"a", b"b", NONE)], 7)] and client.valid_until == 0
    client.hear(1, renewed(LEASE_TERM_NS), LEASE_TERM_NS)
    assert events(client) == [Established(None, [Granted(*A, 7)])]
    client.tick(2 * LEASE_TERM_NS)
    client.hear(1, renewed(2 * LEASE_TERM_NS, Token(1, 2)), 2 * LEASE_TERM_NS)
    assert [type(event) for event in events(client)] == [Lapsed] and not client.covers(*A)


def test_a_recall_is_answered_when_the_cache_says_so() -> None:
    client = holder()
    number = client.need([A], 0)
    for node in THREE:
        client.hear(node, grant(number), 0)
    client.done(number, 0)
    client.drain()
    client.hear(1, Recall(4, b"a", b"b", S, Age(9, D), 0), 0)
    (recalled,) = events(client)
    assert isinstance(recalled, Recalled) and (recalled.ranges, recalled.to) == ([(b"a", b"b")], S)
    assert client.covers(b"a", b"b", S) and not client.covers(*A) and client.tokens([(b"a", b"b")]) is None
    client.hear(2, Recall(9, b"a", b"b", S, Age(9, D), 0), 0)
    assert events(client) == []
    client.released(recalled.recall, 90, 0)
    assert [(node, type(message)) for node, message in said(client)] == [(node, Release) for node in THREE]
    client.hear(2, Recall(9, b"a", b"b", S, Age(9, D), 0), 0)
    assert client.drain() == []


def test_an_older_operation_gives_up_what_it_asks_more_of_but_not_what_that_got_it() -> None:
    for nodes_that_granted, gives_up in (((), True), ((2,), True), ((1,), False)):
        client = holder()
        first = client.need([A], 0)
        for node in THREE:
            client.hear(node, grant(first), 0)
        client.done(first, 0)
        more = Want(b"a", b"c", X)
        number = client.need([more], 0)
        for node in nodes_that_granted:
            client.hear(node, grant(number, more), 0)
        client.drain()
        client.hear(1, Recall(4, b"a", b"b", NONE, Age(999, D), 0), 0)
        assert any(isinstance(event, Recalled) for event in events(client)) == gives_up, nodes_that_granted


def test_an_ask_that_may_still_wait_somewhere_is_withdrawn() -> None:
    client = holder()
    number = client.need([A], 0)
    for node in (1, 2):
        client.hear(node, grant(number), 0)
    client.drain()
    client.done(number, 0)
    assert [(node, message) for node, message in said(client) if isinstance(message, Ask)] == [
        (3, Ask(number, Age(6, C), [], False, False, 0))
    ]


def test_what_is_not_held_is_released_at_once() -> None:
    client = holder()
    client.hear(1, Recall(4, b"x", b"y", NONE, Age(9, D), 0), 0)
    assert [type(message) for _, message in said(client)] == [Release] * 3


def test_a_contended_ask_is_answered_by_a_majority_without_a_lease() -> None:
    client = holder()
    number = client.need([A], 0)
    client.hear(1, grant(number, tid=5), 0)
    client.hear(2, grant(number, tid=6, held=False), 0)
    assert events(client) == [Answered(number, 6)]
    assert not client.covers(*A)


def test_a_majority_of_refusals_is_a_denial() -> None:
    client = holder()
    number = client.need([A], 0)
    client.hear(1, Refused(number, 0), 0)
    client.hear(1, Refused(number, 0), 0)
    assert events(client) == []
    client.hear(2, Refused(number, 0), 0)
    assert events(client) == [Denied(number, 0)]


def test_an_operation_keeps_its_age() -> None:
    client = holder()
    first = client.need([A], 0)
    client.hear(1, renewed(1, voters=THREE), 1)
    second = client.need([Want(b"c", b"d", S)], 1, after=first)
    assert client.age(first) == client.age(second) == Age(6, C)


def test_nothing_is_asked_before_a_master_said_what_time_it_is() -> None:
    client = Holder(C)
    client.connected(1, 0)
    client.need([A], 0)
    assert not any(isinstance(message, Ask) for _, message in said(client))
    client.hear(1, renewed(0), 0)
    assert any(isinstance(message, Ask) for _, message in said(client))


def test_who_does_not_stand_behind_what_is_held_is_asked_for_it() -> None:
    client = holder()
    number = client.need([A], 0)
    client.hear(1, grant(number), 0)
    client.hear(2, grant(number), 0)
    client.done(number, 0)
    client.drain()
    client.tick(LEASE_TERM_NS // 3)
    asks = [(node, message.wants) for node, message in said(client) if isinstance(message, Ask)]
    assert asks == [(3, [A])]


def test_a_group_of_two_ranges_needs_one_majority_for_both() -> None:
    client = holder()
    b = Want(b"c", b"d", X)
    first, second = client.need([A], 0), client.need([b], 0)
    client.hear(1, grant(first), 0)
    client.hear(2, grant(first), 0)
    client.hear(2, grant(second, b), 0)
    client.hear(3, grant(second, b), 0)
    assert client.covers(*A) and client.covers(*b)
    assert client.tokens([(b"a", b"b"), (b"c", b"d")]) is None
    client.hear(1, grant(second, b), 0)
    assert client.tokens([(b"a", b"b"), (b"c", b"d")]) == ((1, 1, 1), (2, 1, 1))


def test_who_leaves_holds_nothing() -> None:
    client = holder()
    number = client.need([A], 0)
    for node in THREE:
        client.hear(node, grant(number), 0)
    client.drain()
    client.leave(0)
    assert [(node, type(message)) for node, message in said(client)] == [(node, Leave) for node in THREE]
    assert client.valid_until == 0 and not client.covers(*A)
