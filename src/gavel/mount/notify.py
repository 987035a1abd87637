"""Telling the kernel, from a thread of its own, what changed behind its back, and asking it what it still holds.

A notification may wait inside the kernel for a lock that is held by a request which waits for us. So none is ever sent
from the event loop; the loop puts them into a queue and goes on answering.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import queue
import threading
from collections.abc import Callable
from functools import partial

from gavel.mount import abi

log = logging.getLogger("gavel.mount")

_QUIET = frozenset({errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY})  # the kernel holds nothing of it, or will not let go
_CLOSED = frozenset({errno.ENODEV, errno.EBADF, errno.ENOTCONN, errno.ECONNABORTED})


class Notifier:
    """A queue of notifications and the thread that sends them, over its own copy of the descriptor."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = os.dup(fd)
        self._loop = loop
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="gavel-notify", daemon=True)
        self._thread.start()

    def entry(self, directory: int, name: bytes) -> None:
        """A name in a directory is not what it was: the kernel forgets what it knew."""
        body = abi.INVAL_ENTRY_OUT.pack(directory, len(name), 0) + name + b"\0"
        self._queue.put(partial(self._send, abi.NOTIFY_INVAL_ENTRY, body))

    def inode(self, obj: int) -> None:
        """An object is not what it was: the kernel forgets its attributes and its cached data."""
        body = abi.INVAL_INODE_OUT.pack(obj, 0, 0)
        self._queue.put(partial(self._send, abi.NOTIFY_INVAL_INODE, body))

    def written_back(self, obj: int, answer: Callable[[], None]) -> None:
        """Have the kernel hand over what it has cached of an object; `answer` is called on the loop when it has.

        Dropping the cache is the only way to ask for it that needs neither a path nor a lock.
        """

        def ask() -> None:
            self._send(abi.NOTIFY_INVAL_INODE, abi.INVAL_INODE_OUT.pack(obj, 0, 0))
            self._loop.call_soon_threadsafe(answer)

        self._queue.put(ask)

    def call(self, work: Callable[[], None]) -> None:
        """Do something that may block on the mount, after all that was queued before it."""
        self._queue.put(work)

    def held(self, objects: list[int], answer: Callable[[list[int]], None]) -> None:
        """Ask which of some objects the kernel holds; `answer` is called on the loop with those it does not."""

        def ask() -> None:
            gone = [obj for obj in objects if not self.holds(obj)]
            self._loop.call_soon_threadsafe(answer, gone)

        self._queue.put(ask)

    def holds(self, obj: int) -> bool:
        """Whether the kernel holds an object's inode. Only for work given to `call`."""
        # With a negative offset no data is dropped; what remains is whether the inode was found.
        return self._send(abi.NOTIFY_INVAL_INODE, abi.INVAL_INODE_OUT.pack(obj, -1, 0))

    def close(self) -> None:
        """Send no more. What is queued is dropped once the connection is gone."""
        self._queue.put(None)
        self._thread.join(2)
        if not self._thread.is_alive():
            os.close(self._fd)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except RuntimeError:
                return  # the loop is closed
            except Exception:
                log.exception("telling the kernel failed")

    def _send(self, code: int, body: bytes) -> bool:
        """Whether the kernel knew what it was told about."""
        try:
            os.write(self._fd, abi.OUT_HEADER.pack(16 + len(body), code, 0) + body)
        except OSError as error:
            if error.errno not in _QUIET and error.errno not in _CLOSED:
                log.warning("the kernel did not take notification %d: %s", code, error)
            return error.errno not in _CLOSED and error.errno != errno.ENOENT
        return True
