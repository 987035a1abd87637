"""The oracle: knows every vote the moment it is durable, and what must hold at every moment of it.

Masters do not know it. It is told of votes, of executions, of how far a master says it knows everything, and of epochs,
and raises Violation at the first step that contradicts what it knows:

- agreement: one value per transaction, one transaction per tid, one start record per epoch;
- stability: nothing is chosen at or below a point up to which some master has said it knows everything, unless it did;
- prefix: what masters execute, up to where they say they know everything, is the same, outcomes included;
- nothing is executed that was not chosen;
- admission: nobody proposes for what its machine did not admit; what was admitted and chosen stands until it is
  executed.

A value is chosen when a majority of an epoch's voters has it accepted, durably, under one ballot.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection
from typing import Any

from gavel.quorum.machine import Outcome
from gavel.sim.account import Decided


class Violation(Exception):
    """Something happened that must not."""

    def __init__(self, property_: str, story: str) -> None:
        super().__init__(f"{property_}: {story}")
        self.property = property_
        self.story = story


class Oracle:
    """`abort` is the value that stands for no tid at all."""

    def __init__(self, abort: Any) -> None:
        self._abort = abort
        self.chosen: dict[Any, Any] = {}
        self._votes: dict[tuple[Any, ...], set[int]] = {}
        self._tids: list[int] = []  # of everything chosen, ascending
        self._owner: dict[int, Any] = {}  # tid -> transaction
        self._outcomes: dict[int, Outcome] = {}
        self._done: dict[int, list[int]] = {}  # node -> tids executed, ascending
        self._reached: dict[int, int] = {}
        self._epochs: dict[int, bytes] = {}
        self._admitted: set[tuple[int, Any]] = set()

    # -- what masters did --------------------------------------------------------------------------------------

    def voted(self, node: int, epoch: int, voters: Collection[int], ballot: Any, txid: Any, value: Any) -> None:
        """A master's acceptance is durable."""
        if node not in voters:
            raise Violation("agreement", f"n{node} voted for {txid} in epoch {epoch}, where it has no vote")
        votes = self._votes.setdefault((txid, epoch, ballot, value), set())
        votes.add(node)
        if 2 * len(votes) > len(voters):
            self._choose(txid, value)

    def _choose(self, txid: Any, value: Any) -> None:
        known = self.chosen.setdefault(txid, value)
        if known != value:
            raise Violation("agreement", f"{txid} was chosen as {_show(known)} and again as {_show(value)}")
        if value == self._abort or self._owner.get(value) == txid:
            return
        if value in self._owner:
            raise Violation("agreement", f"{txid} and {self._owner[value]} were both chosen at {_show(value)}")
        self._owner[value] = txid
        insort(self._tids, value)
        for node, reached in self._reached.items():
            if value <= reached:
                raise Violation(
                    "stability", f"{txid} was chosen at {_show(value)}; n{node} knew everything up to {_show(reached)}"
                )

    def learned(self, node: int, txid: Any, value: Any) -> None:
        """A master takes a value for the decided one."""
        known = self.chosen.get(txid)
        if known != value:
            raise Violation("agreement", f"n{node} takes {txid} for {_show(value)}; chosen was {_show(known)}")

    def executed(self, node: int, tid: int, txid: Any, outcome: Outcome) -> None:
        """A master carried a transaction out."""
        if self._owner.get(tid) != txid:
            raise Violation(
                "agreement", f"n{node} executed {txid} at {_show(tid)}; chosen was {_show(self.chosen.get(txid))}"
            )
        said = self._outcomes.setdefault(tid, outcome)
        if said != outcome:
            raise Violation("prefix", f"{txid} at {_show(tid)} was {said} elsewhere and is {outcome} at n{node}")
        done = self._done.setdefault(node, [])
        if done and tid <= done[-1]:
            raise Violation("prefix", f"n{node} executed {_show(tid)} after {_show(done[-1])}")
        done.append(tid)

    def installed(self, node: int, hi: int) -> None:
        """A master took in what others had executed, up to a tid; what that was is compared at the end."""
        done = self._done.setdefault(node, [])
        later = done[bisect_right(done, hi) :]
        done[:] = [*self._tids[: bisect_right(self._tids, hi)], *later]

    def reached(self, node: int, tid: int) -> None:
        """A master says that it knows, and has executed, everything up to and including a tid."""
        before = self._reached.get(node, 0)
        if tid < before:
            raise Violation("stability", f"n{node} went back from {_show(before)} to {_show(tid)}")
        if tid == before:
            return
        self._reached[node] = tid
        want, done = bisect_right(self._tids, tid), self._done.get(node, [])
        have = bisect_right(done, tid)
        if have != want:
            missing = next((one for one in self._tids[:want] if one not in done), 0)
            raise Violation(
                "prefix",
                f"n{node} says it knows all up to {_show(tid)} and lacks {_show(missing)}: {self._owner.get(missing)}",
            )

    def admitted(self, node: int, txid: Any) -> None:
        """A master's machine said that it may propose for a transaction."""
        self._admitted.add((node, txid))

    def proposed(self, node: int, txid: Any) -> None:
        """A master's proposal is durable."""
        if (node, txid) not in self._admitted:
            raise Violation("admission", f"n{node} proposed for {txid}, which its machine did not admit")

    def ended(self, node: int, txid: Any) -> None:
        """A master's machine was told that a transaction stands no more."""
        value = self.chosen.get(txid, self._abort)
        if value == self._abort:
            return
        done = self._done.get(node, [])
        at = bisect_right(done, value)
        if not at or done[at - 1] != value:
            raise Violation("admission", f"n{node} takes {txid} for ended, and has not executed it at {_show(value)}")

    def restarted(self, node: int, applied: int, reached: int) -> None:
        """A master is back: what it executed up to `applied` has survived, and it says it knows all up to `reached`."""
        if reached > self._reached.get(node, 0):
            raise Violation("stability", f"n{node} is back with {_show(reached)} and never said it knew that")
        done = self._done.get(node, [])
        del done[bisect_right(done, applied) :]
        self._reached[node] = 0
        self.reached(node, reached)

    def forgotten(self, node: int) -> None:
        """A master and its disk are gone for good; what it said counts on (it was told to others), what it knew not."""
        self._done.pop(node, None)
        self._reached.pop(node, None)

    def began(self, node: int, epoch: int, record: bytes) -> None:
        """A master acts in an epoch that begins with this record."""
        known = self._epochs.setdefault(epoch, record)
        if known != record:
            raise Violation("agreement", f"n{node} begins epoch {epoch} with another record than others did")

    # -- what it knows -----------------------------------------------------------------------------------------

    def last(self) -> int:
        """The highest tid that was chosen."""
        return self._tids[-1] if self._tids else 0

    def order(self) -> list[Decided]:
        """Everything that was executed anywhere, in tid order."""
        return [Decided(tid, self._owner[tid], self._outcomes[tid]) for tid in self._tids if tid in self._outcomes]


def _show(value: Any) -> str:
    return hex(value) if isinstance(value, int) else str(value)
