"""Holes in a volume's file where big-blocks are free, punched in the background.

A hole takes milliseconds and keeps writers of the file waiting, so they are punched one by one with pauses, by a
thread of their own. Invariants: a big-block is never punched after keep() has returned for it; nothing here raises,
since holes are a favour to the host.
"""

from __future__ import annotations

import ctypes
import errno
import threading
import time
from collections.abc import Iterable
from typing import Final

from gavel.limits import BIG_BLOCK

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # of fallocate(2), which Python does not have
_CANNOT: Final = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL))
_PAUSE: Final = 0.02  # seconds between two holes: some 400 MB/s
_CLOSE: Final = 3.0  # seconds that closing may take for what is left


class Puncher:
    """Punches holes of a big-block into an open file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._due: dict[int, None] = {}
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.able = True

    def punch(self, blocks: Iterable[int]) -> None:
        """Punch these big-blocks, soon."""
        with self._lock:
            if not self.able:
                return
            self._due.update(dict.fromkeys(blocks))
            if self._due and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gavel-punch", daemon=True)
                self._thread.start()

    def keep(self, block: int) -> None:
        """This big-block is about to be written to; it may take a few milliseconds to come to an end with it."""
        with self._lock:
            self._due.pop(block, None)

    def close(self) -> None:
        """Punch what is due, unless there is too much of it. The file must still be open."""
        self._closing.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        deadline = float("inf")
        while time.monotonic() < deadline:
            with self._lock:
                if not self._due:
                    self._thread = None
                    return
                block = next(iter(self._due))
                del self._due[block]
                if not _punch(self._fd, block * BIG_BLOCK, BIG_BLOCK):
                    self.able = False
                    self._due.clear()
            if self._closing.wait(_PAUSE):
                deadline = min(deadline, time.monotonic() + _CLOSE)


def _punch(fd: int, offset: int, length: int) -> bool:
    """Deallocate a range of a file; False where the filesystem cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)) == 0:
        return True
    return ctypes.get_errno() not in _CANNOT
