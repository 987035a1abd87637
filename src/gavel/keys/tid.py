"""Transaction ids: 64 bits, microseconds since 1970 in the upper 56, the issuing node in the lower 8.

So tids sort, name their origin and read as times. quorum/clock.py issues them.
"""

from __future__ import annotations

NODE_BITS = 8
TID_MAX = 2**64 - 1


def make(micros: int, node: int = 0) -> int:
    """The tid of a moment (microseconds since 1970) on a node (0..255)."""
    return micros << NODE_BITS | node


def micros(tid: int) -> int:
    """Microseconds since 1970 at which the tid was issued, by its issuer's clock."""
    return tid >> NODE_BITS


def node(tid: int) -> int:
    """The node that issued the tid."""
    return tid & 0xFF


def end_of(micros: int) -> int:
    """The highest tid that any node can issue within this microsecond."""
    return micros << NODE_BITS | 0xFF


def text(tid: int) -> str:
    """The tid as people write it: 0x and 16 hex digits."""
    return f"0x{tid:016x}"
