"""What each snapshot alone holds: file data that is neither in the present nor in any other snapshot.

That is what comes back when the snapshot is deleted and everything but snapshots is pruned; while a policy keeps more,
less does. Bytes are counted for each version that refers to them, as everywhere.
"""

from __future__ import annotations

from bisect import bisect_left

from gavel.filesystem.snapshots import Snapshot
from gavel.history.history import History
from gavel.upkeep.job import Progress, Steps
from gavel.upkeep.walk import stored_bytes, versions


def snapshot_space(history: History, snapshots: list[Snapshot]) -> Steps[dict[str, int]]:
    """Bytes by the name of a snapshot. Looks at every version of the past."""
    names: dict[int, list[str]] = {}
    for one in snapshots:
        names.setdefault(one.tid, []).append(one.name)
    moments = sorted(names)
    alone = dict.fromkeys(moments, 0)
    seen, total = 0, history.counts().past_records
    cursor: bytes | None = b"" if moments else None
    while cursor is not None:
        found, cursor = versions(history, cursor, data_only=True, closed_only=True)
        for version in found:
            assert version.delete_tid is not None
            first = bisect_left(moments, version.create_tid)
            if bisect_left(moments, version.delete_tid) == first + 1:
                alone[moments[first]] += stored_bytes(version)
        seen += len(found)
        yield Progress(min(seen, total), total, "versions")
    return {one.name: alone[one.tid] if len(names[one.tid]) == 1 else 0 for one in snapshots}
