"""Reads what has become durable in a master's log and tells the oracle: votes, the epochs they were cast in, decisions.

Invariant: a vote is told when, and only when, a crash can no longer take it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from gavel.quorum.entries import Installed, Promised, Settled, Voted, decode
from gavel.quorum.messages import Member, Record
from gavel.quorum.votes import Electorate
from gavel.sim.oracle import Oracle


class Followed(Protocol):
    """What is followed."""

    entries: list[tuple[str, Any]]
    synced: Callable[[int, int], None] | None


class Scribe:
    """Follows the log of one master."""

    def __init__(self, node: int, log: Followed, oracle: Oracle, founding: list[Member]) -> None:
        self._node, self._log, self._oracle = node, log, oracle
        self._founding = founding
        self.begin()
        log.synced = self.synced

    def begin(self) -> None:
        """The log is told from its beginning."""
        self._epoch, self._voters = 0, Electorate(self._founding).voters

    def synced(self, first: int, last: int) -> None:
        """Entries [first, last) of the log have become durable."""
        for kind, what in self._log.entries[first:last]:
            if kind == "quorum":
                for entry in decode(what).entries:
                    if type(entry) is Voted:
                        self._oracle.voted(self._node, self._epoch, self._voters, entry.ballot, entry.tx, entry.value)
                    elif type(entry) is Promised and entry.proposal:
                        self._oracle.proposed(self._node, entry.tx)
                    elif type(entry) is Settled:
                        self._oracle.learned(self._node, entry.tx, entry.value)
                    elif type(entry) is Installed:
                        self._install(entry.record)

    def _install(self, record: Record) -> None:
        self._epoch, self._voters = record.epoch, Electorate(record.members).voters
        for tx, _ in record.carry:
            self._oracle.admitted(self._node, tx)  # by a majority of the former epoch
        self._oracle.began(self._node, record.epoch, msgspec.msgpack.encode(record))
