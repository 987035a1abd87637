"""Calls to a daemon through a socket in its directory, one JSON line each way (protocol.py), for its owner alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from gavel.errors import BadRequest
from gavel.node import protocol
from gavel.node.protocol import Json

log = logging.getLogger("gavel.admin")

Call = Callable[[Json], Awaitable[Json]]


class Calls:
    """Answers the calls as long as the daemon lives."""

    def __init__(self, path: Path, calls: Mapping[str, Call]) -> None:
        self._path, self._calls = path, calls
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; raises BadRequest where the path is too long for a socket."""
        if len(os.fsencode(self._path)) > 100:
            raise BadRequest(f"{self._path} is too long for a socket (100 bytes); use a directory with a shorter name")
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
                writer.write(protocol.encode(await self._answer(line)))
                await writer.drain()
        except (ConnectionError, ValueError) as problem:
            log.info("a call ended: %s", problem)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> Json:
        try:
            asked = protocol.decode(line)
            call = self._calls.get(str(asked.get("call")))
            if call is None:
                raise BadRequest(f"{asked.get('call')!r} is no call of a daemon; use the same release on both sides")
            return {"result": await call(asked.get("args") or {})}
        except Exception as problem:  # whatever went wrong belongs to the caller; the daemon goes on
            log.info("a call failed: %s", problem, exc_info=not isinstance(problem, OSError))
            return {"error": protocol.error_of(problem)}


def call(path: Path, name: str, args: Json, seconds: float = 60) -> Json:
    """Make one call; raises what it raises there, BadRequest when no daemon answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
        except OSError:
            raise BadRequest(f"no daemon serves {path.parent}; start it by `gavel serve {path.parent}`") from None
        connection.sendall(protocol.encode({"call": name, "args": args}))
        with connection.makefile("rb") as lines:
            line = lines.readline(protocol.LINE_MAX)
    if not line:
        raise BadRequest(f"the daemon of {path.parent} ended in the middle of the call; look at its log")
    message = protocol.decode(line)
    if "error" in message:
        raise protocol.refusal(message["error"])
    result: Json = message["result"]
    return result
