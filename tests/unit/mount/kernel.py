"""The kernel's side of a conversation, for tests: asks a table of handlers, without /dev/fuse."""

from __future__ import annotations

from typing import Any

from gavel.mount import abi
from gavel.mount.attributes import Attributes
from gavel.mount.data import Data
from gavel.mount.failures import errno_of
from gavel.mount.names import Names
from gavel.mount.nodes import Nodes
from gavel.mount.reaper import Reaper
from gavel.mount.session import Reply
from gavel.mount.table import handlers
from gavel.runtime.moments import tid_named
from tests.crash.simulated import System, fresh

CAPABILITY = b"security.capability"


class Loop:
    """As much of an event loop as the reaper needs, in virtual time: `run` calls everything that was put off."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, tuple[Any, ...]]] = []

    def call_soon(self, work: Any, *args: Any) -> None:
        self.waiting.append((work, args))

    def call_later(self, seconds: float, work: Any, *args: Any) -> None:
        self.waiting.append((work, args))

    def run(self) -> None:
        while self.waiting:
            work, args = self.waiting.pop(0)
            work(*args)


class Kernel:
    """Requests by their opcode, replies as they are: bytes, or an errno."""

    def __init__(self, at: int | None = None, system: System | None = None) -> None:
        self.system = system or fresh()
        engine: Any = self.system.engine
        self.loop = Loop()
        self.nodes = Nodes(engine, at, "/mnt", lambda text: tid_named(engine, text))
        self.reaper = Reaper(engine, self.loop)  # type: ignore[arg-type]
        self.later: list[tuple[int, bytes | int]] = []
        self.attributes = Attributes(self.nodes, {b"gavel.socket": b"/s"}, self.reaper.orphans)
        self.names = Names(self.nodes, self.reaper.orphaned, self.reaper.adopted, self.attributes.plain)
        self.data = Data(self.nodes, lambda unique, reply: self.later.append((unique, reply)))
        self.table = handlers(self.names, self.attributes, self.data, self.reaper)

    def ask(self, opcode: int, node: int, body: bytes = b"", uid: int = 0) -> Reply:
        header = (40 + len(body), opcode, 7, node, uid, uid, 1, 0, 0)
        try:
            return self.table[opcode](header, memoryview(bytearray(body)))
        except Exception as error:
            return errno_of(error)

    def node(self, reply: Reply) -> int:
        assert isinstance(reply, bytes), reply
        return int.from_bytes(reply[:8], "little")

    def lookup(self, parent: int, name: bytes) -> Reply:
        return self.ask(abi.LOOKUP, parent, name + b"\0")

    def mknod(self, parent: int, name: bytes, mode: int = 0o100644) -> Reply:
        return self.ask(abi.MKNOD, parent, abi.MKNOD_IN.pack(mode, 0, 0o022, 0) + name + b"\0")

    def mkdir(self, parent: int, name: bytes) -> Reply:
        return self.ask(abi.MKDIR, parent, abi.MKDIR_IN.pack(0o755, 0) + name + b"\0")

    def write(self, node: int, offset: int, content: bytes) -> Reply:
        return self.ask(abi.WRITE, node, abi.WRITE_IN.pack(0, offset, len(content), 0, 0, 0, 0) + content)

    def read(self, node: int, offset: int = 0, size: int = 4096) -> bytes:
        reply = self.ask(abi.READ, node, abi.READ_IN.pack(0, offset, size, 0, 0, 0, 0))
        assert isinstance(reply, list), reply
        return b"".join(reply)

    def entries(self, node: int, size: int = 4096, plus: bool = False) -> list[tuple[bytes, int, int]]:
        """Names, cookies and entry nodes of a whole directory, asked for in replies of a size."""
        found: list[tuple[bytes, int, int]] = []
        cookie = 0
        opcode = abi.READDIRPLUS if plus else abi.READDIR
        while True:
            reply = self.ask(opcode, node, abi.READ_IN.pack(0, cookie, size, 0, 0, 0, 0))
            assert isinstance(reply, bytes) and len(reply) <= size, reply
            if not reply:
                return found
            at = 0
            while at < len(reply):
                own = int.from_bytes(reply[at : at + 8], "little") if plus else 0
                at += abi.ENTRY_OUT.size if plus else 0
                _, cookie, length, _ = abi.DIRENT.unpack_from(reply, at)
                at += abi.DIRENT.size
                found.append((reply[at : at + length], cookie, own))
                at += length + 7 & ~7

    def tid(self) -> int:
        tid: int = self.system.engine.flush()
        return tid
