"""Masters without a quorum: their machines on simulated devices, and a hand that decides for all of them."""

from collections.abc import Iterable, Sequence

from xxhash import xxh3_128_digest

from gavel.effects import Effect
from gavel.history.history import History
from gavel.history.versions import Step
from gavel.keys import records
from gavel.limits import VOLUME_MIN
from gavel.media.extents import RAW
from gavel.media.volume import Volume
from gavel.quorum.messages import Body, TxId
from gavel.replica import journal
from gavel.replica.blobs import Blobs
from gavel.replica.execution import payload
from gavel.replica.journal import STAGED
from gavel.replica.log import Log
from gavel.replica.machine import Machine
from gavel.replica.staging import Staging
from gavel.sim.device import SimDevice
from gavel.transaction import portable
from gavel.transaction.requests import Outcome, Stage, blob_name, pack

SESSION = b"s" * records.SESSION_SIZE


def key(name: str) -> bytes:
    return records.config(0, name.encode())


def data_key(file: int, end: int) -> bytes:
    return records.extent(0, file, end)


def stage(number: int, data: bytes, session: bytes = SESSION) -> Stage:
    return Stage(session, number, RAW, len(data), xxh3_128_digest(data), data)


def blob(number: int, data: bytes, session: bytes = SESSION) -> bytes:
    return session + blob_name(number, len(data), xxh3_128_digest(data))


def shows(number: int, data: bytes, skip: int = 0, view: int | None = None) -> bytes:
    """The portable value of a record that shows what is staged as `number`."""
    return portable.staged(number, len(data), skip, len(data) - skip if view is None else view, xxh3_128_digest(data))


def body(
    writes: dict[bytes, bytes | None],
    reads: Sequence[tuple[bytes, bytes, int]] = (),
    blobs: Iterable[bytes] = (),
    settled: int = 0,
) -> Body:
    return Body(list(reads), [], list(blobs), payload(pack(writes, settled), []))


class Master:
    """The machine of one master, and what is beneath it."""

    def __init__(self, device: SimDevice | None = None, seed: int = 1) -> None:
        if device is None:
            device = SimDevice(VOLUME_MIN, seed)
            Volume.format(device, identity=bytes(16), salt=seed, label="", created_tid=1)
        self.device = device
        self.open()

    def open(self) -> None:
        self.volume = Volume.open(self.device)
        self.history = History(self.volume)
        self.log = Log(self.volume, self.history)
        self.effects: list[Effect] = []
        self.arrived: list[bytes] = []
        self.staging = Staging(self.volume)
        self.gone: list[bytes] = []
        self.peers: list[int] = []
        self.blobs = Blobs(self.staging, self.effects, lambda: self.peers, self.arrived.append, self.gone.append)
        self.machine = Machine(self.volume, self.history, self.log, self.staging, self.blobs)
        for tid, keys, values in journal.decode(self._transactions()):
            self.history.apply(tid, keys, values)

    def _transactions(self) -> Iterable[tuple[int, int, bytes]]:
        for kind, sequence, found in self.volume.replay():
            if kind == STAGED:
                self.staging.replay(sequence, found)
            else:
                yield kind, sequence, found

    def sync(self) -> None:
        self.volume.flush()
        self.device.sync()
        self.volume.synced(self.volume.written)

    def checkpoint(self) -> None:
        for step in self.history.checkpoint():
            if step is Step.MARKED:
                for found in self.staging.snapshot():
                    self.volume.append(STAGED, found, reserve=True)
            if step is Step.SYNC:
                self.sync()

    def crash(self, keep: float | None = 0.0) -> None:
        """Lose what was not synced, and come back."""
        self.device = self.device.crash(keep=keep)
        self.open()

    def read(self, record: bytes, at: int | None = None) -> bytes | None:
        """The file bytes that a data record shows."""
        from gavel.media.extents import decode, restore

        value = self.history.get(record) if at is None else self.history.get_at(record, at)
        if value is None:
            return None
        extent, skip, view, inline = decode(value)
        if extent is None:
            return inline
        return bytes(restore(extent, self.volume.read(extent.place, extent.stored)))[skip : skip + view]


class Hand:
    """Decides transactions for masters, in order; each gets the next sequence and a tid that is ten more."""

    def __init__(self, *masters: Master) -> None:
        self.masters = masters
        self.tid = 1000
        self.sequence = 0

    def decide(self, decided: Body, session: bytes = SESSION) -> Outcome:
        self.tid += 10
        self.sequence += 1
        txid = TxId(self.tid - 5, session, self.sequence, 1)
        for master in self.masters:
            assert master.machine.lacks(decided) == []
        outcomes = [master.machine.execute(txid, self.tid, decided) for master in self.masters]
        assert all(outcome == outcomes[0] for outcome in outcomes), outcomes
        return outcomes[0]  # type: ignore[return-value]

    def stage(self, number: int, data: bytes) -> bytes:
        for master in self.masters:
            master.blobs.stage(stage(number, data))
        return blob(number, data)
