"""The calls of service.py about what is chosen for a filesystem and stored in it. Same rules as there."""

from __future__ import annotations

from collections.abc import Callable

from gavel.client.cluster import Cluster
from gavel.client.fs import Fs
from gavel.client.upkeep import Retained
from gavel.errors import BadRequest
from gavel.filesystem.compression import Choice
from gavel.node.protocol import Json
from gavel.node.steps import Durable, Job

_CHOICES: dict[str, Choice] = {"on": "on", "off": "off", "inherit": "inherit"}


class Choosing:
    """The calls over one open volume, or over a cluster."""

    def __init__(self, filesystem: Fs | Cluster) -> None:
        self._filesystem = filesystem
        self.calls: dict[str, Callable[..., Job]] = {
            "retention": self._retention,
            "retention_set": self._retention_set,
            "cleanup_set": self._cleanup_set,
            "compression": self._compression,
            "compression_set": self._compression_set,
        }

    # -- how much of the past is kept

    def _retention(self, path: str) -> Job:
        yield from ()
        return self._retained(path, self._filesystem.retention(path))

    def _retention_set(self, path: str, policy: str | None) -> Job:
        found = self._filesystem.set_retention(path, policy)
        yield Durable()
        return self._retained(path, found)

    def _retained(self, path: str, found: Retained) -> Json:
        listed = [{"directory": directory, "policy": policy} for directory, policy in self._filesystem.retention_list()]
        return {"path": path, "policy": found.policy, "stored_for": found.stored_for, "policies": listed}

    def _cleanup_set(self, name: str, every: str | None, budget: str | None = None) -> Job:
        self._filesystem.cleanup_set(name, every, budget)
        yield Durable()
        return {}

    # -- compression

    def _compression(self, path: str) -> Job:
        yield from ()
        return {"path": path, "choice": self._filesystem.compression(path)}

    def _compression_set(self, path: str, choice: str) -> Job:
        if choice not in _CHOICES:
            raise BadRequest(f"{choice!r} is no choice; say on, off or inherit")
        found = self._filesystem.set_compression(path, _CHOICES[choice])
        yield Durable()
        return {"path": path, "choice": found}
