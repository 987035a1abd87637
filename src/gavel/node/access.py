"""How a command reaches a volume: through the socket of its mount, or by opening it in this process.

A target is a path in a mount (also relative, as-of, or of something deleted), a volume's file or device, the directory
of a node of a cluster, or `VOLUME:/inner/path`, `NODE:/inner/path`. A volume that is mounted or served is reached
through its mount or its daemon by all of these.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gavel.errors import BadRequest, NotAVolume
from gavel.mount import mounted
from gavel.node import protocol
from gavel.node.layout import SOCKET, VOLUME, looks_like_node, served
from gavel.node.protocol import Json

if TYPE_CHECKING:
    from gavel.media.cipher import Key

SOCKET_XATTR = "gavel.socket"

OnStep = Callable[[str, Json], None]  # ("item" or "progress", its value)


class Mounted(NamedTuple):
    """A target reached through the socket of its mount."""

    socket: str
    directory: str
    inner: str


class Node(NamedTuple):
    """A target reached through the daemon that serves a node's directory."""

    socket: str
    directory: str
    inner: str


class Offline(NamedTuple):
    """A target in a volume that nobody has open."""

    volume: str
    inner: str


Target = Mounted | Node | Offline


class Session(Protocol):
    """A way to make the calls of service.py."""

    def call(self, name: str, args: Json, on_step: OnStep | None = None) -> Json:
        """The result of a call; items and progress go to `on_step` as they come. Raises as the call does."""

    def close(self) -> None:
        """Let go of the volume."""


def locate(argument: str, *, prefer_volume: bool = False) -> Target:
    """What a PATH argument means; raises FileNotFoundError, NotAVolume.

    `prefer_volume`: take a file inside a mount for a volume of its own if it is one.
    """
    if looks_like_node(argument):
        return _node(Path(argument).absolute(), "/")
    if prefer_volume and looks_like_volume(argument):
        return _volume(argument, "/")
    mounted = find_mount(argument)
    if mounted is not None:
        return mounted
    if looks_like_volume(argument):
        return _volume(argument, "/")
    head, mark, inner = (argument + "/" if argument.endswith(":") else argument).partition(":/")  # Path cuts off a /
    while mark:
        if looks_like_node(head):
            return _node(Path(head).absolute(), "/" + inner)
        if looks_like_volume(head):
            return _volume(head, "/" + inner)
        more, mark, inner = inner.partition(":/")
        head = f"{head}:/{more}"
    if os.path.lexists(argument):
        raise NotAVolume(argument, "" if not os.path.isdir(argument) else "a directory that is in no mount of one")
    raise FileNotFoundError(errno.ENOENT, "neither a volume nor in a mount of one", argument)


def _volume(path: str, inner: str) -> Target:
    from gavel.node import places

    for process in places.processes_of(path):
        return Mounted(process.socket, process.directory, inner)
    beside = Path(path).absolute().parent
    if looks_like_node(beside) and os.path.samefile(beside / VOLUME, path):
        return _node(beside, inner)
    return Offline(path, inner)


def _node(directory: Path, inner: str) -> Target:
    """The daemon of a node; while there is none, its volume, if it has one."""
    if served(directory):
        return Node(str(directory / SOCKET), str(directory), inner)
    if not (directory / VOLUME).exists():
        raise BadRequest(f"{directory} is the identity of a client and has no volume; name a mount of the cluster")
    return Offline(str(directory / VOLUME), inner)


def looks_like_volume(path: str) -> bool:
    """Whether a file or device begins as a volume does, in any of its header copies."""
    from gavel.media.layout import HEADER_MAGIC, SLOT_STRIDE, SLOTS

    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            return False
        with open(path, "rb", buffering=0) as file:
            for slot in range(SLOTS):
                file.seek(slot * SLOT_STRIDE)
                if file.read(len(HEADER_MAGIC)) == HEADER_MAGIC:
                    return True
    except OSError:
        return False
    return False


def find_mount(argument: str) -> Mounted | None:
    """The mount that holds a path, which need not exist, and the path within it; None if no mount of ours does.

    A symbolic link at the end of the path is meant itself; those on the way are followed.
    """
    real = _real_parent(os.path.abspath(argument))
    holding = mounted.holding(real)
    if holding is None:
        real = os.path.realpath(real)  # a link that leads into a mount from elsewhere
        holding = mounted.holding(real)
    if holding is None:
        return None
    answer = socket_of(holding.directory)
    if answer is None:
        where = holding.directory
        raise BadRequest(f"the process behind {where} is gone; `gavel umount {where}`, then mount again")
    inner = os.path.relpath(real, holding.directory)
    parts = [holding.root.strip("/"), "" if inner == "." else inner]
    return Mounted(answer, holding.directory, "/" + "/".join(part for part in parts if part))


def _real_parent(path: str) -> str:
    head, name = os.path.split(path)
    return os.path.join(os.path.realpath(head), name)


def socket_of(directory: str) -> str | None:
    """The admin socket of the mount at a directory; None where no process of ours answers there."""
    try:
        return os.fsdecode(os.getxattr(directory, SOCKET_XATTR))
    except OSError:
        return None


def connect(target: Target, *, writing: bool = False, key_file: str | None = None) -> Session:
    """A session on a target; raises VolumeBusy and what opening a volume raises.

    The key of an encrypted volume comes from the key file or from where keys.find() looks; a mount has it already.
    """
    if isinstance(target, Mounted):
        return RemoteSession(target)
    if isinstance(target, Node):
        return RemoteSession(target, settled=True)
    from gavel.node import keys

    return LocalSession(target, writing, keys.key_of(target.volume, key_file))


class RemoteSession:
    """Calls through the admin socket of a mount, after the kernel has handed over what it holds back."""

    def __init__(self, target: Mounted | Node, *, settled: bool = False, timeout: float | None = None) -> None:
        self._lost = None if settled else settle(target.directory)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(target.socket)
        except OSError as problem:
            self._socket.close()
            raise BadRequest(_unreached(target, problem)) from None
        self._lines = self._socket.makefile("rb")

    def call(self, name: str, args: Json, on_step: OnStep | None = None) -> Json:
        """See Session."""
        self._socket.sendall(protocol.encode({"call": name, "args": args}))
        while line := self._lines.readline(protocol.LINE_MAX):
            message = protocol.decode(line)
            if "error" in message:
                raise protocol.refusal(message["error"])
            if "result" in message:
                if name == "tid" and self._lost is not None:
                    raise self._lost
                result: Json = message["result"]
                return result
            if on_step is not None:
                for kind, value in message.items():
                    on_step(kind, value)
        raise BadRequest(
            "the process that answers ended in the middle of the call; look at its log, and start or mount it again"
        )

    def close(self) -> None:
        """See Session."""
        self._lines.close()
        self._socket.close()


def _unreached(target: Mounted | Node, problem: OSError) -> str:
    where = target.directory
    if isinstance(target, Node):
        return f"the daemon of {where} does not answer ({problem.strerror}); look at its log, or `gavel serve {where}`"
    if isinstance(problem, PermissionError):
        return f"the mount at {where} belongs to somebody else; run this as its owner"
    return f"the process behind {where} does not answer; `gavel umount {where}`, then mount again"


def settle(directory: str) -> OSError | None:
    """Have the kernel send its dirty pages to the mount's process, which answers no call before it has taken them.

    Returns the error that the kernel has met since the last time in writing them.
    """
    import ctypes

    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) == 0:
            return None
        number = ctypes.get_errno()
        return OSError(number, f"not all that programs wrote could be stored: {os.strerror(number)}", directory)
    finally:
        os.close(handle)


class LocalSession:
    """Calls on a volume opened in this process: read-only unless the calls will write."""

    def __init__(self, target: Offline, writing: bool, key: Key | None = None) -> None:
        from gavel.client.volumes import open_fs
        from gavel.node.service import Service

        self._fs = open_fs(target.volume, read_only=not writing, key=key)
        self._service = Service(self._fs, target.volume)

    def call(self, name: str, args: Json, on_step: OnStep | None = None) -> Json:
        """See Session."""
        from gavel.client.results import Progress
        from gavel.node.steps import Durable, Item

        job: Generator[object, int | None, Json] = self._service.start(name, args)
        answer: int | None = None
        try:
            while True:
                try:
                    step = job.send(answer)
                except StopIteration as end:
                    result: Json = end.value
                    return result
                answer = self._fs.sync() if isinstance(step, Durable) else None
                if on_step is None:
                    continue
                if isinstance(step, Item):
                    on_step("item", step.value)
                elif isinstance(step, Progress):
                    on_step("progress", {"done": step.done, "total": step.total, "what": step.what})
        finally:
            job.close()  # also when somebody pressed Ctrl-C: what was begun ends in order

    def close(self) -> None:
        """See Session."""
        self._fs.close()
