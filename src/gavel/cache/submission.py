"""Writes as masters take them: a body with portable records, and the file data that goes ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gavel.cache.places import Blob, Places
from gavel.keys import records
from gavel.limits import BODY_INLINE_MAX, EXTENT_MAX
from gavel.media.extents import Extent
from gavel.transaction import requests


class Packed(NamedTuple):
    """The parts of a Submit: what it refers to by number, in the order of use, and the body or where that is."""

    blobs: list[Blob]
    names: list[bytes]
    body: bytes
    spilled: list[int]


def pack(
    writes: dict[bytes, bytes | None], places: Places, settled: int, stage: Callable[[memoryview], Extent]
) -> Packed:
    """These writes, ready to be submitted; `stage` keeps pieces of a body that is too long to go with a vote.

    Raises TooLarge.
    """
    used = dict[int, Blob]()
    outgoing = {
        key: value if value is None or not records.is_data(key) else places.portable(value, used)
        for key, value in writes.items()
    }
    body = requests.pack(outgoing, settled)
    spilled: list[int] = []
    if len(body) > BODY_INLINE_MAX:
        for start in range(0, len(body), EXTENT_MAX):
            blob = places.blob(stage(memoryview(body)[start : start + EXTENT_MAX]))
            used[blob.number] = blob
            spilled.append(blob.number)
        body = b""
    blobs = list(used.values())
    return Packed(blobs, [requests.blob_name(one.number, one.length, one.sum) for one in blobs], body, spilled)


def staging(session: bytes, blob: Blob) -> requests.Stage:
    """The message that keeps file data ahead of the transaction that refers to it."""
    return requests.Stage(session, blob.number, blob.codec, blob.length, blob.sum, blob.data)
