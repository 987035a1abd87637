"""Which authorities a node trusts, as it hears that from the masters: how a new authority gets to all nodes.

A master tells over each link the certificates of the authorities it trusts, the newest first, and to a master its key
as well. Whoever hears of a newer one than it knows takes over what it is told, and passes it on if it has the key. Two
are trusted at most: so by the second change everything that the first one replaced is worth nothing.

Invariant: only masters are believed, as the own address book knows them; the number of the newest never goes back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from gavel.errors import BadPeer, BadRequest, GavelError
from gavel.node import authority, logs
from gavel.node.book import Book
from gavel.node.directory import Directory
from gavel.node.joining import authority_of
from gavel.node.tokens import write_private
from gavel.runtime.link import Link
from gavel.runtime.master import TRUST
from gavel.wire.messages import Role

_Told = tuple[bytes, bytes | None]  # certificates, key (PEM)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Told).decode


def replace_authority(directory: Directory) -> int:
    """Found a new authority, which signs from now on, beside the one that signed until now; its number. On disk then.

    Raises BadRequest where the key of the present one is not kept.
    """
    former = authority_of(directory)
    number = authority.number(former.certificate) + 1
    fresh = authority.found(directory.settings.cluster, number)
    write_private(directory.material.authorities, fresh.certificate + former.certificate)
    write_private(directory.authority_key, fresh.key)
    return number


class Trust:
    """What a daemon tells and hears. `changed` is called when what it trusts has changed on disk."""

    def __init__(self, directory: Directory, book: Book, changed: Callable[[], None]) -> None:
        self._directory, self._book, self._changed = directory, book, changed

    def tell(self, link: Link) -> None:
        """Tell a node that was linked, or anew what has changed; nothing where this node does not sign."""
        try:
            own = authority_of(self._directory)
        except BadRequest:
            return
        certificates = self._directory.material.authorities.read_bytes()
        link.carry(TRUST, _encode((certificates, own.key if self._is_master(link.node) else None)))

    def told(self, node: int, body: memoryview) -> None:
        """Another node tells what it trusts."""
        if not self._is_master(node):
            logs.event(
                "not trusted", f"node {node} is no master, and tells whom to trust", level=logging.ERROR, peer=node
            )
            return
        try:
            certificates, key = _decode(body)
            number = authority.number(certificates)
        except (msgspec.MsgspecError, GavelError) as problem:
            raise BadPeer("authorities", "certificates and perhaps a key", str(problem)) from None
        mine = authority.number(self._directory.material.authorities.read_bytes())
        lacks_key = key is not None and not self._directory.authority_key.exists()
        if number < mine or (number == mine and not lacks_key):
            return
        write_private(self._directory.material.authorities, certificates)
        if key is not None:
            write_private(self._directory.authority_key, key)
        logs.event("authority", f"authority {number} is trusted, as node {node} says", peer=node, authority=number)
        self._changed()

    def _is_master(self, node: int) -> bool:
        entry = self._book.entries.get(node)
        return entry is not None and entry.role == Role.MASTER and not entry.removed
