"""Looking at every version there is, a batch at a time, with nothing held open in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gavel.history.history import History
from gavel.history.versions import Version
from gavel.keys.records import is_data
from gavel.limits import FRAME_MAX, JOB_FETCH_BYTES, JOB_RECORDS
from gavel.media import extents
from gavel.upkeep.job import Fetch


def versions(
    history: History, cursor: bytes, *, data_only: bool = False, closed_only: bool = False, count: int | None = None
) -> tuple[list[Version], bytes | None]:
    """About `count` (limits.JOB_RECORDS) versions from a cursor on (empty: from the beginning), and the next cursor.

    It is None at the end.

    Each that exists all the while is met once, but one that is closed meanwhile may be met twice or not at all.
    `data_only`: those of data records; `closed_only`: those of the past.
    """
    most = JOB_RECORDS if count is None else count
    found: list[Version] = []
    for version, after in history.walk(cursor, data_only=data_only, closed_only=closed_only):
        found.append(version)
        if len(found) >= most:
            return found, after
    return found, None


def portions(found: Sequence[Version]) -> Iterator[tuple[list[Version], Fetch]]:
    """The versions in portions, in order, each with what is to be fetched to read all that it refers to."""
    part: list[Version] = []
    ranges: list[tuple[int, int]] = []
    size = 0
    for version in found:
        place = extents.reference(version.value) if len(version.value) == extents.RECORD_SIZE else None
        if place is not None and place[1] <= FRAME_MAX:  # a larger one is damaged
            if size + place[1] > JOB_FETCH_BYTES:
                yield part, Fetch(ranges)
                part, ranges, size = [], [], 0
            ranges.append(place)
            size += place[1]
        part.append(version)
    if part:
        yield part, Fetch(ranges)


def stored_bytes(version: Version) -> int:
    """The bytes in the log that a version refers to."""
    if not is_data(version.key):
        return 0
    place = extents.reference(version.value)
    return 0 if place is None else place[1]
