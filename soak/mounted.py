"""The mount under load: making it, its admin calls, its past, and the upkeep that goes on all the while."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.places import run_gavel
from gavel.node import access
from soak.model import Mismatch

PAUSE = 1.0  # seconds between two jobs
CHECKED_EVERY = 15  # rounds of jobs between two deep checks


class Mounted:
    """A volume and where it is mounted. It is the Time of load.py."""

    def __init__(self, base: Path, size: str, kept: int) -> None:
        self.volume, self.directory, self.kept = base / "disk.gavel", base / "mnt", float(kept)
        self.directory.mkdir()
        run_gavel("mkfs", str(self.volume), "--size", size)
        self.mount()
        run_gavel("retention", str(self.directory), f"all:{kept}s")

    def mount(self) -> None:
        """Mount it."""
        ready = json.loads(run_gavel("mount", str(self.volume), str(self.directory), "--json"))
        self.pid, self.log = int(ready["pid"]), Path(ready["log"])

    def unmount(self) -> None:
        """Unmount it; the process behind it has ended then."""
        run_gavel("umount", str(self.directory))

    def call(self, name: str, /, **args: Any) -> tuple[Any, list[Any]]:
        """The result and the items of an admin call."""
        items: list[Any] = []
        session = access.connect(access.locate(str(self.directory)))
        try:
            result = session.call(name, args, lambda kind, value: items.append(value) if kind == "item" else None)
        finally:
            session.close()
        return result, items

    # -- the Time of a worker

    def name(self) -> str:
        """The tid of this state."""
        return str(self.call("tid")[0]["tid"])

    def at(self, directory: Path, when: str) -> Path:
        """The directory as it was."""
        return directory.with_name(f"{directory.name}@@{when}")

    def undo(self, directory: Path, to: str) -> None:
        """Bring a directory back."""
        self.call("undo", path=f"/{directory.relative_to(self.directory)}", to=to)

    def snapshot(self, name: str) -> None:
        """Name the present state."""
        self.call("snapshot_create", name=name)

    def forget(self, name: str) -> None:
        """Delete a snapshot."""
        self.call("snapshot_delete", name=name)


def upkeep(mounted: Mounted, ended: Event, done: Counter[str]) -> None:
    """Prune, reblock, scrub and dedup, one after the other, until the end; raises Mismatch for any damage."""
    rounds = 0
    while not ended.is_set():
        rounds += 1
        for name in ("prune", "reblock", "scrub", "dedup"):
            begin = time.monotonic()
            result, items = mounted.call(name, **({"path": "/"} if name == "prune" else {}))
            done[name] += 1
            done[f"{name} seconds"] += round(time.monotonic() - begin)
            done["versions pruned"] += result.get("versions", 0)
            done["MiB returned"] += result.get("returned", 0) >> 20
            if result.get("damages") or result.get("damaged"):
                raise Mismatch(f"{name} found damage: {result} {items[:5]}")
            if ended.wait(PAUSE):
                return
        if rounds % CHECKED_EVERY == 0:
            result, items = mounted.call("check", deep=True)
            done["check --deep"] += 1
            if not result["sound"]:
                raise Mismatch(f"check --deep: {items[:5]}")
