"""Transaction ids and the hybrid logical clock that issues them.

A tid is 64 bits: microseconds since 1970 in the upper 56, the issuing node in the lower 8. So tids sort, name
their origin and read as times. A clock never issues the same tid twice nor one below a tid it has observed: when
the wall clock stands still or runs back, the microseconds are counted up instead (Kulkarni et al., "Logical
Physical Clocks", 2014).
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


class TidClock:
    """Issues tids for one node.

    Invariant: `last` is at least every tid issued or observed; each issue is above it.
    """

    __slots__ = ("last", "node")

    def __init__(self, node: int = 0, last: int = 0) -> None:
        assert 0 <= node < 1 << NODE_BITS
        self.node = node
        self.last = last

    def issue(self, now_us: int) -> int:
        """A tid above all before, at the wall clock's time where that is possible."""
        moment = max(now_us, micros(self.last) + 1)
        self.last = make(moment, self.node)
        return self.last

    def observe(self, tid: int) -> None:
        """Never issue anything at or below this tid from now on."""
        if tid > self.last:
            self.last = tid
