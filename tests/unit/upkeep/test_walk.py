"""Versions in portions that can be fetched together."""

from __future__ import annotations

from gavel.history.versions import Version
from gavel.limits import EXTENT_MAX, FRAME_MAX, JOB_FETCH_BYTES
from gavel.media import extents
from gavel.media.extents import Extent
from gavel.upkeep.walk import portions


def version(n: int, stored: int) -> Version:
    return Version(b"%d" % n, 1, None, extents.encode_view(Extent(n << 20, stored, 100, 0, bytes(16)), 0, 100))


def test_portions_are_as_large_as_may_be_fetched_and_keep_the_order() -> None:
    found = [version(n, EXTENT_MAX) for n in range(20)]
    each = JOB_FETCH_BYTES // EXTENT_MAX
    parts = list(portions(found))
    assert [one for part, _ in parts for one in part] == found
    assert [len(part) for part, _ in parts] == [each, each, 20 - 2 * each]
    assert parts[1][1].ranges == [(n << 20, EXTENT_MAX) for n in range(each, 2 * each)]


def test_inline_and_impossible_records_are_passed_on_and_not_fetched() -> None:
    inline = Version(b"a", 1, None, extents.encode_inline(b"text"))
    found = [inline, version(3, FRAME_MAX + 1), Version(b"c", 1, None, b"?")]
    ((part, fetch),) = portions(found)
    assert part == found
    assert not fetch.ranges
    assert not list(portions([]))
