"""The history of a cluster as a client sees it: what filesystem.past asks for, fetched from masters as it is needed.

What looks at the past (log, diff, undo) runs in the caller's thread and waits for each answer. The slices of an undo
run as operations on the engine's loop and look at the past from there: what is lacking is a Miss then, as for all that
operations read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from gavel.history.versions import Change, Version
from gavel.runtime.cluster_engine import ClusterEngine
from gavel.transaction.requests import Horizon, Reaches

_PAGE = 1000  # records fetched at a time


class RemotePast:
    """See filesystem.past.Past. `last_tid` is the newest state when this was made."""

    def __init__(self, engine: ClusterEngine) -> None:
        self._engine = engine
        answer = engine.wait(engine.ask(Horizon()))
        assert isinstance(answer, Reaches)
        self.created_tid, self.last_tid, self.horizon = answer.created, answer.last, answer.horizon
        self.kept: Sequence[int] = answer.kept

    def get_at(self, key: bytes, at: int) -> bytes | None:
        """The value of a key as of a tid; raises HistoryPruned."""
        if self._engine.on_loop:
            return self._engine.view(at).get(key)
        return self._engine.run_now(lambda tx: tx.get(key), at)

    def scan_at(self, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in [lo, hi) as of a tid, lazily; raises HistoryPruned."""
        if self._engine.on_loop:
            yield from self._engine.view(at).scan(lo, hi)
            return
        while True:
            start = lo
            found = self._engine.run_now(lambda tx: list(islice(tx.scan(start, hi), _PAGE)), at)  # noqa: B023  # runs now
            yield from found
            if len(found) < _PAGE:
                return
            lo = found[-1][0] + b"\0"

    def versions(self, key: bytes) -> list[Version]:
        """Every version of a key that began by `last_tid`, oldest first."""
        return self._engine.wait(self._engine.versions(key, self.last_tid))

    def changes(self, t0: int, t1: int, lo: bytes, hi: bytes) -> Iterator[Change]:
        """What changed in (t0, t1] to keys in [lo, hi), by key, and for one key by tid; raises HistoryPruned."""
        skip, more = 0, True
        while more:
            page, more = self._engine.wait(self._engine.changes(t0, t1, lo, hi, skip))
            yield from page
            if more:
                last = page[-1].key
                skip = sum(change.key == last for change in page) + (skip if last == lo else 0)
                lo = last
