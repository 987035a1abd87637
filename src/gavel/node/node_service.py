"""What the command line can ask of a node that serves: its own volume's upkeep, and the filesystem of the cluster.

Calls about the volume (space, soundness, members, keys, cleanup) work on this node's copy, on the daemon's loop.
Calls about the filesystem (the past, snapshots, policies) go the way of any client, and wait for the masters.
"""

from __future__ import annotations

from pathlib import Path

from gavel.client.cluster import Cluster
from gavel.client.fs import Fs
from gavel.errors import BadRequest
from gavel.node.care import Care
from gavel.node.cluster_service import ClusterService
from gavel.node.protocol import Json
from gavel.node.service import Service
from gavel.node.steps import Job
from gavel.runtime.master import Master

_OF_A_WITNESS = frozenset({
    "info", "check", "scrub", "reblock", "volume_list", "volume_add", "volume_remove", "rekey", "upgrade",
})  # fmt: skip


class NodeService(ClusterService):
    """The calls over a served volume (`fs`) and over its cluster."""

    def __init__(self, cluster: Cluster, fs: Fs, master: Master, directory: Path, volume: Path) -> None:
        super().__init__(cluster, f"node {master.party.node}", str(directory))
        self._master, self._path = master, directory
        self._of_volume = Service(fs, str(volume))
        self._cluster_id = master.party.cluster.hex()
        self._local = frozenset({*Care(fs, str(volume)).calls, "info"})

    def start(self, name: str, args: Json) -> Job:
        """The call of that name, not begun yet; raises BadRequest, also where a witness has nothing to work on."""
        node = self._master.party.node
        if self._master.replica.witness and name not in _OF_A_WITNESS:
            raise BadRequest(f"node {node} is a witness and keeps no data; name another node")
        if name == "info":
            return self._told("served", self._of_volume.start("info", {}))
        if name == "prune":
            return self._told("pruned", self._of_volume.start("prune", args))
        if name in self._local:
            return self._of_volume.start(name, args)
        return super().start(name, args)

    def waits(self, name: str) -> bool:
        """See Looking."""
        return name not in self._local

    def _told(self, done: str, call: Job) -> Job:
        """What a call answers, and which node it was."""
        found = yield from call
        return {**found, done: str(self._path), "node": self._master.party.node, "cluster": self._cluster_id}
