"""Records that a client of a cluster holds, and for each range of them over which time they are known to be true.

A span [lo, hi) with [since, upto] says: these are all records of the range, unchanged from the tid `since` to the tid
`upto`. Nothing here is current by itself; whoever needs the present has a master confirm what he has read. Or a lease
stands over the range, so that nobody else may change it: `upto` is OPEN then, until the span is capped.

Invariants: spans are sorted, disjoint and not empty; every record lies in a span; since <= upto. Memory is bounded by
`limit` bytes of keys and values: the spans confirmed longest ago go first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

from gavel.keys.ranges import Range, just
from gavel.limits import HELD_BYTES
from gavel.transaction.view import Miss

Records = Iterable[tuple[bytes, bytes]]
_OVERHEAD = 200  # bytes of memory that a span, or a record, costs besides its key and value
OPEN = 2**64 - 1  # the upto of a span that is true at this moment, whenever that is
_FEW = 16  # below this many new keys inserting them one by one beats sorting the list


class Held:
    """Held records by key, and the spans that say what is known of where.

    `stale`: something was read, since this was last set to False, of which it is not known that it is true now.
    """

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self._limit = limit
        self._los: list[bytes] = []
        self._his: list[bytes] = []
        self._times: list[tuple[int, int]] = []  # (since, upto)
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}
        self._turn = 0  # which part of what is open is forgotten next
        self.size = 0  # bytes, overheads included
        self.stale = False

    # Reading.

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None where it is known that there is none; raises Miss where nothing is known."""
        span = bisect_right(self._los, key) - 1
        if span < 0 or key >= self._his[span]:
            raise Miss((just(key),))
        if self._times[span][1] != OPEN:
            self.stale = True
        return self._values.get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records in [lo, hi) in order, as far as they are held; raises Miss on reaching what is not."""
        while lo < hi:
            span = self._at(lo)
            if span < 0:
                raise Miss(((lo, hi),))
            if self._times[span][1] != OPEN:
                self.stale = True
            stop = min(self._his[span], hi)
            keys = self._keys[bisect_left(self._keys, lo) : bisect_left(self._keys, stop)]
            values = self._values
            for key in keys:
                yield key, values[key]
            lo = stop

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """All that is held."""
        return iter(self._values.items())

    def _at(self, key: bytes) -> int:
        """The span that holds a key; -1 for none."""
        span = bisect_right(self._los, key) - 1
        return span if span >= 0 and key < self._his[span] else -1

    def known(self, lo: bytes, hi: bytes) -> list[tuple[bytes, bytes, int, int]]:
        """What is known of [lo, hi): ranges with (since, upto), gaps with (0, 0); in order and without holes."""
        found: list[tuple[bytes, bytes, int, int]] = []
        for span in range(bisect_right(self._his, lo), bisect_left(self._los, hi)):
            start, stop = max(lo, self._los[span]), min(hi, self._his[span])
            if lo < start:
                found.append((lo, start, 0, 0))
            found.append((start, stop, *self._times[span]))
            lo = stop
        if lo < hi:
            found.append((lo, hi, 0, 0))
        return found

    def window(self, ranges: Iterable[Range]) -> tuple[int, int]:
        """The tids at which all of these ranges were true as they are held: (first, last).

        There are none when first > last: they are known from different times, between which something changed.
        """
        first, last = 0, 2**64 - 1
        for lo, hi in ranges:
            for _, _, since, upto in self.known(lo, hi):
                first, last = max(first, since), min(last, upto)
        return first, last

    # What a master said.

    def take(self, lo: bytes, hi: bytes, at: int, records: Records) -> None:
        """These are all records of [lo, hi) as of the tid `at`; what was held of the range is forgotten.

        An answer that is older than what is held, as when two crossed on their way, changes nothing.
        """
        at = max(at, 1)  # before the first transaction, too, it is known what there is
        if any(upto > at for _, _, _, upto in self.known(lo, hi)):
            return
        self.drop(lo, hi)
        keys: list[bytes] = []
        for key, value in records:
            keys.append(key)
            self._values[key] = value
            self.size += len(key) + len(value) + _OVERHEAD
        place = bisect_left(self._keys, lo)
        self._keys[place:place] = keys
        self._insert(lo, hi, at, at)
        if self.size > self._limit:
            self._shrink()

    def confirm(self, lo: bytes, hi: bytes, version: int, at: int) -> None:
        """What was known of [lo, hi) as of `version` is true as of the tid `at`, too."""
        for start, stop, since, upto in self.known(lo, hi):
            if version <= upto < at:
                self._cut(start)
                self._cut(stop)
                self._times[self._at(start)] = since, at
        self._join(lo, hi)

    def committed(self, tid: int, reads: Iterable[Range], writes: dict[bytes, bytes | None]) -> None:
        """An own transaction was committed at `tid`: what it had read was unchanged until then, but for its writes."""
        for lo, hi in reads:
            for start, stop, since, upto in self.known(lo, hi):
                if since and upto < tid:
                    self._cut(start)
                    self._cut(stop)
                    self._times[self._at(start)] = since, tid
        self.written(tid, writes)
        for lo, hi in reads:
            self._join(lo, hi)

    # Under leases.

    def open(self, lo: bytes, hi: bytes, tid: int) -> None:
        """Nobody but this client changes [lo, hi) after `tid`: what is known to be true as of then stays so."""
        for start, stop, since, upto in self.known(lo, hi):
            if since and tid <= upto < OPEN:
                self._cut(start)
                self._cut(stop)
                self._times[self._at(start)] = since, OPEN
        self._join(lo, hi)

    def cap(self, lo: bytes, hi: bytes, tid: int) -> None:
        """Others may change [lo, hi) from now on: what is open there is known to be true as of `tid`, and no longer."""
        for start, stop, since, upto in self.known(lo, hi):
            if upto == OPEN:
                self._cut(start)
                self._cut(stop)
                self._times[self._at(start)] = since, max(since, tid)
        self._join(lo, hi)

    def written(self, tid: int, writes: dict[bytes, bytes | None]) -> list[bytes]:
        """Own changes were committed at `tid`. What is open stays open; elsewhere their keys are known as of `tid`.

        Returns those elsewhere.
        """
        fresh: list[bytes] = []
        gone: list[bytes] = []
        elsewhere: list[tuple[bytes, bytes | None]] = []
        for key, value in writes.items():
            span = self._at(key)
            if span < 0 or self._times[span][1] != OPEN:
                elsewhere.append((key, value))
                continue
            since = self._times[span][0]
            if since < tid:
                self._times[span] = tid, OPEN
            old = self._values.get(key)
            if old is not None:
                self.size -= len(key) + len(old) + _OVERHEAD
            if value is not None:
                self.size += len(key) + len(value) + _OVERHEAD
                self._values[key] = value
                if old is None:
                    fresh.append(key)
            elif old is not None:
                del self._values[key]
                gone.append(key)
        self._unlist(gone)
        self._list(fresh)
        for key, value in elsewhere:
            self.take(*just(key), tid, [] if value is None else [(key, value)])
        if self.size > self._limit:
            self._shrink()
        return [key for key, _ in elsewhere]

    def _list(self, keys: list[bytes]) -> None:
        """Put keys that were not held into their places among those that are."""
        if len(keys) <= _FEW:
            for key in keys:
                insort(self._keys, key)
        else:
            self._keys += keys
            self._keys.sort()

    def _unlist(self, keys: list[bytes]) -> None:
        """Take keys out that are not held any more."""
        if len(keys) <= _FEW:
            for key in keys:
                del self._keys[bisect_left(self._keys, key)]
        else:
            self._keys = [key for key in self._keys if key in self._values]

    # Forgetting.

    def drop(self, lo: bytes, hi: bytes) -> None:
        """Forget what is held of [lo, hi)."""
        self._cut(lo)
        self._cut(hi)
        first, last = bisect_left(self._los, lo), bisect_left(self._los, hi)
        for own in (self._los, self._his, self._times):
            del own[first:last]
        self.size -= _OVERHEAD * (last - first)
        first, last = bisect_left(self._keys, lo), bisect_left(self._keys, hi)
        for key in self._keys[first:last]:
            self.size -= len(key) + len(self._values.pop(key)) + _OVERHEAD
        del self._keys[first:last]

    # Spans.

    def _insert(self, lo: bytes, hi: bytes, since: int, upto: int) -> None:
        at = bisect_left(self._los, lo)
        self._los.insert(at, lo)
        self._his.insert(at, hi)
        self._times.insert(at, (since, upto))
        self.size += _OVERHEAD

    def _cut(self, key: bytes) -> None:
        """Make a border between spans at a key that lies within one."""
        span = self._at(key)
        if span >= 0 and self._los[span] < key:
            hi, times = self._his[span], self._times[span]
            self._his[span] = key
            self._insert(key, hi, *times)

    def _join(self, lo: bytes, hi: bytes) -> None:
        """Make one span of neighbours that are true at the same last tid, so that cuts heal when all is confirmed."""
        span = max(bisect_right(self._los, lo) - 2, 0)
        while span + 1 < len(self._los) and self._los[span] <= hi:
            (since, upto), (next_since, next_upto) = self._times[span : span + 2]
            if upto == next_upto and self._his[span] == self._los[span + 1]:
                self._his[span] = self._his[span + 1]
                self._times[span] = max(since, next_since), upto
                del self._los[span + 1], self._his[span + 1], self._times[span + 1]
                self.size -= _OVERHEAD
            else:
                span += 1

    def _shrink(self) -> None:
        """Forget the half of the spans that was confirmed longest ago; of what is all open, one quarter in turn."""
        while self.size > self._limit:
            if len(self._keys) > _FEW and all(upto == OPEN for _, upto in self._times):
                self._forget_quarter()
            elif len(self._times) > 1:
                self._forget_half()
            else:
                return

    def _forget_quarter(self) -> None:
        edges = [self._los[0], *(self._keys[len(self._keys) * part // 4] for part in (1, 2, 3)), self._his[-1]]
        self._turn = (self._turn + 1) % 4
        self.drop(edges[self._turn], edges[self._turn + 1])

    def _forget_half(self) -> None:
        middle = sorted(upto for _, upto in self._times)[len(self._times) // 2]
        kept = [at for at, (_, upto) in enumerate(self._times) if upto >= middle]
        if len(kept) == len(self._times):
            kept = kept[len(kept) // 2 :]
        keys: list[bytes] = []
        for at in kept:
            keys += self._keys[bisect_left(self._keys, self._los[at]) : bisect_left(self._keys, self._his[at])]
        self._keys = keys
        self._values = {key: self._values[key] for key in keys}
        self._los, self._his = [self._los[at] for at in kept], [self._his[at] for at in kept]
        self._times = [self._times[at] for at in kept]
        self.size = sum(map(len, keys)) + sum(map(len, self._values.values()))
        self.size += _OVERHEAD * (len(keys) + len(kept))
