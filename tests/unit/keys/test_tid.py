"""Tids and the clock that issues them."""

from hypothesis import given
from hypothesis import strategies as st

from gavel.keys import tid
from gavel.keys.tid import TidClock


def test_a_tid_names_its_moment_and_its_origin() -> None:
    made = tid.make(1_763_000_000_000_000, 7)
    assert tid.micros(made) == 1_763_000_000_000_000
    assert tid.node(made) == 7
    assert tid.text(made) == f"0x{made:016x}"
    assert made <= tid.end_of(1_763_000_000_000_000) < tid.make(1_763_000_000_000_001)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**40)), max_size=50), st.integers(0, 255))
def test_a_clock_never_goes_back_whatever_the_wall_clock_does(moves: list[tuple[bool, int]], node: int) -> None:
    clock, highest = TidClock(node), -1
    for issue, number in moves:
        if issue:
            got = clock.issue(number)
            assert got > highest
            assert tid.node(got) == node
            assert tid.micros(got) >= number
            highest = got
        else:
            clock.observe(number)
            highest = max(highest, number)


def test_a_clock_follows_the_wall_clock_when_it_can() -> None:
    clock = TidClock(1)
    clock.observe(tid.make(50, 9))
    assert clock.issue(1000) == tid.make(1000, 1)
    assert clock.issue(1000) == tid.make(1001, 1)
    assert clock.issue(10) == tid.make(1002, 1)
