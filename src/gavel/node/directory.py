"""The directory of a node: all that makes it this node, and nothing of it elsewhere.

    node.toml         who it is and how it serves; for people to read, and to change what is marked so
    volume.gavel      the volume, or a link to where it lies (masters and slaves)
    identity/         node.pem (certificate and key), ca.crt; on masters ca.key; tokens.json (what was handed out)
    book.json         the other nodes
    upkeep.json       how cleanup stands (courses.py)
    admin.sock        where the daemon answers commands

Only its owner can enter it (0700), and read the keys (0600). A copy of it is not another node: two processes of one
identity are told apart by their incarnations, and the second is refused.
"""

from __future__ import annotations

import os
import shutil
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gavel.errors import BadRequest
from gavel.limits import PATIENCE_SECONDS
from gavel.node.book import Book
from gavel.node.layout import CONFIGURATION, VOLUME
from gavel.node.logs import STYLES
from gavel.node.tokens import Tokens, write_private
from gavel.runtime.dialler import address_of
from gavel.runtime.tls import Material
from gavel.wire.messages import Role


class Settings(NamedTuple):
    """What node.toml says. `http` is empty when nothing is served there."""

    cluster: bytes
    node: int
    role: Role
    name: str
    listen: str
    address: str
    http: str
    patience: int
    catch_up_rate: int  # MB a second; 0 for no ceiling
    log: str  # one of logs.STYLES
    leases: bool = False  # of a client: whether its mounts keep what they read, and write back, under leases


class Directory:
    """The directory at a path; raises BadRequest where there is none of a node."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.settings = _read(self.path / CONFIGURATION)

    @property
    def volume(self) -> Path:
        """The volume."""
        return self.path / VOLUME

    @property
    def material(self) -> Material:
        """The identity, for TLS."""
        folder = self.path / "identity"
        return Material(folder / "node.pem", folder / "ca.crt")

    @property
    def authority_key(self) -> Path:
        """The private key of the cluster's authority; there on masters."""
        return self.path / "identity" / "ca.key"

    @property
    def tokens(self) -> Tokens:
        """The tokens handed out here."""
        return Tokens(self.path / "identity" / "tokens.json")

    def book(self) -> Book:
        """The address book."""
        return Book(self.path / "book.json")


def begin(path: str | os.PathLike[str]) -> Path:
    """Make the directory of a node to be; raises BadRequest where something is already."""
    where = Path(path).absolute()
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = sorted(entry.name for entry in where.iterdir())
    except OSError as problem:
        raise BadRequest(f"{where} cannot be the directory of a node: {problem.strerror or problem}") from None
    if CONFIGURATION in found:
        raise BadRequest(f"{where} is the directory of a node already; `gavel serve {where}` starts it")
    if found:
        raise BadRequest(f"{where} is not empty ({found[0]}); name a directory of its own for the node")
    where.chmod(0o700)
    return where


@contextmanager
def made(directory: Directory) -> Iterator[None]:
    """What is still to be done about a new node's directory; if that fails, the directory is taken away again."""
    try:
        yield
    except BaseException:
        shutil.rmtree(directory.path, ignore_errors=True)
        raise


def settle(path: Path, settings: Settings, files: dict[str, bytes]) -> Directory:
    """Write the identity (by names in identity/), then the configuration, with which it is a node."""
    (path / "identity").mkdir(mode=0o700)
    for name, content in files.items():
        write_private(path / "identity" / name, content)
    write_private(path / CONFIGURATION, _text(settings).encode())
    return Directory(path)


def given(cluster: bytes, node: int, role: Role, listen: str, advertise: str = "", name: str = "") -> Settings:
    """The settings of a new node that listens there; raises BadRequest for what is no address."""
    host, port = address_of(listen)
    if not advertise and host in ("0.0.0.0", "::", "*"):
        advertise = f"{socket.gethostname()}:{port}"
    if advertise:
        address_of(advertise)
    return Settings(
        cluster, node, role, name or socket.gethostname(), listen, advertise or listen, "", PATIENCE_SECONDS, 0, "text"
    )


def _text(settings: Settings) -> str:
    return f"""\
# This node of a GavelFS cluster. What it is:
cluster = "{settings.cluster.hex()}"
node = {settings.node}
role = "{settings.role.name.lower()}"  # what it joined as; `gavel cluster promote` and `demote` do not change this line

# What may be changed; `gavel serve` reads it when it starts, and on SIGHUP:
name = {_quoted(settings.name)}
listen = {_quoted(settings.listen)}
address = {_quoted(settings.address)}  # where others reach it
http = {_quoted(settings.http)}  # HOST:PORT of /health and /metrics, in clear, for all who get there; "": nowhere
patience = {settings.patience}  # seconds that its clients wait for a quorum
catch_up_rate = {settings.catch_up_rate}  # MB a second that it gives nodes that catch up; 0: as many as they take
log = {_quoted(settings.log)}  # text, or json: an object a line (read when it starts)
leases = {str(settings.leases).lower()}  # whether mounts of this client answer from memory and write back, under leases
"""


def _quoted(text: str) -> str:
    return (
        '"'
        + "".join(char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in text)
        + '"'
    )


def _read(path: Path) -> Settings:
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        settings = Settings(
            bytes.fromhex(found["cluster"]), int(found["node"]), Role[found["role"].upper()], str(found["name"]),
            str(found["listen"]), str(found["address"]), str(found.get("http", "")),
            int(found.get("patience", PATIENCE_SECONDS)), max(0, int(found.get("catch_up_rate", 0))),
            str(found.get("log", "text")), bool(found.get("leases", False)),
        )  # fmt: skip
    except FileNotFoundError:
        raise BadRequest(
            f"{path.parent} is not the directory of a node; make one by `gavel cluster create` or `gavel cluster join`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadRequest(f"{path} cannot be understood ({problem}); mend it, or put back what was there") from None
    if settings.log not in STYLES:
        raise BadRequest(f"{path}: log is {settings.log!r}; write one of {', '.join(STYLES)}")
    if len(settings.cluster) != 16:
        raise BadRequest(f"{path} names no cluster; put back what was there")
    needed = [] if settings.role is Role.CLIENT else [settings.listen, settings.address]
    for address in [*needed, *filter(None, [settings.http])]:
        address_of(address)
    return settings
