"""The quorum: what happened, and in which order, agreed by a majority of masters without a leader.

What it is: the pure core of one volume's group. Events go in by `step`, effects come out by `drain` (gavel.effects).
Normative page: docs/internals/quorum.md.

What the shell owes it:
- before anything else, `replay(record)` for every record of the ledger since the last snapshot, in order, then
  `start(now)` once;
- `step(Requested(request), now)` for the requests of gavel.quorum.requests; each but Arrived is answered by one Reply
  with the same request;
- `step(Received(peer, batch), now)` for every Batch (messages.decode) of an authenticated node, members and others;
  links may lose, double and reorder, which costs time only; what one link says in order arrives in order as a rule;
- `step(PeerUp(node), now)` and `PeerDown` for every link to a member (Status.members), or to whom it wants to join;
- `Synced`, `SyncFailed`, `Ticked` as gavel.effects says. At most one Sync of this core is outstanding. `Arm` replaces
  the one before;
- every `Send(peer, Batch)` is encoded and sent, or dropped when there is no link; at most one Send a peer in a drain
  (several if very large).

`now` is ns since 1970 by the host's clock; it may step and be wrong, which costs time, never safety.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gavel.effects import Effect, Event
from gavel.quorum.machine import Ledger, Machine
from gavel.quorum.messages import Member
from gavel.quorum.rules import ALL, Rules


class Quorum:
    """One member of the group: votes, coordinates, takes over, executes.

    Invariants:
    - nothing that promises leaves before it is durable, except in a group of one, which tells nobody;
    - execution is in tid order, each tid once, and nothing is decided at or below `stable` that was not executed or
      installed.
    """

    def __init__(
        self,
        me: int,
        ledger: Ledger,
        machine: Machine,
        founding: Iterable[Member] = (),
        floor: int = 0,
        rules: Rules = ALL,
    ) -> None:
        """A core that has replayed nothing yet.

        `founding`: the members of the first epoch, the same on all of them; nothing for a node that joins a group (it
        waits for a Start that names it). Without meaning once the ledger knows an epoch. `floor`: a tid at or above
        everything issued before by this volume, for volumes that were no quorum's; the clock starts above it.
        """
        self.me, self.ledger, self.machine, self.rules = me, ledger, machine, rules
        self._effects: list[Effect] = []

    def replay(self, record: bytes) -> None:
        """Take in a record of the ledger; raises Damaged for bytes that are none."""

    def start(self, now: int) -> None:
        """Everything was replayed; from here on `step`. The first incarnation record is written here."""

    def step(self, event: Event, now: int) -> None:
        """Take in what happened."""

    def drain(self) -> list[Effect]:
        """What is to be done now, in order."""
        effects, self._effects = self._effects, []
        return effects

    def snapshot(self) -> Iterator[bytes]:
        """Records that, replayed in place of all before, say all that is still needed. Lazy: take all of it before
        the next step.

        The ledger may forget everything older once these are durable; what is written after follows them.
        """
        yield from ()

    @property
    def stable(self) -> int:
        """The watermark S (SyncTs): everything decided at or below it is known and executed here; nothing new will
        be."""
        return 0

    @property
    def clock_tid(self) -> int:
        """A tid above which all later proposals of this node are; born of new transactions."""
        return 0
