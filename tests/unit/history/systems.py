"""A history with a volume and a log beneath it: one in memory, one of the real volume on a simulated device."""

from collections.abc import Iterator
from random import Random

import msgspec

from gavel.history.history import History
from gavel.history.versions import Step
from gavel.history.walk import data_in
from gavel.keys.records import is_data
from gavel.limits import BIG_BLOCK, VOLUME_MIN
from gavel.media import layout
from gavel.media.extents import decode, describe, encode_view, reference
from gavel.media.layout import LOG, TREE
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.unit.btree.memory_store import addresses
from tests.unit.history.fake_volume import FakeVolume

COMMIT = 16
Live = dict[int, int]


def data_live(history: History) -> Live:
    """Bytes of data by big-block that the versions in both trees refer to."""
    live: Live = {}
    for tree in (history._current, history._past):
        for keys, _, values in tree.slices():
            for key, value in zip(keys, values, strict=True):
                extent = reference(value) if is_data(key) else None
                if extent is not None:
                    block = extent[0] // BIG_BLOCK
                    live[block] = live.get(block, 0) + extent[1]
    return live


def check_counts(history: History) -> None:
    """What history says of file data is what its trees refer to."""
    counts = history.counts()
    assert (counts.live_data, counts.past_data) == (data_in(history._current), data_in(history._past))
    assert counts.live_data + counts.past_data == sum(data_live(history).values())


def shown(key: bytes, value: bytes) -> bytes:
    """A value without the place of its extent."""
    view = decode(value) if is_data(key) else None
    if view is None or view.extent is None:
        return value
    return encode_view(view.extent._replace(place=0), view.skip, view.view)


def node_addresses(history: History) -> set[int]:
    return addresses(history._current) | addresses(history._past)


class FakeSystem:
    def __init__(self, cache_bytes: int = 10_000) -> None:
        self.volume = FakeVolume()
        self.cache_bytes = cache_bytes
        self.log: list[tuple[int, list[bytes], list[bytes | None]]] = []
        self.place = 5 * BIG_BLOCK
        self.history = History(self.volume, cache_bytes)  # type: ignore[arg-type]

    def stage(self, data: bytes) -> bytes:
        self.place += len(data) + 200_000
        return encode_view(describe(data, self.place), 0, len(data))

    def apply(self, tid: int, keys: list[bytes], values: list[bytes | None]) -> None:
        self.history.prepare(tid, keys)
        self.log.append((tid, keys, values))
        self.history.apply(tid, keys, values)

    def checkpoint(self) -> Iterator[Step]:
        return self.history.checkpoint()

    def check_live(self) -> None:
        assert data_live(self.history) == self.volume.live
        check_counts(self.history)
        assert node_addresses(self.history) == self.volume.live_nodes

    def check_image(self) -> None:
        """The last checkpoint that came through holds what its map says."""
        volume = self.volume.reopened()
        history = History(volume, self.cache_bytes)  # type: ignore[arg-type]
        assert data_live(history) == volume.live
        check_counts(history)
        assert node_addresses(history) == (volume.live_nodes if volume.roots else set())

    def sync(self) -> None:
        pass

    def crash(self, seed: int) -> int:
        """Come back after a power cut; returns the last tid that survived."""
        self.volume = self.volume.reopened()
        self.history = History(self.volume, self.cache_bytes)  # type: ignore[arg-type]
        for entry in self.log:
            self.history.apply(*entry)
        return self.history.last_tid


class VolumeSystem:
    def __init__(self, cache_bytes: int = 10_000, device: SimDevice | None = None) -> None:
        self.cache_bytes = cache_bytes
        if device is None:
            device = SimDevice(VOLUME_MIN, 1)
            Volume.format(device, identity=bytes(16), salt=9, label="", created_tid=1)
        self.device = device
        self.open()

    def open(self) -> None:
        self.volume = Volume.open(self.device)
        self.history = History(self.volume, self.cache_bytes)
        for _, _, body in self.volume.replay():
            self.history.apply(*msgspec.msgpack.decode(body, type=tuple[int, list[bytes], list[bytes | None]]))
        self.volume.settle(self.volume.written)
        self.durable = self.history.last_tid  # the tid that a power cut cannot take any more

    def stage(self, data: bytes) -> bytes:
        return encode_view(describe(data, self.volume.append_data(data)), 0, len(data))

    def apply(self, tid: int, keys: list[bytes], values: list[bytes | None]) -> None:
        self.history.prepare(tid, keys)
        self.volume.append(COMMIT, msgspec.msgpack.encode((tid, keys, values)))
        self.history.apply(tid, keys, values)
        self.volume.settle(self.volume.written)

    def checkpoint(self) -> Iterator[Step]:
        for step in self.history.checkpoint():
            yield step
            if step is Step.SYNC:
                self.sync()

    def sync(self) -> None:
        self.volume.flush()
        sequence = self.volume.written
        tid = self.history.last_tid
        self.device.sync()
        self.volume.synced(sequence)
        self.durable = tid

    def check_live(self) -> None:
        self._check(self.volume, self.history)

    def check_image(self) -> None:
        """What the newest header on the device names holds what its map says."""
        volume = Volume.open(self.device.crash(Random(0), keep=0.0), read_only=True)
        self._check(volume, History(volume, self.cache_bytes))

    def _check(self, volume: Volume, history: History) -> None:
        expected = data_live(history)
        check_counts(history)
        for address in node_addresses(history):
            offset, size = layout.node_extent(address)
            expected[offset // BIG_BLOCK] = expected.get(offset // BIG_BLOCK, 0) + size
        blockmap = volume._map
        found = {
            block: live for block, live in enumerate(blockmap.live) if live and blockmap.kinds[block] in (LOG, TREE)
        }
        assert found == expected

    def crash(self, seed: int) -> int:
        """Come back after a power cut; returns the last tid that survived."""
        self.device = self.device.crash(Random(seed))
        self.open()
        return self.history.last_tid
