"""The voter's clock: never back, reserved ahead, and no follower of a clock that is far off."""

from gavel.keys.tid import make, micros, node
from gavel.limits import CLOCK_OFF_US, CLOCK_RESERVE_US
from gavel.quorum.clock import Clock


def test_ticks_go_up_whatever_the_wall_does() -> None:
    clock = Clock(7, 0, lambda tick: None)
    clock.look(1000)
    first = clock.fresh()
    clock.look(10)
    second = clock.fresh()
    assert (micros(first), micros(second), node(second)) == (1000, 1001, 7)


def test_what_is_told_is_reserved_first() -> None:
    reserved: list[int] = []
    clock = Clock(7, 0, reserved.append)
    clock.look(5_000_000)
    tid = clock.fresh()
    assert micros(tid) <= reserved[-1]
    clock.observe(make(50_000_000, 3))
    assert clock.tick <= reserved[-1]
    assert micros(clock.fresh()) > 50_000_000


def test_a_bound_is_not_above_what_is_durable() -> None:
    clock = Clock(7, 0, lambda tick: None)
    clock.look(5_000_000)
    tid = clock.fresh()
    assert clock.bound() < tid <= clock.bound(durable=False)
    clock.synced(clock.reserved)
    assert tid <= clock.bound() < clock.fresh()


def test_a_restart_is_above_everything_that_may_have_been_said() -> None:
    reserved: list[int] = []
    clock = Clock(7, 0, reserved.append)
    clock.look(5_000_000)
    said = [clock.fresh() for _ in range(5)]
    again = Clock(7, 0, lambda tick: None)
    for tick in reserved:
        again.resume(tick)
    again.look(0)
    assert again.fresh() > max(*said, clock.bound(durable=False))
    assert again.tick <= 5_000_000 + CLOCK_RESERVE_US + 1


def test_a_clock_far_off_the_median_follows_the_median() -> None:
    clock = Clock(7, 0, lambda tick: None)
    year = 365 * 86_400_000_000
    assert clock.compare([-year, -year + 5], 1) == -year + 5
    clock.look(year + 1000)
    assert micros(clock.fresh()) < CLOCK_OFF_US
    assert clock.compare([-1000, 1000], 1) == 0


def test_of_two_that_differ_the_lower_is_believed() -> None:
    year = 365 * 86_400_000_000
    ahead, behind = Clock(1, 0, lambda tick: None), Clock(2, 0, lambda tick: None)
    assert ahead.compare([-year], 1) == -year
    assert behind.compare([year], 1) == 0
