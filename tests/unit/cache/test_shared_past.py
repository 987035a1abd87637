"""What is dirty and refers to an extent of the past keeps it, whoever moves the horizon and writes checkpoints.

A job of the same engine would have the overlay flushed first (QUIET). A master among several does not: the horizon that
another one moved is applied like any transaction, while what this client has not flushed yet refers to an extent that
the past alone knows.
"""

from __future__ import annotations

import pytest

from gavel.filesystem import restore, undo
from gavel.history.versions import Step
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import BIG_BLOCK
from gavel.media import extents
from gavel.media.layout import FREE
from gavel.media.volume import Volume
from tests.crash.simulated import System, lookup, opened
from tests.unit.upkeep.systems import get, noise, problems, put, remove, volume

CONTENT = noise(5000, 1)


def checkpoint(system: System) -> None:
    """As a master writes one by itself: nothing is flushed before."""
    store = system.engine.volume
    for step in system.engine.history.checkpoint():
        if step is Step.SYNC:
            written = store.written
            system.device.sync()
            store.synced(written)


def brought_back() -> tuple[System, int]:
    """A file of the past is back, dirty; its past is dropped, and checkpoints are over. And the file's big-block."""
    system = volume(16 * BIG_BLOCK)
    history = system.engine.history
    put(system, b"a", CONTENT)
    to = put(system, b"filler", noise(BIG_BLOCK + 1, 2))
    remove(system, b"filler")
    remove(system, b"a")
    system.checkpoint()
    (piece,) = restore.slices(history, undo.plan(history, b"/a", to))
    system.engine.write(piece)
    obj = system.engine.read(lookup, ROOT_OBJECT, b"a")
    value = system.engine.read(lambda tx: tx.get(records.extent(0, obj, len(CONTENT))))
    assert value is not None
    extent = extents.decode(value).extent
    assert extent is not None
    history.set_horizon(history.last_tid, ())
    assert history.counts().past_data > BIG_BLOCK
    cursor: bytes | None = b""
    while cursor is not None:
        cursor, _ = history.prune(cursor, 1000)
    assert history.counts().past_data == 0
    for _ in range(3):
        checkpoint(system)
    return system, extent.place // BIG_BLOCK


def test_it_is_kept_until_the_flush_and_let_go_after() -> None:
    system, block = brought_back()
    kinds = system.engine.volume._map.kinds
    assert kinds[block] != FREE
    put(system, b"new", noise(3 * BIG_BLOCK, 3))
    system.sync()
    after = opened(system.device.crash(keep=0.0))
    assert get(after, b"a") == CONTENT
    assert problems(after) == []
    remove(system, b"a")
    system.engine.history.set_horizon(system.engine.history.last_tid, ())
    while system.engine.history.prune(b"", 1000)[1]:
        pass
    for _ in range(3):
        system.checkpoint()
    assert kinds[block] == FREE, "it is not kept for longer than that"


def test_without_it_the_big_block_would_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Volume, "borrow", lambda *_: None)
    system, block = brought_back()
    assert system.engine.volume._map.kinds[block] == FREE
    with pytest.raises(AssertionError, match="free big-block"):
        system.engine.flush()
