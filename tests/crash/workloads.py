"""Ten workloads on a volume, each a name, what it does, how it is prepared, and its steps.

Steps are generators over a Machine: what stands between two yields is one step, after which filesystem and model must
agree. `size` is how often a workload goes round: 1 where a cut at every write and an error at every call is tried for
each change of the code, more at night. Nothing is drawn but from the workload's own Random, so every run is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from gavel.client.devices import volume_remove
from gavel.client.driving import drive
from gavel.errors import Collision
from gavel.limits import BIG_BLOCK
from tests.crash.disks import Disks
from tests.crash.machine import Beginning, Machine, formatted

EXCHANGE = 2
SMALL = 2  # the largest size for every change of the code
Steps = Callable[[Machine, Random, int], Iterator[None]]


class Workload(NamedTuple):
    """What a machine does between two power cuts."""

    name: str
    does: str
    steps: Steps
    prepare: Callable[[Machine, Random, int], None] = lambda machine, random, size: None
    sector: int = 512

    def prepared(self, size: int = 1) -> Beginning:
        """What the steps begin with."""
        machine = Machine(formatted(self.sector))
        with patch("gavel.cache.lately.Lately.find", lambda *_: None):
            self.prepare(machine, Random(self.name), size)
        return machine.left()

    def run(self, machine: Machine, size: int = 1) -> Iterator[None]:
        """The steps; where it yields, the model holds if the machine notes what it does."""
        with small_steps():
            for _ in self.steps(machine, Random(self.name), size):
                machine.agrees()
                yield


@contextmanager
def small_steps() -> Iterator[None]:
    """Jobs look at three records in a step and want checkpoints; an undo takes slices of sixteen records."""
    with ExitStack() as stack:
        for name, value in {
            "upkeep.prune.JOB_RECORDS": 3,
            "upkeep.walk.JOB_RECORDS": 3,
            "upkeep.prune.JOB_DIRTY_MAX": 5_000,
            "upkeep.reblock.JOB_DIRTY_MAX": 20_000,
            "upkeep.dedup.JOB_DIRTY_MAX": 20_000,
            "filesystem.restore.SLICE_RECORDS": 16,
            "filesystem.restore._PIECES": 4,
        }.items():
            stack.enter_context(patch(f"gavel.{name}", value))
        yield


def small_files(machine: Machine, random: Random, size: int) -> Iterator[None]:
    machine.mkdir("d")
    for n in range(9 * size):
        machine.write(f"d/f{n % 7}" if n % 2 else f"f{n % 5}", random.randbytes(random.choice([0, 40, 255, 700, 5000])))
        match n % 4:
            case 1:
                machine.sync()
            case 2:
                machine.remove(f"f{n % 5}")
            case 3 if n % 8 == 3:
                machine.checkpoint()
        yield
    machine.write("large", random.randbytes(70_000))  # its data goes to the device at once
    machine.passes(6)  # nothing stays volatile for longer
    yield


def renames(machine: Machine, random: Random, size: int) -> Iterator[None]:
    for n in range(size):
        top = f"t{n}"
        machine.mkdir(top)
        machine.mkdir(f"{top}/a")
        machine.write(f"{top}/a/x", b"x" * 300)
        machine.write(f"{top}/y", b"y" * 900)
        machine.sync()
        yield
        machine.rename(f"{top}/y", f"{top}/a/y")
        machine.sync()
        yield
        machine.rename(f"{top}/a/y", f"{top}/a/x")  # over what is there
        machine.write(f"{top}/new", b"new")
        machine.rename(f"{top}/new", f"{top}/a/x", EXCHANGE)
        machine.checkpoint()
        yield
        machine.mkdir(f"{top}/b")
        machine.rename(f"{top}/a", f"{top}/b/a")
        machine.symlink("b/a", f"{top}/link")
        machine.sync()
        yield
        machine.link(f"{top}/b/a/x", f"{top}/b/x")
        machine.rename(f"{top}/b", f"{top}/c")
        machine.rename(f"{top}/link", f"{top}/c/link")
        machine.sync()
        machine.remove(f"{top}/c/x")
        machine.sync()
        yield


def appends(machine: Machine, random: Random, size: int) -> Iterator[None]:
    machine.write("log", b"")
    machine.write("block", b"")
    for n in range(7 * size):
        machine.append("log", b"line %d\n" % n)
        if n % 2:
            machine.append("block", random.randbytes(3000))
        machine.sync()
        if n == 3:
            machine.checkpoint()
        yield


def sparse_writes(machine: Machine, random: Random, size: int) -> Iterator[None]:
    machine.write("s", b"")
    for n in range(6 * size):
        machine.write_at("s", random.randrange(60) * 1000, random.randbytes(random.choice([100, 1500, 4096])))
        if n % 3 == 1:
            machine.truncate("s", random.randrange(50_000))
        if n % 3 == 2:
            machine.copy("s", f"copy{n % 2}")
            machine.checkpoint()
        else:
            machine.sync()
        yield


def versions(machine: Machine, random: Random, size: int) -> None:
    for n in range(12 * size):
        machine.write(f"f{n % 4}", random.randbytes(random.choice([200, 2000])))
        machine.fs.tid()
        if n % 5 == 4:
            machine.snapshot(f"old{n}")


def snapshots_and_prune(machine: Machine, random: Random, size: int) -> Iterator[None]:
    for n in range(2 * size):
        machine.write(f"f{n % 4}", random.randbytes(1000))
        machine.snapshot(f"s{n}")
        machine.remove(f"f{(n + 1) % 4}")
        machine.sync()
        yield
        machine.fs.prune("/", everything=True, progress=machine.tick)
        yield
        machine.forget(f"s{n}" if n % 2 else "old4" if n == 0 else f"s{n - 2}")
        machine.write(f"f{(n + 1) % 4}", b"again" * 200)
        machine.fs.prune("/", keep="all:1s", progress=machine.tick)
        yield


def scattered(machine: Machine, random: Random, size: int) -> None:
    """Small files between large ones that are gone, past included: there is something to move."""
    fillers = 17
    for n in range(fillers):
        machine.fs.write_bytes("filler", random.randbytes(BIG_BLOCK // 8))
        machine.write(f"f{n}", random.randbytes(random.choice([300, 3000])))
        machine.fs.remove("filler")
        machine.fs.tid()
    machine.fs.prune("/", everything=True, progress=machine.tick)


def beside(machine: Machine, random: Random) -> Callable[[object], None]:
    """Lets time pass for a job, and works on the same files meanwhile."""

    def tick(_: object) -> None:
        if random.random() < 0.3:
            path = random.choice([path for path in sorted(machine.tree) if path.startswith("f")][:6])
            if random.random() < 0.5:
                machine.write_at(path, 100, random.randbytes(400))
            else:
                machine.copy(path, f"c{random.randrange(3)}")
            if random.random() < 0.3:
                machine.sync()
        machine.tick()

    return tick


def reblock(machine: Machine, random: Random, size: int) -> Iterator[None]:
    done = machine.fs.reblock(progress=beside(machine, random))
    assert done.moved or machine.device.faults.struck, "there was nothing to move"
    yield
    machine.write("after", random.randbytes(3000))
    machine.sync()
    yield
    if size > SMALL:  # what was emptied is written anew
        machine.write("large", random.randbytes(BIG_BLOCK + 1))
        machine.checkpoint()
        yield


def twins(machine: Machine, random: Random, size: int) -> None:
    contents = [random.randbytes(2000) for _ in range(3)]
    for n in range(12 * size):
        machine.write(f"f{n}", contents[n % 3])
        if n % 4 == 3:
            machine.fs.tid()
            machine.write(f"f{n - 1}", contents[n % 2])


def dedup(machine: Machine, random: Random, size: int) -> Iterator[None]:
    for n in range(size):
        done = machine.fs.dedup(progress=beside(machine, random))
        assert done.duplicates or n or machine.device.faults.struck, "there was nothing to share"
        yield
        machine.remove(f"f{n + 1}")
        machine.fs.prune("/", everything=True, progress=machine.tick)
        yield


def two_disks(machine: Machine, random: Random, size: int) -> None:
    """A second disk, with data and nodes on it."""
    disks = Disks(machine.device)  # type: ignore[arg-type]
    machine.checkpoint()
    machine.stop()
    Machine.__init__(machine, disks, machine.shell.clock())
    path, disk = disks.bought()
    machine.engine.volume.grow(disk, bytes(range(16)), path)
    machine.checkpoint()
    machine.checkpoint()
    machine.write("before", random.randbytes(2000))
    machine.engine.volume.exclude(range(1, 12))  # so that what follows is put on the second one
    for n in range(5 * size):
        machine.write(f"f{n}", random.randbytes(3000))
    machine.sync()
    machine.checkpoint()
    assert machine.engine.volume.members()[1].live > 10_000


def volume_removal(machine: Machine, random: Random, size: int) -> Iterator[None]:
    tick = beside(machine, random)
    disks = machine.device
    assert isinstance(disks, Disks)
    gone = drive(volume_remove(machine.fs._present, "1"), tick)
    disks.scrapped(disks.world[gone.path])
    yield
    machine.write("after", random.randbytes(3000))
    machine.sync()
    yield


def tree(machine: Machine, random: Random, size: int) -> None:
    for top in ("t", "t/a", "t/b"):
        machine.mkdir(top)
    for n in range(8 * size):
        machine.write(f"t/{'ab'[n % 2]}/f{n}", random.randbytes(random.choice([100, 2000])))
    machine.write("t/long", b"")
    for n in range(10):
        machine.write_at("t/long", n * 1000, random.randbytes(600))


def undo_of_a_tree(machine: Machine, random: Random, size: int) -> Iterator[None]:
    for n in range(size):
        then, before = machine.sync(), dict(machine.tree)
        machine.remove("t/long")
        machine.rename("t/b", "moved")
        machine.write("t/a/f0", b"changed" * 100)
        machine.remove("t/a/f2")
        machine.write("t/new", b"new")
        machine.sync()
        yield
        machine.fs.undo("/t", then, progress=lambda _: machine.sync())
        machine.tree = before
        machine.sync()
        yield
        if n % 2 == 0:
            machine.fs.prune("/", everything=True, progress=machine.tick)
            yield


def transactions(machine: Machine, random: Random, size: int) -> Iterator[None]:
    machine.write("a", b"100")
    machine.write("b", b"0")
    machine.sync()
    yield
    for n in range(3 * size):
        with machine.fs.transaction(sync=n % 2 == 0) as tx:
            for path, change in (("a", -10), ("b", 10)):
                content = b"%d" % (int(tx.read_bytes(path)) + change)
                tx.write_bytes(path, content)
                machine.tree[path] = content
            tx.write_bytes(f"receipt{n}", receipt := random.randbytes(3000))
            machine.tree[f"receipt{n}"] = receipt
        yield
        lost = machine.fs.transaction()
        lost.write_bytes("a", lost.read_bytes("a") + b"0")
        machine.write("a", machine.tree["a"] or b"")
        machine.write("a", b"%d" % (int(machine.tree["a"] or b"") + 1))
        try:
            lost.commit()
        except Collision:
            machine.sync()
        else:
            raise AssertionError("two wrote the same")
        if n % 3 == 2:
            machine.checkpoint()
        yield


WORKLOADS = {
    one.name: one
    for one in (
        Workload("small files", "makes, overwrites and removes files of a few sizes", small_files),
        Workload("renames", "moves files and directories, over others and in exchange, links among them", renames),
        Workload("appends with fsync", "short lines and blocks, durable one by one", appends),
        Workload("sparse writes", "far apart, overlapping, cut off, and copied by sharing", sparse_writes),
        Workload("snapshots and prune", "names states, moves the horizon, drops", snapshots_and_prune, versions),
        Workload("reblock", "moves what is alive, while others overwrite and copy it", reblock, scattered, 4096),
        Workload("dedup", "stores the same once, while others overwrite it; then drops one and prunes", dedup, twins),
        Workload("volume remove", "empties a disk, and lets go of it", volume_removal, two_disks, 4096),
        Workload("undo of a tree", "brings a tree back in many slices, then prunes what it was", undo_of_a_tree, tree),
        Workload("transactions", "that succeed and that collide", transactions),
    )
}  # fmt: skip
