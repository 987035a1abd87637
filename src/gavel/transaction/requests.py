"""What a client asks of a master. The same requests travel by function call here and by wire in a cluster."""

from __future__ import annotations

from typing import NamedTuple

from gavel.keys.ranges import RangeSet


class Commit(NamedTuple):
    """Apply these writes at one new tid, unless something in `reads` changed after `freeze`.

    `keys` are sorted and unique; a value of None deletes. Answered with the tid (not durable before a Barrier asked
    afterwards is answered), or with Collision, DeviceFull, VolumeFull or TooLarge, when nothing of it was applied.
    """

    ticket: int
    keys: list[bytes]
    values: list[bytes | None]
    freeze: int = 0
    reads: RangeSet | None = None


class Barrier(NamedTuple):
    """Answered with the last tid once everything committed before is durable."""

    ticket: int


class Checkpoint(NamedTuple):
    """Write a checkpoint now; answered with the last tid when its header is durable.

    `clean`: the volume is about to be closed, and nothing will be committed any more.
    """

    ticket: int
    clean: bool = False


Request = Commit | Barrier | Checkpoint
