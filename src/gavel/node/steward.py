"""Sees to it that the group is as the address book wants it: links to all, books that agree, members of the quorum.

Of two nodes the one with the lower id dials. Books go to whoever a link is opened with, and to all when they change.
The voting master with the lowest id that is up proposes what the quorum lacks, one change at a time: a new node
becomes a slave when it is linked, and what it was invited as when it has caught up; one that was removed leaves.

Invariant: nothing here is needed for safety. Two stewards at once, or none, cost time: the quorum decides.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

from gavel.errors import BadPeer, DoubleIdentity, GavelError, Untrusted
from gavel.keys.tid import micros
from gavel.node import logs
from gavel.node.book import Book, Entry
from gavel.quorum.messages import Member
from gavel.quorum.requests import Reconfigure
from gavel.quorum.votes import MASTER, SLAVE, WITNESS
from gavel.runtime.dialler import Dialler
from gavel.runtime.link import Link
from gavel.runtime.master import BOOK, Master
from gavel.wire.messages import Greeting, Role

log = logging.getLogger("gavel.steward")

PERIOD_SECONDS: Final = 1.0  # between two looks while something is not as it should be
QUIET_SECONDS: Final = 5.0  # and while all is; links and books wake it up
CAUGHT_UP_MS: Final = 3000  # a slave so close behind gets a vote; it counts with what it has, and goes on catching up
_WANTED: Final = {Role.MASTER: MASTER, Role.SLAVE: SLAVE, Role.WITNESS: WITNESS}
_NAMES: Final = {"master": MASTER, "slave": SLAVE, "witness": WITNESS}


class Steward:
    """See the module. `master` is set before start()."""

    master: Master

    def __init__(self, book: Book, me: int, context: ssl.SSLContext | None, random: Callable[[], float]) -> None:
        self.book, self._me, self._context, self._random = book, me, context, random
        self.problem: GavelError | None = None  # what a person should know
        self._diallers: dict[int, Dialler] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Dial no more, propose nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(dialler.close() for dialler in self._diallers.values()))

    def judge(self, peer: Greeting) -> GavelError | None:
        """Why a node that greets is not welcome."""
        known = self.book.entries.get(peer.node)
        if peer.node and known is not None and known.removed:
            return Untrusted(f"node {peer.node}", "it was removed from the cluster; it can join anew")
        return None

    def linked(self, link: Link) -> None:
        """A link was opened: tell what is in the book."""
        link.carry(BOOK, self.book.told())
        self._wake.set()

    def told(self, node: int, body: memoryview) -> None:
        """Another node tells what is in its book."""
        try:
            changed = self.book.merge(body)
        except (BadPeer, DoubleIdentity) as problem:
            log.error("the address book of node %d: %s", node, problem)
            self.problem = problem
            return
        if changed:
            self.spread(but=node)
        mine = self.book.entries.get(self._me)
        if mine is not None and mine.removed and self.problem is None:
            self.problem = Untrusted("the others", f"node {self._me} was removed from the cluster; it can join anew")
            log.error("%s", self.problem)

    def entered(self, entry: Entry) -> None:
        """A node has joined through this one, or an entry was changed here."""
        role = Role(entry.role).name.lower()
        if entry.removed:
            logs.event("removed", f"node {entry.node} leaves the cluster", peer=entry.node)
        else:
            text = f"node {entry.node} is in the book: {role} at {entry.address}"
            logs.event("in the book", text, peer=entry.node, role=role, address=entry.address)
        self.spread()

    def spread(self, but: int = 0) -> None:
        """Tell all nodes what is in the book, and act on it."""
        body = self.book.told()
        for node, link in self.master.peers.items():
            if node != but:
                link.carry(BOOK, body)
        for entry in self.book.entries.values():
            if entry.removed:
                self.master.forget(
                    entry.node, Untrusted(f"node {entry.node}", "it was removed from the cluster; it can join anew")
                )
        self._wake.set()

    def problem_with(self, node: int) -> str:
        """Why there is no link to a node, if that is known here."""
        dialler = self._diallers.get(node)
        return "" if dialler is None or dialler.problem is None else str(dialler.problem)

    async def _run(self) -> None:
        while True:
            settled = False
            try:
                await self._dial()
                settled = await self._reconcile()
            except GavelError as problem:  # another one was first, or there is no quorum now
                log.info("members stay as they are for now: %s", problem)
            try:
                async with asyncio.timeout(QUIET_SECONDS if settled else PERIOD_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _dial(self) -> None:
        wanted = {entry.node: entry.address for entry in self.book.members() if entry.node > self._me}
        for node, dialler in list(self._diallers.items()):
            if wanted.get(node) != dialler.address:
                del self._diallers[node]
                await dialler.close()
        for node, address in wanted.items():
            if node not in self._diallers:
                self._diallers[node] = Dialler(self.master.exchange, address, self._context, self._random)

    async def _reconcile(self) -> bool:
        """Propose the next change of the members, if it is this node's turn; whether all is as the book wants it."""
        status = await self.master.status()
        members = {one["node"]: one for one in status.get("members", ())}
        if not status.get("voting"):
            return set(members) == {entry.node for entry in self.book.members()}
        change = self._change(members, await self._caught_up(status, members))
        if change is not None:
            sound = await self._sound({*members, *(node for node, _ in change)})
            if any(node < self._me and members.get(node, {}).get("role") == "master" for node in sound):
                return False  # its turn
            if not _can_decide(change, sound):
                log.info("members stay as they are: without those that are not up there would be no majority")
                return False
            log.info("proposing members %s", ", ".join(f"{node}:{role}" for node, role in change))
            await self.master.answer(lambda ticket: Reconfigure(ticket, [Member(*one) for one in change]))
            self._wake.set()
        return all(
            members.get(entry.node, {}).get("role") == Role(entry.role).name.lower() for entry in self.book.members()
        )

    async def _sound(self, nodes: set[int]) -> set[int]:
        """Those of these nodes that are up. One that has stepped aside is linked, too, and says what is wrong."""
        others = sorted(nodes - {self._me})
        told = await asyncio.gather(*(self.master.inquire(node, PERIOD_SECONDS) for node in others))
        return {self._me, *(node for node, one in zip(others, told, strict=True) if one and not one.get("failure"))}

    async def _caught_up(self, status: dict[str, Any], members: dict[int, dict[str, Any]]) -> set[int]:
        """Slaves that are so near that they may have a vote, if the book wants them to have one."""
        found = set()
        for entry in self.book.members():
            if Role(entry.role) is Role.MASTER and members.get(entry.node, {}).get("role") == "slave":
                told = await self.master.inquire(entry.node, PERIOD_SECONDS)
                behind = micros(status["sync_tid"]) - micros(told.get("sync_tid", 0))
                if told and not told["catch_up"] and behind <= CAUGHT_UP_MS * 1000:
                    found.add(entry.node)
        return found

    def _change(self, members: dict[int, dict[str, Any]], ready: set[int]) -> list[tuple[int, int]] | None:
        """The members with the first thing changed that is not as the book wants it; None if all is."""
        roles = {node: _NAMES[one["role"]] for node, one in members.items()}
        book = {entry.node: entry for entry in self.book.members()}
        for node in sorted(roles):
            if node in self.book.entries and node not in book:
                return sorted((other, role) for other, role in roles.items() if other != node)
        for node, entry in sorted(book.items()):
            wanted = _WANTED[Role(entry.role)]
            if node not in roles:
                if node in self.master.peers:
                    return sorted([*roles.items(), (node, WITNESS if wanted == WITNESS else SLAVE)])
            elif roles[node] != wanted and (wanted != MASTER or node in ready):
                return sorted((roles | {node: wanted}).items())
        return None


def _can_decide(change: list[tuple[int, int]], sound: set[int]) -> bool:
    """Whether a majority of the voters after a change is among these."""
    voters = [node for node, role in change if role != SLAVE]
    return 2 * sum(node in sound for node in voters) > len(voters)
