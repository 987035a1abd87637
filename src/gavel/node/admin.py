"""The admin socket of a mount: serves the calls of service.py on the mount's own event loop, in slices.

A call begins when the requests that the kernel has sent before are answered: what a program wrote, and had handed over
by syncfs before it called, is part of what the call sees. And it is answered when the kernel has been told what it
changed: what a program reads after undo is what undo has brought back.
Only the owner of the process can connect (mode 0600 in a 0700 directory).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from gavel.client.results import Progress
from gavel.node import protocol
from gavel.node.cluster_service import ClusterService
from gavel.node.service import Service
from gavel.node.steps import Durable, Item, Job

log = logging.getLogger("gavel.admin")


class _Ended(NamedTuple):
    """The end of a call."""

    result: object


def _next(job: Job, answer: int | None) -> Progress | Item | Durable | _Ended:
    try:
        return job.send(answer)
    except StopIteration as end:
        return _Ended(end.value)


class AdminServer:
    """Answers admin calls as long as the mount lives."""

    def __init__(
        self,
        service: Service | ClusterService,
        path: Path,
        caught_up: Callable[[], Awaitable[None]],
        told: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._service, self._path, self._caught_up, self._told = service, path, caught_up, told
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
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
                await self._answer(line, writer)
        except (ConnectionError, ValueError, asyncio.IncompleteReadError) as problem:
            log.info("admin connection ended: %s", problem)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            request = protocol.decode(line)
            await self._caught_up()
            result = await self._run(str(request.get("call")), request.get("args") or {}, writer)
            if self._told is not None:
                await self._told()
        except ConnectionError:
            raise
        except Exception as problem:  # whatever went wrong belongs to the caller; the mount goes on
            log.info("admin call failed: %s", problem, exc_info=not isinstance(problem, OSError))
            writer.write(protocol.encode({"error": protocol.error_of(problem)}))
        else:
            writer.write(protocol.encode({"result": result}))
        await writer.drain()

    async def _run(self, name: str, args: protocol.Json, writer: asyncio.StreamWriter) -> object:
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
