"""RangeSet against a plain set of small keys."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gavel.keys.ranges import RangeSet, just

KEYS = [bytes([n]) for n in range(16)]
ranges = st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove"]), ranges), max_size=30)


@given(steps, ranges)
def test_a_range_set_is_a_set_of_keys(done: list[tuple[str, tuple[bytes, bytes]]], asked: tuple[bytes, bytes]) -> None:
    held, model = RangeSet(), set()
    for what, (lo, hi) in done:
        inside = {key for key in KEYS if lo <= key < hi}
        if what == "add":
            held.add(lo, hi)
            model |= inside
        else:
            held.remove(lo, hi)
            model -= inside
    assert {key for key in KEYS if key in held} == model
    pieces = list(held)
    assert all(lo < hi for lo, hi in pieces)
    assert all(a[1] < b[0] for a, b in pairwise(pieces))
    lo, hi = asked
    inside = {key for key in KEYS if lo <= key < hi}
    assert held.covers(lo, hi) == (inside <= model)
    assert held.overlaps(lo, hi) == bool(inside & model)


def test_just_holds_one_key() -> None:
    held = RangeSet([just(b"k")])
    assert b"k" in held
    assert b"k\0" not in held
    assert b"j\xff" not in held
    assert repr(held) == "RangeSet([6b, 6b00))"


def test_equal_sets_are_equal_however_they_were_made() -> None:
    assert RangeSet([(b"a", b"b"), (b"b", b"c")]) == RangeSet([(b"a", b"c")])
    assert RangeSet([(b"a", b"b")]) != RangeSet()
    assert len(RangeSet([(b"b", b"a")])) == 0
