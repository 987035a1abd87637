"""Which big-blocks of an open volume are used for what: how they become free, what room there is, members.

The part of a Volume that decides about big-blocks; the rest of it decides what is written into them. Invariants:

- a big-block becomes free only when it is dead in the durable image and in the live map, is not open, holds no frame
  that replay would need, and no data frame that may still be referred to;
- the length of the map changes only while no checkpoint is under way.
"""

from __future__ import annotations

from collections.abc import Callable

from gavel.errors import BadRequest, ReadOnly, VolumeFull
from gavel.limits import BIG_BLOCK, FRAME_MAX
from gavel.media.blockmap import BlockMap
from gavel.media.checkpoint import Image
from gavel.media.device import Device
from gavel.media.layout import ABSENT, FREE, HEADER, LOG, TREE, Header
from gavel.media.log import Log, keeps
from gavel.media.members import Member, Members, Use
from gavel.media.nodes import Nodes
from gavel.media.room import Space, Trimmer, Victim, measure, victims


class Allocation:
    """The big-blocks of an open volume, and the two streams that fill them."""

    def __init__(self, device: Device, header: Header, blockmap: BlockMap, log: Log, nodes: Nodes) -> None:
        self._device = device
        self._header = header
        self._map = blockmap
        self._durable_live = blockmap.live[:]
        self._log = log
        self._nodes = nodes
        self._map_block = header.map_block
        self._image: Image | None = None
        self._settled = 0
        self._pins: dict[int, int] = {}  # big-block -> how many extents in it are pinned
        self._promised = 0  # big-blocks of nodes that the next checkpoint will write
        self._members = Members(device, header, blockmap)
        self._trimmer = Trimmer(device)
        self._keep()

    def _retire_dead(self) -> None:
        """Release what is dead in the durable image and in the live map and will not be referred to again."""
        blockmap, log = self._map, self._log
        spared = self._spared()
        for block in list(blockmap.used()):
            if blockmap.live[block] or self._durable_live[block] or block in spared:
                continue
            if blockmap.kinds[block] != HEADER:
                blockmap.release(block)
                log.last_of.pop(block, None)
                log.data_of.pop(block, None)
                self._trimmer.freed(block)

    def pin(self, place: int) -> None:
        """Keep what lies at a place in the log, referred to or not, until it is unpinned; for this opening only.

        What replay finds to be pinned is to be pinned before the replay ends.
        """
        block = place // BIG_BLOCK
        self._pins[block] = self._pins.get(block, 0) + 1

    def unpin(self, place: int) -> None:
        """Take one pin() back."""
        block = place // BIG_BLOCK
        self._pins[block] -= 1
        if not self._pins[block]:
            del self._pins[block]

    def _spared(self) -> set[int]:
        """Big-blocks that are open, wait to be written, are needed by replay or may still be referred to."""
        log = self._log
        spared = {0, log.block, self._nodes.block, self._map_block}
        spared.update(run.start // BIG_BLOCK for run in self._nodes.runs if run.parts)
        spared.update(run.start // BIG_BLOCK for run in log.runs if run.parts)
        spared.update(self._pins)
        replayed, settled, data_of = self._header.log_sequence - 1, self._settled, log.data_of
        for block, sequence in log.last_of.items():
            if sequence > replayed or data_of.get(block, sequence) > settled:
                spared.add(block)
        return spared

    def _writable(self) -> None:
        if self._log.failed:
            raise self._log.failed
        if not self._log.writable:
            raise ReadOnly("the volume was opened for reading only, or its log has not been replayed yet")

    # -- members -----------------------------------------------------------------------------------------------

    def members(self) -> list[Use]:
        """The files and devices of the volume with their sizes and use, in order of their big-blocks."""
        return self._members.uses()

    def grow(self, device: Device, identity: bytes, path: str) -> Member:
        """Add a member, whose contents are lost; `identity`: 16 random bytes, `path`: where to find it again.

        Its room is there after the next checkpoint; until that is durable, a crash leaves the volume without it.
        Raises BadRequest for a device that cannot be a member, ReadOnly, DeviceFull, DeviceFailed.
        """
        self._writable()
        assert len(identity) == 16
        member = self._members.join(device, identity, path)
        if self._image is None:
            self._take_in()
        return member

    def _take_in(self) -> None:
        self._durable_live.extend(bytes(self._members.take_in()))

    def exclude(self, blocks: range) -> None:
        """Put nothing new into these big-blocks, which are not the first member's; open ones among them are closed.

        If they are just those of a member (Member.blocks), it counts as leaving from the next checkpoint on, also
        after a crash. What is live there, victims() tells. Raises BadRequest, ReadOnly, DeviceFailed, and VolumeFull
        when the rest of the volume has no room for what is live there.
        """
        self._writable()
        if blocks.stop > len(self._map):
            raise BadRequest("these big-blocks are not part of the volume before the next checkpoint; wait for it")
        if not 0 < blocks.start < blocks.stop or blocks.step != 1:
            raise BadRequest("big-block 0 holds the headers and stays; exclude big-blocks of a further member")
        if blocks not in self._map.leaving:
            self._hold(blocks)
        if self._log.block in blocks:  # also after a crash, which may have left it there
            self._log.leave()
        if self._nodes.block in blocks:
            self._nodes.leave()
        if any(offset // BIG_BLOCK in blocks for offset, _ in self._map.pages) or self._map_block in blocks:
            self._map_block = 0  # the next map goes elsewhere, and takes along pages that lie there

    def _hold(self, blocks: range) -> None:
        live = sum(self._map.live[blocks.start : blocks.stop])
        left = self._map.free - self._map.kinds[blocks.start : blocks.stop].count(FREE) - self._log.keep_append
        if left < 1 or live > left * BIG_BLOCK:
            raise VolumeFull(max(0, left) * BIG_BLOCK, live)
        self._members.leave(blocks)

    def include(self, blocks: range) -> None:
        """Take exclude() back."""
        self._writable()
        if blocks in self._map.leaving:
            self._members.stay(blocks)

    def drop(self, number: int, gone: Callable[[Device], None]) -> None:
        """Let go of a member that was excluded and holds nothing any more; `gone` gets its device when it has left.

        That is during the next checkpoint's retire(); until then it must stay attached. Raises BadRequest, ReadOnly.
        """
        self._writable()
        self._members.drop(number, gone)

    # -- room --------------------------------------------------------------------------------------------------

    def require_room(self) -> None:
        """Raise VolumeFull when file data finds no room but the reserve: then nothing new should be begun either."""
        log = self._log
        left = log.end - log.cursor
        if self._map.free <= log.keep_data and left < FRAME_MAX:
            raise VolumeFull(left, FRAME_MAX)

    def promise(self, size: int) -> None:
        """Keep room for so many bytes of nodes that the next checkpoint will write: appends raise VolumeFull sooner."""
        blocks = -(-size // BIG_BLOCK)
        if blocks != self._promised:
            self._promised = blocks
            self._keep()

    def _keep(self) -> None:
        reserve, half = keeps(self._present())
        self._log.keep_data, self._log.keep_append = reserve + self._promised, half + self._promised

    def _present(self) -> int:
        return len(self._map) - self._map.kinds.count(ABSENT)

    @property
    def node_room(self) -> int:
        """Bytes of nodes that a checkpoint could write now; jobs that change many nodes checkpoint before that."""
        return max(0, self._map.free - 1) * BIG_BLOCK

    def victims(self, share: float) -> list[Victim]:
        """Big-blocks worth emptying, emptiest first: at most `share` of one is live, or it is excluded and live at all.

        None that is open, needed by replay or may still get references. They become free with the checkpoint after
        the one that has nothing live in them; what is moved out of them may be appended with `reserve`.
        """
        return victims(self._map, share, self._spared())

    def alive(self) -> dict[int, int]:
        """By big-block, how many bytes of file data and nodes the map counts as referred to; none is left out but 0."""
        kinds, live = self._map.kinds, self._map.live
        return {block: live[block] for block in self._map.used() if live[block] and kinds[block] in (LOG, TREE)}

    def space(self) -> Space:
        """Bytes by use; whole big-blocks but for `free` and `live`."""
        return measure(self._map, self._log)
