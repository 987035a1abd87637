"""Connecting a program to a cluster: an identity, an event loop in a thread of its own, and the engine on it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import uvloop

from gavel.client.cluster import Cluster
from gavel.client.volumes import caller
from gavel.errors import BadRequest
from gavel.node.directory import Directory
from gavel.node.reach import Reach, reach, remember
from gavel.runtime.leased import LeasedEngine
from gavel.runtime.remote import RemoteEngine


def connect(url: str, *, patience: float | None = None, cache: bool = False) -> Cluster:
    """A connection to the cluster at `gavel://HOST:PORT,...`; see client.Cluster.

    Who this is to the cluster is the identity that fits (GAVEL_IDENTITY, else the one under ~/.config/gavel).
    `patience`: seconds that a call waits for a majority before it raises QuorumLost. `cache`: calls are answered from
    memory, by leases, so as current as without, and what they write is durable only after `sync()`. Else nothing is
    kept; where the identity's node.toml has `leases`, others are asked for what they have not flushed.
    Raises BadRequest, Untrusted.
    """
    found = reach(url)
    if found.pfs:
        raise BadRequest(f"there are no filesystems within a cluster yet; leave /{found.pfs} out of the URL")
    return connected(found, patience, cache)


def connected(found: Reach, patience: float | None = None, cache: bool = False) -> Cluster:
    """The same for what reach() has found."""
    started: Future[RemoteEngine] = Future()
    over = asyncio.Event()

    async def serve() -> None:
        try:
            engine = engine_of(found, patience, cache)
        except BaseException as problem:
            started.set_exception(problem)
            return
        started.set_result(engine)
        await over.wait()
        await engine.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="gavel-cluster", daemon=True)
    thread.start()
    engine = started.result()

    def close() -> None:
        engine.loop.call_soon_threadsafe(over.set)
        thread.join()

    return Cluster(engine, caller(), close)


def engine_of(found: Reach, patience: float | None = None, cache: bool = False) -> RemoteEngine:
    """An engine for the cluster on the running event loop. `cache`: see connect()."""
    seconds = found.patience if patience is None else patience
    engine: RemoteEngine
    if found.leases or cache:
        engine = LeasedEngine(
            found.addresses, found.nodes, found.party, found.context,
            lost=lost_work(found.directory), cached=cache, patience_seconds=seconds,
        )  # fmt: skip
    else:
        engine = RemoteEngine(found.addresses, found.nodes, found.party, found.context, patience_seconds=seconds)
    engine.on_members = partial(remember, found.directory)
    return engine


def lost_work(directory: Directory) -> Path:
    """Where a client with this identity saves what it could not commit."""
    return directory.path / "lost"
