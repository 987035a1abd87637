"""The admin socket of a mount: serves the calls of service.py on the mount's own event loop, in slices.

A call begins when the requests that the kernel has sent before are answered: what a program wrote, and had handed over
by syncfs before it called, is part of what the call sees. And it is answered when the kernel has been told what it
changed: what a program reads after undo is what undo has brought back.
Only the owner of the process can connect: the socket lies in a directory of mode 0700.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from gavel.node.job_calls import Service, run_job
from gavel.node.line_server import LineServer
from gavel.node.protocol import Json


class AdminServer(LineServer):
    """Answers admin calls as long as the mount lives."""

    def __init__(
        self,
        service: Service,
        path: Path,
        caught_up: Callable[[], Awaitable[None]],
        told: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(path)
        self._service, self._caught_up, self._told = service, caught_up, told

    async def answer(self, name: str, args: Json, writer: asyncio.StreamWriter) -> object:
        """See LineServer."""
        await self._caught_up()
        result = await run_job(self._service, name, args, writer)
        if self._told is not None:
            await self._told()
        return result
