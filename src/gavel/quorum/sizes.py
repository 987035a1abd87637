"""How large bodies are, so that no batch is larger than a peer would take."""

from __future__ import annotations

from collections.abc import Iterator

from gavel.quorum.messages import Body, BodyTold, Message, Piece, Prepare, Promise


def size_of(body: Body | None) -> int:
    """About how many bytes a body takes in a message."""
    if body is None:
        return 0
    size = len(body.payload)
    for lo, hi, _ in body.reads:
        size += len(lo) + len(hi) + 16
    for key in body.keys:
        size += len(key) + 4
    for blob in body.blobs:
        size += len(blob) + 4
    return size


def weight_of(message: Message) -> int:
    """About how many bytes a message takes."""
    match message:
        case Prepare() | Promise() | BodyTold():
            return 96 + size_of(message.body)
        case Piece():
            return 96 + len(message.data) + 48 * len(message.known)
    return 96


def weigh(messages: list[Message], aim: int) -> Iterator[list[Message]]:
    """The messages in order, in parts of about so many bytes."""
    part: list[Message] = []
    weight = 0
    for message in messages:
        more = weight_of(message)
        if part and weight + more > aim:
            yield part
            part, weight = [], 0
        part.append(message)
        weight += more
    if part:
        yield part
