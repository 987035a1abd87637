"""A toy history on a volume: numbered extents in buckets, one tree node per bucket, every change a log record.

It does with a volume what the real history does (replay, live bytes, copy-on-write checkpoints that run beside
changes), and is small enough that a wrong answer is the volume's. `expected()` is the oracle: the state after every
sequence, kept outside the volume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from gavel.media.cipher import Key
from gavel.media.extents import Extent, describe, restore
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice

BUCKETS = 12
RECORD = 1


class Toy:
    """The state: number -> extent."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.buckets: list[dict[int, Extent]] = [{} for _ in range(BUCKETS)]
        self.addresses = [0] * BUCKETS
        self.dirty: set[int] = set()
        self.staged: list[tuple[int, Extent, int]] = []
        for index, address in enumerate(json.loads(volume.roots or "[]")):
            self.addresses[index] = address
            if address:
                self.buckets[index] = _decode(volume.load_node(address))
        self.recovered = volume._header.log_sequence  # the state is that after the last record up to here
        for _, sequence, body in volume.replay():
            self.apply(body)
            self.recovered = sequence
        if volume._log.writable:
            self.settle()

    def apply(self, body: bytes) -> None:
        number, place, stored, total = json.loads(body.split(b"\n", 1)[0])
        index = number % BUCKETS
        bucket = self.buckets[index]
        old = bucket.pop(number, None)
        if old is not None:
            self.volume.drop_live(old.place, old.stored)
        if stored:
            bucket[number] = Extent(place, stored, stored - self.volume.overhead, 0, bytes.fromhex(total))
            self.volume.add_live(place, stored)
        if self.addresses[index]:
            self.volume.free_node(self.addresses[index])
            self.addresses[index] = 0
        self.dirty.add(index)

    def put(self, number: int, data: bytes) -> int:
        """Store an extent under a number; the record's sequence."""
        extent = self._stored(data)
        return self._record(number, extent.place, extent.stored, extent.sum.hex())

    def _stored(self, data: bytes) -> Extent:
        extent = describe(data, self.volume.append_data(data))
        return extent._replace(stored=len(data) + self.volume.overhead)

    def delete(self, number: int) -> int:
        return self._record(number, 0, 0, "")

    def _record(self, number: int, place: int, stored: int, total: str) -> int:
        body = json.dumps([number, place, stored, total]).encode() + b"\n" + bytes(number % 1500)
        sequence = self.volume.append(RECORD, body)
        self.volume.note_records(1)
        self.apply(body)
        self.settle()
        return sequence

    def stage(self, number: int, data: bytes) -> None:
        """Write an extent whose record comes later, with commit()."""
        extent = self._stored(data)
        self.staged.append((number, extent, self.volume.written))

    def commit(self) -> int:
        """Record the oldest staged extent; the record's sequence."""
        number, extent, _ = self.staged.pop(0)
        return self._record(number, extent.place, extent.stored, extent.sum.hex())

    def settle(self) -> None:
        self.volume.settle(self.staged[0][2] - 1 if self.staged else self.volume.written)

    def state(self) -> dict[int, bytes]:
        """Number -> sum."""
        return {number: extent.sum for bucket in self.buckets for number, extent in bucket.items()}

    def checkpoint(self) -> Iterator[str]:
        """Yields "slice" where changes may come between, and "sync" where the device must be synced."""
        frozen = {index: _encode(self.buckets[index]) for index in sorted(self.dirty)}
        addresses = list(self.addresses)
        self.volume.freeze()
        self.dirty.clear()
        try:
            for index, payload in frozen.items():
                yield "slice"
                superseded = index in self.dirty
                addresses[index] = self.volume.save_node(payload, superseded)
                if not superseded:
                    self.addresses[index] = addresses[index]
            self.volume.finish(json.dumps(addresses).encode(), 0)
        except BaseException:
            self.dirty |= {index for index in range(BUCKETS) if self.buckets[index] and not self.addresses[index]}
            raise
        yield "sync"
        self.volume.publish()
        yield "sync"
        self.volume.retire()

    def verify(self) -> None:
        """Every extent reads back whole, every clean node too, and the map agrees with what is referred to."""
        live: dict[int, int] = {}
        for bucket in self.buckets:
            for extent in bucket.values():
                restore(extent, self.volume.read(extent.place, extent.stored))
                live[extent.place >> 23] = live.get(extent.place >> 23, 0) + extent.stored
        for index, address in enumerate(self.addresses):
            if address:
                assert _decode(self.volume.load_node(address)) == self.buckets[index]
                block, size = (address >> 18) * 64 >> 23, (address & (1 << 18) - 1) * 64
                live[block] = live.get(block, 0) + size
        for block, kind in enumerate(self.volume._map.kinds):
            if kind in (1, 2):
                assert self.volume._map.live[block] == live.pop(block, 0), f"live bytes of big-block {block}"
        assert not live, "live bytes in big-blocks of another kind"


def _encode(bucket: dict[int, Extent]) -> bytes:
    rows = [[number, *extent[:4], extent.sum.hex()] for number, extent in sorted(bucket.items())]
    return json.dumps(rows).encode()


def _decode(payload: bytes) -> dict[int, Extent]:
    return {row[0]: Extent(*row[1:5], bytes.fromhex(row[5])) for row in json.loads(payload)}


class Workload:
    """Drives a toy at random and remembers what it was promised."""

    def __init__(self, device: SimDevice, seed: int, key: Key | None = None) -> None:
        self.device = device
        self.key = key
        self.random = Random(seed)
        self.toy = Toy(Volume.open(device, key=key))
        self.state: dict[int, bytes] = self.toy.state()
        self.expected: dict[int, dict[int, bytes]] = {0: self.state}  # sequence of a record -> the state after it
        self.durable = 0  # the last record that a sync has covered
        self.checkpoint: Iterator[str] | None = None
        self.skipped_sync = -1  # planted bug: the sync of this step of each checkpoint is left out
        self.syncs = 0

    def note(self, sequence: int) -> None:
        self.state = self.toy.state()
        self.expected[sequence] = self.state

    def sync(self) -> None:
        volume = self.toy.volume
        volume.flush()
        written = volume.written
        self.device.sync()
        volume.synced(written)
        self.durable = max(sequence for sequence in self.expected if sequence <= written)

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.04:
            size = self.random.choice([400, 20_000, 200_000])
            self.toy.stage(1000 + self.random.randrange(10), self.random.randbytes(16) * (size // 16))
            return
        if choice < 0.06 and len(self.toy.staged) > 6:
            while self.toy.staged:
                self.note(self.toy.commit())
            return
        numbers = sorted(self.state)
        if choice < 0.5 or not numbers:
            size = self.random.choice([300, 5000, 60_000, 130_000, 900_000])
            number = max(numbers, default=0) + 1 if self.random.random() < 0.7 else self.random.randrange(200)
            data = self.random.randbytes(16) * (size // 16)
            if len(numbers) > 15:
                self.note(self.toy.delete(numbers[0]))  # the oldest as a rule, so that big-blocks die
            self.note(self.toy.put(number, data))
        elif choice < 0.7:
            self.note(self.toy.delete(self.random.choice(numbers)))
        elif choice < 0.75:
            self.sync()
        elif choice < 0.78:
            self.toy.volume.flush()
        else:
            self.advance()

    def advance(self) -> None:
        """Go one step further in the checkpoint under way, or begin one."""
        if self.checkpoint is None:
            if self.random.random() < 0.4:
                self.begin_checkpoint()
            return
        try:
            asked = next(self.checkpoint)
        except StopIteration:
            self.checkpoint = None
            return
        if asked == "sync":
            if self.syncs % 2 != self.skipped_sync:
                self.device.sync()
            self.syncs += 1

    def begin_checkpoint(self) -> None:
        assert self.checkpoint is None
        self.checkpoint = self.toy.checkpoint()

    def finish_checkpoint(self) -> None:
        while self.checkpoint is not None:
            self.advance()

    def abandon(self) -> None:
        """A device error ended the checkpoint under way, or a change of which nothing was recorded."""
        if self.checkpoint is not None and getattr(self.checkpoint, "gi_frame", None) is None:
            self.checkpoint = None


def judge(crashed: SimDevice, workload: Workload) -> Toy:
    """Open what a crash left: everything synced is there, nothing is half, nothing live was overwritten."""
    toy = Toy(Volume.open(crashed, key=workload.key))
    reached = max(sequence for sequence in workload.expected if sequence <= toy.recovered)
    assert reached >= workload.durable, f"sequence {workload.durable} was synced, {reached} is left"
    assert toy.state() == workload.expected[reached], f"the state after {reached} is another one"
    toy.verify()
    assert not toy.volume.check(), toy.volume.check()
    return toy
