"""What the command line can ask of an open volume, whether it is mounted or opened in the same process.

Each call is a generator: it yields Progress between slices of long work, Item for each thing it lists, Durable when
it needs everything to be durable (and is sent the tid), and returns its result. Everything in results and items is
JSON; tids are strings as people write them, times are ISO 8601 with offset, sizes are bytes. The keys are documented
in docs/guide/commands.md.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from gavel.client.fs import Fs
from gavel.errors import BadRequest
from gavel.filesystem.diff import Difference, State
from gavel.filesystem.file_history import FileVersion
from gavel.filesystem.log import Logged
from gavel.filesystem.snapshots import Snapshot
from gavel.keys import tid as tids
from gavel.node.care import Care
from gavel.node.lines import text_diff
from gavel.node.protocol import Json
from gavel.node.steps import Durable, Item, Job, moment


class Service:
    """The calls over one open volume."""

    def __init__(self, fs: Fs, volume: str, directory: str | None = None) -> None:
        self.fs, self._volume, self._directory = fs, volume, directory
        self._calls: dict[str, Callable[..., Job]] = {
            "info": self._info,
            "tid": self._tid,
            "history": self._history,
            "log": self._log,
            "diff": self._diff,
            "undo": self._undo,
            "snapshot_create": self._snapshot_create,
            "snapshot_list": self._snapshot_list,
            "snapshot_delete": self._snapshot_delete,
            "check": self._check,
            **Care(fs, volume).calls,
        }

    def start(self, name: str, args: Json) -> Job:
        """The call of that name, not begun yet; raises BadRequest for one that there is not."""
        call = self._calls.get(name)
        if call is None:
            raise BadRequest(f"there is no call {name!r}; use the same release of gavel on both sides")
        try:
            return call(**args)
        except TypeError as problem:
            raise BadRequest(f"the call {name} does not take that: {problem}") from None

    def _info(self) -> Job:
        found = yield from self.fs.info_job()
        lies = self.fs.volume_format()
        return {
            "volume": self._volume,
            "mounted": self._directory,
            "pid": None if self._directory is None else os.getpid(),
            "label": found.label,
            "identity": found.identity,
            "version": lies.version,
            "encryption": lies.encryption or None,
            "members": len(self.fs.volume_list()),
            "read_only": found.read_only and self._directory is not None,
            "size": found.size,
            "live": found.live,
            "history": found.history,
            "log": found.log,
            "trees": found.trees,
            "free": found.free,
            "reserve": found.reserve,
            **moment("created", found.created_tid),
            **moment("last", found.last_tid),
            **moment("horizon", found.horizon),
            "records": found.records,
            "past_records": found.past_records,
        }

    def _tid(self) -> Job:
        tid = yield Durable()
        assert tid is not None
        return moment("", tid)

    def _history(self, path: str) -> Job:
        for one in self.fs.history(path):
            yield Item(_version(one))
        return {}

    def _log(self, path: str, since: str | None = None, until: str | None = None, limit: int | None = None) -> Job:
        last = 0
        job = self.fs.log_job(path, since, until, limit)
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
        job = self.fs.diff_job(path, old, new)
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
                shown["lines"] = text_diff(self.fs, path, one, t0, t1)
            yield Item(shown)
        return {**moment("old", t0), **moment("new", t1)}

    def _undo(self, path: str, to: str | None = None, dry_run: bool = False) -> Job:
        before = self.fs.last_tid if dry_run else (yield Durable())
        assert before is not None
        done = yield from self.fs.undo_job(path, to, dry_run)
        for one in done.actions:
            yield Item({"action": one.kind, "path": one.path, "old_path": one.old_path, "changes": list(one.what)})
        after = before if dry_run else (yield Durable())
        assert after is not None
        moments = {**moment("to", done.to), **moment("before", before), **moment("after", after)}
        return {"path": done.path, **moments, "dry_run": dry_run}

    def _snapshot_create(self, name: str, when: str | None = None, note: str = "") -> Job:
        made = self.fs.snapshot_create(name, when, note)
        yield Durable()
        return _snapshot(made)

    def _snapshot_list(self) -> Job:
        for one in self.fs.snapshot_list():
            yield Item(_snapshot(one))
        return {}

    def _snapshot_delete(self, name: str) -> Job:
        gone = self.fs.snapshot_delete(name)
        yield Durable()
        return _snapshot(gone)

    def _check(self, deep: bool = False) -> Job:
        problems = yield from self.fs.check_job(deep)
        for one in problems:
            yield Item({"where": one.where, "invariant": one.invariant, "problem": one.text})
        return {"deep": deep, "sound": not problems}


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
