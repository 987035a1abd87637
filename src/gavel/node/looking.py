"""The calls that look back over a filesystem's time, on one open volume or on a cluster: log, diff, undo, snapshots.

Same rules as in service.py.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from gavel.client.cluster import Cluster
from gavel.client.fs import Fs
from gavel.errors import BadRequest
from gavel.filesystem.diff import Difference, State
from gavel.filesystem.file_history import FileVersion
from gavel.filesystem.log import Logged
from gavel.filesystem.snapshots import Snapshot
from gavel.keys import tid as tids
from gavel.node.choosing import Choosing
from gavel.node.lines import text_diff
from gavel.node.protocol import Json, checked
from gavel.node.steps import Durable, Item, Job, moment


class Looking:
    """The calls by name, with those of Choosing."""

    def __init__(self, filesystem: Fs | Cluster) -> None:
        self._filesystem = filesystem
        self._calls: dict[str, Callable[..., Job]] = {
            "history": self._history,
            "log": self._log,
            "diff": self._diff,
            "undo": self._undo,
            "snapshot_create": self._snapshot_create,
            "snapshot_list": self._snapshot_list,
            "snapshot_delete": self._snapshot_delete,
            **Choosing(filesystem).calls,
        }

    def waits(self, name: str) -> bool:
        """Whether the steps of a call wait for others, so that each has to run in a thread of its own."""
        return False

    def start(self, name: str, args: Json) -> Job:
        """The call of that name, not begun yet; raises BadRequest for one that there is not, or that takes others."""
        call = self._calls.get(name)
        if call is None:
            raise BadRequest(f"there is no call {name!r}; use the same release of gavel on both sides")
        return call(**checked(call, name, args))

    def _history(self, path: str) -> Job:
        for one in self._filesystem.history(path):
            yield Item(_version(one))
        return {}

    def _log(self, path: str, since: str | None = None, until: str | None = None, limit: int | None = None) -> Job:
        last = 0
        job = self._filesystem.log_job(path, since, until, limit)
        while True:
            try:
                step = next(job)
            except StopIteration as end:
                return {"more": end.value, "until": tids.text(max(last - 1, 0)) if end.value else None}
            if isinstance(step, Logged):
                last = step.tid
                yield Item(_transaction(step))
            else:
                yield step

    def _diff(self, path: str, old: str, new: str | None = None, lines: bool = False) -> Job:
        job = self._filesystem.diff_job(path, old, new)
        found: list[Difference] = []
        while True:
            try:
                step = next(job)
            except StopIteration as end:
                t0, t1 = end.value
                break
            if isinstance(step, Difference):
                found.append(step)
            else:
                yield step
        for one in found:
            shown = _difference(one)
            if lines:
                shown["lines"] = text_diff(self._filesystem, path, one, t0, t1)
            yield Item(shown)
        return {**moment("old", t0), **moment("new", t1)}

    def _undo(self, path: str, to: str | None = None, dry_run: bool = False) -> Job:
        before = self._filesystem.last_tid if dry_run else (yield Durable())
        assert before is not None
        done = yield from self._filesystem.undo_job(path, to, dry_run)
        for one in done.actions:
            yield Item({"action": one.kind, "path": one.path, "old_path": one.old_path, "changes": list(one.what)})
        after = before if dry_run else (yield Durable())
        assert after is not None
        moments = {**moment("to", done.to), **moment("before", before), **moment("after", after)}
        return {"path": done.path, **moments, "dry_run": dry_run}

    def _snapshot_create(self, name: str, when: str | None = None, note: str = "") -> Job:
        made = self._filesystem.snapshot_create(name, when, note)
        yield Durable()
        return _snapshot(made)

    def _snapshot_list(self) -> Job:
        for one in self._filesystem.snapshot_list():
            yield Item(_snapshot(one))
        return {}

    def _snapshot_delete(self, name: str) -> Job:
        gone = self._filesystem.snapshot_delete(name)
        yield Durable()
        return _snapshot(gone)


def _version(one: FileVersion) -> Json:
    return {
        **moment("", one.tid),
        "path": one.path,
        "old_path": one.old_path,
        "size": one.size,
        "mode": one.mode,
        "object": one.object,
        "changes": list(one.what),
    }


def _transaction(one: Logged) -> Json:
    paths = [
        {"path": event.path, "old_path": event.old_path, "object": event.object, "changes": list(event.what)}
        for event in one.events
    ]
    return {**moment("", one.tid), "paths": paths}


def _difference(one: Difference) -> Json:
    return {
        "change": one.kind,
        "path": one.path,
        "old_path": one.old_path,
        "changes": list(one.what),
        "old_size": _size(one.before),
        "new_size": _size(one.after),
    }


def _size(state: State | None) -> int | None:
    """The size of a file; what else has a size means something else by it."""
    return state.size if state is not None and stat.S_ISREG(state.mode) else None


def _snapshot(one: Snapshot) -> Json:
    return {"name": one.name, **moment("", one.tid), "created": one.created, "note": one.note}
