"""How to wait for the next request: asleep, or looking for it for a while.

A program that waits for a reply usually sends its next request some microseconds after it. Asleep, both sides pay for
a wake-up then. On a quiet virtual machine with idle processors that costs several times more than everything else
together, and looking for the request instead saves it. On a busy machine it is the other way round: who looks uses up
the time that the program needs, and goes to the end of the queue.

No setting knows which it is, but the intervals between requests do. So both ways are tried, by windows of requests,
and the one with the shorter intervals is kept; the other is tried again now and then, ever more rarely while nothing
changes.
"""

from __future__ import annotations

WINDOW = 128  # requests in a window
LONGEST_NS = 2_000_000  # a longer interval is the program's own business and counts as this
GOOD_NS = 20_000  # asleep with intervals like this there is nothing to be gained
LOOK_NS = 100_000  # how long one look goes on
_CLEARLY = 0.9  # what is better than the other way by less than this is not better
_FIRST, _MOST = 8, 512  # windows until the other way is tried (again)


class Waiting:
    """Decides by the intervals it is told of. `look_ns` is how long to look for the next request before sleeping."""

    __slots__ = ("_asleep", "_interval", "_left", "_looking", "_possible", "_trying", "look_ns")

    def __init__(self, possible: bool = True) -> None:
        """`possible`: whether looking can help at all; with a single processor it cannot."""
        self.look_ns = 0
        self._possible = possible
        self._asleep = 0.0  # mean interval of the latest window asleep, and of the latest looking
        self._looking = 0.0
        self._trying = False
        self._interval = self._left = _FIRST

    def window(self, total: int) -> None:
        """Take note of the sum of WINDOW intervals, each at most LONGEST_NS; may change `look_ns`."""
        mean = total / WINDOW
        if self.look_ns:
            self._looking = mean
        else:
            self._asleep = mean
        if not self._possible:
            return
        if self._trying:
            self._trying = False
            self._judge()
            return
        self._left -= 1
        if self._left <= 0:
            if not self.look_ns and mean < GOOD_NS:
                self._left = _FIRST
                return
            self._trying = True
            self.look_ns = 0 if self.look_ns else LOOK_NS

    def _judge(self) -> None:
        """After a window the other way: stay with it if it was better, else go back and try again later."""
        tried, before = (self._looking, self._asleep) if self.look_ns else (self._asleep, self._looking)
        if tried < before * _CLEARLY:
            self._interval = _FIRST
        else:
            self.look_ns = 0 if self.look_ns else LOOK_NS
            self._interval = min(self._interval * 2, _MOST)
        self._left = self._interval
