"""The overlay against a dict, over keys of several objects."""

from hypothesis import given
from hypothesis import strategies as st

from gavel.cache.overlay import Overlay
from gavel.keys import records

KEYS = sorted(
    [records.inode(0, obj) for obj in (1, 2, 3)]
    + [records.entry(0, obj, name) for obj in (1, 2) for name in (b"a", b"b", b"c", b"d")]
    + [records.extent(0, obj, end) for obj in (2, 3) for end in range(1, 30)]
)
groups = st.lists(st.dictionaries(st.sampled_from(KEYS), st.one_of(st.none(), st.binary(max_size=1)), max_size=6))
bounds = st.one_of(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)),
    st.sampled_from([records.extents(0, 2), records.extents(0, 3, 5), records.entries(0, 1), records.whole(0)]),
)


@given(st.lists(st.tuples(groups, bounds), max_size=5), st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=1)))
def test_an_overlay_lies_over_what_is_beneath(
    rounds: list[tuple[list[dict[bytes, bytes | None]], tuple[bytes, bytes]]], beneath: dict[bytes, bytes]
) -> None:
    overlay, model = Overlay(), dict[bytes, bytes | None]()
    for merged_groups, (lo, hi) in rounds:
        for group in merged_groups:
            overlay.merge(group)
            model.update(group)
        assert overlay.records == model
        assert overlay.between(lo, hi) == sorted(key for key in model if lo <= key < hi)
        seen = {**beneath, **model}
        under = iter([(key, beneath[key]) for key in sorted(beneath) if lo <= key < hi])
        expected = [(key, seen[key]) for key in sorted(seen) if lo <= key < hi and seen[key] is not None]
        assert list(overlay.over(lo, hi, under)) == expected


def test_many_keys_in_any_order_come_back_sorted() -> None:
    overlay = Overlay()
    ends = [(n * 7919) % 1000 + 1 for n in range(1000)]
    for end in ends:
        overlay.merge({records.extent(0, 9, end): b""})
    lo, hi = records.extents(0, 9)
    assert overlay.between(lo, hi) == sorted({records.extent(0, 9, end) for end in ends})
