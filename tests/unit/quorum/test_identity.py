"""Old copies, twins, and clocks that are far off."""

from gavel.effects import Effect, Observe
from gavel.errors import NotAMember
from gavel.keys.tid import micros
from gavel.quorum.machine import Committed
from gavel.quorum.requests import Propose
from tests.transcripts.masters import Masters, body

YEAR = 365 * 86_400 * 10**9


def reports(group: Masters) -> list[tuple[int, str]]:
    seen: list[tuple[int, str]] = []

    def saw(number: int, effect: Effect) -> None:
        if isinstance(effect, Observe):
            seen.append((number, effect.name))

    group.seen = saw
    return seen


def commit(group: Masters, ticket: int, number: int, ms: int = 500) -> object:
    group.request(number, Propose(ticket, group.tx(number), body(b"k%d" % ticket)))
    group.run()
    group.wait(ms)
    return group.answers(ticket)[0]


def test_an_old_copy_is_refused_for_ever_after_restarts_too() -> None:
    group = Masters([1, 2, 3])
    group.run()
    commit(group, 1, 1)
    old = list(group.nodes[3].disk.log)
    commit(group, 2, 1, ms=2000)
    for number in (1, 3):  # who remembers may have been restarted meanwhile
        group.crash(number)
    group.start(1)
    group.nodes[3].disk.log[:], group.nodes[3].disk.durable = old, len(old)
    seen = reports(group)
    for _ in range(2):
        group.start(3)
        group.run()
        group.wait(1000)
        assert group.core(3).status().refused
        assert [peer.refused for peer in group.core(2).status().peers] == [False, True]
        assert isinstance(commit(group, 3, 3), NotAMember)
        group.crash(3)
    assert (3, "expelled") in seen and (1, "old copy") in seen
    assert isinstance(commit(group, 4, 2), Committed)


def test_an_honest_restart_is_welcome() -> None:
    group = Masters([1, 2, 3])
    group.run()
    seen = reports(group)
    for ticket in range(6):
        assert isinstance(commit(group, ticket, 1 + ticket % 3, ms=100), Committed)
        group.crash(1 + ticket % 3)
        group.start(1 + ticket % 3)
        group.run()
        group.wait(1200)
    assert not seen
    assert all(group.core(number).status().voting for number in (1, 2, 3))


def test_a_clock_a_year_ahead_is_reported_and_not_followed() -> None:
    group = Masters([1, 2, 3])
    group.run()
    group.wait(100)
    seen = reports(group)
    group.nodes[2].skew = YEAR
    tids = []
    for ticket in range(4):
        outcome = commit(group, ticket, 1 + ticket % 3)
        assert isinstance(outcome, Committed)
        tids.append(outcome.tid)
    assert tids == sorted(tids)
    assert micros(tids[-1]) * 1000 < group.now + 60 * 10**9
    assert (2, "clock off") in seen


def test_a_clock_a_year_behind_costs_nothing() -> None:
    group = Masters([1, 2, 3])
    group.run()
    group.nodes[2].skew = -YEAR
    outcomes = [commit(group, ticket, 1 + ticket % 3) for ticket in range(4)]
    assert all(isinstance(outcome, Committed) for outcome in outcomes)


def test_a_clock_that_jumps_costs_no_patience() -> None:
    group = Masters([1, 2, 3])
    group.run()
    group.request(1, Propose(1, group.tx(1), body(b"k")))
    group.nodes[1].skew = YEAR
    group.wait(50)
    assert isinstance(group.answers(1)[0], Committed)


def test_a_master_that_starts_with_a_clock_a_year_ahead_asks_first_what_time_it_is() -> None:
    group = Masters([1, 2, 3])
    group.run()
    commit(group, 1, 1)
    group.crash(2)
    group.nodes[2].skew = YEAR
    group.start(2)
    outcome = commit(group, 2, 2)
    assert isinstance(outcome, Committed)
    assert micros(outcome.tid) * 1000 < group.now + 60 * 10**9
