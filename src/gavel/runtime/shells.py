"""Two shells that carry out a core's effects: on an event loop, and on a thread for programs without one.

A shell offers three things: to sync the device without holding up the cores, to have the host read from it, and to
call back later. All call back while nobody else works on the cores: on the loop's thread, or holding the engine's turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from gavel.errors import DeviceFailed
from gavel.media.device import Cached, Descriptor, Device
from gavel.runtime.kernel_sync import KernelSync
from gavel.runtime.turn import Turn

Done = Callable[[DeviceFailed | None], None]
Ranges = Sequence[tuple[int, int]]

_WAY_SECONDS = 0.00005  # enough for a thread that waits for the turn to wake up and take it


class Shell(Protocol):
    """What an engine needs of its surroundings."""

    def sync(self, done: Done) -> None:
        """Sync the device beginning now or later; then call back with None or what went wrong."""

    def fetch(self, ranges: Ranges, done: Callable[[], None]) -> None:
        """Have the host read these (offset, length) of the device, as far as it can, so that it need not wait later."""

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after so many seconds; never from within this call."""

    def close(self) -> None:
        """Call back no more, and end what runs in the background."""


def _sync(device: Device) -> DeviceFailed | None:
    try:
        device.sync()
    except DeviceFailed as error:
        return error
    return None


def _kernel_sync(loop: asyncio.AbstractEventLoop) -> KernelSync | None:
    try:
        return KernelSync(loop)
    except OSError:
        return None


def _failed(number: int) -> DeviceFailed | None:
    return DeviceFailed("sync", 0, os.strerror(number)) if number else None


def _far(device: Device, ranges: Ranges) -> list[tuple[int, int]]:
    """Those that the host does not have in memory: only they are worth another thread's time."""
    return [one for one in ranges if not (isinstance(device, Cached) and device.at_hand(*one))]


def _fetch(device: Device, ranges: Ranges) -> None:
    for offset, length in ranges:
        with contextlib.suppress(DeviceFailed):
            device.read(offset, length)


class LoopShell:
    """Effects carried out on an asyncio loop; the device is synced by the kernel itself, else in one thread, and read
    ahead in another."""

    def __init__(self, device: Device, loop: asyncio.AbstractEventLoop) -> None:
        self._device = device
        self._loop = loop
        self._kernel = _kernel_sync(loop)
        self._fileno = device.fileno if isinstance(device, Descriptor) else lambda: -1
        self._syncer = ThreadPoolExecutor(1, "gavel-sync")
        self._fetcher = ThreadPoolExecutor(1, "gavel-fetch")
        self._open = True

    def sync(self, done: Done) -> None:
        """See Shell.sync."""
        if self._kernel is not None and (fd := self._fileno()) >= 0:
            try:
                self._kernel.sync(fd, lambda number: done(_failed(number)))
            except OSError:  # not for this kind of file, or not here at all
                self._kernel.close()
                self._kernel = None
            else:
                return

        def work() -> None:
            result = _sync(self._device)
            self._loop.call_soon_threadsafe(done, result)

        self._syncer.submit(work)

    def fetch(self, ranges: Ranges, done: Callable[[], None]) -> None:
        """See Shell.fetch."""

        def work() -> None:
            _fetch(self._device, far)
            self._loop.call_soon_threadsafe(self._call, done)

        far = _far(self._device, ranges)
        if far:
            self._fetcher.submit(work)
        else:
            self.later(0, done)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """See Shell.later."""
        if seconds <= 0:
            self._loop.call_soon(self._call, callback)
        else:
            self._loop.call_later(seconds, self._call, callback)

    def _call(self, callback: Callable[[], None]) -> None:
        if self._open:
            callback()

    def close(self) -> None:
        """See Shell.close."""
        self._open = False
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None
        self._syncer.shutdown(wait=True)
        self._fetcher.shutdown(wait=True)


class ThreadShell:
    """Effects carried out by one background thread, which takes the engine's turn to call back."""

    def __init__(self, device: Device, turn: Turn) -> None:
        self._device = device
        self._turn = turn
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._syncs: list[Done] = []
        self._number = 0
        self._open = True
        self._fetcher = ThreadPoolExecutor(1, "gavel-fetch")
        self._thread = threading.Thread(target=self._run, name="gavel-keeper", daemon=True)
        self._thread.start()

    def sync(self, done: Done) -> None:
        """See Shell.sync."""
        with self._wake:
            self._syncs.append(done)
            self._wake.notify()

    def fetch(self, ranges: Ranges, done: Callable[[], None]) -> None:
        """See Shell.fetch."""

        def work() -> None:
            _fetch(self._device, far)
            self.later(0, done)

        far = _far(self._device, ranges)
        if far:
            self._fetcher.submit(work)
        else:
            self.later(0, done)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """See Shell.later."""
        with self._wake:
            self._number += 1
            heapq.heappush(self._due, (time.monotonic() + max(seconds, 0), self._number, callback))
            self._wake.notify()

    def close(self) -> None:
        """See Shell.close. Must not be called holding the turn."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._fetcher.shutdown(wait=True)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], None] | None:
        """The next thing to do, waiting for it; None when closed. Syncs go first: somebody waits for them."""
        with self._wake:
            while self._open:
                if self._syncs:
                    done = self._syncs.pop(0)
                    return lambda: self._do_sync(done)
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    _, _, callback = heapq.heappop(self._due)
                    return lambda: self._do(callback)
                self._wake.wait(wait)
        return None

    def _do_sync(self, done: Done) -> None:
        result = _sync(self._device)
        with self._turn:
            done(result)

    def _do(self, callback: Callable[[], None]) -> None:
        with self._turn:
            callback()
        if self._turn.wanted:
            time.sleep(_WAY_SECONDS)
