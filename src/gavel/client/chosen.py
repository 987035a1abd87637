"""What is chosen for a filesystem or a tree of it, and stored in it: retention, cleanup, compression.

The same for an open volume and for a cluster, which say by `_timeline` what it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gavel.client import paths, upkeep
from gavel.client.looking_back import Timeline, without_marks
from gavel.client.paths import AnyPath
from gavel.client.upkeep import Retained
from gavel.filesystem import compression, path
from gavel.filesystem.compression import Choice
from gavel.filesystem.inode import Inode
from gavel.keys.records import ROOT_OBJECT
from gavel.transaction.transaction import Transaction
from gavel.upkeep import cleanup
from gavel.upkeep.cleanup import Task

T = TypeVar("T")


class Chosen:
    """What Fs and Cluster have in common about choices."""

    @property
    def _timeline(self) -> Timeline:
        raise AssertionError("whoever inherits this has a timeline")

    # -- how much of the past is kept

    def retention(self, path: AnyPath = "/") -> Retained:
        """The policy in force for what a path names, and the directory it is stored for."""
        return _on(path, lambda raw: upkeep.retention_get(self._timeline, raw))

    def set_retention(self, path: AnyPath, policy: str | None) -> Retained:
        """Store the policy of a directory ("all:1d,hourly:7d,daily:60d"), or forget it; what is in force then.

        Raises BadRequest for a text that is no policy.
        """
        return _on(path, lambda raw: upkeep.retention_set(self._timeline, raw, policy))

    def retention_list(self) -> list[tuple[str, str]]:
        """Every directory with a policy of its own, and the policy; the root's first."""
        return upkeep.retention_list(self._timeline)

    def cleanup_set(self, name: str, every: str | None, budget: str | None = None) -> dict[str, Task]:
        """Set how often a task is due ("1d"; None: never) and, if given, how long a run may take."""
        return upkeep.cleanup_set(self._timeline, name, every, budget)

    def cleanup_tasks(self) -> dict[str, Task]:
        """How often every task is due, and how long it may take."""
        return self._timeline.read(cleanup.tasks)

    # -- compression

    def compression(self, path: AnyPath = "/") -> str:
        """The choice that stands for a file or directory: "on", "off", or "default" where there is none."""

        def operation(tx: Transaction, raw: bytes) -> str:
            return compression.choice(_resolve(tx, raw)[1])

        return _on(path, lambda raw: self._timeline.read(operation, without_marks(self._timeline, raw)[0]))

    def set_compression(self, path: AnyPath, choice: Choice) -> str:
        """Choose for what is written to a file, or made in a directory, from now on; the choice that stands then.

        "inherit" takes over the choice of the directory it is in.
        """

        def operation(tx: Transaction, raw: bytes) -> str:
            return compression.choice(compression.set_compression(tx, _resolve(tx, raw)[0], choice))

        return _on(path, lambda raw: self._timeline.write(operation, without_marks(self._timeline, raw)[0]))


def _resolve(tx: Transaction, raw: bytes) -> tuple[int, Inode]:
    return path.resolve(tx, ROOT_OBJECT, b"/" + raw)


def _on(given: AnyPath, call: Callable[[bytes], T]) -> T:
    """The result of a call for a path; its OSErrors say which."""
    try:
        return call(paths.encode(given))
    except OSError as problem:
        raise paths.named(problem, given) from None
