"""The range map against a dict of single keys, and what it costs."""

import sys
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gavel.coherency.table import RangeMap

KEYS = [bytes([n]) for n in range(24)]
BORDERS = st.integers(0, 24)
STEPS = st.lists(st.tuples(BORDERS, BORDERS, st.sampled_from([None, 1, 2]), st.booleans()), max_size=30)


def key(number: int) -> bytes:
    return bytes([number])


@settings(max_examples=300)
@given(STEPS)
def test_it_says_of_each_key_what_a_dict_says(steps: list[tuple[int, int, int | None, bool]]) -> None:
    table: RangeMap[int] = RangeMap()
    model: dict[int, int] = {}
    for lo, hi, value, raising in steps:
        if lo >= hi:
            continue
        if raising:
            table.change(key(lo), key(hi), lambda old, new=value: max(old or 0, new or 0) or None)
        else:
            table.set(key(lo), key(hi), value)
        for at in range(lo, hi):
            new = max(model.get(at, 0), value or 0) if raising else value
            model.pop(at, None)
            if new:
                model[at] = new
        assert [table.get(k) for k in KEYS] == [model.get(k[0]) for k in KEYS]
        ranges = list(table)
        assert all(lo < hi for lo, hi, _ in ranges)
        assert all(a[1] < b[0] or (a[1] == b[0] and a[2] != b[2]) for a, b in pairwise(ranges))
        for start, stop in ((lo, hi), (0, 24), (max(lo - 1, 0), min(hi + 2, 24))):
            inside = [model.get(at) for at in range(start, stop)]
            parts = table.whole(key(start), key(stop))
            assert [v for low, high, v in parts for _ in range(low[0], high[0])] == inside
            assert table.over(key(start), key(stop)) == [part for part in parts if part[2] is not None]
            assert table.overlaps(key(start), key(stop)) == any(inside)
            assert table.touches(key(start), key(stop), (2,)) == (2 in inside)


def test_a_change_that_changes_nothing_says_so() -> None:
    table: RangeMap[int] = RangeMap()
    table.set(b"a", b"c", 1)
    assert not table.change(b"a", b"c", lambda old: old)
    assert table.change(b"a", b"d", lambda old: old or 1)
    assert list(table) == [(b"a", b"d", 1)]


def test_a_full_table_of_a_session_stays_below_a_megabyte() -> None:
    table: RangeMap[int] = RangeMap()
    for number in range(4096):
        start = b"\0\1" + number.to_bytes(8, "big") + b"\3\4" + bytes(8)
        table.set(start, start + b"\0", 1)
    cost = sum(sys.getsizeof(part) for part in (table._los, table._his, table._values))
    cost += sum(sys.getsizeof(lo) + sys.getsizeof(hi) for lo, hi, _ in table)
    assert len(table) == 4096
    assert cost < 2**20
