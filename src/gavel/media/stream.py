"""A stream of writes: one open big-block, a cursor in it, and what waits to be handed to the device.

Invariants:

- bytes once handed to the device are never written again by the stream; the cursor only moves forward;
- what waits is a list of runs, each without gaps within one big-block, oldest first;
- when the device is full the runs stay as they are, and flush() may be called again.
"""

from __future__ import annotations

from bisect import bisect_right

from gavel.limits import BIG_BLOCK
from gavel.media.device import Buffer, Device


class Run:
    """Parts that will lie one after the other on the device."""

    __slots__ = ("parts", "start", "starts")

    def __init__(self, start: int) -> None:
        self.start = start
        self.parts: list[bytes] = []
        self.starts: list[int] = []


class Stream:
    """An open big-block (0: none yet), the cursor in it as a byte offset in the volume, and the waiting runs."""

    __slots__ = ("block", "cursor", "device", "end", "runs", "waiting")

    def __init__(self, device: Device) -> None:
        self.device = device
        self.block = 0
        self.cursor = 0
        self.end = 0
        self.waiting = 0
        self.runs: list[Run] = []

    def move(self, block: int, append: int = 0) -> None:
        """Go on in a big-block, `append` bytes into it."""
        self.block = block
        self.seek(block * BIG_BLOCK + append)
        self.end = (block + 1) * BIG_BLOCK

    def seek(self, cursor: int) -> None:
        """Go on at this byte offset of the volume."""
        self.cursor = cursor
        if self.runs and not self.runs[-1].parts:
            self.runs.pop()
        self.runs.append(Run(cursor))

    def put(self, part: bytes) -> None:
        """Put a part at the cursor; it waits for flush()."""
        run = self.runs[-1]
        run.starts.append(self.cursor)
        run.parts.append(part)
        self.cursor += len(part)
        self.waiting += len(part)

    def put_through(self, parts: list[Buffer], size: int) -> None:
        """Hand parts to the device at once, behind all that waits; raises with nothing put when the device does."""
        while len(self.runs) > 1:
            self._write_first()
        run = self.runs[0]
        self.device.write(run.start, [*run.parts, *parts])
        self.cursor += size
        self.waiting = 0
        self.runs = [Run(self.cursor)]

    def flush(self) -> None:
        """Hand everything to the device; what it does not take goes on waiting."""
        while self.waiting:
            self._write_first()
        if not self.runs:
            self.runs.append(Run(self.cursor))

    def _write_first(self) -> None:
        run = self.runs[0]
        if run.parts:
            self.device.write(run.start, run.parts)
            self.waiting -= sum(map(len, run.parts))
        del self.runs[0]

    def find(self, offset: int, length: int) -> bytes | None:
        """Bytes that still wait, None if they are on the device. They never span two parts."""
        for run in self.runs:
            if run.parts and run.start <= offset < run.starts[-1] + len(run.parts[-1]):
                index = bisect_right(run.starts, offset) - 1
                skip = offset - run.starts[index]
                return run.parts[index][skip : skip + length]
        return None
