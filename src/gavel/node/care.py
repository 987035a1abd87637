"""The calls of service.py about upkeep: what is kept, space, soundness, members, keys. Same rules as there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from gavel.client.devices import VolumeMember
from gavel.client.fs import Fs
from gavel.client.upkeep import Retained
from gavel.errors import BadRequest
from gavel.filesystem.compression import Choice
from gavel.node import keys
from gavel.node.protocol import Json
from gavel.node.steps import Durable, Item, Job, moment
from gavel.runtime.moments import local_zone

if TYPE_CHECKING:
    from gavel.upkeep.cleanup import Course, Task

_CHOICES: dict[str, Choice] = {"on": "on", "off": "off", "inherit": "inherit"}


class Care:
    """The calls over one open volume; `volume` is its path."""

    def __init__(self, fs: Fs, volume: str) -> None:
        self._fs, self._volume = fs, volume
        self.calls: dict[str, Callable[..., Job]] = {
            "retention": self._retention,
            "retention_set": self._retention_set,
            "prune": self._prune,
            "reblock": self._reblock,
            "scrub": self._scrub,
            "dedup": self._dedup,
            "cleanup": self._cleanup,
            "cleanup_show": self._cleanup_show,
            "cleanup_set": self._cleanup_set,
            "snapshot_space": self._snapshot_space,
            "compression": self._compression,
            "compression_set": self._compression_set,
            "volume_list": self._volume_list,
            "volume_add": self._volume_add,
            "volume_remove": self._volume_remove,
            "rekey": self._rekey,
            "upgrade": self._upgrade,
        }

    # -- how much of the past is kept

    def _retention(self, path: str) -> Job:
        yield from ()
        return self._retained(path, self._fs.retention(path))

    def _retention_set(self, path: str, policy: str | None) -> Job:
        found = self._fs.set_retention(path, policy)
        yield Durable()
        return self._retained(path, found)

    def _retained(self, path: str, found: Retained) -> Json:
        listed = [{"directory": directory, "policy": policy} for directory, policy in self._fs.retention_list()]
        return {"path": path, "policy": found.policy, "stored_for": found.stored_for, "policies": listed}

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
            yield Item(_task(name, task, course, self._fs.created_tid))
        return {}

    def _cleanup_set(self, name: str, every: str | None, budget: str | None = None) -> Job:
        self._fs.cleanup_set(name, every, budget)
        yield Durable()
        return {}

    # -- compression

    def _compression(self, path: str) -> Job:
        yield from ()
        return {"path": path, "choice": self._fs.compression(path)}

    def _compression_set(self, path: str, choice: str) -> Job:
        if choice not in _CHOICES:
            raise BadRequest(f"{choice!r} is no choice; say on, off or inherit")
        found = self._fs.set_compression(path, _CHOICES[choice])
        yield Durable()
        return {"path": path, "choice": found}

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


def _task(name: str, task: Task, course: Course | None, created: int) -> Json:
    from gavel.upkeep.cleanup import due_at

    due = due_at(task, course, created)
    return {
        "task": name,
        "every": task.every,
        "budget": task.budget,
        "next_time": None if due is None else datetime.fromtimestamp(due / 1e6, local_zone()).isoformat(),
        "note": "" if course is None else course.note,
    }
