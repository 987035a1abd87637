"""The calls of service.py about one volume: prune, space, soundness, members, keys. Same rules as there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from gavel.client.devices import VolumeMember
from gavel.client.fs import Fs
from gavel.node import keys
from gavel.node.protocol import Json
from gavel.node.steps import Durable, Item, Job, moment
from gavel.runtime.moments import local_zone

if TYPE_CHECKING:
    from gavel.upkeep.cleanup import Course, Task


class Care:
    """The calls over one open volume; `volume` is its path."""

    def __init__(self, fs: Fs, volume: str) -> None:
        self._fs, self._volume = fs, volume
        self.calls: dict[str, Callable[..., Job]] = {
            "prune": self._prune,
            "reblock": self._reblock,
            "scrub": self._scrub,
            "dedup": self._dedup,
            "cleanup": self._cleanup,
            "cleanup_show": self._cleanup_show,
            "snapshot_space": self._snapshot_space,
            "volume_list": self._volume_list,
            "volume_add": self._volume_add,
            "volume_remove": self._volume_remove,
            "rekey": self._rekey,
            "upgrade": self._upgrade,
            "check": self._check,
        }

    # -- how much of the past is kept

    def _prune(self, path: str, keep: str | None = None, everything: bool = False, dry_run: bool = False) -> Job:
        done = yield from self._fs.prune_job(path, keep, everything, dry_run)
        created = self._fs.created_tid
        return {
            "path": path,
            "dry_run": dry_run,
            **moment("before", max(done.before, created)),
            **moment("horizon", max(done.horizon, created)),
            "kept": done.kept,
            "versions": done.versions,
            "bytes": done.bytes,
        }

    # -- space and soundness

    def _reblock(self) -> Job:
        done = yield from self._fs.reblock_job()
        return {"blocks": done.blocks, "moved": done.moved, "returned": done.returned, "damaged": done.damaged}

    def _scrub(self, rate: int | None = None) -> Job:
        done = yield from self._fs.scrub_job(rate)
        for one in done.found:
            until = {"until_tid": None, "until_time": None} if one.until is None else moment("until", one.until)
            yield Item(
                {
                    "object": one.object,
                    "path": one.path,
                    "start": one.start,
                    "end": one.end,
                    **moment("since", one.since),
                    **until,
                    "problem": one.text,
                }
            )
        return {"nodes": done.nodes, "extents": done.extents, "bytes": done.bytes, "damages": done.damages}

    def _check(self, deep: bool = False) -> Job:
        problems = yield from self._fs.check_job(deep)
        for one in problems:
            yield Item({"where": one.where, "invariant": one.invariant, "problem": one.text})
        return {"deep": deep, "sound": not problems}

    def _dedup(self, simulate: bool = False) -> Job:
        done = yield from self._fs.dedup_job(simulate)
        return {
            "simulate": simulate,
            "extents": done.extents,
            "duplicates": done.duplicates,
            "bytes": done.bytes,
            "damaged": done.damaged,
        }

    def _snapshot_space(self) -> Job:
        alone = yield from self._fs.snapshot_space_job()
        for one in self._fs.snapshot_list():
            yield Item({"name": one.name, **moment("", one.tid), "bytes": alone.get(one.name, 0)})
        return {}

    # -- cleanup

    def _cleanup(self, names: list[str] | None = None) -> Job:
        runs = yield from self._fs.cleanup_job(names)
        for one in runs:
            yield Item({"task": one.name, "note": one.note, "error": one.error})
        yield Durable()
        return {}

    def _cleanup_show(self) -> Job:
        for name, (task, course) in self._fs.cleanup_show().items():
            yield Item(shown_task(name, task, course, self._fs.created_tid))
        return {}

    # -- what lies under the volume

    def _volume_list(self) -> Job:
        for one in self._fs.volume_list():
            yield Item(self._member(one))
        return {}

    def _volume_add(self, path: str, size: int | None = None, force: bool = False) -> Job:
        return self._member((yield from self._fs.volume_add_job(path, size, force)))

    def _volume_remove(self, which: str) -> Job:
        return self._member((yield from self._fs.volume_remove_job(which)))

    def _member(self, one: VolumeMember) -> Json:
        return {**one._asdict(), "path": one.path or self._volume}

    def _rekey(self, key: Json) -> Job:
        return {"encryption": (yield from self._fs.rekey_job(keys.unpack(key)))}

    def _upgrade(self) -> Job:
        return {"version": (yield from self._fs.upgrade_job())}


def shown_task(name: str, task: Task, course: Course | None, created: int | None) -> Json:
    """A task of cleanup, and how it stands on a volume; without `created`, that of the volume, on none."""
    from gavel.upkeep.cleanup import due_at

    due = None if created is None else due_at(task, course, created)
    return {
        "task": name,
        "every": task.every,
        "budget": task.budget,
        "next_time": None if due is None else datetime.fromtimestamp(due / 1e6, local_zone()).isoformat(),
        "note": "" if course is None else course.note,
    }
