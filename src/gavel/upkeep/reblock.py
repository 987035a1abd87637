"""Reblock: what is alive in mostly dead big-blocks moves elsewhere, so that they become free.

Invariants:
- an extent is verified before it is copied; one that does not verify stays where it is;
- a record is relinked only while it still is what it was when its extent was copied (History.relocate), and only when
  nobody holds records that are not committed (QUIET), so nothing ever refers to the old place again;
- what several records shared they share afterwards: one copy for each old place;
- a big-block that became free on the way and was used anew is no victim any more: what lies there now is another's;
- the copy is durable before the checkpoint that says so, and the old place is not reused before that.

Works on a full volume: copies may go into the reserve, the emptiest big-blocks come first, and when there is no more
room what was emptied so far is made free before it goes on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from gavel.btree.node import HEIGHT_MAX, NODE_MAX
from gavel.errors import Damaged, DeviceFailed, DeviceFull, VolumeFull
from gavel.history.history import History
from gavel.history.versions import Version
from gavel.limits import BIG_BLOCK, JOB_DIRTY_MAX, JOB_RECORDS, REPLAY_BYTES_MAX, VICTIMS_MAX
from gavel.media import extents
from gavel.media.layout import LOG, TREE
from gavel.media.room import Victim
from gavel.media.volume import Volume
from gavel.upkeep.job import Ask, Progress, Steps
from gavel.upkeep.scrub import verify
from gavel.upkeep.walk import portions, versions

_MOVED_MAX = REPLAY_BYTES_MAX // 2  # bytes copied between two checkpoints, so that recovery stays short
_STEP_NODES = (JOB_RECORDS + HEIGHT_MAX) * NODE_MAX  # bytes of nodes that a step dirties at most


class Reblocked(NamedTuple):
    """What a reblock did: big-blocks emptied, bytes of file data copied, bytes that became free, damaged extents."""

    blocks: int
    moved: int
    returned: int
    damaged: int


class _Work:
    """What one run has done so far."""

    def __init__(self, volume: Volume, total: int) -> None:
        self.total = total
        self.before = volume.space().free
        self.moved = self.blocks = self.damaged = self.nodes = 0
        self.since = 0  # bytes copied since the last checkpoint
        self.full = False

    def progress(self) -> Progress:
        done = self.moved + self.nodes
        return Progress(done, max(done, self.total), "bytes", f"{self.blocks} big-blocks emptied")


def reblock(history: History, volume: Volume, share: float = 0.9) -> Steps[Reblocked]:
    """Empty every big-block of which at most `share` is alive, and those excluded from allocation whatever they hold.

    Durable when it is through. Raises VolumeFull when there is no room to empty even one.
    """
    yield Ask.CHECKPOINT  # what replay needs cannot be emptied
    candidates = {victim.block for victim in volume.victims(share)}
    work = _Work(volume, sum(victim.live for victim in volume.victims(share)))
    while victims := _choose(volume, share, candidates):
        work.full = False
        emptied = work.blocks
        yield from _empty_nodes(history, volume, {victim.block for victim in victims if victim.kind == TREE}, work)
        yield from _empty_log(history, volume, {victim.block for victim in victims if victim.kind == LOG}, work)
        yield Ask.CHECKPOINT
        yield Ask.CHECKPOINT  # a big-block is free once the durable map knows it to be dead
        left = {victim.block for victim in volume.victims(1.0)}
        gone = [victim.block for victim in victims if victim.block not in left]
        work.blocks += len(gone)
        work.since = 0
        if work.full and work.blocks > emptied:
            candidates.difference_update(gone)
        elif work.full:
            raise VolumeFull(volume.space().free, max(victims[0].live, BIG_BLOCK))
        else:
            candidates.difference_update(victim.block for victim in victims)
        yield work.progress()
    return Reblocked(work.blocks, work.moved, max(0, volume.space().free - work.before), work.damaged)


def _choose(volume: Volume, share: float, candidates: Collection[int]) -> list[Victim]:
    """The emptiest of the candidates, as many as one pass can take; at least one if there are any."""
    space = volume.space()
    room = min(VICTIMS_MAX, max(BIG_BLOCK, (space.free + space.reserve // 4)))
    chosen: list[Victim] = []
    for victim in volume.victims(share):
        if victim.block in candidates:
            room -= victim.live
            if chosen and room < 0:
                break
            chosen.append(victim)
    return chosen


def _empty_nodes(history: History, volume: Volume, blocks: set[int], work: _Work) -> Steps[None]:
    """Have every node in these big-blocks written elsewhere by the next checkpoints."""
    cursor: bytes | None = b"" if blocks else None
    while cursor is not None and (yield from _has_room(history, volume, work)):
        cursor, count = history.evacuate(blocks, cursor, JOB_RECORDS)
        work.nodes += count
        yield work.progress()


def _has_room(history: History, volume: Volume, work: _Work) -> Steps[bool]:
    """Whether a checkpoint will find room for the nodes of one step more; one is made when enough of them wait."""
    if history.dirty_bytes + _STEP_NODES > min(JOB_DIRTY_MAX, volume.node_room) or work.since > _MOVED_MAX:
        yield Ask.CHECKPOINT
        work.since = 0
    work.full = work.full or history.dirty_bytes + _STEP_NODES > volume.node_room
    return not work.full


def _empty_log(history: History, volume: Volume, blocks: set[int], work: _Work) -> Steps[None]:
    """Copy every extent in these big-blocks, and let all versions that show it refer to the copy."""
    copies: dict[int, int] = {}
    uses = {block: volume.use_of(block) for block in sorted(blocks)}
    cursor: bytes | None = b"" if blocks else None
    while cursor is not None and not work.full:
        found, cursor = versions(history, cursor, data_only=True)
        for portion, fetch in portions([version for version in found if _lies_in(version, volume, uses)]):
            yield fetch
            for version in portion:
                if not (yield from _has_room(history, volume, work)):
                    return
                yield Ask.QUIET
                if _lies_in(version, volume, uses):
                    _move_or_note(history, volume, version, copies, work)
                    yield work.progress()
        yield work.progress()


def _lies_in(version: Version, volume: Volume, uses: dict[int, int]) -> bool:
    """Whether a version refers to one of these big-blocks, which has not been used anew meanwhile."""
    place = extents.reference(version.value)
    block = 0 if place is None else place[0] // BIG_BLOCK
    return block in uses and volume.use_of(block) == uses[block]


def _move_or_note(history: History, volume: Volume, version: Version, copies: dict[int, int], work: _Work) -> None:
    """Move one version, and take note of it when there is no room, or when it cannot be read."""
    try:
        _move(history, volume, version, copies, work)
    except (VolumeFull, DeviceFull):
        work.full = True
    except (Damaged, DeviceFailed):
        work.damaged += 1


def _move(history: History, volume: Volume, version: Version, copies: dict[int, int], work: _Work) -> None:
    """Relink one version, if it still is there, copying its extent unless another one's copy serves."""
    if not history.holds(version):
        return
    shown = extents.decode(version.value)
    extent = shown.extent
    assert extent is not None
    copy = copies.get(extent.place)
    if copy is None:
        verify(volume, extent)
        data = volume.read(extent.place, extent.stored)
        copy = copies[extent.place] = volume.append_data(data, None, True)
        work.moved += extent.stored
        work.since += extent.stored
    value = extents.encode_view(extent._replace(place=copy), shown.skip, shown.view)
    history.relocate(version.key, version.create_tid, version.delete_tid, version.value, value)
