"""What a client could not commit, saved where an operator finds it: a directory for each time that something was lost.

    DIR/20261122T195800-1/
        changes.json        {"format": 1, "when": ISO 8601, UTC, "why": TEXT, "changes": [
                                {"object": ID, "path": PATH or "", "what": [TEXT ...], "mode": MODE, "size": BYTES,
                                 "file": NAME or "", "data": [[OFFSET, LENGTH] ...]} ...]}
        files/1-NAME ...    the bytes of each file that had been written: sparse, at their offsets, as long as the file

What is in no `data` range of a file was not written by this client then, and is a hole in its copy here. Copy back what
is wanted by hand; nothing reads these but people, and nothing deletes them.

Invariant: save() returns after all is on the disk, as far as that can be had; it raises nothing.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gavel.cache.lost import Lost

log = logging.getLogger("gavel.leases")

FORMAT = 1
_NAME_MOST = 100  # bytes of a file's own name in that of its copy


class LostWorks:
    """The directory of one client; made when there is something to save."""

    def __init__(self, directory: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self.directory = directory
        self._clock = clock

    def save(self, why: str, writes: dict[bytes, bytes | None], changes: list[Lost]) -> str:
        """Where these changes are saved, "" if they cannot be: then the log says why, and names the paths."""
        try:
            return str(self._save(why, changes))
        except OSError as problem:
            paths = ", ".join(one.path or f"object {one.object}" for one in changes)
            log.error(
                "could not save %d lost changes in %s: %s; they were of %s", len(writes), self.directory, problem, paths
            )
            return ""

    def _save(self, why: str, changes: list[Lost]) -> Path:
        moment = time.gmtime(self._clock() // 10**9)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
        base = self.directory / time.strftime("%Y%m%dT%H%M%S", moment)
        here = next(path for n in range(1, 1 << 20) if not (path := base.with_name(f"{base.name}-{n}")).exists())
        (here / "files").mkdir(parents=True, mode=0o700)
        told: list[dict[str, Any]] = []
        for number, one in enumerate(changes, 1):
            name = ""
            if one.data:
                name = f"{number}-{os.path.basename(one.path) or one.object}"[:_NAME_MOST].replace("/", "_")
                _write(here / "files" / name, one)
            told.append(
                {
                    "object": one.object, "path": one.path, "what": one.what, "mode": one.mode, "size": one.size,
                    "file": name, "data": [[offset, len(data)] for offset, data in one.data],
                }
            )  # fmt: skip
        with open(here / "changes.json", "w") as file:
            json.dump({"format": FORMAT, "when": when, "why": why, "changes": told}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return here


def found(directory: Path) -> list[tuple[Path, dict[str, Any]]]:
    """What is saved there, oldest first: each directory, and what its changes.json says."""
    saved = []
    for path in sorted(directory.glob("*/changes.json")):
        with open(path) as file:
            saved.append((path.parent, json.load(file)))
    return sorted(saved, key=lambda one: one[1]["when"])


def _write(path: Path, lost: Lost) -> None:
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        for offset, data in lost.data:
            file.seek(offset)
            file.write(data)
        file.truncate(max(lost.size, max(offset + len(data) for offset, data in lost.data)))
        file.flush()
        os.fsync(file.fileno())


def restore(place: Path, told: dict[str, Any], target: Path) -> list[Path]:
    """Copy the files of one such directory under `target`, by their paths there; returns the copies.

    What is there already is left alone: the copy gets another name then.
    """
    copies = []
    for one in told["changes"]:
        if not one["file"]:
            continue
        parts = [part for part in one["path"].split("/") if part not in ("", ".", "..")] or [one["file"]]
        copy = target.joinpath(*parts)
        copy.parent.mkdir(parents=True, exist_ok=True)
        count = 1
        while copy.exists():
            copy, count = copy.with_name(f"{parts[-1]}.{count}"), count + 1
        shutil.copyfile(place / "files" / one["file"], copy)
        copies.append(copy)
    return copies
