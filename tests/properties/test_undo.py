"""Random work on a small tree, then back to any moment: the tree is as it was then, and sound after every slice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from gavel.errors import BadRequest
from gavel.filesystem import restore, undo
from gavel.filesystem.check import check
from gavel.filesystem.diff import diff
from gavel.filesystem.log import log
from gavel.filesystem.namespace import EXCHANGE
from gavel.keys import records
from tests.unit.filesystem.engine_scenario import EngineScenario
from tests.unit.filesystem.scenario import Scenario

NAMES = ("a", "b", "c")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
STEPS = st.one_of(
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("write"), PATHS, st.binary(max_size=3)),
    st.tuples(st.just("write"), PATHS, st.just(b"x" * 600), st.sampled_from([0, 100, 500, 1000])),
    st.tuples(st.just("truncate"), PATHS, st.sampled_from([0, 300, 2000])),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("move"), PATHS, PATHS),
    st.tuples(st.just("move"), PATHS, PATHS, st.just(EXCHANGE)),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("chmod"), PATHS, st.sampled_from([0o600, 0o755])),
    st.tuples(st.just("setxattr"), PATHS, st.just("user.a"), st.binary(max_size=2)),
    st.tuples(st.just("symlink"), PATHS, st.sampled_from(["x", "y"])),
)
SIZES = st.sampled_from([1, 20, 256])
SOAK = "GAVEL_SOAK" in os.environ


def worked_on(steps: list[tuple[object, ...]], reap: bool, real: bool = False) -> tuple[Scenario, list[int]]:
    """A tree with a past: kept by the engine on a volume, or by a list of versions."""
    fs = EngineScenario(reap=reap) if real else Scenario(reap=reap)
    if not real:
        fs.do(lambda tx: tx.put(records.counter(0, records.OBJECTS), (1 << 32).to_bytes(8, "big")))
    tids = [fs.last_tid]
    for name, *args in steps:
        try:
            getattr(fs, str(name))(*args)
        except OSError:
            continue
        tids.append(fs.last_tid)
    return fs, tids


def sound(fs: Scenario) -> bool:
    assert [problem for problem in check(fs.begin()) if problem is not None] == []
    return True


def undone(fs: Scenario, path: str, to: int, size: int) -> bool:
    """Carry an undo out in slices of some size; False where it says that it cannot be."""
    try:
        plan = undo.plan(fs, path.encode(), to)
    except BadRequest:
        assert path != "/"
        return False
    with sliced(size):
        for piece in restore.slices(fs, plan):
            fs.do(piece)
            assert sound(fs)
    return True


@contextmanager
def sliced(size: int) -> Iterator[None]:
    with patch.object(restore, "SLICE_RECORDS", size), patch.object(restore, "_PIECES", max(1, size // 2)):
        yield


@settings(max_examples=3000 if SOAK else 60, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=30), st.integers(0, 30), st.booleans(), SIZES, st.booleans())
def test_the_whole_tree_goes_back_to_any_moment(
    steps: list[tuple[object, ...]], back: int, reap: bool, size: int, real: bool
) -> None:
    fs, tids = worked_on(steps, reap, real)
    assert sound(fs)
    to, last = tids[max(0, len(tids) - 1 - back)], fs.last_tid
    assert undone(fs, "/", to, size)
    assert fs.listing() == fs.listing(to)
    assert diff(fs, b"/", to, fs.last_tid) == []
    assert undone(fs, "/", last, size)
    assert fs.listing() == fs.listing(last)


@settings(max_examples=3000 if SOAK else 60, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=30), st.integers(0, 30), PATHS, st.booleans(), SIZES)
def test_a_part_goes_back(steps: list[tuple[object, ...]], back: int, path: str, reap: bool, size: int) -> None:
    fs, tids = worked_on(steps, reap)
    to = tids[max(0, len(tids) - 1 - back)]
    try:
        then = fs.listing(to, path)
    except FileNotFoundError:
        then = {}
    except NotADirectoryError:
        return
    try:
        if not undone(fs, path, to, size):
            return
    except FileNotFoundError:
        assert not then
        return
    if not then:
        try:
            obj = fs.obj(path)
        except OSError:
            return
        raise AssertionError(f"object {obj} is at {path}, where nothing was")
    held = [then[one] for one in sorted(then)]
    # Hard links may have come or gone elsewhere, so their count is not compared.
    assert [(*row[:2], *row[3:]) for row in held] == [
        (*row[:2], *row[3:]) for _, row in sorted(fs.listing(top=path).items())
    ]


@settings(max_examples=2000 if SOAK else 40, deadline=None)
@given(
    st.lists(STEPS, min_size=5, max_size=30),
    st.integers(0, 30),
    st.sampled_from(["/", "/a", "/a/b"]),
    st.lists(STEPS, max_size=20),
    st.booleans(),
)
def test_others_work_there_meanwhile(
    steps: list[tuple[object, ...]], back: int, path: str, others: list[tuple[object, ...]], reap: bool
) -> None:
    fs, tids = worked_on(steps, reap)
    to = tids[max(0, len(tids) - 1 - back)]
    try:
        plan = undo.plan(fs, path.encode(), to)
    except (BadRequest, OSError):
        return
    with sliced(1):
        for piece in restore.slices(fs, plan):
            for name, *args in others[:2]:
                with suppress(OSError):
                    getattr(fs, str(name))(*args)
            del others[:2]
            with suppress(BadRequest):
                fs.do(piece)
            assert sound(fs)
    if path == "/":
        assert undone(fs, "/", to, 256)
        assert fs.listing() == fs.listing(to)


@settings(max_examples=1000 if SOAK else 30, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=30))
def test_the_log_tells_of_every_change(steps: list[tuple[object, ...]]) -> None:
    fs, tids = worked_on(steps, True)
    logged = {entry.tid: {event.object for event in entry.events} for entry in log(fs, 1)}
    for before, after in pairwise(tids):
        told = {obj for tid, objects in logged.items() if before < tid <= after for obj in objects}
        for row in diff(fs, b"/", before, after):
            assert {state.object for state in (row.before, row.after) if state is not None} & told, row
