"""Where a mount's process keeps its socket, its note of itself and its log, and how others find them.

Root uses /run/gavel, others $XDG_RUNTIME_DIR/gavel or a directory of their own under the temporary one; the directory
is only its owner's to enter. A process leaves `<pid>.json` there while it lives: volume, directory, socket.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from gavel.errors import BadRequest

_KEEP_LOGS_SECONDS = 7 * 86_400


class Place(NamedTuple):
    """The files of one process behind a mount."""

    pid: int
    socket: Path
    note: Path
    log: Path


class Running(NamedTuple):
    """What a live process behind a mount says of itself."""

    pid: int
    volume: str
    directory: str
    socket: str
    device: int  # st_dev and st_ino of the volume's file, or 0 and st_rdev of its block device
    inode: int


def runtime_directory() -> Path:
    """The directory of sockets and logs, made if need be; raises BadRequest when somebody else owns it."""
    candidates = _candidates()
    for candidate in candidates:
        try:
            candidate.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        found = candidate.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise BadRequest(f"{candidate} is not a private directory of this user; remove it")
        return candidate
    raise BadRequest(f"none of {', '.join(map(str, candidates))} can be made; set XDG_RUNTIME_DIR")


def _candidates() -> list[Path]:
    """The directories that would do, the best first."""
    if os.geteuid() == 0:
        found = [Path("/run/gavel")]
    elif os.environ.get("XDG_RUNTIME_DIR"):
        found = [Path(os.environ["XDG_RUNTIME_DIR"]) / "gavel"]
    else:
        found = []
    return [*found, Path(tempfile.gettempdir()) / f"gavel-{os.geteuid()}"]


def place(pid: int) -> Place:
    """The files of the process with this id."""
    base = runtime_directory()
    return Place(pid, base / f"{pid}.sock", base / f"{pid}.json", base / f"{pid}.log")


def identity_of(volume: str) -> tuple[int, int]:
    """What tells one volume's file or device from all others on this machine, by whatever path it is named."""
    found = os.stat(volume)
    return (0, found.st_rdev) if stat.S_ISBLK(found.st_mode) else (found.st_dev, found.st_ino)


def announce(where: Place, volume: str, directory: str) -> None:
    """Leave the note of this process."""
    if "://" in volume:  # a cluster
        running = Running(where.pid, volume, directory, str(where.socket), 0, 0)
    else:
        running = Running(where.pid, os.path.realpath(volume), directory, str(where.socket), *identity_of(volume))
    temporary = where.note.with_suffix(".new")
    temporary.write_text(json.dumps(running._asdict()), encoding="utf-8")
    temporary.replace(where.note)


def withdraw(where: Place) -> None:
    """Take away note and socket; the log stays for a while."""
    where.note.unlink(missing_ok=True)
    where.socket.unlink(missing_ok=True)


def running() -> list[Running]:
    """The live processes of this user. Notes of dead ones are cleared away, and logs that are a week old."""
    base = runtime_directory()
    found = []
    for note in sorted(base.glob("*.json")):
        try:
            one = Running(**json.loads(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if alive(one.pid):
            found.append(one)
        else:
            withdraw(place(one.pid))
    _drop_old_logs(base)
    return found


def _drop_old_logs(base: Path) -> None:
    for log in base.glob("*.log"):
        if log.stem.isdigit() and not alive(int(log.stem)):
            try:
                if log.stat().st_mtime < time.time() - _KEEP_LOGS_SECONDS:
                    log.unlink()
            except OSError:
                continue


def alive(pid: int) -> bool:
    """Whether there is a process with this id that has not ended (a zombie has)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def processes_of(volume: str) -> list[Running]:
    """The processes that have this volume mounted: one, or several that only read."""
    try:
        wanted = identity_of(volume)
    except OSError:
        return []
    return [one for one in running() if (one.device, one.inode) == wanted]
