"""Nodes of a small cluster in one event loop, with certificates of its own authority."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from gavel.errors import GavelError
from gavel.node import authority
from gavel.node.authority import Authority
from gavel.runtime import tls
from gavel.runtime.exchange import Arrival, Exchange
from gavel.runtime.link import Link
from gavel.runtime.listener import Listener
from gavel.wire.connection import Opened, Party
from gavel.wire.messages import Greeting, Role

CLUSTER = bytes(range(16))


def material(folder: Path, ca: Authority, who: tls.Proven) -> tls.Material:
    """Files of a node's identity."""
    folder.mkdir(parents=True, exist_ok=True)
    key, wanted = authority.request()
    (folder / "node.pem").write_bytes(authority.certify(ca, wanted, who) + key)
    (folder / "ca.crt").write_bytes(ca.certificate)
    return tls.Material(folder / "node.pem", folder / "ca.crt")


class Node:
    """One node: an exchange whose arrivals are noted in batches, and answered by `react`."""

    def __init__(self, number: int, files: tls.Material | None, role: Role = Role.MASTER) -> None:
        self.party = Party(CLUSTER, number, bytes([number + 1]) * 16, role, f"node {number}")
        self.files = files
        self.batches: list[list[Arrival]] = []
        self.refusal: GavelError | None = None
        self.busy = False
        self._arrived = asyncio.Event()
        self.react: Callable[[Arrival], None] = lambda arrival: None
        self.exchange = Exchange(
            lambda: self.party, self.deliver, judge=self.judge, busy=lambda: self.exchange.links if self.busy else []
        )
        self.listener: Listener | None = None

    def judge(self, link: Link, peer: Greeting) -> GavelError | None:
        return self.refusal

    def deliver(self, arrivals: list[Arrival]) -> None:
        self.batches.append(arrivals)
        self._arrived.set()
        for arrival in arrivals:
            self.react(arrival)

    async def listen(self) -> str:
        self.listener = Listener(
            self.exchange, "127.0.0.1:0", None if self.files is None else tls.listening(self.files), None
        )
        await self.listener.start()
        return f"127.0.0.1:{self.listener.port}"

    def seen(self, kind: type) -> list[Arrival]:
        return [arrival for batch in self.batches for arrival in batch if isinstance(arrival.event, kind)]

    async def until(self, kind: type, count: int = 1) -> list[Arrival]:
        """Wait until so many events of a kind have arrived."""
        while len(found := self.seen(kind)) < count:
            await self._news()  # for ever, as a slow machine is no failure; the runner of the tests ends what hangs
        return found

    async def _news(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def link(self) -> Link:
        return (await self.until(Opened))[0].link

    async def close(self) -> None:
        if self.listener is not None:
            await self.listener.close()
        self.exchange.close()
        for _ in range(5):
            await asyncio.sleep(0)
