"""What a job is: long work on a volume as a generator of small steps, carried out by runtime/jobs.py beside all else.

What a job must keep to:
- a step is small: at most limits.JOB_RECORDS records or one extent, well under a millisecond, then it yields;
- it holds nothing open over a yield: no iterator, no node, nothing but a cursor from which it finds its way again,
  because others read, commit and write checkpoints meanwhile;
- it may be dropped at any yield, and then has done a part of its work, soundly; what it keeps in a Cursor lets
  another run go on from there;
- what it changes in how records are kept (prune, reblock, dedup) is not in the log: it is durable after a checkpoint
  and as if never begun before that. What it changes in what the filesystem says is an ordinary transaction (Write);
- it asks for a CHECKPOINT before more than limits.JOB_DIRTY_MAX bytes of nodes wait in memory because of it;
- it says what it is about to read from the medium (Fetch), so that nobody waits for the disk because of it;
- it asks for QUIET before it changes where file data lies: right after that nobody holds a record that is not
  committed and refers to the old place.

A job yields a Step and is resumed with the answer to it; what goes wrong with what it asked is raised in it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from gavel.transaction.transaction import Transaction

T = TypeVar("T")


class Progress(NamedTuple):
    """A step is done. `total` is None where nobody can know; both count `unit`s."""

    done: int
    total: int | None
    unit: str
    note: str = ""


class Ask(Enum):
    """What a job cannot do itself."""

    CHECKPOINT = 1  # a checkpoint that begins now; resumed once it is durable; raises VolumeFull, DeviceFull …
    QUIET = 2  # resumed when all that was written is committed, and no transaction is open
    COMMITTED = 3  # resumed when all that was written is committed; a Write asks this by itself


class Write(NamedTuple):
    """A transaction of its own: `operation(tx)` is run, its writes are committed, its result is the answer."""

    operation: Callable[[Transaction], Any]


class Fetch(NamedTuple):
    """The next steps read these bytes, as (offset, length): resumed when the host has them in memory.

    Or cannot get them; reading them will tell. At most limits.JOB_FETCH_BYTES, or one range.
    """

    ranges: list[tuple[int, int]]


Step = Progress | Ask | Write | Fetch
Steps = Generator[Step, Any, T]


class Cursor:
    """How far a job has come, for another run to go on from; empty: at the beginning."""

    __slots__ = ("value",)

    def __init__(self, value: bytes = b"") -> None:
        self.value = value
