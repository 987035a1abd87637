"""A filesystem on a simulated device in virtual time, and its whole state as a value that can be compared."""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from gavel.errors import GavelError
from gavel.filesystem import data, directory, namespace, superblock, xattr
from gavel.filesystem.caller import Caller
from gavel.filesystem.inode import Inode, read
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import VOLUME_MIN
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine
from gavel.sim.device import SimDevice
from gavel.sim.shell import SimShell
from gavel.transaction.transaction import Transaction

WHO = Caller(0, 0)
State = dict[str, tuple[object, ...]]


class System(NamedTuple):
    """An engine with the device and the time it lives in."""

    device: SimDevice
    shell: SimShell
    engine: Engine

    def sync(self) -> int:
        """Sync in virtual time; raises what went wrong."""
        answers: list[int | GavelError] = []
        self.engine.request_sync(answers.append)
        return self._answer(answers)

    def checkpoint(self, clean: bool = False) -> int:
        """Checkpoint in virtual time; raises what went wrong."""
        answers: list[int | GavelError] = []
        self.engine.request_checkpoint(answers.append, clean)
        return self._answer(answers)

    def _answer(self, answers: list[int | GavelError]) -> int:
        self.shell.run_until(lambda: bool(answers))
        (answer,) = answers
        if isinstance(answer, GavelError):
            raise answer
        return answer


def format_device(seed: int = 0, size: int = VOLUME_MIN) -> SimDevice:
    device = SimDevice(size, seed)
    Volume.format(device, identity=bytes(16), salt=77, label="test", created_tid=1 << 40)
    return device


def opened(device: SimDevice, start: int = 1_600_000_000 * 10**9, read_only: bool = False) -> System:
    shell = SimShell(device, start)
    return System(device, shell, Engine(device, shell=shell, clock=shell.clock, read_only=read_only))


def fresh(seed: int = 0, size: int = VOLUME_MIN) -> System:
    system = opened(format_device(seed, size))
    system.engine.write(superblock.make_root, WHO)
    system.sync()
    return system


def state(engine: Engine, at: int | None = None) -> State:
    """Every path with what can be seen of it."""

    def seen(tx: Transaction) -> State:
        found: State = {}
        _look(tx, ROOT_OBJECT, directory_inode(tx), "", found)
        return found

    return engine.read(seen) if at is None else engine.read_at(at, seen)


def directory_inode(tx: Transaction) -> Inode:
    found = directory.lookup(tx, ROOT_OBJECT, b".")
    assert found is not None
    return found[1]


def _look(tx: Transaction, obj: int, inode: Inode, path: str, found: State) -> None:
    attributes = tuple((name, xattr.get(tx, obj, name)) for name in sorted(xattr.list(tx, obj)))
    content = b"".join(map(bytes, data.read(tx, obj, 0, inode.size))) if inode.is_file else inode.target
    found[path or "/"] = (obj, inode.mode, inode.nlink, inode.size, inode.mtime, content, attributes)
    if inode.is_dir:
        for entry in directory.entries(tx, obj):
            _look(tx, entry.object, read(tx, entry.object), f"{path}/{entry.name.decode()}", found)


def random_operation(random: Random) -> Callable[[Engine], object]:
    """One POSIX operation among few names, so that they meet. It may fail, for example where a name is taken."""
    name, other = (b"n%d" % random.randrange(6) for _ in range(2))
    parent, target = (random.choice([ROOT_OBJECT, ROOT_OBJECT, b"n0", b"n1"]) for _ in range(2))
    size = random.choice([0, 10, 300, 5000, 140_000])
    offset = random.choice([0, 0, 100, 4096])
    content = random.randbytes(size)

    def inside(tx: Transaction, where: object) -> int:
        if isinstance(where, int):
            return where
        assert isinstance(where, bytes)
        return lookup(tx, ROOT_OBJECT, where)

    def create(tx: Transaction) -> None:
        obj, _ = namespace.create(tx, inside(tx, parent), name, 0o100644, WHO)
        data.write(tx, obj, 0, content)

    def rename(tx: Transaction) -> None:
        from gavel.filesystem.rename import rename as move

        move(tx, inside(tx, parent), name, inside(tx, target), other, random_flags)

    random_flags = random.choice([0, 0, 1, 2])
    operations: list[Callable[[Transaction], object]] = [
        create,
        create,
        rename,
        lambda tx: namespace.mkdir(tx, ROOT_OBJECT, name, 0o755, WHO),
        lambda tx: namespace.symlink(tx, inside(tx, parent), name, b"to", WHO),
        lambda tx: namespace.link(tx, lookup(tx, ROOT_OBJECT, name), inside(tx, target), other),
        lambda tx: namespace.unlink(tx, inside(tx, parent), name),
        lambda tx: namespace.rmdir(tx, ROOT_OBJECT, name),
        lambda tx: data.write(tx, lookup(tx, inside(tx, parent), name), offset, content),
        lambda tx: data.truncate(tx, lookup(tx, inside(tx, parent), name), offset),
        lambda tx: xattr.set(tx, lookup(tx, ROOT_OBJECT, name), b"user.x", content[:100]),
    ]
    chosen = random.choice(operations)
    return lambda engine: engine.write(chosen)


def lookup(tx: Transaction, parent: int, name: bytes) -> int:
    found = directory.lookup(tx, parent, name)
    if found is None:
        raise FileNotFoundError(name)
    return found[0]
