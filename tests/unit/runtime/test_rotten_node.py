"""A tree node that does not verify: what cannot be written is refused, is still there, and nothing durable is lost."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from gavel.btree.checker import walk
from gavel.errors import Damaged, Unwritable
from gavel.media.layout import NODE_HEAD, node_extent
from gavel.mount.failures import errno_of
from tests.crash.simulated import System, opened, state
from tests.unit.btree.memory_store import small_nodes
from tests.unit.upkeep.systems import get, problems, put, volume

NAMES = [b"file%d" % n for n in range(30)]


@pytest.fixture
def rotten() -> Iterator[tuple[System, int]]:
    """A volume with a leaf of the past that does not verify, and where to flip it back."""
    with small_nodes():
        system = volume()
        for content in (b"first", b"other"):
            for name in NAMES:
                put(system, name, content)
        system.checkpoint(clean=True)
        leaves = [placed for placed in walk(system.engine.history._past) if not placed.node.level]
        offset = node_extent(leaves[len(leaves) // 2].node.address)[0] + NODE_HEAD.size + 20
        system = opened(system.device.crash(keep=1.0), system.shell.clock())
        system.device.rot(offset)
        yield system, offset


def until_refused(system: System) -> bytes:
    for name in NAMES:
        try:
            put(system, name, b"third")
        except Unwritable:
            return name
    raise AssertionError("nothing went into the damaged node")


def test_what_cannot_be_written_is_refused_and_can_still_be_read(rotten: tuple[System, int]) -> None:
    system, _ = rotten
    refused = until_refused(system)
    assert get(system, refused) == b"third"
    with pytest.raises(Unwritable, match="can still be read: copy it elsewhere, unmount"):
        system.sync()
    with pytest.raises(Unwritable) as caught:
        put(system, b"another", b"also not taken")
    assert errno_of(caught.value) == errno.EIO
    assert {get(system, name) for name in NAMES} <= {b"third", b"other"}


def test_nothing_durable_is_lost_and_all_else_goes_on_after_a_remount(rotten: tuple[System, int]) -> None:
    system, _ = rotten
    refused = until_refused(system)
    system = opened(system.device.crash(keep=1.0), system.shell.clock())
    assert get(system, refused) == b"other"
    assert len(state(system.engine)) == len(NAMES) + 1
    written = 0
    for name in NAMES:
        if name != refused:
            try:
                put(system, name, b"third")
            except Damaged:
                break
            written += 1
    assert any("is damaged" in problem for problem in problems(system))
    assert written > 3


def test_what_was_refused_is_written_when_the_node_can_be_read_again(rotten: tuple[System, int]) -> None:
    system, offset = rotten
    refused = until_refused(system)
    system.device.rot(offset)
    put(system, b"another", b"one")
    system.sync()
    system = opened(system.device.crash(keep=0.0), system.shell.clock())
    assert (get(system, refused), get(system, b"another")) == (b"third", b"one")
    assert problems(system) == []
