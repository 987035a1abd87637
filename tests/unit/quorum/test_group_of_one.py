"""A group of one decides in the step in which it is asked, syncs nothing, and becomes a group of many."""

from gavel.effects import Effect, Sync
from gavel.errors import Forgotten
from gavel.quorum.machine import Collided, Committed
from gavel.quorum.messages import Member
from gavel.quorum.requests import Ask, Propose, ReadPoint, Reconfigure
from gavel.quorum.votes import MASTER, SLAVE
from tests.transcripts.masters import Masters, body


def test_it_answers_at_once_and_asks_for_no_sync() -> None:
    group = Masters([1], auto_sync=False)
    effects: list[Effect] = []
    group.seen = lambda number, effect: effects.append(effect)
    for ticket in range(3):
        group.request(1, Propose(ticket, group.tx(1), body(b"k")))
    tids = [answer.tid for ticket in range(3) for answer in group.answers(ticket)]
    assert tids == sorted(set(tids)) and len(tids) == 3
    assert not any(isinstance(effect, Sync) for effect in effects)
    assert group.core(1).stable >= tids[-1]
    group.request(1, ReadPoint(9))
    assert group.answers(9) == [tids[-1]]


def test_it_certifies() -> None:
    group = Masters([1])
    group.request(1, Propose(1, group.tx(1), body(b"k")))
    [won] = group.answers(1)
    group.request(1, Propose(2, group.tx(1), body(b"x", reads=[(b"k", b"l", 0)])))
    assert group.answers(2) == [Collided(b"k", won.tid)]


def test_a_repeated_transaction_happens_once() -> None:
    group = Masters([1])
    tx = group.tx(1)
    for ticket in (1, 2):
        group.request(1, Propose(ticket, tx, body(b"k")))
    assert group.answers(1) == group.answers(2)
    assert len(group.machine(1).history) == 1


def test_after_a_crash_tids_go_on_above() -> None:
    group = Masters([1])
    tx = group.tx(1)
    group.request(1, Propose(1, tx, body(b"k")))
    group.crash(1, keep=1000)
    group.now -= 3_600_000_000_000  # and the clock was set back
    group.start(1)
    group.request(1, Propose(2, tx, body(b"k")))
    group.request(1, Propose(3, group.tx(1), body(b"l")))
    assert group.answers(2) == group.answers(1)
    assert group.answers(3)[0].tid > group.answers(1)[0].tid


def test_it_grows_and_what_it_did_is_not_done_again() -> None:
    group = Masters([1], outsiders=[2, 3])
    tx = group.tx(1)
    group.request(1, Propose(1, tx, body(b"k")))
    group.request(1, Reconfigure(2, [Member(1, MASTER), Member(2, MASTER), Member(3, MASTER)]))
    group.run()
    group.wait(2000)
    assert group.answers(2)
    for ticket, number in ((3, 2), (5, 1)):
        group.request(number, Propose(ticket, tx, body(b"k")))
        group.run()
        assert group.answers(ticket) == group.answers(1)
    group.crash(1)
    group.request(3, Propose(4, group.tx(3), body(b"l")))
    group.run()
    group.wait(500)
    assert isinstance(group.answers(4)[0], Committed)
    assert [len(group.machine(number).history) for number in (2, 3)] == [2, 2]


def test_a_group_that_grew_survives_a_crash_of_everybody() -> None:
    group = Masters([1], outsiders=[2])
    for ticket in range(5):
        group.request(1, Propose(ticket, group.tx(1), body(b"k%d" % ticket)))
    group.request(1, Reconfigure(9, [Member(1, MASTER), Member(2, SLAVE)]))
    group.run()
    group.wait(100)
    for number in (1, 2):
        group.crash(number)
    for number in (1, 2):
        group.start(number)
    group.run()
    group.wait(3000)
    assert [len(group.machine(number).history) for number in (1, 2)] == [5, 5]
    assert group.core(1).status().voting


def test_how_something_unknown_ended() -> None:
    group = Masters([1])
    tx = group.tx(1)
    group.wait(40_000)
    group.request(1, Propose(1, group.tx(1), body(b"k")))
    group.wait(2000)
    group.request(1, Ask(2, tx))
    assert isinstance(group.answers(2)[0], Forgotten)
