"""Unmounting, whatever state the mount is in: in use, dead, or behind a process that does not answer."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import time

from gavel.errors import BadRequest
from gavel.mount import attach, mounted
from gavel.node import access, places
from gavel.node.protocol import Json

_PATIENCE = 3.0  # seconds before saying what is being waited for
_ANSWER_SECONDS = 20.0  # a process that answers nothing for so long is taken for hung
_MAJORITY_SECONDS = 3.0  # masters that answer nothing for so long are not waited for: what was answered is durable


def unmount(argument: str) -> Json:
    """Unmount; what was done: keys directory, lazy, pid, ended, clean, note (a sentence, or "").

    When it returns and the mount was not in use, everything is durable and its process has ended. A mount in use is
    taken out of sight, and made durable as far as it got. Raises BadRequest where nothing of ours is mounted.
    """
    directory = _directory(argument)
    process = next((one for one in places.running() if one.directory == directory), None)
    if process is None:
        return _unmount_unattended(directory)
    cluster = "://" in process.volume
    if cluster and not _sync(process, _MAJORITY_SECONDS):
        lazy, hung, durable = _detach_at_once(directory), False, True
    else:
        durable = cluster or _sync(process)
        lazy, hung = _detach(directory, process)
    if hung:
        alive = places.alive(process.pid)
        fate = f"end it with `kill -9 {process.pid}`" if alive else "it was killed"
        note = (
            f"process {process.pid} behind {directory} did not answer: {directory} is detached, {fate}; "
            "what had not been synced may be lost"
        )
    elif lazy:
        safe = "everything written so far is durable" if durable else "not everything could be made durable"
        note = f"{directory} is in use: it is detached, {safe}, process {process.pid} ends with the last open file"
    else:
        _await_end(process.pid)
        note = ""
    ended = not places.alive(process.pid)
    log = places.place(process.pid).log
    clean = not hung and not (ended and log.exists())  # the log of one that ended well goes with it
    if ended and not clean and not hung:
        note = f"{directory} is unmounted, but not everything could be written; {log} says why"
    return _result(directory, note, lazy=lazy or hung, pid=process.pid, ended=ended, clean=clean)


def _result(
    directory: str, note: str, *, lazy: bool, pid: int | None = None, ended: bool = True, clean: bool = True
) -> Json:
    return {"directory": directory, "lazy": lazy, "pid": pid, "ended": ended, "clean": clean, "note": note}


def _directory(argument: str) -> str:
    """The mount point that is meant: by its directory, or by its volume."""
    there = mounted.at(argument) or mounted.at(os.path.realpath(argument))
    if there is not None:
        if there.type == mounted.FILESYSTEM_TYPE:
            return there.directory
        raise BadRequest(f"{argument} is a mount of {there.type}, not of GavelFS; use umount")
    found = places.processes_of(argument)
    if len(found) > 1:
        raise BadRequest(f"{argument} is mounted at {', '.join(one.directory for one in found)}; say which")
    if found:
        return found[0].directory
    inside = mounted.holding(argument)
    if inside is not None:
        raise BadRequest(f"{argument} is inside the mount at {inside.directory}; give that directory")
    raise BadRequest(f"nothing is mounted at {argument}")


def _unmount_unattended(directory: str) -> Json:
    """A mount whose process is gone, or belongs to somebody whose notes we cannot see."""
    if access.socket_of(directory) is None:
        attach.detach(directory, lazy=True)
        note = f"the process behind {directory} was gone; what was durable is kept, mount it again to go on"
        return _result(directory, note, lazy=True)
    clean = attach.flush_and_detach(directory)
    note = "" if clean else f"{directory} is in use: it is detached and ends with the last open file"
    return _result(directory, note, lazy=not clean, ended=clean)


def _detach_at_once(directory: str) -> bool:
    """Detach a mount of a cluster without a majority, which asks for nothing that only a majority can answer.

    Whether it was in use.
    """
    try:
        attach.detach(directory)
    except OSError as problem:
        if problem.errno != errno.EBUSY:
            raise
        attach.detach(directory, lazy=True)
        return True
    return False


def _sync(process: places.Running, seconds: float = _ANSWER_SECONDS) -> bool:
    """Have everything made durable before the mount goes, as far as its process answers."""
    try:
        session = access.RemoteSession(
            access.Mounted(process.socket, process.directory, "/"), settled=True, timeout=seconds
        )
        try:
            session.call("tid", {})
        finally:
            session.close()
    except Exception:  # whatever is wrong with it, the mount has to go
        return False
    return True


def _detach(directory: str, process: places.Running) -> tuple[bool, bool]:
    """Detach; (whether it was in use, whether its process hung)."""
    outcome: list[bool | OSError] = []

    def work() -> None:
        try:
            outcome.append(attach.flush_and_detach(directory))
        except OSError as problem:
            outcome.append(problem)

    number = _device_number(directory)
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    deadline = time.monotonic() + _ANSWER_SECONDS
    while worker.is_alive():
        worker.join(1.0)
        if worker.is_alive() and time.monotonic() > deadline:
            if _sync(process):
                deadline = time.monotonic() + _ANSWER_SECONDS
                continue
            with contextlib.suppress(OSError):
                attach.detach(directory, lazy=True)
            if not _abort(number):
                os.kill(process.pid, signal.SIGKILL)
            worker.join(_ANSWER_SECONDS)
            return True, True
    result = outcome[0]
    if isinstance(result, OSError):
        if mounted.at(directory) is None:  # it went by itself meanwhile
            return False, False
        raise result
    if not result:
        _sync(process)
    return not result, False


def _device_number(directory: str) -> int:
    there = mounted.at(directory)
    return int(there.device.partition(":")[2]) if there is not None else 0


def _abort(number: int) -> bool:
    """Have the kernel end every request of a connection whose process does not answer; False where it cannot."""
    try:
        with open(f"/sys/fs/fuse/connections/{number}/abort", "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        return False
    return True


def _await_end(pid: int) -> None:
    """Wait until the process has written everything and ended; says so when that takes a while."""
    begun, pause, said = time.monotonic(), 0.002, False
    while places.alive(pid):
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
        if not said and time.monotonic() - begun > _PATIENCE:
            print(f"gavel: waiting for process {pid} to finish writing", file=sys.stderr, flush=True)
            said = True
