"""What the command line can ask of a mount of a cluster: what service.py answers, as far as it is about the filesystem.

What is about one volume (upkeep, devices, keys, checks) is asked of a master: each has its own.
"""

from __future__ import annotations

import asyncio
import os

from gavel.client.cluster import Cluster
from gavel.errors import BadRequest
from gavel.node.care import shown_task
from gavel.node.looking import Looking
from gavel.node.protocol import Json
from gavel.node.steps import Item, Job, moment

_OF_A_VOLUME = frozenset({
    "check", "reblock", "scrub", "dedup", "cleanup", "snapshot_space",
    "volume_list", "volume_add", "volume_remove", "rekey", "upgrade",
})  # fmt: skip


class ClusterService(Looking):
    """The calls over a cluster."""

    def __init__(self, cluster: Cluster, url: str, directory: str) -> None:
        super().__init__(cluster)
        self._cluster, self._url, self._directory = cluster, url, directory
        self._calls |= {
            "info": self._info, "tid": self._tid, "prune": self._prune, "cleanup_show": self._cleanup_show,
        }  # fmt: skip

    def start(self, name: str, args: Json) -> Job:
        """The call of that name, not begun yet; raises BadRequest, also for one that is about a volume."""
        if name in _OF_A_VOLUME:
            raise BadRequest(
                f"this is about one volume, and behind {self._url} each master has its own: "
                "name the directory of a node, on its machine"
            )
        return super().start(name, args)

    def waits(self, name: str) -> bool:
        """See Looking: for masters."""
        return True

    async def sync(self) -> int:
        """Whatever was acknowledged is durable; the tid that names it."""
        return await asyncio.to_thread(self._cluster.tid)

    def _info(self) -> Job:
        told, past = self._cluster.status(), self._cluster.reaches()
        yield from ()
        return {
            "volume": self._url,
            "mounted": self._directory,
            "pid": os.getpid(),
            "cluster": told.get("cluster"),
            "master": told.get("node"),
            "epoch": told.get("epoch"),
            "members": told.get("members"),
            "size": told.get("total", 0),
            "free": told.get("free", 0),
            **moment("created", past.created),
            **moment("last", past.last),
            **moment("horizon", past.horizon or past.created),
        }

    def _prune(self, path: str, keep: str | None = None, everything: bool = False, dry_run: bool = False) -> Job:
        """Every master drops by itself what is below the horizon; so that alone is moved."""
        yield from ()
        past = self._cluster.reaches()
        before, after = self._cluster.move_horizon(path, keep=keep, everything=everything, dry_run=dry_run)
        return {
            "path": path,
            "dry_run": dry_run,
            **moment("before", max(before.horizon, past.created)),
            **moment("horizon", max(after.horizon, past.created)),
            "kept": len(after.kept),
            "versions": None,
            "bytes": None,
        }

    def _cleanup_show(self) -> Job:
        for name, task in self._cluster.cleanup_tasks().items():
            yield Item(shown_task(name, task, None, None))
        return {}

    def _tid(self) -> Job:
        yield from ()
        return moment("", self._cluster.tid())
