"""Requests made by nobody: what comes over /dev/fuse and the admin socket, in any bytes.

The kernel and the owner's commands are the only ones who can send them, so this is about bugs of theirs and ours, not
about enemies. Whatever comes: an answer for each request that wants one, an error that was foreseen, no hang, no more
memory than the reply takes; and the volume is sound afterwards.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gavel
from gavel.client.fs import Fs
from gavel.client.volumes import caller, open_engine
from gavel.limits import FUSE_REQUEST_MAX
from gavel.mount import abi
from gavel.mount.session import Session
from gavel.mount.views import FIRST
from gavel.node import protocol
from gavel.node.admin import AdminServer
from gavel.node.service import Service
from tests.unit.mount.kernel import Kernel
from tests.unit.upkeep.systems import problems

EXAMPLES = int(os.environ.get("GAVEL_FUZZ", "60"))
SMALL = settings(max_examples=EXAMPLES, deadline=None, database=None)

SILENT = {abi.FORGET, abi.BATCH_FORGET, abi.INTERRUPT, abi.NOTIFY_REPLY}  # requests that get no reply
LAST = 1 << 60  # `unique` of the request after all others

U64 = st.sampled_from([0, 1, 2, 3, 255, 4096, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 9)
U32 = st.sampled_from([0, 1, 2, 3, 4096, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
NODES = st.sampled_from([1, 2, 3, 4, 5, 6, 0, 77, FIRST, FIRST + 1, FIRST + 2, 2**64 - 1]) | U64
NAMES = st.sampled_from(
    [
        b"f", b"d", b"l", b"new", b".", b"..", b"", b"a/b", b"n" * 256, b"@@", b"f@@", b"@@now", b"f@@now", b"d@@-0s",
        b"@@-1h", b"@@0x1", b"@@0x" + b"f" * 16, b"@@9999", b"@@2020-13-45", b"@@\xff\xfe", b"@@@@", b"user.a",
        b"security.capability", b"system.posix_acl_access", b"gavel.socket", b"trusted.x", b"user." + b"x" * 300,
    ]
) | st.binary(max_size=12)  # fmt: skip
BODIES = st.lists(
    U64.map(lambda n: n.to_bytes(8, "little"))
    | U32.map(lambda n: n.to_bytes(4, "little"))
    | NAMES.map(lambda name: name + b"\0")
    | st.binary(max_size=60),
    max_size=9,
).map(b"".join)
OPCODES = st.integers(0, abi.OPCODES + 3) | st.sampled_from([2**31, 2**32 - 1])
WELL_FORMED = st.sampled_from(
    [
        abi.SETATTR_IN, abi.READ_IN, abi.WRITE_IN, abi.FALLOCATE_IN, abi.LSEEK_IN, abi.COPY_FILE_RANGE_IN,
        abi.SETXATTR_IN, abi.GETXATTR_IN, abi.STATX_IN, abi.MKNOD_IN, abi.MKDIR_IN, abi.RENAME2_IN,
    ]
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, int, bytes]:
    """Opcode, node, user, body. Half of the bodies have the size of some structure, whichever it is."""
    body = draw(BODIES)
    if draw(st.booleans()):
        size = draw(WELL_FORMED).size
        words = draw(st.lists(U64, min_size=size // 8, max_size=size // 8))
        rest = b"".join(word.to_bytes(8, "little") for word in words)
        body = rest + bytes(size - len(rest)) + body
    return draw(OPCODES), draw(NODES), draw(st.sampled_from([0, 1000])), body


@contextmanager
def nothing_unforeseen() -> Iterator[None]:
    """Errors that are in no table are logged with their trace: there must be none."""
    found: list[logging.LogRecord] = []
    catcher = logging.Handler()
    catcher.emit = found.append  # type: ignore[method-assign]
    logger = logging.getLogger("gavel.mount")
    logger.addHandler(catcher)
    try:
        with patch("gavel.mount.failures._TOLD", set()):
            yield
    finally:
        logger.removeHandler(catcher)
    for record in found:
        if record.exc_info and record.exc_info[1] is not None:
            raise record.exc_info[1]
        assert "take a reply" not in record.getMessage(), record.getMessage()


def kernel() -> Kernel:
    """A small tree with a past: nodes 2 to 5 or so are a file, a directory, a file in it, a symlink."""
    kernel = Kernel()
    file = kernel.node(kernel.mknod(1, b"f"))
    kernel.write(file, 0, b"x" * 300_000)
    kernel.mknod(kernel.node(kernel.mkdir(1, b"d")), b"g")
    kernel.ask(abi.SYMLINK, 1, b"l\0f\0")
    kernel.ask(abi.SETXATTR, file, abi.SETXATTR_IN.pack(3, 0, 0, 0)[:8] + b"user.a\0abc")
    kernel.tid()
    kernel.write(file, 100, b"y")
    return kernel


def opened(reply: bytes) -> tuple[int, int, bytes]:
    size, error, unique = abi.OUT_HEADER.unpack_from(reply)
    assert size == len(reply)
    return error, unique, reply[16:]


def talk(served: Kernel, messages: list[bytes]) -> list[tuple[int, int, bytes]]:
    """Send whole messages to a session, then a GETATTR of the root; every reply: error, unique, payload."""

    async def work() -> list[tuple[int, int, bytes]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        session = Session(ours.detach(), served.table, loop)
        served.data._reply = session.reply
        session.start()
        found: list[tuple[int, int, bytes]] = []
        try:
            for message in [*messages, abi.IN_HEADER.pack(40, abi.GETATTR, LAST, 1, 0, 0, 1, 0, 0)]:
                await loop.sock_sendall(theirs, message)
                await asyncio.sleep(0)
            while LAST not in [unique for _, unique, _ in found]:
                found.append(opened(await loop.sock_recv(theirs, FUSE_REQUEST_MAX + 8192)))
            for task in list(served.data._syncing):
                await asyncio.wait_for(task, 60)
            with suppress(BlockingIOError):
                while True:
                    found.append(opened(theirs.recv(FUSE_REQUEST_MAX + 8192)))
        finally:
            session.close()
            theirs.close()
        return found

    return asyncio.run(work())


@given(st.lists(requests(), min_size=1, max_size=12))
@SMALL
def test_any_requests_get_their_answers(asked: list[tuple[int, int, int, bytes]]) -> None:
    served = kernel()
    served.nodes.engine.sync = _synced  # type: ignore[method-assign]  # in virtual time nobody would wait for it
    messages = [
        abi.IN_HEADER.pack(40 + len(body), opcode, number, node, user, user, 1, 0, 0) + body
        for number, (opcode, node, user, body) in enumerate(asked, 1)
        if opcode != abi.INIT  # comes once, first
    ]
    with nothing_unforeseen():
        replies = talk(served, messages)
        served.loop.run()
    assert (0, LAST) in {reply[:2] for reply in replies}
    counted = Counter(unique for _, unique, _ in replies)
    for number, (opcode, *_) in enumerate(asked, 1):
        assert counted[number] == (0 if opcode in SILENT | {abi.INIT} else 1), f"replies to opcode {opcode}"
    for error, _, payload in replies:
        assert not error or (0 < -error < 200 and not payload), error
        assert -error != errno.EIO, "nothing is damaged"
    served.system.engine.flush()
    assert problems(served.system) == []


async def _synced() -> int:
    return 1


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8))
@SMALL
def test_messages_of_any_bytes_and_length(messages: list[bytes]) -> None:
    served = kernel()
    served.nodes.engine.sync = _synced  # type: ignore[method-assign]
    messages = [message for message in messages if message[4:8] != bytes([abi.INIT, 0, 0, 0]) and message]
    with nothing_unforeseen():
        assert (0, LAST) in {reply[:2] for reply in talk(served, messages)}
    assert problems(served.system) == []


@given(st.binary(max_size=80))
@SMALL
def test_a_greeting_of_any_bytes(body: bytes) -> None:
    message = abi.IN_HEADER.pack(40 + len(body), abi.INIT, 1, 0, 0, 0, 0, 0, 0) + body
    with nothing_unforeseen():
        replies = talk(Kernel(), [message])
    assert [unique for _, unique, _ in replies] == [1, LAST]


GREEDY = [
    (abi.READ, abi.READ_IN.pack(0, 0, 2**32 - 1, 0, 0, 0, 0)),
    (abi.READ, abi.READ_IN.pack(0, 2**62 - 5, 2**32 - 1, 0, 0, 0, 0)),
    (abi.READDIR, abi.READ_IN.pack(0, 0, 2**32 - 1, 0, 0, 0, 0)),
    (abi.READDIRPLUS, abi.READ_IN.pack(0, 0, 2**32 - 1, 0, 0, 0, 0)),
    (abi.FALLOCATE, abi.FALLOCATE_IN.pack(0, 0, 2**62, 0, 0)),
    (abi.FALLOCATE, abi.FALLOCATE_IN.pack(0, 5, 2**62, 0x10, 0)),
    (abi.LSEEK, abi.LSEEK_IN.pack(0, 0, 3, 0)),
    (abi.LSEEK, abi.LSEEK_IN.pack(0, 0, 4, 0)),
    (abi.COPY_FILE_RANGE, abi.COPY_FILE_RANGE_IN.pack(0, 0, 2, 0, 2**62, 2**62, 0)),
    (abi.GETXATTR, abi.GETXATTR_IN.pack(2**32 - 1, 0) + b"user.a\0"),
    (abi.SETXATTR, abi.GETXATTR_IN.pack(2**32 - 1, 0) + b"user.b\0x"),
    (abi.BATCH_FORGET, abi.BATCH_FORGET_IN.pack(2**32 - 1, 0)),
]


@pytest.mark.parametrize(("opcode", "body"), GREEDY)
def test_memory_stays_bounded_whatever_is_asked_for(opcode: int, body: bytes) -> None:
    served = kernel()
    grow = abi.SETATTR_IN.pack(abi.SET_SIZE, 0, 0, 2**62, *(0,) * 12)
    assert isinstance(served.ask(abi.SETATTR, 2, grow), bytes)
    tracemalloc.start()
    try:
        served.ask(opcode, 1 if opcode in (abi.READDIR, abi.READDIRPLUS) else 2, body)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# The admin socket.

UNSAFE = {"volume_add", "volume_remove"}  # they would make files wherever the path leads
CALLS = [
    "info", "tid", "history", "log", "diff", "undo", "snapshot_create", "snapshot_list", "snapshot_delete", "check",
    "retention", "retention_set", "prune", "reblock", "scrub", "dedup", "cleanup", "cleanup_show", "cleanup_set",
    "snapshot_space", "compression", "compression_set", "volume_list", "rekey", "upgrade", "none", "",
]  # fmt: skip
ARGUMENTS = [
    "path", "to", "dry_run", "name", "when", "note", "deep", "since", "until", "limit", "old", "new", "lines",
    "policy", "keep", "everything", "rate", "simulate", "names", "every", "budget", "choice", "key", "x",
]  # fmt: skip
TEXTS = st.sampled_from(
    ["/", "/f", "/d/g", "", "f", "-5m", "now", "0x1", "0x0", "all:1d", "all:0s", "on", "scrub", "1d", "never", "s"]
) | st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
CALL = st.builds(
    lambda call, args: {"call": call, "args": args},
    st.sampled_from(CALLS),
    st.dictionaries(st.sampled_from(ARGUMENTS), TEXTS | st.booleans() | st.integers(-1, 9) | JSON, max_size=3) | JSON,
)
LINES = (CALL | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)
FORESEEN = {name for name in vars(gavel.errors) if name[0].isupper()} | {"Refused"}


async def answers(base: Path, lines: list[bytes]) -> list[Any]:
    """What a mount's admin socket answers to lines, without items and progress; then to `info`."""
    engine, device = open_engine(str(base / "disk"), loop=asyncio.get_running_loop())
    server = AdminServer(Service(Fs(engine, caller(), reaping=False), "disk"), base / "socket", _caught_up)
    await server.start()
    found: list[Any] = []
    try:
        reader, writer = await asyncio.open_unix_connection(base / "socket", limit=protocol.LINE_MAX)
        for line in [*lines, b'{"call":"info"}']:
            writer.write(line + b"\n")
            while True:
                message = json.loads(await asyncio.wait_for(reader.readline(), 60))
                if "result" in message or "error" in message:
                    found.append(message)
                    break
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    finally:
        await server.close()
        await engine.close()
        device.close()
    return found


async def _caught_up() -> None:
    pass


def volume(base: Path) -> None:
    gavel.format_volume(base / "disk", size=96 << 20)
    with gavel.open(base / "disk") as fs:
        fs.mkdir("d")
        fs.write_text("f", "one\n")
        fs.write_text("d/g", "two\n")


def told(lines: list[bytes]) -> list[Any]:
    with tempfile.TemporaryDirectory() as base:
        volume(Path(base))
        return asyncio.run(answers(Path(base), lines))


@given(st.lists(LINES.filter(lambda line: b"\n" not in line and b"\r" not in line), min_size=1, max_size=6))
@settings(SMALL, max_examples=max(20, EXAMPLES // 3))
def test_any_lines_on_the_admin_socket(lines: list[bytes]) -> None:
    found = told(lines)
    for line, answer in zip(lines, found, strict=False):
        if "error" in answer and answer["error"]["errno"] is None:
            assert answer["error"]["kind"] in FORESEEN, (line, answer)
    assert "result" in found[-1]


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b'"' + b"x" * 3_000_000 + b'"'])
def test_deep_and_long_lines_are_refused(line: bytes) -> None:
    found = told([line])
    assert found[0]["error"]["kind"] == "BadRequest"
    assert "result" in found[-1]


@pytest.mark.parametrize("rate", [0, -1, 0.5, "fast", [1]])
def test_a_rate_that_is_none_is_refused(rate: object) -> None:
    """It was divided by, in the loop of the mount: the job never ended, and all others waited for it."""
    found = told([json.dumps({"call": "scrub", "args": {"rate": rate}}).encode(), b'{"call":"scrub"}'])
    assert found[0]["error"]["kind"] == "BadRequest"
    assert "result" in found[1]


def test_the_calls_that_are_tried_are_all_there_are() -> None:
    with tempfile.TemporaryDirectory() as base:
        volume(Path(base))
        with gavel.open(Path(base) / "disk") as fs:
            assert set(Service(fs, "disk")._calls) == set(CALLS) - {"none", ""} | UNSAFE
