"""Two connections joined by nothing: what one sends is fed to the other, cut into pieces if asked."""

from __future__ import annotations

from collections.abc import Callable

from gavel.wire.connection import Connection, Event, Greeted, Party
from gavel.wire.messages import Role

CLUSTER = bytes(range(16))


def party(node: int, role: Role = Role.MASTER, **more: object) -> Party:
    return Party(CLUSTER, node, bytes([node]) * 16, role, f"node {node}")._replace(**more)


def sent(connection: Connection) -> bytes:
    return b"".join(connection.outgoing())


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def opened(one: Party | None = None, other: Party | None = None, **options: int) -> tuple[Connection, Connection]:
    """A dialler and a listener that are welcome to each other."""
    dialler = Connection(one or party(1), dialled=True, **options)
    listener = Connection(other or party(2), dialled=False, **options)
    (greeted,) = listener.receive(sent(dialler), 0)
    assert isinstance(greeted, Greeted)
    listener.welcome()
    dialler.receive(sent(listener), 0)
    assert dialler.opened
    assert listener.opened
    return dialler, listener


def passed(source: Connection, target: Connection, now: int = 0, size: int = 0) -> list[Event]:
    """Everything that one side has to send, taken in by the other."""
    data = sent(source)
    events: list[Event] = []
    for piece in pieces(data, size) if size else [data]:
        events += target.receive(piece, now)
    return events


Act = Callable[[Connection], object]
