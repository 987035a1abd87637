"""Records made by nobody: nodes whose sums are right and whose records are not what this release would write.

What is behind the nodes is read in every way there is. A typed error, or an answer, and soon. Only where records
contradict each other, or keys cannot be, may what relies on them (undo, listings) give up in other ways as well; what
looks for damage must not.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gavel.btree.node import Node, decode
from gavel.client.fs import Fs
from gavel.errors import GavelError
from gavel.filesystem import namespace, retention, snapshots, xattr
from gavel.filesystem.caller import Caller
from gavel.keys.records import ROOT_OBJECT
from gavel.media import layout
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine
from gavel.sim.device import SimDevice
from tests.crash.simulated import WHO, fresh, lookup
from tests.formats.test_fuzz import resealed
from tests.unit.upkeep.systems import put, remove

EXAMPLES = int(os.environ.get("GAVEL_FUZZ", "60"))
SMALL = settings(max_examples=EXAMPLES, deadline=None, database=None)


@cache
def golden() -> tuple[SimDevice, list[int], int]:
    """A volume with some of everything, the addresses of its nodes, and the tid of a state of its past."""
    system = fresh(1)
    engine = system.engine
    for n in range(40):
        put(system, b"f%02d" % n, Random(n).randbytes(50 + n * 3000))
    directory, _ = engine.write(namespace.mkdir, ROOT_OBJECT, b"d", 0o755, WHO)
    engine.write(namespace.symlink, directory, b"link", b"../f01", WHO)
    engine.write(xattr.set, engine.read(lookup, ROOT_OBJECT, b"f03"), b"user.a", b"value", 0)
    engine.write(retention.set_policy, ROOT_OBJECT, "all:30d")
    then = engine.flush()
    engine.write(snapshots.create, "named", then)
    for n in range(0, 40, 3):
        remove(system, b"f%02d" % n)
    put(system, b"f04", b"x" * 5000, offset=10)
    system.checkpoint()
    addresses, cursor = list[int](), b""
    while cursor is not None:
        found, cursor = engine.history.node_addresses(cursor, 100)  # type: ignore[assignment]
        addresses += found
    return system.device, sorted(set(addresses)), then


def looking_for_damage(fs: Fs) -> list[Callable[[], Any]]:
    return [lambda: fs.check(deep=True), fs.scrub, fs.info, fs.snapshot_space, lambda: fs.dedup(simulate=True)]


def looked_at(fs: Fs, then: int) -> list[Callable[[], Any]]:
    """Every other way to look at what is there."""

    def stats(when: int | str | None) -> object:
        tree = fs if when is None else fs.as_of(when)
        return [tree.stat(f"{top}/{name}", follow_symlinks=False) for top, _, names in tree.walk("/") for name in names]

    def file(when: int | str | None, name: str) -> object:
        tree = fs if when is None else fs.as_of(when)
        return tree.listxattr(name), tree.getxattr(name, "user.a"), tree.read_bytes(name)

    times = (None, then, "named")
    names = ("f03", "f04", "f39", "d/link")
    return [
        *(partial(stats, when) for when in times),
        *(partial(file, when, name) for when in times for name in names),
        *(partial(fs.history, name) for name in ("f03", "f04", "d", "/")),
        lambda: list(fs.log("/")),
        lambda: list(fs.diff("/", then)),
        lambda: fs.undo("/", then, dry_run=True),
        fs.snapshot_list,
        fs.retention_list,
        fs.cleanup_show,
    ]


@cache
def spots() -> list[tuple[int, int, int]]:
    """Where the values of records are, and the keys: address of the node, place in its payload, length."""
    device, addresses, _ = golden()
    found = []
    for address in addresses:
        offset, size = layout.node_extent(address)
        payload = device.read(offset, size)[layout.NODE_HEAD.size :]
        node = Node(0, address)
        with suppress(GavelError):  # an inner node
            decode(node, Volume.open(device, read_only=True).load_node(address))
            for part in [*node.values, *node.values, *node.keys]:
                found.append((address, payload.index(part), len(part)))
    return found


PIECES = st.binary(min_size=1, max_size=4) | st.sampled_from(
    [b"\0", b"\xff", b"\x80", b"\x90", b"\xc0", b"\xc4", bytes(8), b"\xff" * 8]
)


@given(st.data())
@SMALL
def test_records_of_any_content(data: st.DataObject) -> None:
    device, _, then = golden()
    device = device.crash(Random(0), 1.0)
    for address, start, length in data.draw(st.lists(st.sampled_from(spots()), min_size=1, max_size=3)):
        at, piece = data.draw(st.integers(0, length - 1)), data.draw(PIECES)
        offset, size = layout.node_extent(address)
        resealed(device, offset, size, [(start + at, piece[: length - at])])
    device.sync()
    try:
        engine = Engine(device, read_only=True)
    except GavelError:
        return
    with Fs(engine, Caller(0, 0)) as fs:
        for look in looking_for_damage(fs):
            with suppress(GavelError, OSError):
                look()
        for look in looked_at(fs, then):
            with suppress(GavelError, OSError, AssertionError, ValueError, struct.error):
                look()
