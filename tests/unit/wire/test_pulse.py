"""The pulse of a link: only completed round trips keep it up."""

from __future__ import annotations

from gavel.limits import LINK_DEAD_MS, LINK_DOUBT_MS, PING_BUSY_MS, PING_IDLE_MS
from gavel.wire.pulse import Health, Pulse

MS = 1_000_000


def test_it_is_asked_often_only_while_somebody_waits() -> None:
    pulse = Pulse(0)
    assert pulse.due(PING_BUSY_MS * MS, busy=False) is None
    assert pulse.due(PING_BUSY_MS * MS - 1, busy=True) is None
    assert pulse.next(0, busy=True) == PING_BUSY_MS * MS
    assert pulse.due(PING_BUSY_MS * MS, busy=True) == 1
    pulse.ponged(1, PING_BUSY_MS * MS + 5)
    assert pulse.due((PING_BUSY_MS + PING_IDLE_MS) * MS, busy=False) == 2


def test_silence_puts_it_in_doubt_then_ends_it_and_only_the_answer_helps() -> None:
    pulse = Pulse(0)
    start = PING_IDLE_MS * MS
    assert pulse.due(start, busy=False) == 1
    doubt, dead = start + LINK_DOUBT_MS * MS, start + LINK_DEAD_MS * MS
    assert pulse.next(start, busy=True) == doubt
    assert (pulse.health(doubt - 1), pulse.health(doubt), pulse.health(dead)) == (Health.UP, Health.DOUBT, Health.DEAD)
    assert pulse.next(doubt, busy=True) == dead
    assert pulse.due(doubt, busy=True) is None  # one question at a time
    pulse.ponged(7, doubt)  # an answer to nothing
    assert pulse.health(doubt) is Health.DOUBT
    pulse.ponged(1, doubt)
    assert pulse.health(dead) is Health.UP
    pulse.ponged(1, dead)  # the same answer again is no round trip
    assert pulse.completed == doubt


def test_silence_of_one_who_was_not_asked_means_nothing() -> None:
    assert Pulse(0).health(10**15) is Health.UP


def test_round_trips_are_smoothed_and_tell_how_far_the_clocks_are_apart() -> None:
    pulse = Pulse(0)
    now = 0
    for took in (800, 1600):
        now += PING_IDLE_MS * MS
        number = pulse.due(now, busy=False)
        assert number is not None
        pulse.ponged(number, now + took, ours=10**18 + took, theirs=10**18 + took // 2 + 5000)
    assert pulse.rtt == 900
    assert pulse.skew == 5000


def test_answers_to_requests_make_pings_unnecessary_but_end_no_doubt() -> None:
    pulse = Pulse(0)
    for now in range(0, 1000 * MS, 10 * MS):
        pulse.answered(now)
        assert pulse.due(now, busy=True) is None
    due = 990 * MS + PING_BUSY_MS * MS
    assert pulse.next(990 * MS, busy=True) == due
    number = pulse.due(due, busy=True)
    assert number is not None
    pulse.answered(due + LINK_DOUBT_MS * MS)
    assert pulse.health(due + LINK_DOUBT_MS * MS) is Health.DOUBT
    pulse.ponged(number, due + LINK_DOUBT_MS * MS)
    assert pulse.health(due + LINK_DOUBT_MS * MS) is Health.UP
