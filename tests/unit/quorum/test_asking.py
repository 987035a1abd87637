"""Requests: patience, bounds, and what is answered to whom."""

import pytest

from gavel.errors import BadRequest, Forgotten, NotAMember, QuorumLost, Superseded, TooLarge
from gavel.limits import BODY_MAX, PATIENCE_MS, UNDECIDED_MAX
from gavel.quorum.machine import Aborted, Committed
from gavel.quorum.messages import Body, Member
from gavel.quorum.requests import Ask, GetStatus, Propose, ReadPoint, Reconfigure
from gavel.quorum.votes import MASTER, SLAVE
from tests.transcripts.masters import Masters, body


@pytest.fixture
def group() -> Masters:
    group = Masters([1, 2, 3])
    group.run()
    group.wait(100)
    return group


def test_without_a_majority_patience_ends_and_the_outcome_may_be_asked_again(group: Masters) -> None:
    for number in (2, 3):
        group.crash(number)
    tx = group.tx(1)
    group.request(1, Propose(1, tx, body(b"k")))
    group.request(1, ReadPoint(2, patience_ms=500))
    group.wait(600)
    assert group.answers(1) == []
    [lost] = group.answers(2)
    assert isinstance(lost, QuorumLost) and lost.missing == (2, 3) and lost.waited_ms >= 500
    group.wait(PATIENCE_MS)
    assert isinstance(group.answers(1)[0], QuorumLost)
    for number in (2, 3):
        group.start(number)
    group.run()
    group.wait(3000)
    group.request(2, Propose(3, tx, body(b"k")))
    group.run()
    group.wait(500)
    assert isinstance(group.answers(3)[0], Committed)
    assert all(len(group.machine(number).history) == 1 for number in (1, 2, 3))


def test_two_who_ask_for_one_transaction_are_both_answered(group: Masters) -> None:
    tx = group.tx(1)
    group.request(1, Propose(1, tx, body(b"k")))
    group.request(1, Propose(2, tx, body(b"k")))
    group.run()
    assert group.answers(1) == group.answers(2) != []


def test_asking_how_something_that_nobody_knows_ended_ends_it(group: Masters) -> None:
    tx = group.tx(1)
    group.request(2, Ask(1, tx))
    group.run()
    group.request(1, Propose(2, tx, body(b"k")))
    group.run()
    assert group.answers(1) == group.answers(2) == [Aborted()]


def test_a_life_that_is_over_is_forgotten(group: Masters) -> None:
    tx = group.tx(1)
    group.wait(40_000)
    group.request(1, Propose(1, tx, body(b"k")))
    group.run()
    assert isinstance(group.answers(1)[0], Forgotten)


def test_bodies_and_births_have_bounds(group: Masters) -> None:
    group.request(1, Propose(1, group.tx(1), Body([], [], [], bytes(BODY_MAX + 1))))
    tx = group.tx(1)
    group.request(1, Propose(2, tx._replace(born=tx.born + (3_600_000_000 << 8)), body(b"k")))
    assert isinstance(group.answers(1)[0], TooLarge)
    assert isinstance(group.answers(2)[0], BadRequest)


def test_no_more_is_begun_than_can_be_kept(group: Masters) -> None:
    group.cuts.update({(1, 2), (1, 3)})
    for ticket in range(UNDECIDED_MAX):
        group.core(1).registers.find(group.tx(1, seq=ticket))
    group.request(1, Propose(1, group.tx(1), body(b"k")))
    assert isinstance(group.answers(1)[0], QuorumLost)


def test_who_does_not_vote_says_so() -> None:
    group = Masters([1, 2, 3], outsiders=[4])
    for ticket, request in enumerate(
        (Propose(0, group.tx(1), body(b"k")), ReadPoint(1), Reconfigure(2, [Member(4, 0)]))
    ):
        group.request(4, request)
        assert isinstance(group.answers(ticket)[0], NotAMember)


def test_members_that_cannot_be_are_refused_and_those_that_are_need_no_change(group: Masters) -> None:
    group.request(1, Reconfigure(1, [Member(1, SLAVE)]))
    group.request(1, Reconfigure(2, [Member(number, MASTER) for number in (1, 2, 3)]))
    assert isinstance(group.answers(1)[0], BadRequest)
    assert group.answers(2) == [[Member(number, MASTER) for number in (1, 2, 3)]]
    assert group.core(1).desk.epoch == 0


def test_of_two_changes_one_wins_and_the_other_is_told(group: Masters) -> None:
    group.request(1, Reconfigure(1, [Member(1, MASTER), Member(2, MASTER)]))
    group.request(2, Reconfigure(2, [Member(2, MASTER), Member(3, MASTER)]))
    group.run()
    group.wait(2000)
    results = group.answers(1) + group.answers(2)
    assert len(results) == 2
    assert sum(isinstance(result, list) for result in results) == 1
    assert all(isinstance(result, list | Superseded | NotAMember) for result in results)


def test_a_status_says_where_it_is(group: Masters) -> None:
    group.request(1, Propose(1, group.tx(1), body(b"k")))
    group.run()
    group.crash(3)
    group.request(1, GetStatus(2))
    [status] = group.answers(2)
    assert status.voting and not status.sealed and status.stable >= group.answers(1)[0].tid
    assert [(peer.node, peer.up) for peer in status.peers] == [(2, True), (3, False)]


def test_a_failed_device_ends_voting_and_nothing_else(group: Masters) -> None:
    from gavel.effects import SyncFailed

    group.auto_sync = False
    group.request(1, Propose(1, group.tx(1), body(b"k")))
    ticket, _ = group.nodes[1].syncing or (0, 0)
    group.nodes[1].syncing = None
    group.step(1, SyncFailed(ticket, "io"))
    assert isinstance(group.answers(1)[0], QuorumLost)
    group.request(1, Propose(2, group.tx(1), body(b"k")))
    assert isinstance(group.answers(2)[0], QuorumLost)
    group.auto_sync = True
    for number in (2, 3):
        group.sync(number)
    group.request(2, Propose(3, group.tx(2), body(b"l")))
    group.run()
    group.wait(500)
    assert isinstance(group.answers(3)[0], Committed)


def test_a_slave_reads_what_was_acknowledged_when_it_has_streamed_it(group: Masters) -> None:
    group.nodes[4] = type(group.nodes[1])(4)
    group.start(4)
    group.request(1, Reconfigure(1, [Member(n, MASTER) for n in (1, 2, 3)] + [Member(4, SLAVE)]))
    group.run()
    group.wait(1500)
    group.request(1, Propose(2, group.tx(1), body(b"k")))
    group.run()
    group.request(4, ReadPoint(3))
    group.run()
    group.wait(100)
    assert group.answers(3) == [group.answers(2)[0].tid]
    assert len(group.machine(4).history) == 1


def test_after_a_long_time_without_a_majority_it_goes_on_at_once(group: Masters) -> None:
    for number in (2, 3):
        group.crash(number)
    group.request(1, Propose(1, group.tx(1), body(b"k"), patience_ms=25_000))
    group.wait(20_000)
    group.start(2)
    group.run()
    group.wait(100)
    assert isinstance(group.answers(1)[0], Committed)
