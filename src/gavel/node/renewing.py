"""A new key and certificate for a node or a client: by the authority's key where that is, else through a master."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from gavel.errors import GavelError, Unreachable, Untrusted
from gavel.node import authority, protocol
from gavel.node.directory import Directory
from gavel.node.joining import RENEW, authority_of, door_of, line_of
from gavel.node.protocol import Json
from gavel.node.tokens import write_private
from gavel.runtime import tls
from gavel.runtime.tls import Proven
from gavel.wire.messages import Role

_RENEW_SECONDS: Final = 60 * 86_400  # so long before its end a certificate is to be renewed


def note_ends(members: list[Json], ends: dict[int, int], now: float) -> None:
    """Say of members until when their certificates are good (`ends` by node, since 1970), and who should renew soon."""
    for one in members:
        end = ends.get(one["node"], 0)
        one["certificate_until"] = datetime.fromtimestamp(end, UTC).date().isoformat() if end else None
        if end and end - now < _RENEW_SECONDS and not one["problem"]:
            did = "ended" if end < now else "ends"
            one["problem"] = (
                f"its certificate {did} on {one['certificate_until']}; there, `gavel cluster rotate DIR` renews it"
            )


def renew(directory: Directory) -> None:
    """Give a node a new key and certificate, by the authority's key if it has it, else by a master; on disk then.

    Raises Unreachable when no master answers, Untrusted, Refused.
    """
    settings = directory.settings
    key, wanted = authority.request()
    if directory.authority_key.exists():
        who = Proven(settings.cluster, settings.role, settings.node)
        certificate = authority.certify(authority_of(directory), wanted, who)
    else:
        answer = _renewed_by_a_master(directory, wanted)
        certificate = str(answer["certificate"]).encode()
        write_private(directory.material.authorities, str(answer["authority"]).encode())
        if answer["key"] is not None:
            write_private(directory.authority_key, str(answer["key"]).encode())
    write_private(directory.material.certificate, certificate + key)


def _renewed_by_a_master(directory: Directory, wanted: bytes) -> Json:
    ends = authority.ends(directory.material.certificate.read_bytes())
    if ends < time.time():
        day = datetime.fromtimestamp(ends, UTC).date()
        raise Untrusted("the cluster", f"this certificate expired on {day}, so it cannot ask for another; join anew")
    masters = [entry for entry in directory.book().members() if entry.role == Role.MASTER]
    problem: GavelError = Unreachable("the cluster", "the address book of this node names no master")
    for entry in masters:
        try:
            return asyncio.run(_ask_to_renew(directory, entry.address, wanted))
        except (Unreachable, Untrusted, protocol.Refused) as found:
            problem = found
    raise problem


async def _ask_to_renew(directory: Directory, address: str, wanted: bytes) -> Json:
    """Go through the door with the certificate that is to be replaced."""
    context = tls.dialling(directory.material)
    context.set_alpn_protocols([tls.JOIN])
    async with door_of(address, context) as (reader, writer):
        await line_of(reader)
        writer.write(RENEW + protocol.encode({"request": wanted.decode()}))
        return await line_of(reader)
