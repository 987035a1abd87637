"""Driving a long operation, which is a generator of Progress, from its beginning to its end.

Between two slices nothing is held: other threads, or others on the loop, work on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TypeVar

from gavel.client.results import Progress

T = TypeVar("T")
OnProgress = Callable[[Progress], object]


def drive(job: Generator[Progress, None, T], progress: OnProgress | None) -> T:
    """Run a long operation to its end, telling how far it is between its slices; stops it where `progress` raises."""
    try:
        while True:
            try:
                step = next(job)
            except StopIteration as end:
                result: T = end.value
                return result
            if progress is not None:
                progress(step)
    finally:
        job.close()  # now, and not when the garbage is collected: what it started would go on till then


async def drive_on_loop(job: Generator[Progress, None, T], progress: OnProgress | None) -> T:
    """Like drive(), on an event loop. Whoever cancels it has the operation stopped cleanly."""
    try:
        while True:
            try:
                step = next(job)
            except StopIteration as end:
                result: T = end.value
                return result
            if progress is not None:
                progress(step)
            await asyncio.sleep(step.pause)
    finally:
        job.close()
