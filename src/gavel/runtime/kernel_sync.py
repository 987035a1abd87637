"""Syncs that the kernel does by itself and reports to the event loop: fdatasync(2) without a thread to wait in it.

A thread that has waited for the device has to be given the interpreter before it can say so, and the loop's thread has
to be woken after that: more time and work than a quick device's sync itself. Linux can be asked by io_submit(2) and
answers by an eventfd, which the loop watches as it does sockets.

Invariants: at most one sync is under way; its callback is called from the loop, not from within a call here; after
close() none is called any more, and the file may be closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
from collections.abc import Callable
from typing import Final

Ended = Callable[[int], None]  # gets 0, or the number of the error

_FDSYNC: Final = 3  # IOCB_CMD_FDSYNC
_BY_EVENTFD: Final = 1  # IOCB_FLAG_RESFD
# The C library has no functions for these: numbers of io_setup, io_destroy, io_getevents, io_submit.
_CALLS: Final = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}


class _Request(ctypes.Structure):
    """struct iocb of linux/aio_abi.h."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("flags_of_file", ctypes.c_uint32),
        ("command", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("file", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("told_by", ctypes.c_uint32),
    )


class KernelSync:
    """See the module. Raises OSError where the kernel offers no such thing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if platform.machine() not in _CALLS:
            raise OSError("the numbers of its system calls are not known here")
        setup, self._destroy, self._events, self._submit = _CALLS[platform.machine()]
        self._loop = loop
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._context = ctypes.c_ulong(0)
        self._asked(self._call(setup, 1, ctypes.byref(self._context)))
        self._told = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._request = _Request(command=_FDSYNC, flags=_BY_EVENTFD, told_by=self._told)
        self._requests = ctypes.pointer(ctypes.pointer(self._request))
        self._result = (ctypes.c_int64 * 4)()  # struct io_event: data, request, result, result2
        self._ended: Ended | None = None
        loop.add_reader(self._told, self._over)

    def sync(self, fd: int, ended: Ended) -> None:
        """Begin to sync a file; raises OSError if that cannot be done this way."""
        assert self._ended is None, "one sync at a time"
        self._request.file = fd
        self._asked(self._call(self._submit, self._context, 1, self._requests))
        self._ended = ended

    def close(self) -> None:
        """Wait for the sync under way; nobody is told of it."""
        self._loop.remove_reader(self._told)
        self._call(self._destroy, self._context)
        os.close(self._told)

    def _over(self) -> None:
        os.eventfd_read(self._told)
        self._asked(self._call(self._events, self._context, 1, 1, self._result, None))
        ended, self._ended = self._ended, None
        assert ended is not None, "what ends was begun"
        ended(-self._result[2])

    def _asked(self, result: int) -> None:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
