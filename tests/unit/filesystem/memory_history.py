"""A history in memory, as simple as can be: for every key a list of versions. For tests of what stands on history.

It is a View (the current state), gives views as of any tid, and answers `versions` and `changes` like history does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Any

from gavel.errors import Damaged
from gavel.history.versions import Change, Version
from gavel.keys import tid as tids
from gavel.media.extents import Extent, describe, restore
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Buffer


class MemoryHistory:
    """Commit transactions with run(); look at any of them with at(tid)."""

    START = 1_700_000_000_000_000  # microseconds

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.past: dict[bytes, list[Version]] = {}
        self.keys: list[bytes] = []
        self.micros = self.START
        self.horizon = 0
        self.kept: tuple[int, ...] = ()
        self.created_tid = self.last_tid = tids.make(self.micros)
        self.next_object = 2  # 1 is the root directory
        self.loads = 0

    # The past.
    def versions(self, key: bytes) -> list[Version]:
        return list(self.past.get(key, ()))

    def get_at(self, key: bytes, at: int) -> bytes | None:
        for version in reversed(self.past.get(key, ())):
            if version.create_tid <= at:
                return version.value if version.delete_tid is None or at < version.delete_tid else None
        return None

    def scan_at(self, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
        for key in self.keys[bisect_left(self.keys, lo) : bisect_left(self.keys, hi)]:
            value = self.get_at(key, at)
            if value is not None:
                yield key, value

    def changes(self, t0: int, t1: int, lo: bytes = b"", hi: bytes = b"\xff" * 16) -> Iterator[Change]:
        for key in self.keys[bisect_left(self.keys, lo) : bisect_left(self.keys, hi)]:
            moments = {v.create_tid for v in self.past[key]} | {v.delete_tid for v in self.past[key] if v.delete_tid}
            for tid in sorted(moment for moment in moments if t0 < moment <= t1):
                yield Change(key, tid, self.get_at(key, tid - 1), self.get_at(key, tid))

    # The present, as a View.
    def get(self, key: bytes) -> bytes | None:
        versions = self.past.get(key)
        return versions[-1].value if versions and versions[-1].delete_tid is None else None

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.scan_at(lo, hi, tids.TID_MAX)

    def load(self, extent: Extent) -> Buffer:
        self.loads += 1
        if extent.place >= len(self.stored):
            raise Damaged("extent", extent.place)
        return restore(extent, self.stored[extent.place])

    def stage(self, data: Buffer, codec: int = 0) -> Extent:
        self.stored.append(bytes(data))
        return describe(data, len(self.stored) - 1)

    def share(self, extent: Extent) -> None:
        assert extent.place < len(self.stored)

    # Transactions.
    def take_object(self) -> int:
        self.next_object += 1
        return self.next_object - 1

    def begin(self, at: int | None = None) -> Transaction:
        now = self.micros * 1000
        if at is None:
            return Transaction(self, now, take_object=self.take_object)
        return Transaction(AsOf(self, at), now)

    def commit(self, tx: Transaction) -> int:
        changed = {key: value for key, value in tx.writes.items() if value != self.get(key)}
        if not changed:
            return self.last_tid
        tid = self.last_tid = tids.make(self.micros)
        for key, value in sorted(changed.items()):
            self._close(key, tid)
            if value is not None:
                if key not in self.past:
                    insort(self.keys, key)
                self.past.setdefault(key, []).append(Version(key, tid, None, value))
        return tid

    def _close(self, key: bytes, tid: int) -> None:
        versions = self.past.get(key)
        if versions and versions[-1].delete_tid is None:
            versions[-1] = versions[-1]._replace(delete_tid=tid)

    def run(self, op: Callable[..., Any], *args: Any, seconds: float = 1, **more: Any) -> Any:
        """Run one operation as one transaction, some time after the last."""
        self.micros += int(seconds * 1_000_000)
        tx = self.begin()
        result = op(tx, *args, **more)
        self.commit(tx)
        return result


class AsOf:
    """A frozen view."""

    def __init__(self, history: MemoryHistory, at: int) -> None:
        self.history, self.at = history, at

    def get(self, key: bytes) -> bytes | None:
        return self.history.get_at(key, self.at)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.history.scan_at(lo, hi, self.at)

    def load(self, extent: Extent) -> Buffer:
        return self.history.load(extent)

    def stage(self, data: Buffer, codec: int = 0) -> Extent:
        raise AssertionError("nobody writes to the past")

    def share(self, extent: Extent) -> None:
        raise AssertionError("nobody writes to the past")
