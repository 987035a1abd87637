"""Dedup: extents of the same content are stored once. Candidates have the same sum; bytes decide.

Invariants:
- two records come to share an extent only after the bytes of both were read, verified and found equal;
- the extent that stays is one that a record refers to at that very moment, so it cannot have been reused meanwhile;
- a record is relinked only while it still is what it was (History.relocate), and only when nobody holds records that
  are not committed (QUIET).

Memory is bounded: with more extents than fit into one table the records are walked several times, each time for some
of the sums. Space comes back as big-blocks become empty, or by a reblock.
"""

from __future__ import annotations

from typing import NamedTuple

from gavel.errors import Damaged, DeviceFailed
from gavel.history.history import History
from gavel.history.versions import Version
from gavel.limits import DEDUP_SUMS, FRAME_MAX, JOB_DIRTY_MAX
from gavel.media import extents
from gavel.media.extents import Extent
from gavel.media.volume import Volume
from gavel.upkeep.job import Ask, Fetch, Progress, Steps
from gavel.upkeep.scrub import verify
from gavel.upkeep.walk import versions


class Deduplicated(NamedTuple):
    """What a dedup did, or would do: extents looked at, those stored more than once, and the bytes that saves."""

    extents: int
    duplicates: int
    bytes: int
    damaged: int


class _Pass:
    """The sums of one walk: the version whose extent stays, and the places of those that do not."""

    def __init__(self) -> None:
        self.stays: dict[bytes, Version] = {}
        self.goes: set[int] = set()


class _Work:
    def __init__(self, total: int) -> None:
        self.seen = self.extents = self.duplicates = self.bytes = self.damaged = 0
        self.total = total

    def progress(self) -> Progress:
        return Progress(min(self.seen, self.total), self.total, "records", f"{self.bytes} bytes saved")


def dedup(history: History, volume: Volume, simulate: bool = False, table: int = DEDUP_SUMS) -> Steps[Deduplicated]:
    """Let all records with the same content share one extent; durable when it is through.

    `simulate`: only say what that would save, going by the sums alone.
    """
    counts = history.counts()
    count = counts.live_records + counts.past_records
    passes = min(count // table + 1, 256)
    work = _Work(count * passes)
    for number in range(passes):
        seen = _Pass()
        cursor: bytes | None = b""
        while cursor is not None:
            found, cursor = versions(history, cursor, data_only=True)
            for version in found:
                extent = extents.decode(version.value).extent
                if extent is None or extent.sum[0] % passes != number:
                    continue
                if not _note(seen, version, extent, work) or simulate:
                    continue
                first = _extent(seen.stays[extent.sum])
                yield Fetch([(one.place, one.stored) for one in (first, extent) if one.stored <= FRAME_MAX])
                yield Ask.QUIET
                _share(history, volume, seen, version, extent, work)
                if history.dirty_bytes > JOB_DIRTY_MAX:
                    yield Ask.CHECKPOINT
                yield work.progress()
            work.seen += len(found)
            yield work.progress()
    if work.duplicates and not simulate:
        yield Ask.CHECKPOINT
    return Deduplicated(work.extents, work.duplicates, work.bytes, work.damaged)


def _note(seen: _Pass, version: Version, extent: Extent, work: _Work) -> bool:
    """Take note of a version's extent; whether another one with its sum is known. Counts each place once."""
    stays = seen.stays.get(extent.sum)
    if stays is None:
        seen.stays[extent.sum] = version
        work.extents += 1
        return False
    first = _extent(stays)
    if first.place == extent.place or first.length != extent.length:
        return False
    if extent.place not in seen.goes:
        seen.goes.add(extent.place)
        work.extents += 1
        work.duplicates += 1
        work.bytes += extent.stored
    return True


def _share(history: History, volume: Volume, seen: _Pass, version: Version, extent: Extent, work: _Work) -> None:
    """Relink a version to the extent that stays, if that still is one and all bytes are equal."""
    stays = seen.stays[extent.sum]
    if not history.holds(version):
        return
    if not history.holds(stays):
        seen.stays[extent.sum] = version
        return
    first = _extent(stays)
    try:
        same = bytes(verify(volume, first)) == bytes(verify(volume, extent))
    except (Damaged, DeviceFailed):
        work.damaged += 1
        return
    if same:
        shown = extents.decode(version.value)
        value = extents.encode_view(first, shown.skip, shown.view)
        history.relocate(version.key, version.create_tid, version.delete_tid, version.value, value)


def _extent(version: Version) -> Extent:
    extent = extents.decode(version.value).extent
    assert extent is not None
    return extent
