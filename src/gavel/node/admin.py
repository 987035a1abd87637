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
from typing import NamedTuple

from gavel.client.results import Progress
from gavel.node import protocol
from gavel.node.cluster_service import ClusterService
from gavel.node.line_server import LineServer
from gavel.node.protocol import Json
from gavel.node.service import Service
from gavel.node.steps import Durable, Item, Job


class _Ended(NamedTuple):
    """The end of a call."""

    result: object


def _next(job: Job, answer: int | None) -> Progress | Item | Durable | _Ended:
    try:
        return job.send(answer)
    except StopIteration as end:
        return _Ended(end.value)


class AdminServer(LineServer):
    """Answers admin calls as long as the mount lives."""

    def __init__(
        self,
        service: Service | ClusterService,
        path: Path,
        caught_up: Callable[[], Awaitable[None]],
        told: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(path)
        self._service, self._caught_up, self._told = service, caught_up, told

    async def answer(self, name: str, args: Json, writer: asyncio.StreamWriter) -> object:
        """See LineServer."""
        await self._caught_up()
        result = await self._run(name, args, writer)
        if self._told is not None:
            await self._told()
        return result

    async def _run(self, name: str, args: Json, writer: asyncio.StreamWriter) -> object:
        """Run a call slice by slice, between which the mount answers its kernel."""
        job = self._service.start(name, args)
        try:
            answer: int | None = None
            while True:
                step = await asyncio.to_thread(_next, job, answer) if self._service.threaded else _next(job, answer)
                if isinstance(step, _Ended):
                    return step.result
                answer, pause = None, 0.0
                if isinstance(step, Durable):
                    answer = await self._service.sync()
                elif isinstance(step, Item):
                    writer.write(protocol.encode({"item": step.value}))
                    await writer.drain()
                elif isinstance(step, Progress):
                    message = {"done": step.done, "total": step.total, "what": step.what}
                    writer.write(protocol.encode({"progress": message}))
                    await writer.drain()
                    pause = step.pause
                await asyncio.sleep(pause)
        finally:
            job.close()
