"""What room a volume has: sums of its map, big-blocks worth emptying, and what can be given back to the host.

Nothing here changes the map.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from gavel.limits import BIG_BLOCK
from gavel.media.blockmap import BlockMap
from gavel.media.device import Device, Sparse
from gavel.media.layout import ABSENT, FREE, HELD, LOG, MAP, TREE
from gavel.media.log import Log

_TRIMS: Final = 64  # big-blocks given back after one checkpoint


class Space(NamedTuple):
    """Bytes of the volume by use. `free` is what file data can still take, `reserve` what it cannot.

    `data` is the part of `live` that is file data; what several versions share counts for each of them. What a
    leaving member has free counts in `total` only.
    """

    total: int
    free: int
    log: int
    tree: int
    map: int
    live: int
    reserve: int
    data: int


class Victim(NamedTuple):
    """A big-block that may be emptied: its kind (layout.LOG or TREE), and how many of its bytes are referred to."""

    block: int
    kind: int
    live: int


def measure(blockmap: BlockMap, log: Log) -> Space:
    """The sums; see Volume.space."""
    kinds = blockmap.kinds
    reserve = min(log.keep_data, blockmap.free)
    logs, trees, maps = (kinds.count(kind) * BIG_BLOCK for kind in (LOG, TREE, MAP))
    free = (blockmap.free - reserve) * BIG_BLOCK + max(0, log.end - log.cursor)
    live = min(sum(blockmap.live), logs + trees + maps)
    data = sum(size for kind, size in zip(kinds, blockmap.live, strict=True) if kind == LOG)
    total = (len(kinds) - kinds.count(ABSENT)) * BIG_BLOCK
    return Space(total, free, logs, trees, maps, live, reserve * BIG_BLOCK, data)


def victims(blockmap: BlockMap, share: float, spared: Iterable[int]) -> list[Victim]:
    """See Volume.victims; `spared` must not be among them."""
    most = int(share * BIG_BLOCK)
    keep = frozenset(spared)
    leaving = frozenset(block for blocks in blockmap.leaving for block in blocks)
    found = []
    for block in blockmap.used():
        live, kind = blockmap.live[block], blockmap.kinds[block]
        if live and kind in (LOG, TREE) and block not in keep and (live <= most or block in leaving):
            found.append(Victim(block, kind, live))
    return sorted(found, key=lambda victim: (victim.live, victim.block))


class Trimmer:
    """Gives freed big-blocks back to the host, one checkpoint late: what is used again at once is not worth it."""

    def __init__(self, device: Device) -> None:
        self._device = device if isinstance(device, Sparse) else None
        self._waiting: list[int] = []
        self._fresh: list[int] = []

    def freed(self, block: int) -> None:
        """This big-block is free now."""
        if self._device is not None:
            self._fresh.append(block)

    def run(self, blockmap: BlockMap, everything: bool) -> None:
        """A checkpoint has ended; give back what was free before it began, or `everything`."""
        if self._device is None:
            return
        due = self._waiting + self._fresh if everything else self._waiting
        self._waiting = [] if everything else self._fresh
        self._fresh = []
        for at, block in enumerate(due):
            if at >= _TRIMS and not everything:
                self._waiting = due[at:] + self._waiting
                break
            if blockmap.kinds[block] in (FREE, HELD):
                self._device.trim(block * BIG_BLOCK, BIG_BLOCK)
