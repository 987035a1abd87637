"""What a client with leases has under way: operations that wait, recalls that are not answered; and what it asks for.

Plain data: leased.py, which uses it, says what holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gavel.cache.attempts import Attempt, Operation
from gavel.cache.writeback import Ahead, Behind
from gavel.coherency.messages import Want
from gavel.effects import Observe, Reply, Send
from gavel.keys.ranges import Range, RangeSet
from gavel.transaction.requests import Question
from gavel.transaction.view import Miss


class Asking(NamedTuple):
    """Ask a master; the answer, or why there is none, goes to answered()."""

    number: int
    question: Question


class Forget(NamedTuple):
    """Have the kernel forget what it knows of these ranges of lease keys, then call forgotten()."""

    recall: int
    ranges: list[Range]


Effect = Send | Reply | Observe | Asking | Ahead | Behind | Forget
Save = Callable[[str, dict[bytes, bytes | None]], str]


class Work:
    """An operation that is not done yet."""

    __slots__ = (
        "asked", "attempt", "cleared", "deadline", "need", "not_before", "operation", "runs", "step", "ticket", "until",
        "wall", "wanted",
    )  # fmt: skip

    def __init__(self, ticket: Any, operation: Operation, deadline: int) -> None:
        self.ticket, self.operation, self.deadline = ticket, operation, deadline
        self.wall = 0  # the time at which it happens
        self.asked = 0  # questions without an answer
        self.need: int | None = None  # the last ask for leases
        self.runs = 0
        self.not_before = 0
        self.until = 0  # the batch whose outcome it waits for
        self.attempt: Attempt | None = None  # as it is run without leases
        self.step: list[Question] | None = None  # what that asks as soon as `cleared` has it
        self.wanted: list[Want] = []  # by the last ask for leases
        self.cleared = RangeSet()  # lease ranges in which nobody else has anything unflushed that it should see


class Closing:
    """A recall that is not answered."""

    __slots__ = ("deadline", "ranges", "recall", "to", "told")

    def __init__(self, recall: int, ranges: list[Range], to: int, deadline: int) -> None:
        self.recall, self.ranges, self.to = recall, ranges, to
        self.deadline = deadline  # when the leases would be over in any case, and with them what the kernel was told
        self.told = False  # whether the kernel has let go, and nothing here is used any more


class Lack(NamedTuple):
    """What kept a run from being the last."""

    reads: list[Range]
    miss: Miss | None
    writes: list[bytes]
    block: Range | None
    full: bool = False
    unbacked: bool = False  # it may write each of these, but no majority stands behind all of them together
