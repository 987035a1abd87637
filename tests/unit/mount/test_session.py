"""The conversation itself, over a socket pair in place of /dev/fuse."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from gavel.errors import Damaged, DeviceFull, HistoryPruned, VolumeFull
from gavel.limits import FUSE_REQUEST_MAX
from gavel.mount import abi
from gavel.mount.failures import errno_of
from gavel.mount.session import Handler, Session
from tests.unit.mount.kernel import Kernel

INIT = abi.INIT_IN.pack(7, 45, 1 << 17, 0xFFFF_FFFF) + bytes(48)


class Peer:
    """A session and the other end of its descriptor."""

    def __init__(self, handlers: list[Handler]) -> None:
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.session = Session(ours.detach(), handlers, asyncio.get_running_loop())
        self.session.start()

    async def ask(self, opcode: int, body: bytes = b"", node: int = 1, unique: int = 9) -> tuple[int, int, bytes]:
        """Send one request and read its reply: error, unique, payload."""
        self.socket.send(abi.IN_HEADER.pack(40 + len(body), opcode, unique, node, 0, 0, 1, 0, 0) + body)
        return await self.reply()

    async def reply(self) -> tuple[int, int, bytes]:
        self.socket.setblocking(False)
        message = await asyncio.get_running_loop().sock_recv(self.socket, FUSE_REQUEST_MAX + 4096)
        size, error, unique = abi.OUT_HEADER.unpack_from(message)
        assert size == len(message)
        return error, unique, message[16:]


def conversation(work: Callable[[Peer], Awaitable[None]], handlers: list[Handler] | None = None) -> None:
    async def run() -> None:
        peer = Peer(handlers or Kernel().table)
        try:
            await work(peer)
        finally:
            peer.session.close()
            peer.socket.close()

    asyncio.run(run())


def test_init_agrees_on_what_both_know() -> None:
    async def work(peer: Peer) -> None:
        error, unique, payload = await peer.ask(abi.INIT, INIT)
        assert (error, unique) == (0, 9)
        fields = abi.INIT_OUT.unpack(payload)
        assert fields[:3] == (7, 45, 1 << 17)
        assert fields[3] & abi.WRITEBACK_CACHE and fields[3] & abi.INIT_EXT
        assert fields[6] == FUSE_REQUEST_MAX and fields[8] == FUSE_REQUEST_MAX // 4096
        agreed = await peer.session.ready
        assert agreed.minor == 45

    conversation(work)


def test_init_with_an_older_and_a_newer_kernel() -> None:
    async def old(peer: Peer) -> None:
        error, _, _ = await peer.ask(abi.INIT, abi.INIT_IN.pack(7, 12, 0, 0))
        assert error == -errno.EPROTO
        with pytest.raises(OSError, match=r"7\.31"):
            await peer.session.ready

    async def new(peer: Peer) -> None:
        _, _, payload = await peer.ask(abi.INIT, abi.INIT_IN.pack(8, 0, 0, 0))
        assert abi.INIT_OUT.unpack(payload)[0] == 7
        assert not peer.session.ready.done()
        _, _, payload = await peer.ask(abi.INIT, abi.INIT_IN.pack(7, 99, 0, abi.WRITEBACK_CACHE))
        assert abi.INIT_OUT.unpack(payload)[:4] == (7, 45, 0, abi.WRITEBACK_CACHE)

    conversation(old)
    conversation(new)


def test_every_request_gets_one_reply_whatever_its_handler_does() -> None:
    def raising(error: Exception) -> Handler:
        def handler(header: object, body: memoryview) -> bytes:
            raise error

        return handler

    errors: list[tuple[Exception, int]] = [
        (OSError(errno.ENOTEMPTY, ""), errno.ENOTEMPTY),
        (VolumeFull(0, 1), errno.ENOSPC),
        (DeviceFull(0, 1), errno.ENOSPC),
        (Damaged("x", 0), errno.EIO),
        (HistoryPruned(1, 2), errno.ESTALE),
        (ZeroDivisionError(), errno.EIO),
    ]
    table = [raising(error) for error, _ in errors]

    async def work(peer: Peer) -> None:
        for opcode, (_, code) in enumerate(errors):
            assert await peer.ask(opcode) == (-code, 9, b"")
        assert await peer.ask(1000) == (-errno.EOPNOTSUPP, 9, b"")
        assert await peer.ask(2**32 - 1) == (-errno.EOPNOTSUPP, 9, b"")

    conversation(work, table + table * 5)


def test_replies_in_pieces() -> None:
    pieces = [memoryview(b"ab"), b"", b"c" * 100] * 700

    async def work(peer: Peer) -> None:
        error, _, payload = await peer.ask(3)
        assert error == 0 and payload == b"".join(pieces)

    conversation(work, [lambda header, body: list(pieces)] * 30)


def test_requests_that_wait_are_all_answered() -> None:
    async def work(peer: Peer) -> None:
        for unique in range(100):
            peer.socket.send(abi.IN_HEADER.pack(40, 3, unique, 1, 0, 0, 1, 0, 0))
        assert [(await peer.reply())[1] for _ in range(100)] == list(range(100))

    conversation(work, [lambda header, body: b""] * 30)


def test_the_end_of_the_mount() -> None:
    async def run() -> None:
        peer = Peer(Kernel().table)
        peer.session.close()
        await peer.session.closed
        with pytest.raises(OSError, match="went away"):
            await peer.session.ready
        peer.session.close()  # again is no error
        peer.socket.close()

    asyncio.run(run())


def test_random_requests_get_clean_errors() -> None:
    """Random bytes behind a header: an errno or a reply, never EIO (which would be a failure nobody foresaw)."""
    random = Random(20261122)
    kernel = Kernel()
    node = kernel.node(kernel.mknod(1, b"f"))
    directory = kernel.node(kernel.mkdir(1, b"d"))
    tried = int(os.environ.get("GAVEL_SOAK", "0")) * 200_000 or 6_000
    for _ in range(tried):
        opcode = random.randrange(abi.OPCODES)
        if opcode in (abi.FSYNC, abi.FSYNCDIR, abi.SYNCFS):
            continue  # these need an event loop, and have no body that matters
        length = random.choice((0, 1, 7, 8, 16, 24, 40, 41, 56, 88, 100, 300))
        body = random.choice((bytes(length), random.randbytes(length), random.randbytes(length) + b"a\0b\0"))
        reply = kernel.ask(opcode, random.choice((1, node, directory, 0, 99, 2**63, 2**64 - 1)), body)
        assert reply != errno.EIO, (opcode, body)
        assert reply != errno.ENOSYS or opcode in (abi.OPEN, abi.OPENDIR, abi.CREATE, abi.FLUSH, abi.POLL)


def test_unexpected_errors_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with pytest.raises(LookupError) as caught:
            raise LookupError("strange")
        assert errno_of(caught.value) == errno.EIO
    assert len([one for one in caplog.records if "strange" in one.getMessage()]) == 1


@pytest.mark.parametrize(("room", "expected"), [(1, (0, 21, b"done")), (2, (-errno.ENOSPC, 21, b""))])
def test_a_request_that_finds_no_room_is_tried_once_more(room: int, expected: tuple[int, int, bytes]) -> None:
    asked: list[bytes] = []

    def full(header: tuple[int, ...], body: memoryview) -> bytes:
        asked.append(bytes(body))
        if len(asked) <= room:
            raise VolumeFull(0, 1)
        return b"done"

    def make_room(again: Callable[[], None]) -> bool:
        asyncio.get_running_loop().call_later(0.001, again)
        return True

    async def work(peer: Peer) -> None:
        peer.session.make_room = make_room
        assert await peer.ask(abi.WRITE, b"the bytes", unique=21) == expected
        assert asked == [b"the bytes"] * 2

    table = list(Kernel().table)
    table[abi.WRITE] = full
    conversation(work, table)


def test_a_request_that_finds_no_room_is_refused_where_there_is_none_to_make() -> None:
    def full(header: tuple[int, ...], body: memoryview) -> bytes:
        raise VolumeFull(0, 1)

    async def work(peer: Peer) -> None:
        assert await peer.ask(abi.WRITE, b"the bytes", unique=21) == (-errno.ENOSPC, 21, b"")

    table = list(Kernel().table)
    table[abi.WRITE] = full
    conversation(work, table)
