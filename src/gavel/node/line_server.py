"""A unix socket that answers calls, one JSON line each (protocol.py), one after the other on a connection.

Invariants: only the owner of the process can connect (mode 0600); every call is answered by its result or by what went
wrong with it, whatever that was, and the process goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from gavel.errors import BadRequest, GavelError
from gavel.node import protocol
from gavel.node.protocol import Json

log = logging.getLogger("gavel.admin")

_PATH_MAX: Final = 100  # bytes; the kernel takes 108, and cuts off what is longer without a word


class LineServer(ABC):
    """Answers calls from start() to close(), on the event loop of start()."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def answer(self, name: str, args: Json, writer: asyncio.StreamWriter) -> object:
        """The result of a call, or what it raises; lines that come before the result may be written to `writer`."""

    async def start(self) -> None:
        """Listen; raises BadRequest where the path is too long for a socket."""
        if len(os.fsencode(self._path)) > _PATH_MAX:
            raise BadRequest(
                f"{self._path} is too long for a socket ({_PATH_MAX} bytes); use a directory with a shorter name"
            )
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._accept, self._path, limit=protocol.LINE_MAX)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Listen no more and give up calls under way."""
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(protocol.encode(await self._answer(line, writer)))
                await writer.drain()
        except (ConnectionError, ValueError) as problem:
            log.info("a connection for calls ended: %s", problem)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> Json:
        try:
            name, args = protocol.call_of(line)
            return {"result": await self.answer(name, args, writer)}
        except Exception as problem:  # whatever went wrong belongs to the caller; the process goes on
            log.info("a call failed: %s", problem, exc_info=not isinstance(problem, OSError | GavelError))
            return {"error": protocol.error_of(problem)}
