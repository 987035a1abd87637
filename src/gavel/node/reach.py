"""How a client reaches a cluster: from a URL, the identity that fits, the masters' addresses, what TLS needs.

    gavel://HOST:PORT[,HOST:PORT...][/PFS]

The identity is the directory of a client (`gavel cluster join` with a client's token): GAVEL_IDENTITY, else the one
under ~/.config/gavel whose address book has one of the hosts, else the only one there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import ssl
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gavel.errors import BadRequest, Unreachable
from gavel.node.book import Entry
from gavel.node.directory import Directory
from gavel.node.layout import looks_like_node
from gavel.node.protocol import Json
from gavel.runtime import tls
from gavel.runtime.dialler import Dialler, address_of
from gavel.runtime.exchange import Arrival, Exchange
from gavel.runtime.remote import address_in
from gavel.transaction import requests
from gavel.wire.connection import Answered, Opened, Party
from gavel.wire.messages import Role

SCHEME = "gavel://"
_SECONDS = 5


class Reach(NamedTuple):
    """What it takes to be a client of a cluster. `nodes` are the ids of those at `addresses`, 0 where not known."""

    directory: Directory
    addresses: list[str]
    nodes: list[int]
    party: Party
    context: ssl.SSLContext
    patience: int
    pfs: str
    leases: bool = False


def reach(url: str) -> Reach:
    """What a URL means here; raises BadRequest."""
    addresses, pfs = split(url)
    directory = identity(addresses)
    settings = directory.settings
    book = directory.book().members()
    known = {entry.address: entry.node for entry in book}
    for entry in book:
        if entry.role == Role.MASTER and entry.address not in addresses:
            addresses.append(entry.address)
    party = Party(settings.cluster, 0, secrets.token_bytes(16), Role.CLIENT, settings.name)
    nodes = [known.get(address, 0) for address in addresses]
    context = tls.dialling(directory.material)
    return Reach(directory, addresses, nodes, party, context, settings.patience, pfs, settings.leases)


def remember(directory: Directory, members: list[Json]) -> None:
    """Have a client's address book say what a master tells of the members; what cannot be written is not needed."""
    book = directory.book()
    fresh: dict[int, Entry] = {}
    for one in members:
        try:
            node, address, role = int(one["node"]), address_in(str(one["url"])), Role[str(one["wanted"]).upper()]
        except (KeyError, ValueError):
            continue  # told by another release
        before = book.entries.get(node)
        entry = Entry(node, address, role, str(one["name"]), before.key if before is not None else b"", 0)
        if before is None or msgspec.structs.replace(before, stamp=0) != entry:
            fresh[node] = msgspec.structs.replace(entry, stamp=time.time_ns())
    gone = {entry.node for entry in book.members()} - {one["node"] for one in members}
    for node in gone:
        fresh[node] = msgspec.structs.replace(book.entries[node], removed=True, stamp=time.time_ns())
    with contextlib.suppress(OSError):
        for entry in fresh.values():
            book.put(entry)


def split(url: str) -> tuple[list[str], str]:
    """The addresses in a URL, and what follows them; raises BadRequest."""
    if not url.startswith(SCHEME):
        raise BadRequest(f"{url!r} is no URL of a cluster; write {SCHEME}HOST:PORT")
    hosts, _, pfs = url.removeprefix(SCHEME).partition("/")
    addresses = [address for address in hosts.split(",") if address]
    for address in addresses:
        address_of(address)
    if not addresses:
        raise BadRequest(f"{url!r} names no host; write {SCHEME}HOST:PORT")
    return addresses, pfs


def identity(addresses: list[str]) -> Directory:
    """The identity of a client for one of these masters; raises BadRequest if there is none, or one too many."""
    named = os.environ.get("GAVEL_IDENTITY")
    if named:
        return _client(Directory(named))
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "gavel"
    found = [Directory(path) for path in sorted(base.glob("*")) if looks_like_node(path)]
    fitting = [one for one in found if set(addresses) & {entry.address for entry in one.book().members()}] or found
    if len(fitting) != 1:
        many = f"{len(fitting)} of them fit" if fitting else f"there is none in {base}"
        raise BadRequest(
            f"which identity shall be used? {many}; name it by GAVEL_IDENTITY, or get one: on a master `gavel cluster "
            f"invite DIR --role client`, here `gavel cluster join TOKEN {base}/NAME`"
        )
    return _client(fitting[0])


def _client(directory: Directory) -> Directory:
    if directory.settings.role is not Role.CLIENT:
        raise BadRequest(f"{directory.path} is the identity of a member, not of a client; join as one")
    return directory


def status_of(url: str) -> dict[str, Any]:
    """How the cluster behind a URL is, as the first master that answers tells it; raises Unreachable."""
    found = reach(url)
    fields = asyncio.run(_told(found, requests.Status()))
    remember(found.directory, [one for one in fields.get("members", ()) if one.get("url")])
    return fields


def leases_of(url: str) -> dict[str, Any]:
    """Who holds leases of the cluster behind a URL, as the first master that answers tells it; raises Unreachable."""
    return asyncio.run(_told(reach(url), requests.Status(leases=True)))


async def _told(found: Reach, question: requests.Status) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[dict[str, Any]] = loop.create_future()

    def deliver(arrivals: list[Arrival]) -> None:
        for link, event in arrivals:
            if isinstance(event, Opened):
                link.request(1, found.party.incarnation, 1, requests.encode(question))
            elif isinstance(event, Answered) and not told.done():
                answer = requests.decode_answer(event.body)
                if isinstance(answer, requests.Told):
                    told.set_result(answer.fields)

    exchange = Exchange(lambda: found.party, deliver)
    diallers = [Dialler(exchange, address, found.context, random.random) for address in found.addresses]
    try:
        async with asyncio.timeout(_SECONDS):
            return await told
    except TimeoutError:
        problems = [str(dialler.problem) for dialler in diallers if dialler.problem is not None]
        raise Unreachable(SCHEME + ",".join(found.addresses), problems[0] if problems else "no answer") from None
    finally:
        for dialler in diallers:
            await dialler.close()
        await exchange.finish()
