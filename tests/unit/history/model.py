"""What history should answer, from a list of versions per key."""

from collections.abc import Iterable
from itertools import pairwise

from gavel.history.horizon import Horizon
from gavel.history.versions import Change, Version

Writes = dict[bytes, bytes | None]


class Model:
    def __init__(self) -> None:
        self.all: dict[bytes, list[Version]] = {}
        self.last_tid = 0
        self.tids: list[int] = []

    def apply(self, tid: int, writes: Writes) -> None:
        for key, value in writes.items():
            versions = self.all.setdefault(key, [])
            if versions and versions[-1].delete_tid is None:
                if versions[-1].value == value:
                    continue
                versions[-1] = versions[-1]._replace(delete_tid=tid)
            if value is not None:
                versions.append(Version(key, tid, None, value))
        self.last_tid = tid
        self.tids.append(tid)

    def until(self, tid: int) -> "Model":
        """The model as it was when `tid` had been applied."""
        then = Model()
        for key, versions in self.all.items():
            then.all[key] = [
                each._replace(delete_tid=None) if (each.delete_tid or 0) > tid else each
                for each in versions
                if each.create_tid <= tid
            ]
        then.tids = [each for each in self.tids if each <= tid]
        then.last_tid = tid
        return then

    def pruned(self, held: Horizon) -> "Model":
        """The model without what no state that is kept shows."""
        rest = Model()
        for key, versions in self.all.items():
            rest.all[key] = [
                each
                for each in versions
                if each.delete_tid is None or not held.needless(each.create_tid, each.delete_tid)
            ]
        rest.tids, rest.last_tid = list(self.tids), self.last_tid
        return rest

    def versions(self, key: bytes) -> list[Version]:
        return self.all.get(key, [])

    def at(self, tid: int, lo: bytes = b"", hi: bytes = b"\xff") -> dict[bytes, bytes]:
        return {
            key: each.value
            for key in sorted(self.all)
            if lo <= key < hi
            for each in self.all[key]
            if each.create_tid <= tid and (each.delete_tid is None or each.delete_tid > tid)
        }

    def changes(self, t0: int, t1: int, lo: bytes = b"", hi: bytes = b"\xff") -> list[Change]:
        found = []
        for key in sorted(self.all):
            if lo <= key < hi:
                moments = {each.create_tid for each in self.all[key]} | {each.delete_tid or 0 for each in self.all[key]}
                for tid in sorted(moments):
                    if t0 < tid <= t1:
                        found.append(Change(key, tid, self._value(key, tid - 1), self._value(key, tid)))
        return found

    def _value(self, key: bytes, tid: int) -> bytes | None:
        for each in self.all[key]:
            if each.create_tid <= tid and (each.delete_tid is None or each.delete_tid > tid):
                return each.value
        return None


def sorted_lists(writes: Writes) -> tuple[list[bytes], list[bytes | None]]:
    keys = sorted(writes)
    return keys, [writes[key] for key in keys]


def as_pairs(items: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """A scan as a dict; it must have been in order and without repetition."""
    pairs = list(items)
    keys = [key for key, _ in pairs]
    assert all(a < b for a, b in pairwise(keys)), "a scan out of order"
    return dict(pairs)
