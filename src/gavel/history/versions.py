"""What history answers with: versions, changes, counts, and the steps of a checkpoint."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Version(NamedTuple):
    """A value that a key had during [create_tid, delete_tid); a delete_tid of None: it still has it."""

    key: bytes
    create_tid: int
    delete_tid: int | None
    value: bytes


class Change(NamedTuple):
    """What one transaction did to one key: `old` is None where there was nothing, `new` where it was deleted."""

    key: bytes
    tid: int
    old: bytes | None
    new: bytes | None


class Counts(NamedTuple):
    """How much there is: records, B-tree nodes and file data of both trees, and what of it is in memory."""

    live_records: int
    past_records: int
    live_nodes: int
    past_nodes: int
    cached_nodes: int  # clean nodes in memory
    cached_bytes: int  # their encoded size
    dirty_bytes: int  # about what the next checkpoint has to write
    live_data: int  # stored bytes of file data that live versions refer to, each counting what it refers to
    past_data: int  # the same of closed versions


class Step(Enum):
    """What the driver of a checkpoint does before it resumes it."""

    SLICE = 1  # nothing; others may run, transactions may be applied
    MARKED = 3  # say anew, behind the mark, before anything else, what the log has said so far and is still needed
    SYNC = 2  # have the device synced by a sync that begins now; others may run meanwhile
