"""A link to an address, kept: dialled, and dialled again with growing pauses whenever it is lost.

Invariant: at most one connection is there or being made; after close() none.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from gavel.errors import BadRequest, GavelError, NoCommonVersion, Untrusted, WrongCluster
from gavel.limits import BACKOFF_MAX_MS, DIAL_BACKOFF_MS, DIAL_SECONDS, HANDSHAKE_SECONDS, REFUSED_SECONDS
from gavel.runtime import tls
from gavel.runtime.exchange import Exchange
from gavel.runtime.link import Link

log = logging.getLogger("gavel.link")

_REFUSALS = (Untrusted, WrongCluster, NoCommonVersion)


def address_of(text: str) -> tuple[str, int]:
    """HOST:PORT or [HOST]:PORT as a pair; raises BadRequest."""
    host, mark, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not mark or not host or not port.isdigit() or int(port) > 65535:
        raise BadRequest(f"{text!r} is not an address; write HOST:PORT, for IPv6 [HOST]:PORT")
    return host, int(port)


class Dialler:
    """See the module. `random` gives numbers in [0, 1); `problem` is why there is no link now, if it is known."""

    def __init__(
        self, exchange: Exchange, address: str, context: ssl.SSLContext | None, random: Callable[[], float]
    ) -> None:
        self.address = address
        self.host, self.port = address_of(address)
        self.link: Link | None = None
        self.problem: GavelError | None = None
        self._closed = False
        self._exchange, self._context, self._random = exchange, context, random
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Dial no more, and end the link."""
        link, self._closed = self.link, True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if link is not None:
            link.end()

    async def _keep(self) -> None:
        failures = 0
        while not self._closed:  # a cancellation may come as another error of the connection that was being made
            opened = False
            try:
                opened = await self._live()
            except (OSError, ssl.SSLError, TimeoutError) as problem:
                self._failed(tls.explained(self.address, problem))
            failures = 0 if opened else failures + 1
            pause = min(DIAL_BACKOFF_MS << min(failures, 16), BACKOFF_MAX_MS) / 1000
            if isinstance(self.problem, _REFUSALS) and not opened:
                pause = REFUSED_SECONDS
            await asyncio.sleep(pause * (0.5 + self._random()))

    async def _live(self) -> bool:
        """One link from its beginning to its end; whether it was ever open."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DIAL_SECONDS):
            _, link = await loop.create_connection(
                lambda: Link(self._exchange, dialled=True, where=self.address),
                self.host,
                self.port,
                ssl=self._context,
                ssl_handshake_timeout=None if self._context is None else HANDSHAKE_SECONDS,
            )
        self.link = link
        try:
            problem = await asyncio.shield(link.ended)
        finally:
            self.link = None
        self._failed(problem)
        return link.connection.version > 0

    def _failed(self, problem: GavelError | None) -> None:
        """Tell the log what is new about why there is no link."""
        if problem is not None and str(problem) != str(self.problem):
            log.warning("%s", problem)
        self.problem = problem
