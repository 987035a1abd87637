"""The account of a run: what clients asked for, what they saw and were told, and what the masters made of it.

It is plain data, so that a checker can be given a false one and must say so (tests/sim/test_checkers.py).
Times are ns of true time, which no master and no client knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gavel.quorum.machine import Outcome

Rows = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Seen:
    """What a client saw of [lo, hi) as of the freeze point."""

    lo: bytes
    hi: bytes
    freeze: int
    rows: Rows


@dataclass(slots=True)
class Operation:
    """One transaction of one client, from its first attempt on; `told` is None while the client knows nothing."""

    name: str
    txid: Any
    reads: list[Seen]
    writes: dict[bytes, bytes | None]
    began: int
    ended: int | None = None
    told: Outcome | None = None


@dataclass(slots=True)
class Look:
    """One read without a transaction. `strict`: it had to show everything acknowledged before it began."""

    name: str
    strict: bool
    began: int
    ended: int
    seen: Seen


class Reading(NamedTuple):
    """What a client took for current without asking: at this moment it believed that it knew a key as of a tid, and
    that nothing newer had been acknowledged to anybody."""

    name: str
    at: int
    key: bytes
    tid: int


class Decided(NamedTuple):
    """A place in the order that all masters share: this transaction, at this tid, with this outcome."""

    tid: int
    txid: Any
    outcome: Outcome


@dataclass(slots=True)
class Final:
    """What one master holds when all is over: up to where it knows everything, and the versions (tid, value) by key."""

    node: int
    reached: int
    versions: dict[bytes, list[tuple[int, bytes | None]]]
    open: list[Any] = field(default_factory=list)  # transactions that are still undecided there


@dataclass(slots=True)
class Account:
    """Everything a checker looks at."""

    operations: list[Operation] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    order: list[Decided] = field(default_factory=list)  # by tid
    finals: list[Final] = field(default_factory=list)
