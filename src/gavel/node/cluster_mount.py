"""The process behind a mount of a cluster: an engine of its own for the masters, a shared mount, an admin socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from gavel.client.cluster import Cluster
from gavel.client.volumes import caller
from gavel.errors import BadRequest
from gavel.keys import tid as tids
from gavel.mount.leased import LeasedMount
from gavel.mount.mount import Options as MountOptions
from gavel.mount.shared import SharedMount
from gavel.node import places
from gavel.node.admin import AdminServer
from gavel.node.cluster_service import ClusterService
from gavel.node.connecting import engine_of
from gavel.node.protocol import Json
from gavel.node.reach import SCHEME, reach
from gavel.runtime.leased import LeasedEngine
from gavel.runtime.moments import tid_on_cluster
from gavel.runtime.remote import RemoteEngine

if TYPE_CHECKING:
    from gavel.node.launch import Options

Stop = Callable[[], Coroutine[object, object, None]]


def is_url(volume: str) -> bool:
    """Whether what is to be mounted is a cluster."""
    return volume.startswith(SCHEME)


async def serve_cluster(options: Options, ready: Callable[[Json], None], on_signals: Callable[[Stop], None]) -> None:
    """Mount a cluster, and serve until it is unmounted; `on_signals` is given what unmounts."""
    found = reach(options.volume)
    if found.pfs:
        raise BadRequest(f"there are no filesystems within a cluster yet; leave /{found.pfs} out of the URL")
    if options.key is not None:
        raise BadRequest("the masters of a cluster have the keys of their volumes; leave the key out")
    engine = engine_of(found, cache=found.leases and options.as_of is None)
    try:
        await _serve(engine, options, ready, on_signals)
    finally:
        await engine.close()


async def _serve(
    engine: RemoteEngine, options: Options, ready: Callable[[Json], None], on_signals: Callable[[Stop], None]
) -> None:
    where = places.place(os.getpid())
    await engine.measure()
    # That there is a cluster, and that it believes us, is known before anything is mounted.
    if options.as_of is None:
        at = None
        await engine.point()
    else:
        at = await tid_on_cluster(engine, options.as_of)
    how = MountOptions(
        source=options.volume,
        read_only=options.read_only,
        at=at,
        socket=str(where.socket),
        volume=options.volume,
        allow_other=options.allow_other or os.geteuid() == 0,
    )
    mount: SharedMount
    if isinstance(engine, LeasedEngine) and engine.cached:
        mount = LeasedMount(engine, options.directory, how)
    else:
        mount = SharedMount(engine, options.directory, how)
    service = ClusterService(Cluster(engine, caller(), lambda: None), options.volume, options.directory)
    admin = AdminServer(service, where.socket, mount.caught_up)
    try:
        await admin.start()
        await mount.start()
        on_signals(mount.stop)
        places.announce(where, options.volume, options.directory)
        ready(
            {
                "volume": options.volume,
                "directory": options.directory,
                "pid": where.pid,
                "log": str(where.log),
                "read_only": options.read_only or at is not None,
                "as_of": None if at is None else tids.text(at),
            }
        )
        await mount.closed
    finally:
        await mount.stop()
        await admin.close()
        places.withdraw(where)
