"""What only a whole volume can answer. Long work is a generator that yields Progress between slices.

Between two slices the engine's turn is free, so that other threads work on, and a mount answers its kernel.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeVar

from gavel.client.looking_back import When, in_turns
from gavel.client.results import Info, Progress
from gavel.client.states import Present
from gavel.errors import BadWhen, Damaged, DeviceFailed
from gavel.filesystem import check as checks
from gavel.filesystem.check import Problem
from gavel.keys import records
from gavel.keys import tid as tids
from gavel.limits import SLICE_NODES, SLICE_RECORDS
from gavel.media import extents
from gavel.media.extents import Extent
from gavel.runtime.engine import Engine
from gavel.runtime.moments import tid_named
from gavel.transaction.transaction import Transaction

T = TypeVar("T")


def tid_of(engine: Engine, moment: When) -> int:
    """The tid that a WHEN stands for, everything done so far included in the present; raises BadWhen."""
    if isinstance(moment, int) and moment < 0:
        raise BadWhen(str(moment), "is no tid: they are above zero")
    with engine.turn:
        return tid_named(engine, tids.text(moment) if isinstance(moment, int) else moment)


def info(engine: Engine) -> Generator[Progress, None, Info]:
    """What the volume is and how full, everything done so far included. Known at once; nothing is looked at."""
    tid_of(engine, "")
    yield from ()
    with engine.turn:
        return _info(engine)


def _info(engine: Engine) -> Info:
    volume, history = engine.volume, engine.history
    space, counts = volume.space(), history.counts()
    return Info(
        label=volume.label,
        identity=volume.identity.hex(),
        size=space.total,
        free=space.free,
        live=counts.live_data,
        history=counts.past_data,
        log=space.log,
        trees=space.tree,
        reserve=space.reserve,
        created_tid=history.created_tid,
        last_tid=engine.replica.last_tid,
        horizon=max(history.horizon, history.created_tid),
        records=counts.live_records,
        past_records=counts.past_records,
        read_only=volume.read_only,
    )


def check(present: Present, deep: bool) -> Generator[Progress, None, list[Problem]]:
    """Every problem of the volume: headers and map, trees, the filesystem in them; `deep` reads all there is.

    What a deep check reads is what the present and the past as of now refer to; changes meanwhile are left out.
    """
    engine = present.engine
    problems: list[Problem] = []
    at = tid_of(engine, "")
    with engine.turn:
        problems += [Problem("volume", 0, "the volume", text) for text in engine.volume.check()]
        counts = engine.history.counts()
        nodes, total = counts.live_nodes + counts.past_nodes, counts.live_records
        tx = engine.cache.frozen(at, engine.clock())
    seen = 0
    for text in in_turns(engine, engine.history.check(deep)):
        if text:
            problems.append(Problem("trees", 0, "the trees", text))
        else:
            seen = min(seen + SLICE_NODES, nodes)
        yield Progress(seen, nodes, "nodes")
    for text in in_turns(engine, engine.history.recount()) if deep else ():
        if text:
            problems.append(Problem("live_bytes_counted", 0, "the map", text))
        yield Progress(nodes, nodes, "map")
    if not engine.history.last_tid:
        return problems  # nothing was ever committed: of a witness, or of a node that has just joined
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done = count

    for found in in_turns(engine, checks.check(tx, deep, advance)):
        if found is not None:
            problems.append(found)
        yield Progress(min(done, total), total, "filesystem")
    if deep:
        for count, broken in enumerate(in_turns(engine, _past_data(engine, tx)), 1):
            if broken is not None:
                problems.append(broken)
            if count % SLICE_RECORDS == 0:
                yield Progress(total, total, "past file data")
    return problems


def _past_data(engine: Engine, tx: Transaction) -> Iterator[Problem | None]:
    """Read the file data that the past refers to, also below the horizon; what does not verify."""
    last: Extent | None = None
    for version, _ in engine.history.walk(b"", data_only=True, closed_only=True):
        try:
            extent = extents.decode(version.value).extent
            if extent is not None and extent != last:
                last = extent
                tx.load(extent)
            yield None
        except (Damaged, DeviceFailed) as damage:
            obj = records.parse(version.key).object
            until = tids.text(version.delete_tid or 0)
            yield Problem("past_data_verifies", obj, f"object {obj} before {until}", damage.fact)
