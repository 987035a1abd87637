"""Driving the calls of service.py for somebody at the other end of a socket, slice by slice."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from gavel.client.results import Progress
from gavel.node import protocol
from gavel.node.protocol import Json
from gavel.node.steps import Durable, Item, Job


class Service(Protocol):
    """Who has the calls."""

    def start(self, name: str, args: Json) -> Job:
        """The call of that name, not begun yet; raises BadRequest for one that there is not."""

    def waits(self, name: str) -> bool:
        """Whether the steps of a call wait for others, so that each has to run in a thread of its own."""

    async def sync(self) -> int:
        """Make everything durable, on the event loop; the tid that names it."""


class _Ended(NamedTuple):
    """The end of a call."""

    result: object


def _next(job: Job, answer: int | None) -> Progress | Item | Durable | _Ended:
    try:
        return job.send(answer)
    except StopIteration as end:
        return _Ended(end.value)


async def run_job(service: Service, name: str, args: Json, writer: asyncio.StreamWriter) -> object:
    """The result of a call; its items and progress are written as they come, others have their turn between them."""
    job, threaded = service.start(name, args), service.waits(name)
    try:
        answer: int | None = None
        while True:
            step = await asyncio.to_thread(_next, job, answer) if threaded else _next(job, answer)
            if isinstance(step, _Ended):
                return step.result
            answer, pause = None, 0.0
            if isinstance(step, Durable):
                answer = await service.sync()
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
