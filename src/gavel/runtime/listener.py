"""Where others connect: one port, on which the handshake of TLS tells who may speak what.

Invariant: of a connection nothing is read but TLS itself until that is over; then it is a link if the other side has a
certificate of the cluster, or belongs to `door` if it asked for that, and is closed otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from typing import cast

from gavel.errors import BadRequest
from gavel.limits import HANDSHAKE_SECONDS
from gavel.runtime import tls
from gavel.runtime.dialler import address_of
from gavel.runtime.exchange import Exchange
from gavel.runtime.link import Link

log = logging.getLogger("gavel.link")

Door = Callable[[], asyncio.Protocol]


class _Arriving(asyncio.Protocol):
    """A connection whose handshake is just over."""

    def __init__(self, exchange: Exchange, door: Door | None) -> None:
        self._exchange, self._door = exchange, door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand it to whom it belongs."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        where = _shown(transport.get_extra_info("peername"))
        spoken = tls.chosen(transport.get_extra_info("ssl_object"))
        protocol: asyncio.Protocol | asyncio.BufferedProtocol
        if spoken == tls.WIRE:
            protocol = Link(self._exchange, dialled=False, where=where)
        elif spoken == tls.JOIN and self._door is not None:
            protocol = self._door()
        else:
            log.warning("%s connected to speak something else", where)
            transport.abort()
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


def _shown(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) and len(address) >= 2 else "a local process"


class Listener:
    """See the module."""

    def __init__(self, exchange: Exchange, address: str, context: ssl.SSLContext | None, door: Door | None) -> None:
        self.host, self.port = address_of(address)
        self._exchange, self._context, self._door = exchange, context, door
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises BadRequest if that is not possible there. A port of 0 becomes the one that was found."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Arriving(self._exchange, self._door),
                self.host,
                self.port,
                ssl=self._context,
                reuse_address=True,
                ssl_handshake_timeout=None if self._context is None else HANDSHAKE_SECONDS,
            )
        except OSError as problem:
            why = os.strerror(problem.errno) if problem.errno is not None and problem.errno > 0 else str(problem)
            raise BadRequest(
                f"cannot listen on {self.host}:{self.port} ({why}); look who has it, or choose another address"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more; links that are there stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
