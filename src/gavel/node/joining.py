"""Joining a cluster: the door for those who have a token and no certificate yet, and the way through it.

Over TLS in which only the master has a certificate:

    <- {"authority": PEM}      the authority that the token pins; the joiner leaves if it is another one, or if it has
                               not issued the certificate of this connection
    -> 32 bytes                the token's id and secret: nothing else is read before they prove right
    -> {"request": PEM, "address": ..., "name": ...}
    <- {"node": n, "role": ..., "certificate": PEM, "authority": PEM, "key": PEM or null, "book": [...],
        "created": tid}      from which the cluster's history begins
       or {"error": {...}} at any point

Who has a certificate already, and shows it, comes by the same door for a new one (renewing.py): it says RENEW in place
of a token, then {"request": PEM}, and is given {"certificate", "authority", "key"} for the node that it is.

Lines are JSON. A master is given the authority's key, so that the cluster can go on without the one that founded it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple, cast

from gavel.errors import BadPeer, BadRequest, BadToken, GavelError, Unreachable, Untrusted
from gavel.limits import HANDSHAKE_SECONDS, KIB
from gavel.node import authority, protocol, tokens
from gavel.node.authority import Authority
from gavel.node.book import Book, Entry
from gavel.node.directory import Directory, Settings, begin, given, settle
from gavel.node.protocol import Json
from gavel.node.tokens import ID_SIZE, SECRET_SIZE, Token
from gavel.runtime import tls
from gavel.runtime.dialler import address_of
from gavel.runtime.tls import Proven
from gavel.wire.messages import Role

log = logging.getLogger("gavel.door")

_LINE_MAX: Final = 64 * KIB
_PROOF: Final = ID_SIZE + SECRET_SIZE
RENEW: Final = b"gavel renews".ljust(_PROOF, b".")  # in place of a token
_TEXT_MAX: Final = 255


class Door(asyncio.Protocol):
    """The master's side of one connection; `entered` is told of a node that has joined.

    `created` is the tid at which the cluster's history begins.
    """

    def __init__(self, directory: Directory, book: Book, entered: Callable[[Entry], None], created: int) -> None:
        self._directory, self._book, self._entered, self._created = directory, book, entered, created
        self._transport: asyncio.Transport | None = None
        self._got = b""
        self._timer: asyncio.TimerHandle | None = None
        self._role: Role | None = None  # what the token is for
        self._holder: Proven | None = None  # who wants a new certificate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(2 * HANDSHAKE_SECONDS, self._transport.abort)
        self._say({"authority": self._directory.material.authorities.read_text(encoding="ascii")})

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._got += data
        try:
            if self._role is None and self._holder is None and len(self._got) >= _PROOF:
                self._prove(self._got[:_PROOF])
            end = self._got.find(b"\n", _PROOF)
            if end >= 0 and (self._role is not None or self._holder is not None):
                asked = protocol.decode(self._got[_PROOF:end])
                self._say(self._admit(asked) if self._holder is None else self._renewed(self._holder, asked))
                self._close()
            elif len(self._got) > _LINE_MAX:
                raise BadPeer("length of a request to join", f"at most {_LINE_MAX}", len(self._got))
        except GavelError as problem:
            self._say({"error": protocol.error_of(problem)})
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._timer is not None:
            self._timer.cancel()

    def _say(self, message: Json) -> None:
        assert self._transport is not None
        self._transport.write(protocol.encode(message))

    def _close(self) -> None:
        self._got = b""
        assert self._transport is not None
        self._transport.close()

    def _prove(self, proof: bytes) -> None:
        """Judge what came first; raises BadToken, Untrusted."""
        if proof == RENEW:
            assert self._transport is not None
            self._holder = who = tls.proven(self._transport.get_extra_info("ssl_object"))
            entry = None if who is None else self._book.entries.get(who.node)
            if who is None or who.cluster != self._directory.settings.cluster:
                raise Untrusted("a peer", "it has no certificate of this cluster")
            if who.node and (entry is None or entry.removed):
                raise Untrusted(f"node {who.node}", "it was removed from the cluster; it can join anew")
        else:
            self._role = self._directory.tokens.check(proof, int(time.time()))

    def _renewed(self, who: Proven, asked: Json) -> Json:
        """The answer for a holder of a certificate: another one. A slave that was promoted is a master from now on."""
        entry = self._book.entries.get(who.node)
        if entry is not None:
            who = who._replace(role=Role(entry.role))
        certificate = authority.certify(authority_of(self._directory), str(asked.get("request", "")).encode(), who)
        log.info("node %d has a new certificate", who.node)
        return {
            "certificate": certificate.decode(),
            "authority": self._directory.material.authorities.read_text(encoding="ascii"),
            "key": self._directory.authority_key.read_text(encoding="ascii") if who.role is Role.MASTER else None,
        }

    def _admit(self, asked: Json) -> Json:
        """The answer for a bearer of a good token; the new node is in the book when it is given."""
        wanted, address, name = (str(asked.get(field, "")) for field in ("request", "address", "name"))
        assert self._role is not None
        if self._role is not Role.CLIENT:
            address_of(address)
        elif address:
            raise BadPeer("address of a client", "none", address)
        if max(len(address), len(name)) > _TEXT_MAX:
            raise BadPeer("length of a name", f"at most {_TEXT_MAX}", max(len(address), len(name)))
        entry = self._enter(self._role, authority.key_digest(wanted.encode()), address, name)
        who = Proven(self._directory.settings.cluster, self._role, entry.node)
        certificate = authority.certify(authority_of(self._directory), wanted.encode(), who)
        key = self._directory.authority_key.read_text(encoding="ascii") if self._role is Role.MASTER else None
        return {
            "node": entry.node,
            "role": self._role.name.lower(),
            "certificate": certificate.decode(),
            "authority": self._directory.material.authorities.read_text(encoding="ascii"),
            "key": key,
            "book": base64.b64encode(self._book.told()).decode(),
            "created": self._created,
        }

    def _enter(self, role: Role, key: bytes, address: str, name: str) -> Entry:
        now, kept = time.time(), self._directory.tokens
        node = 0
        if role is not Role.CLIENT:
            node = self._book.free(kept.nodes())
            if not node:
                raise BadToken("cannot be used: all 255 node ids have been given out")
        node = kept.use(self._got[:_PROOF], key, node, int(now))
        entry = Entry(node, address, role, name, key, time.time_ns())
        if node:
            self._book.put(entry)
            self._entered(entry)
        return entry


def authority_of(directory: Directory) -> Authority:
    """The authority, with its key; raises BadRequest where that is not kept."""
    try:
        key = directory.authority_key.read_bytes()
        certificates = authority.split(directory.material.authorities.read_bytes())
        # Of the two files one is written first: the one with this key signs.
        return Authority(next(one for one in certificates if authority.is_key_of(key, one)), key)
    except StopIteration:
        where = directory.authority_key
        raise BadRequest(f"{where} is not the key of ca.crt beside it; put back what was there") from None
    except FileNotFoundError:
        node = directory.settings.node
        who = f"node {node}" if node else "a client"
        raise BadRequest(
            f"{who} does not have the key of the authority, as masters have; ask a master, "
            "or if it has become one, get it by `gavel cluster rotate DIR`"
        ) from None


def invite(directory: Directory, role: Role, seconds: int) -> str:
    """A token for a new node of this role, as a line; valid for so many seconds."""
    settings = directory.settings
    authority_of(directory)  # who joins gets a certificate by it
    leaf = ssl.PEM_cert_to_DER_cert(authority.split(directory.material.certificate.read_bytes())[0].decode())
    trusted = authority.split(directory.material.authorities.read_bytes())
    shown = next((one for one in trusted if authority.issued(leaf, one)), trusted[0])  # what this node proves itself by
    pinned = authority.fingerprint(shown)
    made = directory.tokens.make(settings.address, settings.cluster, pinned, role, int(time.time()), seconds)
    return tokens.text(made)


class Joined(NamedTuple):
    """A new node's directory, and the tid at which its cluster's history begins."""

    directory: Directory
    created: int


def join(line: str, path: str, listen: str = "", advertise: str = "", name: str = "") -> Joined:
    """Make a directory for a new node by a token; it is a node when this returns, and on disk.

    Raises BadToken, Untrusted when somebody else answers at the address, Unreachable, BadRequest.
    """
    token = tokens.parse(line)
    if time.time() >= token.expires:
        raise BadToken("has expired")
    settings = _settings(token, listen, advertise, name)
    where = begin(path)
    key, wanted = authority.request()
    try:
        answer = asyncio.run(_ask(token, wanted, settings))
    except Unreachable:  # the answer may be lost, and the token used; by the same key it can be used again
        answer = asyncio.run(_ask(token, wanted, settings))
    node, role = int(answer["node"]), Role[str(answer["role"]).upper()]
    files = {
        "node.pem": str(answer["certificate"]).encode() + key,
        "ca.crt": str(answer["authority"]).encode(),
    }
    if answer["key"] is not None:
        files["ca.key"] = str(answer["key"]).encode()
    book = Book(where / "book.json")
    book.merge(base64.b64decode(str(answer["book"])))
    return Joined(settle(where, settings._replace(node=node, role=role), files), int(answer["created"]))


def _settings(token: Token, listen: str, advertise: str, name: str) -> Settings:
    if token.role is Role.CLIENT:
        if listen or advertise:
            raise BadRequest(
                "this token is one for a client, which nobody connects to; leave --listen and --address out"
            )
        return given(token.cluster, 0, token.role, token.address, name=name)._replace(listen="", address="")
    if not listen:
        raise BadRequest(
            f"this token is one for a {token.role.name.lower()}, which others connect to; add --listen HOST:PORT"
        )
    return given(token.cluster, 0, token.role, listen, advertise, name)


async def _ask(token: Token, wanted: bytes, settings: Settings) -> Json:
    """Go through the door."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what is believed is what the token pins, see _believe
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([tls.JOIN])
    async with door_of(token.address, context) as (reader, writer):
        _believe(token, await line_of(reader), writer.get_extra_info("ssl_object"))
        message = {"request": wanted.decode(), "address": settings.address, "name": settings.name}
        writer.write(token.secret + protocol.encode(message))
        return await line_of(reader)


@contextlib.asynccontextmanager
async def door_of(
    address: str, context: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the door of a master; raises Unreachable, Untrusted."""
    host, port = address_of(address)
    try:
        async with asyncio.timeout(4 * HANDSHAKE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=16 * _LINE_MAX)
            try:
                yield reader, writer
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except ConnectionRefusedError:
        raise Unreachable(address, "nothing listens there") from None
    except (OSError, TimeoutError) as problem:
        raise tls.explained(address, problem) from None


async def line_of(reader: asyncio.StreamReader) -> Json:
    """What is said next; raises what it says went wrong, Unreachable, BadPeer."""
    try:
        line = await reader.readline()
    except ValueError:
        raise BadPeer("length of an answer", f"at most {16 * _LINE_MAX}", "more") from None
    if not line.endswith(b"\n"):
        raise Unreachable("the master of the token", "it ended the connection in the middle of an answer")
    message = protocol.decode(line)
    if "error" in message:
        raise protocol.refusal(message["error"])
    return message


def _believe(token: Token, told: Json, connection: ssl.SSLObject) -> None:
    """Whether who is on the other side is whom the token means; the secret goes to nobody else. Raises Untrusted."""
    where, pem = token.address, str(told.get("authority", "")).encode()
    leaf = connection.getpeercert(binary_form=True) or b""
    for one in authority.split(pem):
        if authority.fingerprint(one) == token.authority and authority.issued(leaf, one):
            if authority.holder(leaf).cluster != token.cluster:
                break
            return
    raise Untrusted(where, "who answers there is not of the cluster that made the token")


def create(path: str, listen: str, advertise: str = "", name: str = "") -> Directory:
    """Make the directory of the first master of a new cluster, but for its volume; on disk when this returns."""
    import secrets

    settings = given(secrets.token_bytes(16), 1, Role.MASTER, listen, advertise, name)
    where = begin(path)
    ca = authority.found(settings.cluster)
    key, wanted = authority.request()
    certificate = authority.certify(ca, wanted, Proven(settings.cluster, Role.MASTER, 1))
    entry = Entry(1, settings.address, Role.MASTER, settings.name, authority.key_digest(wanted), time.time_ns())
    Book(where / "book.json").put(entry)
    files = {"node.pem": certificate + key, "ca.crt": ca.certificate, "ca.key": ca.key}
    return settle(where, settings, files)
