"""The engine's face of a volume that a node of a cluster serves: what upkeep needs of it, beside the master's own work.

Reblock, scrub, dedup, check, prune's dropping and the files under the volume are about this copy alone and work on it
directly, as on a volume open in one process (engine.py). What they change in what the filesystem says (prune's horizon)
is a transaction of the cluster, by way of `inside`. Nothing here writes records otherwise.

Invariant: nothing is ever dirty here, so what others hold is committed at any time (Ask.QUIET is given at once).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from gavel.errors import BadRequest, GavelError
from gavel.runtime.cleanup import Courses
from gavel.runtime.engine import Engine, Heard, Optimistic, Waiter
from gavel.runtime.inside import InsideEngine
from gavel.runtime.master import Master
from gavel.runtime.turn import Turn
from gavel.transaction.requests import Barrier, Checkpoint
from gavel.transaction.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")


class ServedEngine(Engine):
    """See the module. `courses`: where it is noted how cleanup stands, since each node has its own."""

    def __init__(self, master: Master, inside: InsideEngine, courses: Courses) -> None:
        """On the master's loop; master and device are the caller's to close, after this."""
        self._assemble(master.device, master.replica, Turn(), master.shell, master.clock)
        self._master, self._inside = master, inside
        self.cleanup.courses = courses
        self.jobs.busy = self.jobs.pending = lambda: master.busy

    def write(self, op: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises BadRequest: the cluster decides what is written."""
        raise BadRequest("what a cluster holds is written through the cluster; mount it, or connect to it")

    def begin(self) -> Optimistic:
        """Raises BadRequest, as write()."""
        raise BadRequest("what a cluster holds is written through the cluster; mount it, or connect to it")

    def transact(self, op: Callable[[Transaction], Any], heard: Heard) -> None:
        """See Engine; decided by the cluster when `heard` is called."""
        self._inside.transact(op, heard)

    def make_room(self, done: Callable[[], None]) -> bool:
        """See Engine; the replica does so by itself."""
        return False

    async def close(self) -> None:
        """End the jobs."""
        self.cleanup.stop()
        self.jobs.close()

    def _request(self, request: Barrier | Checkpoint, waiter: Waiter, flush: bool = True) -> None:
        def answered(result: int | GavelError) -> None:  # later, so that the replica's effects keep their order
            self._shell.later(0, lambda: waiter(result))

        self._master.ask(lambda ticket: request._replace(ticket=ticket), answered)
