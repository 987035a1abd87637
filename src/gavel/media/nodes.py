"""B-Tree nodes in TREE big-blocks: saved once under an address, verified when loaded, never overwritten.

Invariants:

- an address names offset and size, so that a load is one read, and one of neighbours is, too;
- a node waits in memory until flush(), and can be loaded meanwhile;
- flush() leaves the cursor at a fresh sector when asked to, so that no later write touches a sector of a checkpoint.
"""

from __future__ import annotations

from contextlib import suppress

from gavel.errors import Damaged, DeviceFailed
from gavel.limits import BIG_BLOCK, LOG_PENDING_MAX, NODE_READ_GAP, NODE_READ_MAX
from gavel.media import layout
from gavel.media.blockmap import BlockMap
from gavel.media.cipher import Cipher
from gavel.media.device import Device
from gavel.media.layout import NODE_HEAD, NODE_MAGIC, SEAL_SIZE, SECTOR, TREE
from gavel.media.stream import Stream


class Nodes(Stream):
    """The open end of the TREE stream, and loads from anywhere in it."""

    __slots__ = ("_cipher", "_map", "_pending", "_salt")

    def __init__(self, device: Device, blockmap: BlockMap, salt: int, cipher: Cipher | None = None) -> None:
        super().__init__(device)
        self._cipher = cipher
        self._map = blockmap
        self._salt = salt
        self._pending: dict[int, bytes] = {}

    def save(self, payload: bytes, checkpoint: int) -> int:
        """Take a node; its address. Raises VolumeFull or DeviceFull with nothing taken."""
        size = layout.node_size(len(payload) + (SEAL_SIZE if self._cipher else 0))
        assert size <= layout.NODE_MAX, f"a node of {len(payload)} bytes"
        if self.waiting > LOG_PENDING_MAX:
            self.write_out()
        if self.cursor + size > self.end:
            block = self._map.take(TREE, 0)
            self.move(block)
        offset = self.cursor
        text = self._cipher.seal(NODE_MAGIC, 0, offset, payload) if self._cipher else payload
        sealed = layout.seal(NODE_MAGIC, len(text), self._salt ^ offset, checkpoint, text)
        self.put(sealed.ljust(size, b"\0"))
        self._map.fill(self.block, self.cursor - self.block * BIG_BLOCK)
        address = layout.node_address(offset, size)
        self._pending[address] = payload
        return address

    def load(self, address: int) -> bytes:
        """The payload saved under an address; raises Damaged."""
        waiting = self._pending.get(address)
        if waiting is not None:
            return waiting
        offset, size = layout.node_extent(address)
        if not BIG_BLOCK <= offset <= len(self._map) * BIG_BLOCK - size or size < NODE_HEAD.size:
            raise Damaged("node address", offset, "a place in the volume", hex(address))
        return self._payload(offset, self.device.read(offset, size))

    def load_near(self, addresses: list[int]) -> dict[int, bytes]:
        """Payloads of the first of these nodes and of those that lie close behind it, by address, in one read.

        Those that do not verify are left out, as are those that still wait: load() knows, or says what is wrong.
        """
        first, size = layout.node_extent(addresses[0])
        end = first + size
        near = [(addresses[0], first, size)]
        for address in sorted(addresses[1:]):
            offset, size = layout.node_extent(address)
            if offset + size > first + NODE_READ_MAX or offset > end + NODE_READ_GAP:
                break
            if offset >= end:
                near.append((address, offset, size))
                end = offset + size
        if first < BIG_BLOCK or end > len(self._map) * BIG_BLOCK:
            return {}
        try:
            text = self.device.read(first, end - first)
        except DeviceFailed:
            return {}
        found = {}
        for address, offset, size in near:
            with suppress(Damaged):
                found[address] = self._payload(offset, text[offset - first : offset - first + size])
        return found

    def _payload(self, offset: int, sealed: bytes) -> bytes:
        length = layout.verify(NODE_MAGIC, self._salt ^ offset, sealed)
        if length is None:
            raise Damaged("tree node", offset)
        payload = sealed[NODE_HEAD.size : NODE_HEAD.size + length]
        return self._cipher.open("tree node", NODE_MAGIC, 0, offset, payload) if self._cipher else payload

    def write_out(self) -> None:
        """Hand all waiting nodes to the device; raises DeviceFull (call again later) or DeviceFailed."""
        self.flush()
        self._pending.clear()

    def leave(self) -> None:
        """Put nothing more into the open big-block; the next node opens another."""
        self.block = self.cursor = self.end = 0

    def settle_sector(self) -> None:
        """Write out, and let the next node begin a fresh sector."""
        self.write_out()
        if self.block and self.cursor % SECTOR:
            cursor = min(-(-self.cursor // SECTOR) * SECTOR, self.end)
            self.seek(cursor)
            self._map.fill(self.block, cursor - self.block * BIG_BLOCK)
