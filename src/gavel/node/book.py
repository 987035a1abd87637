"""The address book of a cluster: which nodes there are, where they listen, what they are for.

Every node has one and tells it over its links; books are merged entry by entry, the newest stamp wins. It
says where to dial and whom to refuse. Who votes is the quorum's affair and not in it: a book may lag, or differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from gavel.errors import BadPeer, DoubleIdentity
from gavel.node.tokens import write_private
from gavel.wire.messages import Role

NODES: Final = range(1, 256)


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One node. `key` is the digest of the key it joined with; `stamp` rises with every change."""

    node: int
    address: str
    role: int
    name: str
    key: bytes
    stamp: int
    removed: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


class Book:
    """The entries by node id, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[int, Entry] = {}
        if path.exists():
            self._take(msgspec.convert(json.loads(path.read_text(encoding="utf-8")), list[Entry]))

    def put(self, entry: Entry) -> None:
        """Enter or change a node here; durable when this returns."""
        self.entries[entry.node] = entry
        self._write()

    def merge(self, body: bytes | memoryview) -> bool:
        """Take in what another node's book says; whether anything is new. Durable when this returns.

        Raises BadPeer for what is no book, DoubleIdentity when two nodes have been given one id.
        """
        try:
            told = _decode(body)
        except msgspec.MsgspecError as problem:
            raise BadPeer("an address book", "one", str(problem)) from None
        for entry in told:
            mine = self.entries.get(entry.node)
            if mine is not None and mine.key != entry.key:
                raise DoubleIdentity(entry.node, mine.key[:16], entry.key[:16])
        changed = self._take(told)
        if changed:
            self._write()
        return changed

    def told(self) -> bytes:
        """What another node is told."""
        return _encode(list(self.entries.values()))

    def members(self) -> list[Entry]:
        """All nodes but clients and those that were removed, by id."""
        return [entry for _, entry in sorted(self.entries.items()) if not entry.removed and entry.role != Role.CLIENT]

    def free(self, taken: Iterable[int]) -> int:
        """A node id that nobody ever had; 0 if none is left."""
        used = {*self.entries, *taken}
        return next((node for node in NODES if node > max(used, default=0)), 0) or next(
            (node for node in NODES if node not in used), 0
        )

    def _take(self, entries: Iterable[Entry]) -> bool:
        changed = False
        for entry in entries:
            mine = self.entries.get(entry.node)
            if mine is None or entry.stamp > mine.stamp:
                self.entries[entry.node] = entry
                changed = True
        return changed

    def _write(self) -> None:
        rows = [msgspec.to_builtins(entry) for _, entry in sorted(self.entries.items())]
        write_private(self._path, json.dumps(rows, indent=1).encode())
