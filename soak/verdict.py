"""Samples of a process, and whether they are flat.

The rules. Memory: after the first quarter of the time, in which caches fill, the line through the samples (least
squares) rises by no more than a tenth of their mean; judged in runs of ten minutes and more. Descriptors: connections
come and go, so the most there are says little, but a leak raises the least there are; that of the last quarter
is no higher than that of the second, but for as many connections as there can be at once.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import NamedTuple

RISE_MAX = 0.1
CONNECTIONS = 3  # of upkeep and of workers: a look may find each of them open, all through a quarter
LEAST = 8  # samples, to say anything
MEMORY_SECONDS = 600.0  # a shorter run does not fill the caches


class Sample(NamedTuple):
    """A process at one moment."""

    seconds: float  # since the beginning
    resident: int  # bytes
    descriptors: int


def sample(pid: int, seconds: float) -> Sample:
    """Look at a process; raises ProcessLookupError if there is none."""
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, IndexError) as error:
        raise ProcessLookupError(f"process {pid} is gone") from error
    return Sample(seconds, pages * os.sysconf("SC_PAGE_SIZE"), descriptors)


def rise(samples: list[Sample]) -> float:
    """By what part of its mean memory has risen along the line through the samples."""
    if len(samples) < 2:
        return 0.0
    seconds, resident = [one.seconds for one in samples], [one.resident for one in samples]
    slope = statistics.linear_regression(seconds, resident).slope
    return slope * (seconds[-1] - seconds[0]) / statistics.mean(resident)


def leaks(samples: list[Sample], *, judge_memory: bool | None = None) -> list[str]:
    """What is not flat in a whole run, as sentences; by default memory is judged if the run was long enough."""
    if len(samples) < LEAST:
        return [f"there are only {len(samples)} samples, too few to say anything"]
    first, last = samples[0].seconds, samples[-1].seconds
    quarter = (last - first) / 4
    settled = [one for one in samples if one.seconds >= first + quarter]
    found = []
    if judge_memory if judge_memory is not None else last - first >= MEMORY_SECONDS:
        risen = rise(settled)
        if risen > RISE_MAX:
            now = samples[-1].resident >> 20
            found.append(f"memory rises: by {risen:.0%} in the last three quarters of the time, to {now} MiB")
    second = min(one.descriptors for one in settled if one.seconds <= first + 2 * quarter)
    fourth = min(one.descriptors for one in settled if one.seconds >= last - quarter)
    if fourth > second + CONNECTIONS:
        found.append(f"descriptors leak: at least {second} were open in the second quarter, {fourth} in the last")
    return found
