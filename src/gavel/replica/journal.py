"""Transactions as log frames: how a master writes down what it executed, and reads it again after a crash.

    COMMIT   MessagePack [tid, keys, values]; with it the transaction has happened
    PART     the same form: records of a transaction too large for one frame, before its COMMIT
    QUORUM   a record of the quorum's ledger (log.py), of no concern here
    STAGED   file data that is here ahead of its transaction (staging.py), neither

Keys ascend over all frames of a transaction. Parts whose COMMIT is missing never happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from gavel.errors import Damaged, TooLarge
from gavel.limits import FRAME_MAX, TRANSACTION_MAX

COMMIT, PART, QUORUM, STAGED = 16, 17, 18, 19

Frame = tuple[int, list[bytes], list[bytes | None]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def encode(tid: int, keys: list[bytes], values: list[bytes | None]) -> list[tuple[int, bytes]]:
    """The frames (kind, body) of a transaction, in order; raises TooLarge beyond limits.TRANSACTION_MAX."""
    bodies = _split(tid, keys, values)
    size = sum(map(len, bodies))
    if size > TRANSACTION_MAX:
        raise TooLarge("a transaction", size, TRANSACTION_MAX)
    return [(PART, body) for body in bodies[:-1]] + [(COMMIT, bodies[-1])]


def _split(tid: int, keys: list[bytes], values: list[bytes | None]) -> list[bytes]:
    body = _encode((tid, keys, values))
    if len(body) <= FRAME_MAX or len(keys) == 1:
        return [body]
    half = len(keys) // 2
    return _split(tid, keys[:half], values[:half]) + _split(tid, keys[half:], values[half:])


def read_frame(sequence: int, body: bytes) -> Frame:
    """Tid, keys and values in the body of a COMMIT or PART; raises Damaged for a body of no known form."""
    try:
        frame: Frame = _decode(body)
    except msgspec.DecodeError as error:
        raise Damaged("log frame", sequence, "a commit", str(error)) from None
    return frame


def decode(frames: Iterable[tuple[int, int, bytes]]) -> Iterator[Frame]:
    """The decided transactions among log frames (kind, sequence, body); raises Damaged for a body of no known form."""
    parts: list[Frame] = []
    for kind, sequence, body in frames:
        if kind in (QUORUM, STAGED):
            continue
        if kind not in (COMMIT, PART):
            raise Damaged("log frame", sequence, "a commit", f"kind {kind}")
        parts.append(read_frame(sequence, body))
        if parts[-1][0] != parts[0][0]:
            del parts[:-1]
        if kind == COMMIT:
            tid = parts[0][0]
            yield tid, [key for part in parts for key in part[1]], [value for part in parts for value in part[2]]
            parts.clear()
