"""Calls to a daemon through a socket in its directory, one JSON line each way (protocol.py), for its owner alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from gavel.errors import BadRequest
from gavel.node import protocol
from gavel.node.job_calls import Service, run_job
from gavel.node.line_server import LineServer
from gavel.node.protocol import Json

Call = Callable[..., Awaitable[Json]]  # its arguments by name, each with the type that it must have


class Calls(LineServer):
    """Answers the calls as long as the daemon lives: its own, and those of a service, which may take long."""

    def __init__(self, path: Path, calls: Mapping[str, Call], service: Service | None = None) -> None:
        super().__init__(path)
        self._calls, self._service = calls, service

    async def answer(self, name: str, args: Json, writer: asyncio.StreamWriter) -> object:
        """See LineServer; raises BadRequest for what is no call of a daemon."""
        call = self._calls.get(name)
        if call is not None:
            return await call(**protocol.checked(call, name, args))
        if self._service is None:
            raise BadRequest(f"{name!r} is no call of a daemon; use the same release on both sides")
        return await run_job(self._service, name, args, writer)


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
