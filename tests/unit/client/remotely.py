"""A connection to a cluster whose one master answers exactly, over a real socket, on a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count

import uvloop

from gavel.client.cluster import Cluster
from gavel.filesystem import superblock
from gavel.filesystem.caller import Caller
from gavel.runtime.remote import RemoteEngine
from gavel.wire.connection import Party
from gavel.wire.messages import Role
from tests.unit.cache.master import Master
from tests.unit.runtime.cluster import CLUSTER
from tests.unit.runtime.test_remote import Front

_clients = count(1)


@contextmanager
def clusters(number: int = 1, patience: float = 30.0) -> Iterator[list[Cluster]]:
    """So many clients of one fresh filesystem."""
    engines: Future[list[RemoteEngine]] = Future()
    over = asyncio.Event()

    async def serve() -> None:
        front = Front(1, Master(1000))
        address = await front.node.listen()
        made = []
        for _ in range(number):
            me = Party(CLUSTER, 0, next(_clients).to_bytes(16, "big"), Role.CLIENT)
            made.append(RemoteEngine([address], [1], me, None, patience_seconds=patience))
        await made[0].run(lambda tx: superblock.make_root(tx, Caller(0, 0)))
        engines.set_result(made)
        await over.wait()
        for engine in made:
            await engine.close()
        await front.node.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    found = engines.result()
    try:
        yield [Cluster(engine, Caller(0, 0, 0o022), lambda: None) for engine in found]
    finally:
        found[0].loop.call_soon_threadsafe(over.set)
        thread.join()
