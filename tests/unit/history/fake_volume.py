"""The part of a Volume that history uses, in memory: what is live, what an image says, what was freed."""

from gavel.errors import VolumeFull
from gavel.limits import BIG_BLOCK


class FakeVolume:
    def __init__(self, created_tid: int = 1) -> None:
        self.created_tid = self.last_tid = created_tid
        self.roots = b""
        self.nodes: dict[int, bytes] = {}
        self.live: dict[int, int] = {}  # bytes of data by big-block
        self.live_nodes: set[int] = set()
        self.image_live: dict[int, int] = {}
        self.image_nodes: set[int] = set()
        self.durable_nodes: set[int] = set()
        self.durable_live: dict[int, int] = {}
        self.finished: bytes | None = None
        self.next = 64
        self.full_after = -1

    def load_node(self, address: int) -> bytes:
        return self.nodes[address]

    def load_nodes(self, addresses: list[int]) -> dict[int, bytes]:
        return {address: self.nodes[address] for address in addresses[:3] if address in self.nodes}

    def save_node(self, payload: bytes, superseded: bool = False) -> int:
        if self.full_after == 0:
            raise VolumeFull(0, len(payload))
        self.full_after -= 1
        address = self.next
        self.next += 64
        self.nodes[address] = payload
        self.image_nodes.add(address)
        if not superseded:
            self.live_nodes.add(address)
        return address

    def free_node(self, address: int) -> None:
        self.live_nodes.remove(address)

    def add_live(self, place: int, n: int) -> None:
        self.live[place // BIG_BLOCK] = self.live.get(place // BIG_BLOCK, 0) + n

    def drop_live(self, place: int, n: int) -> None:
        left = self.live[place // BIG_BLOCK] - n
        assert left >= 0
        self.live[place // BIG_BLOCK] = left
        if not left:
            del self.live[place // BIG_BLOCK]

    def freeze(self) -> None:
        self.image_nodes = set(self.live_nodes)
        self.image_live = dict(self.live)

    def finish(self, roots: bytes, last_tid: int, clean: bool = False) -> None:
        assert last_tid >= self.last_tid
        self.finished = roots

    def publish(self) -> None:
        assert self.finished is not None
        self.roots, self.finished = self.finished, None
        self.durable_nodes = self.image_nodes
        self.durable_live = self.image_live

    def retire(self) -> None:
        keep = self.durable_nodes | self.live_nodes
        self.nodes = {address: payload for address, payload in self.nodes.items() if address in keep}

    def reopened(self) -> "FakeVolume":
        """As after a crash: what the durable header names."""
        again = FakeVolume(self.created_tid)
        again.roots, again.last_tid, again.next = self.roots, self.last_tid, self.next
        again.nodes = {address: self.nodes[address] for address in self.durable_nodes}
        again.live_nodes = set(self.durable_nodes)
        again.live = dict(self.durable_live)
        again.durable_live = dict(self.durable_live)
        again.durable_nodes = set(self.durable_nodes)
        return again
