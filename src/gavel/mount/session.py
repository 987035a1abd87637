"""A conversation with the kernel: the INIT handshake, the read loop, and the writing of replies.

Invariants:
- one thread (the event loop's) reads requests and answers them; each is answered within the turn that read it, but
  for those whose handler returns None and that are answered later by `reply` (fsync) or never (forgets);
- there is one buffer; a handler that keeps bytes of its body beyond its return has to copy them;
- every request gets exactly one reply, whatever its handler raises, and nothing but a dead descriptor ends the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gavel.errors import VolumeFull
from gavel.limits import FUSE_REQUEST_MAX
from gavel.mount import abi
from gavel.mount.failures import errno_of
from gavel.transaction.view import Buffer

log = logging.getLogger("gavel.mount")

Header = tuple[int, int, int, int, int, int, int, int, int]  # abi.IN_HEADER
Reply = bytes | int | list[Buffer] | None  # payload, errno, payload in pieces, or not now
Handler = Callable[[Header, memoryview], Reply]

TURN_NS = 5_000_000  # how long one turn may answer requests before timers and other callbacks get theirs
LOOK_NS = 100_000  # how long after a request to look for the next one before sleeping
AWAY_NS = 30_000  # giving way for longer than this means that somebody else needs the processor
CROWDED = 50  # how many times as long then not to look any more: so it costs at most a fiftieth
_PIECES_MAX = 1000  # IOV_MAX less the header
_NOT_YET = frozenset({errno.EINTR, errno.ENOENT})  # reading: the request was withdrawn; look for the next
_GONE = frozenset({errno.ENODEV, errno.ECONNABORTED, errno.EBADF})
_PAGE = 4096
_BUSY_NS = 50_000_000  # on a crowded machine a program that never rests pauses for a few turns of the scheduler
_BACKGROUND, _CONGESTED = 64, 48  # requests the kernel may have under way by itself; where it begins to slow down

_ANYWAY = (
    abi.ASYNC_READ
    | abi.BIG_WRITES
    | abi.DONT_MASK  # umask and default ACLs are ours
    | abi.DO_READDIRPLUS
    | abi.READDIRPLUS_AUTO
    | abi.ASYNC_DIO
    | abi.PARALLEL_DIROPS
    | abi.POSIX_ACL
    | abi.MAX_PAGES
    | abi.HANDLE_KILLPRIV_V2
    | abi.SETXATTR_EXT
    | abi.INIT_EXT
)
SOLE = _ANYWAY | abi.WRITEBACK_CACHE | abi.CACHE_SYMLINKS | abi.EXPLICIT_INVAL_DATA  # nobody else changes anything
SHARED = _ANYWAY | abi.AUTO_INVAL_DATA  # cached data counts as long as size and mtime are asked for and the same


class Agreed(NamedTuple):
    """What the kernel and we have in common."""

    minor: int
    flags: int


class Session:
    """Serves one /dev/fuse descriptor on an event loop, by a table of handlers indexed by opcode.

    `ready` is done when the kernel has been answered its INIT, `closed` when the mount is gone (or with what broke it).
    """

    def __init__(
        self, fd: int, handlers: Sequence[Handler], loop: asyncio.AbstractEventLoop, wanted: int = SOLE
    ) -> None:
        self.fd = fd
        self.ready: asyncio.Future[Agreed] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._wanted = wanted
        self._handlers = list(handlers)
        self._handlers[abi.INIT] = self._init
        self._buffer = bytearray(FUSE_REQUEST_MAX + 2 * _PAGE)
        self._buffers = (self._buffer,)
        self._view = memoryview(self._buffer)
        self.make_room: Callable[[Callable[[], None]], bool] = lambda again: False  # see Engine.make_room
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._again = False
        self._last = 0
        self._crowded = 0 if len(os.sched_getaffinity(0)) > 1 else 1 << 63  # until when looking is in the way

    @property
    def busy(self) -> bool:
        """Whether a request was answered a moment ago."""
        return time.monotonic_ns() - self._last < _BUSY_NS

    def pending(self) -> bool:
        """Whether a request waits at this moment."""
        return bool(self._poll.poll(0))

    def start(self) -> None:
        """Begin to answer."""
        os.set_blocking(self.fd, False)
        self._loop.add_reader(self.fd, self._turn)

    def close(self) -> None:
        """Stop answering and let go of the descriptor; the kernel then fails what is still asked."""
        if self.fd < 0:
            return
        self._loop.remove_reader(self.fd)
        self._poll.unregister(self.fd)
        os.close(self.fd)
        self.fd = -1
        if not self.ready.done():
            self.ready.set_exception(OSError(errno.ENODEV, "the mount went away before it was up"))
            self.ready.exception()  # looked at: whoever awaits it still gets it, nobody else is told
        if not self.closed.done():
            self.closed.set_result(None)

    def _turn(self) -> None:
        """Answer what waits, and what comes within LOOK_NS of the last one; at most for TURN_NS.

        A program that waits for a reply usually sends its next request some microseconds after it. Asleep, both sides
        pay for a wake-up then, and with idle processors (virtual ones above all) that costs more than everything else
        together. So the next request is looked for, until giving way shows that others can use the processor.
        """
        self._again = False
        fd, buffers, read, clock, answer = self.fd, self._buffers, os.readv, time.monotonic_ns, self._answer
        end = clock() + TURN_NS
        while True:
            try:
                length = read(fd, buffers)
            except BlockingIOError:
                if self._look_on():
                    continue
                return
            except OSError as error:
                if error.errno in _NOT_YET:
                    continue
                self._broken(error)
                return
            self._last = now = clock()
            answer(length)
            if now < self._crowded or self.fd < 0:
                return  # if more is there, the loop says so for less than it costs to look
            if now >= end:
                # With requests without end: others first, then on at once.
                self._again = True
                self._loop.call_soon(self._resume)
                return

    def _look_on(self) -> bool:
        """Give way, and tell whether to look once more."""
        before = time.monotonic_ns()
        if before >= self._last + LOOK_NS:
            return False
        os.sched_yield()
        now = time.monotonic_ns()
        if now - before > AWAY_NS:
            self._crowded = now + CROWDED * (now - before)
            return False
        return True

    def _resume(self) -> None:
        if self._again and self.fd >= 0:
            self._turn()

    def _answer(self, length: int) -> None:
        header = abi.IN_HEADER.unpack_from(self._buffer)
        try:
            reply = self._handlers[header[1]](header, self._view[abi.HEADER_SIZE : length])
        except IndexError as error:
            # An opcode from a kernel's future is refused for this time only; ENOSYS would be for ever.
            reply = errno.EOPNOTSUPP if header[1] >= len(self._handlers) else errno_of(error)
        except VolumeFull as error:
            reply = None if self._try_again(length) else errno_of(error)
        except Exception as error:
            reply = errno_of(error)
        if reply is not None:
            self.reply(header[2], reply)

    def _try_again(self, length: int) -> bool:
        """Answer a request that found no room once more when there may be some; whether that is worth it."""
        kept = bytes(self._view[:length])

        def again() -> None:
            header = abi.IN_HEADER.unpack_from(kept)
            try:
                reply = self._handlers[header[1]](header, memoryview(kept)[abi.HEADER_SIZE :])
            except Exception as error:
                reply = errno_of(error)
            if reply is not None and self.fd >= 0:
                self.reply(header[2], reply)

        return self.make_room(again)

    def reply(self, unique: int, reply: bytes | int | list[Buffer]) -> None:
        """Answer a request: with a payload, or an errno. A request that was withdrawn meanwhile needs none."""
        try:
            if type(reply) is bytes:
                os.write(self.fd, abi.OUT_HEADER.pack(16 + len(reply), 0, unique) + reply)
            elif type(reply) is int:
                os.write(self.fd, abi.OUT_HEADER.pack(16, -reply, unique))
            else:
                assert isinstance(reply, list)
                if len(reply) > _PIECES_MAX:
                    reply = [b"".join(reply)]
                size = sum(map(len, reply))
                os.writev(self.fd, [abi.OUT_HEADER.pack(16 + size, 0, unique), *reply])
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if error.errno in _GONE:
                self._broken(error)
                return
            log.error("the kernel did not take a reply: %s", error)
            with contextlib.suppress(OSError):
                os.write(self.fd, abi.OUT_HEADER.pack(16, -errno.EIO, unique))

    def _broken(self, error: OSError) -> None:
        if error.errno not in _GONE:
            log.error("the mount ends: %s", error)
        self.close()

    def _init(self, header: Header, body: memoryview) -> Reply:
        major, minor, ahead, offered = abi.INIT_IN.unpack_from(body)
        if major > abi.MAJOR:
            return abi.INIT_OUT.pack(abi.MAJOR, *(0,) * 12)  # the kernel asks again, in our version
        if major < abi.MAJOR or minor < abi.MINOR_LEAST:
            text = f"the kernel speaks FUSE {major}.{minor}; GavelFS needs 7.{abi.MINOR_LEAST} (Linux 5.4) or later"
            if not self.ready.done():
                self.ready.set_exception(OSError(errno.EPROTO, text))
            return errno.EPROTO
        agreed = offered & self._wanted
        minor = min(minor, abi.MINOR_MOST)
        if not self.ready.done():
            self.ready.set_result(Agreed(minor, agreed))
        pages = FUSE_REQUEST_MAX // _PAGE
        return abi.INIT_OUT.pack(
            abi.MAJOR, minor, ahead, agreed & 0xFFFF_FFFF, _BACKGROUND, _CONGESTED,
            FUSE_REQUEST_MAX, 1, pages, 0, agreed >> 32, 0, 0,
        )  # fmt: skip
