"""Cleanup: which upkeep a volume gets by itself, how often and for how long, and how far it has come.

The configuration and the course of things are records of the filesystem, so they go where the volume goes:

- `cleanup` is a MessagePack map from the name of a task to [every, budget], in seconds; `every` nil: never;
- `cleanup-course` is one from the name to [next, cursor, note]: when it is due (microseconds since 1970), where it
  goes on, and what the last run came to. The masters of a cluster share a configuration, and each keeps its own course
  elsewhere: each looks after its own volume.

A run that ends for lack of time goes on within a day, whatever the task's period; one that gave way to other work, at
the next look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gavel.errors import BadRequest
from gavel.history.history import History
from gavel.keys import records
from gavel.keys import tid as tids
from gavel.media.volume import Volume
from gavel.transaction.transaction import Transaction
from gavel.upkeep.dedup import dedup
from gavel.upkeep.job import Cursor, Steps
from gavel.upkeep.prune import prune
from gavel.upkeep.reblock import reblock
from gavel.upkeep.scrub import scrub

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_SECOND: Final = 1_000_000

SHARE: Final = 0.7  # a big-block that is fuller is left alone: moving it would cost more than it brings
SCRUB_RATE: Final = 32 * 1024 * 1024  # bytes a second


class Task(msgspec.Struct, array_like=True, frozen=True):
    """How often a task is due and how long a run may take, in seconds; `every` None: never."""

    every: int | None
    budget: int


class Course(msgspec.Struct, array_like=True, frozen=True):
    """When a task is due next (microseconds since 1970), where it goes on, and what it came to last."""

    next: int
    cursor: bytes = b""
    note: str = ""


DEFAULTS: Final[dict[str, Task]] = {
    "prune": Task(_DAY, 10 * 60),
    "dedup": Task(None, 30 * 60),
    "reblock": Task(_DAY, 10 * 60),
    "scrub": Task(30 * _DAY, _HOUR),
}  # in the order in which they are run

_encode = msgspec.msgpack.Encoder(order="sorted").encode
_tasks = msgspec.msgpack.Decoder(dict[str, Task]).decode
_courses = msgspec.msgpack.Decoder(dict[str, Course]).decode


def tasks(tx: Transaction) -> dict[str, Task]:
    """The configuration: every task there is."""
    value = tx.get(_key(tx, b"cleanup"))
    stored = {} if value is None else _tasks(value)
    return {name: stored.get(name, task) for name, task in DEFAULTS.items()}


def configure(tx: Transaction, name: str, every: int | None, budget: int) -> dict[str, Task]:
    """Set how often a task is due (None: never) and how long a run may take; the configuration then.

    Raises BadRequest for a task that there is not, or less than a minute.
    """
    if name not in DEFAULTS:
        raise BadRequest(f"there is no task {name!r}; there are {', '.join(DEFAULTS)}")
    if budget < 60 or (every is not None and every < 60):
        raise BadRequest("a task is due at most every minute, and has at least a minute; give it more")
    found = {**tasks(tx), name: Task(every, budget)}
    tx.put(_key(tx, b"cleanup"), _encode(found))
    courses = course(tx)
    if name in courses:
        courses[name] = msgspec.structs.replace(courses[name], next=tx.now // 1000)
        tx.put(_key(tx, b"cleanup-course"), _encode(courses))
    return found


def course(tx: Transaction) -> dict[str, Course]:
    """How things stand with the tasks that have run."""
    value = tx.get(_key(tx, b"cleanup-course"))
    return {} if value is None else _courses(value)


def due_at(task: Task, course: Course | None, created: int) -> int | None:
    """When a task is due next (microseconds since 1970), also before its first run; None: never."""
    if task.every is None:
        return None
    return tids.micros(created) + task.every * _SECOND if course is None else course.next


def due(tx: Transaction, created: int, courses: dict[str, Course]) -> list[str]:
    """The tasks that are due, in the order to run them. `created` is the tid of the volume's making."""
    now = tx.now // 1000
    found = []
    for name, task in tasks(tx).items():
        when = due_at(task, courses.get(name), created)
        if task.every is None or when is None:
            continue
        # A clock that was wrong must not put a task off for longer than its period.
        if when <= now or when > now + task.every * _SECOND:
            found.append(name)
    return found


def outcome(task: Task, begun: int, *, ended: bool, in_time: bool, cursor: bytes, text: str) -> Course:
    """How things stand after a run that began at `begun` (microseconds since 1970).

    `ended`: it is through, well or not; else it was stopped, `in_time` by others, else because its time was up.
    """
    every = task.every or _DAY
    wait = every if ended else 0 if in_time else min(every, _DAY)
    return Course(begun + wait * _SECOND, cursor, text)


def note(tx: Transaction, name: str, one: Course) -> None:
    """Note how things stand with a task."""
    tx.put(_key(tx, b"cleanup-course"), _encode({**course(tx), name: one}))


def steps(
    name: str, history: History, volume: Volume, look: Callable[[int], Transaction], cursor: Cursor
) -> Steps[Any]:
    """A run of a task, going on from its cursor."""
    match name:
        case "prune":
            return prune(history, cursor=cursor)
        case "dedup":
            return dedup(history, volume)
        case "reblock":
            return reblock(history, volume, SHARE)
        case _:
            return scrub(history, volume, look, cursor)


def told(name: str, result: Any) -> str:
    """What a run came to, in words."""
    match name:
        case "prune":
            return f"{result.versions} versions dropped, {result.kept} states kept below the horizon"
        case "dedup":
            return f"{result.duplicates} duplicates, {result.bytes} bytes saved"
        case "reblock":
            return f"{result.blocks} big-blocks emptied, {result.returned} bytes returned"
        case _:
            return f"{result.bytes} bytes verified, {result.damages} damaged"


def _key(tx: Transaction, name: bytes) -> bytes:
    return records.config(tx.pfs, name)
