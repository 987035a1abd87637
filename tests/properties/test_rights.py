"""What a client may do, against one flag for every key."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gavel.cache.rights import Rights

EDGES = st.integers(97, 110).map(lambda n: bytes([n]))
KEYS = [bytes([n]) for n in range(97, 110)]
STEPS = st.lists(st.tuples(st.sampled_from(["grant", "X", "lower", "remove"]), EDGES, EDGES, st.integers(1, 4)))


@given(STEPS, EDGES, EDGES)
def test_rights_are_those_of_the_last_word_on_each_key(
    steps: list[tuple[str, bytes, bytes, int]], a: bytes, b: bytes
) -> None:
    rights, model = Rights(), dict[bytes, tuple[bool, int]]()
    for verb, lo, hi, tid in steps:
        if lo >= hi:
            continue
        match verb:
            case "grant" | "X":
                rights.grant(lo, hi, verb == "X", tid)
            case "lower":
                rights.lower(lo, hi)
            case "remove":
                rights.remove(lo, hi)
        for key in KEYS:
            if lo <= key < hi:
                before = model.get(key)
                if verb == "remove":
                    model.pop(key, None)
                elif verb == "lower":
                    if before:
                        model[key] = False, before[1]
                else:
                    model[key] = verb == "X" or bool(before and before[0]), max(tid, before[1] if before else 0)
        for key in KEYS:
            assert rights.writable(key) == model.get(key, (False, 0))[0]
    pieces = rights.pieces(b"", b"\xff")
    assert all(one.lo < one.hi for one in pieces) and bool(rights) == bool(model)
    for one, other in pairwise(pieces):
        assert one.hi < other.lo or (one.hi == other.lo and one[2:] != other[2:])
    assert {key: one[2:4] for one in pieces for key in KEYS if one.lo <= key < one.hi} == model
    lo, hi = min(a, b), max(a, b)
    for exclusive in (False, True):
        lacking = {key for key in KEYS for start, stop in rights.lacks(lo, hi, exclusive) if start <= key < stop}
        assert lacking == {
            key for key in KEYS if lo <= key < hi and (key not in model or (exclusive and not model[key][0]))
        }
