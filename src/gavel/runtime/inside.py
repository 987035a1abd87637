"""A client of a cluster inside the process of one of its nodes: the engine over the node's own replica.

What this node does not decide, since it is a slave or a witness, is asked of the masters that it has links to.

Invariant: answers come from the loop, never from within the call that asked; so the replica's effects keep their order.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from gavel.errors import GavelError, NotAMember
from gavel.limits import PATIENCE_MS
from gavel.runtime.cluster_engine import ClusterEngine, Heard
from gavel.runtime.master import Master
from gavel.transaction import requests
from gavel.transaction.requests import Stage
from gavel.transaction.transaction import Transaction


class InsideEngine(ClusterEngine):
    """See the module."""

    def __init__(self, master: Master) -> None:
        super().__init__(secrets.token_bytes(16), master.clock)
        self._master = master
        self._asking: set[asyncio.Task[None]] = set()

    def transact(
        self, operation: Callable[[Transaction], Any], heard: Callable[[Any, BaseException | None], None]
    ) -> None:
        """Run an operation; `heard` gets its result once what it wrote is decided, or what it raised."""
        self.start(operation, lambda end: heard(end.result, end.error))

    async def close(self) -> None:
        """What is under way raises QuorumLost."""
        for task in self._asking:
            task.cancel()
        self._give_up()

    @property
    def _coord(self) -> int:
        return self._master.party.node

    def _ask(self, question: requests.Question, heard: Heard, needs: tuple[bytes, ...] = ()) -> None:
        def answered(result: requests.Answer | GavelError) -> None:
            if isinstance(result, NotAMember) and self._masters():
                task = self.loop.create_task(self._ask_elsewhere(question, heard, result))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            else:
                self.loop.call_soon(heard, result)

        self._master.ask(lambda ticket: requests.Asked(ticket, question), answered)

    def _put_ahead(self, blob: bytes, stage: Stage) -> None:
        self._master.ask(lambda ticket: requests.Asked(ticket, stage), lambda result: None)

    def _masters(self) -> list[int]:
        """Of the members that vote and keep everything, those with a link to here."""
        return [node for node in self._master.replica.quorum.desk.electorate.masters if node in self._master.peers]

    async def _ask_elsewhere(self, question: requests.Question, heard: Heard, why: GavelError) -> None:
        """One after the other: a transaction has a name, and happens once whoever is asked."""
        for node in self._masters():
            answer = await self._master.ask_peer(node, question, self._remote.naming.name, PATIENCE_MS / 1000)
            if answer is not None:
                heard(answer)
                return
        heard(why)
