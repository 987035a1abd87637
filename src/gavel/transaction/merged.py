"""One sorted stream of records out of two: what lies beneath, and newer writes laid over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def merged(
    keys: list[bytes], writes: Mapping[bytes, bytes | None], beneath: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    """The records beneath with `writes` at the sorted `keys` laid over them, in key order, lazily.

    A write of None hides the record beneath.
    """
    at, count = 0, len(keys)
    for key, value in beneath:
        while at < count and keys[at] < key:
            written = writes[keys[at]]
            if written is not None:
                yield keys[at], written
            at += 1
        if at < count and keys[at] == key:
            written = writes[key]
            at += 1
            if written is not None:
                yield key, written
        else:
            yield key, value
    for key in keys[at:]:
        written = writes[key]
        if written is not None:
            yield key, written
