"""The right to work on the cores, which one thread has at a time: a reentrant lock that knows who waits for it.

The lock of the standard library is not fair: a thread that lets go of it and takes it again at once nearly always has
it again before one that waits wakes up. So who takes it over and over, in small pieces, asks `wanted` between them.
"""

from __future__ import annotations

import threading


class Turn:
    """`with turn:` works on the cores; nested by one thread it counts."""

    __slots__ = ("_lock", "_wanting", "release")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._wanting: dict[int, None] = {}  # threads that wait; single operations on a dict need no lock
        self.release = self._lock.release

    def acquire(self, blocking: bool = True) -> bool:
        """Take it, waiting for it if `blocking`; whether it is taken now."""
        if self._lock.acquire(False):
            return True
        if not blocking:
            return False
        me = threading.get_ident()
        self._wanting[me] = None
        try:
            return self._lock.acquire()
        finally:
            del self._wanting[me]

    @property
    def wanted(self) -> bool:
        """Whether another thread waits for it."""
        return bool(self._wanting)

    @property
    def mine(self) -> bool:
        """Whether this thread has it."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def __enter__(self) -> None:
        if not self._lock.acquire(False):
            self.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
