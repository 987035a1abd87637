"""What compression and the search for the same content cost on the untar of a real tree, and what they save.

In one process, without the kernel, so that the cost shows undiluted; and through a mount, where the decision about
the default is made: compression is on by default only if it costs less than 5 % there.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bulk import make_tar, untar
from benchmarks.measure import Row, row, timed
from benchmarks.places import run_gavel, scratch
from benchmarks.recovery import daemon_of
from gavel.cache import lately
from gavel.client.volumes import format_volume, open_engine
from gavel.filesystem import compression, data, namespace
from gavel.filesystem.caller import Caller
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import MIB
from gavel.runtime.engine import Engine

WHO = Caller(0, 0, 0o022)
SIZE = 4 * 1024 * MIB


@contextmanager
def volume(choice: str) -> Iterator[tuple[Path, Engine]]:
    """An engine on a fresh volume whose root has this choice."""
    with scratch() as base:
        path = base / "disk.gavel"
        format_volume(path, size=SIZE)
        engine, device = open_engine(path)
        try:
            engine.write(compression.set_compression, ROOT_OBJECT, choice)
            yield path, engine
            engine.close_now()
        finally:
            engine.abandon()
            device.close()


def unpack(engine: Engine, tree: dict[str, bytes]) -> None:
    """Make all files as the mount would: a directory at a time, writes of at most 1 MiB, a sync at the end."""
    made = {"": ROOT_OBJECT}
    for path, content in tree.items():
        with engine.turn:
            unpack_file(engine, made, path, content)
    engine.sync_now()


def unpack_file(engine: Engine, made: dict[str, int], path: str, content: bytes) -> None:
    *parts, name = path.split("/")
    for depth in range(1, len(parts) + 1):
        inner = "/".join(parts[:depth])
        if inner not in made:
            parent = made["/".join(parts[: depth - 1])]
            made[inner] = engine.write(namespace.mkdir, parent, parts[depth - 1].encode(), 0o755, WHO)[0]
    obj, _ = engine.write(namespace.create, made["/".join(parts)], name.encode(), 0o644, WHO)
    for at in range(0, len(content), MIB):
        engine.write(data.write, obj, at, content[at : at + MIB])


def in_process(choice: str, tree: dict[str, bytes], search: bool = True) -> tuple[float, int]:
    """Processor seconds to unpack, and bytes of file data that the volume holds then."""
    bound = lately.DEDUP_LATELY
    with volume(choice) as (_, engine):
        lately.DEDUP_LATELY = bound if search else 0
        try:
            begin = time.process_time()
            unpack(engine, tree)
            seconds = time.process_time() - begin
        finally:
            lately.DEDUP_LATELY = bound
        return seconds, engine.space().log


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def mounted(choice: str, tar: Path) -> tuple[float, float]:
    """Seconds of an untar through a mount, and of processor time in the mount's process."""
    with scratch() as base:
        path, mount = base / "disk.gavel", base / "mnt"
        mount.mkdir()
        format_volume(path, size=SIZE)
        engine, device = open_engine(path)
        engine.write(compression.set_compression, ROOT_OBJECT, choice)
        engine.close_now()
        device.close()
        run_gavel("mount", str(path), str(mount))
        try:
            daemon = daemon_of(path)
            before = processor(daemon)
            wall = timed(lambda: untar(tar, mount))
            return wall, processor(daemon) - before
        finally:
            run_gavel("umount", str(mount))


def run(large: bool) -> list[Row]:
    """Rows; large: 8,000 files in 120 MB, 5 pairs."""
    pairs = 5 if large else 1
    files, size = (8000, 120_000_000) if large else (100, 2_000_000)
    with tempfile.TemporaryDirectory(prefix="gavel-bench-") as directory:
        tar = Path(directory) / "tree.tar"
        count, total = make_tar(tar, files, size)
        tree: dict[str, bytes] = {}
        with tarfile.open(tar) as archive:
            for member in archive:
                source = archive.extractfile(member)
                tree[member.name] = source.read() if source else b""
        plain, packed, blind, plain_size, packed_size = [], [], [], 0, 0
        for _ in range(pairs):
            blind.append(in_process("off", tree, search=False)[0])
            seconds, plain_size = in_process("off", tree)
            plain.append(seconds)
            seconds, packed_size = in_process("on", tree)
            packed.append(seconds)
        off: list[tuple[float, float]] = []
        on: list[tuple[float, float]] = []
        if os.geteuid() == 0 and Path("/dev/fuse").exists():
            for _ in range(pairs):
                off.append(mounted("off", tar))
                on.append(mounted("on", tar))
    what = f"untar {count:,} files, {total / 1e6:.0f} MB"
    rows = [
        row(f"{what}, in process", "CPU s", plain, "no search", blind, "~ 1"),
        row(f"{what}, in process, compressed", "CPU s", packed, "plain", plain),
        row(f"{what}: log in MB, compressed", "MB", [packed_size / 1e6], "plain", [plain_size / 1e6]),
    ]
    if on:
        for at, unit in enumerate(("s", "CPU s of the mount")):
            ours, theirs = [pair[at] for pair in on], [pair[at] for pair in off]
            rows.append(row(f"{what}, mounted, compressed", unit, ours, "plain", theirs, "< 1.05"))
    return rows
