"""Peers of the wire as they were recorded: what they sent, byte for byte, and what had to be answered.

    python -m tests.formats.wire_peers 2        # record the peer of wire version 2 anew; look at the diff

A recording has a line for each thing that happens, seen from a side of this release:

    them HEX       bytes of the recorded peer arrive
    event TEXT     what they mean, in order
    do WORDS       this side does something (see `act`)
    us HEX         the bytes that this side has sent then
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from gavel.errors import VolumeFull
from gavel.wire import failures
from gavel.wire.connection import Connection, Event, Party
from gavel.wire.messages import Greeting, Role, Status

FOLDER = Path(__file__).parent
CLUSTER = bytes(range(16))
SESSION = b"session of 16 by"
NOW = 1_700_000_000_000_000_000


def us(newest: int = 2) -> Party:
    """The side of this release. Its versions are pinned: a later release answers a recorded peer the same way."""
    return Party(CLUSTER, 1, b"incarnation us..", Role.MASTER, "us", 1, newest)


def path(name: str) -> Path:
    return FOLDER / f"wire-{name}-peer.txt"


def shown(event: Event) -> str:
    """An event in words, without what later releases may add to greetings."""
    fields = []
    for value in event:
        if isinstance(value, Greeting):
            value = f"node {value.node} {Role(value.role).name} {value.name} {value.incarnation.hex()}"
        elif isinstance(value, memoryview | bytes):
            value = bytes(value).hex()
        fields.append(str(value))
    return f"{type(event).__name__} {', '.join(fields)}"


def act(connection: Connection, words: str) -> None:
    """Do what a `do` line says."""
    verb, *rest = words.split()
    match verb:
        case "welcome":
            connection.welcome()
        case "ping":
            connection.ping(int(rest[0]))
        case "carry":
            connection.carry(int(rest[0]), bytes.fromhex(rest[1]))
        case "request":
            connection.request(int(rest[0]), SESSION, int(rest[1]), bytes.fromhex(rest[2]))
        case "done":
            connection.respond(int(rest[0]), Status.DONE, bytes.fromhex(rest[1]))
        case "elsewhere":
            connection.respond(int(rest[0]), Status.ELSEWHERE, failures.encode(VolumeFull(1, 2)))
        case "blob":
            connection.blob(SESSION + int(rest[0]).to_bytes(8, "little"), bytes.fromhex(rest[1]))
        case "took":
            connection.took(int(rest[0]))
        case "lease":
            connection.lease(bytes.fromhex(rest[0]))
        case "goaway":
            connection.goaway(rest[0])
        case _:
            raise ValueError(words)


def lines(name: str) -> list[tuple[str, str]]:
    """The lines of a recording, as (word, rest)."""
    text = path(name).read_text(encoding="utf-8")
    return [
        (line.partition(" ")[0], line.partition(" ")[2])
        for line in text.splitlines()
        if line and not line.startswith("#")
    ]


SCRIPT = """
them-do welcome
do ping 7
them-do ping 9
do carry 0 766f7465
them-do carry 3 6675727468657220766f746573
do request 5 77 6c6f6f6b
them-do elsewhere 5
them-do request 1 1 636f6d6d6974
do done 1 74696420
do blob 1 64617461
them-do took 4
them-do blob 2 6d6f72652064617461
do took 9
them-do goaway upgrade
do goaway same
"""


CLIENT_SCRIPT = """
them-do welcome
do ping 7
them-do lease 616c697665
do lease 72656e65776564
them-do request 1 1 636f6d6d6974
do done 1 74696420
do goaway upgrade
them-do lease 72656c65617365
do lease 6772616e74
"""


def recorded(version: int) -> Iterator[str]:
    """The recording of a peer of this version, made by this release's code: this side dials, the peer listens."""
    role = "client" if version >= 3 else "master"  # 3 brought what is between clients and masters
    yield f"# A {role} that speaks wire version {version} alone, and a side of versions 1 to {max(2, version)}."
    side = Connection(us(max(2, version)), dialled=True, window=16, requests=4)
    client = role == "client"
    who = (0, b"incarnation peer", Role.CLIENT) if client else (2, b"incarnation peer", Role.MASTER)
    peer = Connection(Party(CLUSTER, *who, "peer", version, version), dialled=False, window=16, requests=4)
    steps = [line.partition(" ")[::2] for line in (CLIENT_SCRIPT if client else SCRIPT).split("\n") if line]
    peer.receive(b"".join(first := side.outgoing()), NOW)
    yield f"us {b''.join(first).hex()}"
    for word, rest in steps:
        if word == "do":
            yield f"do {rest}"
            act(side, rest)
        else:
            act(peer, rest)
        while (ours := b"".join(side.outgoing())) or (theirs := b"".join(peer.outgoing())):
            if ours:
                yield f"us {ours.hex()}"
                peer.receive(ours, NOW + 1)
            else:
                yield f"them {theirs.hex()}"
                yield from (f"event {shown(event)}" for event in side.receive(theirs, NOW))


if __name__ == "__main__":
    path(sys.argv[1]).write_text("\n".join(recorded(int(sys.argv[1]))) + "\n", encoding="utf-8")
