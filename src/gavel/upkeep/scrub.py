"""Scrub: every node and every extent is read from the medium and verified, so that rot is met before it is needed.

Past and present alike. What is damaged is told by path, bytes and the times between which it was true; nothing is
changed: a read of those very bytes gives EIO, everything else goes on.

The cursor is one byte for the phase, `n` for nodes and `d` for data, and the place in it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

from gavel.errors import Damaged, DeviceFailed, HistoryPruned
from gavel.filesystem import path
from gavel.history.history import History
from gavel.history.versions import Version
from gavel.keys import records
from gavel.keys import tid as tids
from gavel.limits import JOB_RECORDS
from gavel.media import extents, layout
from gavel.media.extents import Extent
from gavel.media.volume import Volume
from gavel.transaction.transaction import Transaction
from gavel.upkeep.job import Cursor, Fetch, Progress, Steps
from gavel.upkeep.walk import portions

Look = Callable[[int], Transaction]

DAMAGES_MAX: Final = 1000  # told one by one; more are counted
_NODES, _DATA = b"n", b"d"
_NODES_A_STEP: Final = 8  # some 100 KiB, as much as one extent
_NODES_AHEAD: Final = 8 * _NODES_A_STEP  # fetched together


class Damage(NamedTuple):
    """Bytes that do not verify. `until` is None where they are part of the present; object 0: no file's, see `text`."""

    object: int
    path: str
    start: int
    end: int
    since: int
    until: int | None
    text: str


class Scrubbed(NamedTuple):
    """What was read, and what of it is damaged: how often, and the first DAMAGES_MAX of them."""

    nodes: int
    extents: int
    bytes: int
    damages: int
    found: list[Damage]


class _Tally:
    def __init__(self, total: int) -> None:
        self.total = total
        self.nodes = self.extents = self.bytes = self.damages = 0
        self.found: list[Damage] = []

    def add(self, damage: Damage) -> None:
        self.damages += 1
        if len(self.found) < DAMAGES_MAX:
            self.found.append(damage)

    def progress(self) -> Progress:
        note = f"{self.damages} damaged" if self.damages else ""
        return Progress(self.bytes, max(self.total, self.bytes), "bytes", note)


def scrub(history: History, volume: Volume, look: Look, cursor: Cursor | None = None) -> Steps[Scrubbed]:
    """Read and verify everything; counts bytes, so the driver can hold it to a rate. Resumable by its cursor.

    `look` gives a view of a tid, for the paths. What is written while it runs may or may not be read.
    """
    place = cursor if cursor is not None else Cursor()
    space = volume.space()
    tally = _Tally(space.live)
    if not place.value:
        for problem in volume.check():
            tally.add(Damage(0, "the volume", 0, 0, 0, None, problem))
        place.value = _NODES
    if place.value[:1] == _NODES:
        yield from _nodes(history, volume, place, tally)
        place.value = _DATA
    yield from _data(history, volume, look, place, tally)
    place.value = b""
    return Scrubbed(tally.nodes, tally.extents, tally.bytes, tally.damages, tally.found)


def _nodes(history: History, volume: Volume, place: Cursor, tally: _Tally) -> Steps[None]:
    at: bytes | None = place.value[1:]
    while at is not None:
        addresses, at = history.node_addresses(at, _NODES_AHEAD)
        yield Fetch([layout.node_extent(address) for address in addresses])
        for first in range(0, len(addresses), _NODES_A_STEP):
            for address in addresses[first : first + _NODES_A_STEP]:
                _verify_node(volume, address, tally)
            yield tally.progress()
        place.value = _NODES + (at or b"")


def _verify_node(volume: Volume, address: int, tally: _Tally) -> None:
    offset, size = layout.node_extent(address)
    try:
        volume.load_node(address)
    except (Damaged, DeviceFailed) as damage:
        tally.add(Damage(0, "the trees", offset, offset + size, 0, None, damage.fact))
    tally.nodes += 1
    tally.bytes += size


def _data(history: History, volume: Volume, look: Look, place: Cursor, tally: _Tally) -> Steps[None]:
    more, last = True, -1
    while more:
        found = list(islice(history.walk(place.value[1:], data_only=True), JOB_RECORDS))
        more = len(found) == JOB_RECORDS
        cursors = iter([after for _, after in found])
        for portion, fetch in portions([version for version, _ in found]):
            yield fetch
            for version in portion:
                last = _verify_data(volume, version, last, look, tally)
                place.value = _DATA + next(cursors)
                yield tally.progress()


def _verify_data(volume: Volume, version: Version, last: int, look: Look, tally: _Tally) -> int:
    """Verify the extent that a version refers to, unless it was the `last` one; its place."""
    try:
        extent = extents.decode(version.value).extent
        if extent is None or extent.place == last:
            return last
        last = extent.place
        tally.extents += 1
        tally.bytes += extent.stored
        verify(volume, extent)
    except (Damaged, DeviceFailed) as damage:
        tally.add(_damage(version, look, damage.fact))
    return last


def verify(volume: Volume, extent: Extent) -> bytes | memoryview:
    """The raw bytes of an extent as they lie on the medium; raises Damaged, DeviceFailed."""
    return extents.restore(extent, volume.read(extent.place, extent.stored))


def _damage(version: Version, look: Look, text: str) -> Damage:
    key = records.parse(version.key)
    end = records.extent_end(version.key)
    until = version.delete_tid
    where: str | None = None
    for at in (version.create_tid, until - 1 if until is not None else version.create_tid):
        try:
            where = where or path.path_of(look(at), key.object)
        except (HistoryPruned, Damaged, DeviceFailed):
            continue
    start = end - extents.view_size(version.value)
    when = f" before {tids.text(until)}" if until is not None else ""
    return Damage(key.object, where or f"object {key.object}{when}", start, end, version.create_tid, until, text)
