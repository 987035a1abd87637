"""A machine that works on a volume through the public API, in virtual time, with a model and a ledger beside it.

The model is a dict of paths, told what each call should do; after every step what the filesystem shows must be that.
The ledger has the whole state after every single operation (also those that a call or a job consists of), and which
of them was promised to be durable. Everything follows from the device: the same device gives the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gavel.client.fs import Fs
from gavel.errors import GavelError
from gavel.filesystem import superblock
from gavel.limits import VOLUME_MIN
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine, Optimistic
from gavel.sim.device import Faults, SimDevice
from gavel.sim.shell import SimShell
from tests.crash.disks import Disks
from tests.crash.simulated import WHO, State, state

AnyDevice = SimDevice | Disks
Tree = dict[str, bytes | None]  # path -> content, None for a directory, b"-> target" for a symlink

START = 1_600_000_000 * 10**9
TICK = 0.0005  # seconds that pass while somebody looks on


class Ledger:
    """The states after each operation from a beginning on, and the last one that was promised to be durable.

    One that `follows` another relies on the operations being the same, up to the first call of the device that failed:
    what comes after that may be others (a job that passes over what it cannot read is through sooner).
    """

    def __init__(self, follows: Ledger | None = None) -> None:
        self.states: list[State] = [] if follows is None else follows.states[:]
        self.named: dict[str, State] = {}  # what each snapshot named
        self.records = follows is None
        self.count = 0  # the number of the newest operation
        self.promised = 0

    def note(self, engine: Engine, faults: Faults) -> None:
        """An operation has ended."""
        self.count += 1
        if self.records or faults.struck:
            del self.states[self.count :]
            faults.asleep = True
            self.states.append(state(engine))
            faults.asleep = False
        else:
            engine.clock()  # a look takes its time


class Noting(Engine):
    """An engine that notes each operation, and waits in virtual time."""

    ledger: Ledger | None = None
    shell: SimShell
    faults: Faults

    def write(self, op: Any, /, *args: Any, **kwargs: Any) -> Any:
        result = super().write(op, *args, **kwargs)
        if self.ledger is not None:
            self.ledger.note(self, self.faults)
        return result

    def commit(self, work: Optimistic) -> int:
        tid = super().commit(work)
        if self.ledger is not None:
            self.ledger.note(self, self.faults)
        return tid

    def sync_now(self) -> int:
        return self.waited(self.request_sync)

    def waited(self, request: Callable[[Callable[[int | GavelError], None]], None]) -> int:
        """What a request that waits for the device answers; then all that was done before it is promised."""
        answers: list[int | GavelError] = []
        reached = self.ledger.count if self.ledger is not None else 0
        request(answers.append)
        self.shell.run_until(lambda: bool(answers))
        (answer,) = answers
        if isinstance(answer, GavelError):
            raise answer
        if self.ledger is not None:
            self.ledger.promised = max(self.ledger.promised, reached)
        return answer


def formatted(sector: int = 512, size: int = VOLUME_MIN) -> SimDevice:
    """A device with an empty volume."""
    device = SimDevice(size, sector=sector)
    Volume.format(device, identity=bytes(16), salt=77, label="test", created_tid=1 << 40)
    engine = Noting(device, shell=(shell := SimShell(device, START)), clock=shell.clock)
    engine.shell, engine.faults = shell, device.faults
    engine.write(superblock.make_root, WHO)
    engine.sync_now()
    return device


class Machine:
    """The volume on a device, opened. Methods that change it say the same to the model."""

    def __init__(self, device: AnyDevice, start: int = START, tree: Tree | None = None) -> None:
        self.device = device
        self.shell = SimShell(device, start)
        self.engine = Noting(device, shell=self.shell, clock=self.shell.clock)
        self.engine.shell, self.engine.faults = self.shell, device.faults
        self.engine.jobs.slice_ns = 1  # slices of one step, so that others get between all of them
        self.fs = Fs(self.engine, WHO)
        self.tree: Tree = {} if tree is None else dict(tree)
        self.ledger = Ledger()

    def notes(self, follows: Ledger | None = None) -> None:
        """From now on operations are noted."""
        named = self.ledger.named
        self.ledger = self.engine.ledger = Ledger(follows)
        self.ledger.named = named
        if follows is None:
            self.ledger.states.append(state(self.engine))
        else:
            self.engine.clock()

    def state(self) -> State:
        """All that can be seen now."""
        return state(self.engine)

    def agrees(self) -> None:
        """What the filesystem shows is what the model says; where nothing is noted, a look that takes as long."""
        if not self.ledger.records:
            self.engine.clock()
            return
        found = shown(self.state())
        assert found == self.tree, sorted(found.keys() ^ self.tree.keys()) or "other contents"

    def stop(self) -> None:
        """The process is gone."""
        self.engine.abandon()

    # -- operations

    def write(self, path: str, content: bytes) -> None:
        self.fs.write_bytes(path, content)
        self.tree[path] = content

    def write_at(self, path: str, offset: int, content: bytes) -> None:
        with self.fs.open(path, "r+b", buffering=0) as file:
            file.seek(offset)
            file.write(content)
        before = self.tree[path] or b""
        self.tree[path] = before[:offset].ljust(offset, b"\0") + content + before[offset + len(content) :]

    def append(self, path: str, content: bytes) -> None:
        self.write_at(path, len(self.tree[path] or b""), content)

    def truncate(self, path: str, size: int) -> None:
        self.fs.truncate(path, size)
        self.tree[path] = (self.tree[path] or b"")[:size].ljust(size, b"\0")

    def mkdir(self, path: str) -> None:
        self.fs.mkdir(path)
        self.tree[path] = None

    def symlink(self, target: str, path: str) -> None:
        self.fs.symlink(target, path)
        self.tree[path] = b"-> " + target.encode()

    def link(self, path: str, new: str) -> None:
        self.fs.link(path, new)
        self.tree[new] = self.tree[path]

    def copy(self, path: str, new: str) -> None:
        self.fs.copy(path, new)
        self.tree[new] = self.tree[path]

    def rename(self, path: str, new: str, flags: int = 0) -> None:
        self.fs.rename(path, new, flags=flags)
        moved, other = self._taken(path), self._taken(new)
        self.tree.update({new + rest: content for rest, content in moved.items()})
        if flags == 2:  # RENAME_EXCHANGE
            self.tree.update({path + rest: content for rest, content in other.items()})

    def remove(self, path: str) -> None:
        if self.tree[path] is None:
            self.fs.rmdir(path)
        else:
            self.fs.remove(path)
        del self.tree[path]

    def _taken(self, path: str) -> Tree:
        names = [name for name in self.tree if name == path or name.startswith(path + "/")]
        return {name[len(path) :]: self.tree.pop(name) for name in names}

    # -- time, durability, upkeep

    def sync(self) -> int:
        """All that was done so far is durable; the tid of it."""
        return self.fs.sync()

    def checkpoint(self, clean: bool = False) -> None:
        self.engine.waited(lambda waiter: self.engine.request_checkpoint(waiter, clean))

    def passes(self, seconds: float) -> None:
        """Time passes; what is due happens."""
        self.shell.run(seconds)

    def tick(self, _: object = None) -> None:
        """For those who look on at something long."""
        self.shell.run(TICK)

    def snapshot(self, name: str) -> int:
        """Name the present state; its tid."""
        before = self.state()
        tid = self.fs.snapshot_create(name).tid
        self.ledger.named[name] = before
        return tid

    def forget(self, name: str) -> None:
        self.fs.snapshot_delete(name)

    def left(self) -> Beginning:
        """Everything is durable, and the process is gone: where runs begin."""
        self.sync()
        self.checkpoint(clean=True)
        self.stop()
        return Beginning(self.device.crash(keep=1.0), self.shell.clock(), self.tree, self.ledger.named)


class Beginning(NamedTuple):
    """A volume from which any number of runs begin, each on a device of its own."""

    device: AnyDevice
    now: int
    tree: Tree
    named: dict[str, State]

    def fork(self) -> AnyDevice:
        """A device for one run."""
        return self.device.crash(keep=1.0)

    def opened(self, device: AnyDevice | None = None, follows: Ledger | None = None) -> Machine:
        """A machine on it that notes what it does."""
        machine = Machine(device or self.fork(), self.now, self.tree)
        machine.ledger.named = dict(self.named)
        machine.notes(follows)
        return machine


def shown(found: State) -> Tree:
    """What the model knows of a state."""
    tree: Tree = {}
    for path, (_, mode, _, _, _, content, _) in found.items():
        assert isinstance(mode, int) and isinstance(content, bytes)
        kind = mode & 0o170000
        if path != "/":
            tree[path[1:]] = None if kind == 0o040000 else b"-> " + content if kind == 0o120000 else content
    return tree
