"""A master of a cluster as a client sees it: exact about what it answers, and with no quorum behind it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from gavel.errors import BadRequest, HistoryPruned
from gavel.keys import records
from gavel.media import extents
from gavel.transaction import portable, requests
from gavel.transaction.requests import Answer, Question

PAGE = 3  # records in one answer, so that long ones are met


def k(name: str) -> bytes:
    """A key that is none of file data."""
    return b"key-" + name.encode()


class Master:
    """Every version of every record; tids are 256, 512, ..., or times of a `clock` (ns)."""

    def __init__(self, page: int = PAGE, clock: Callable[[], int] = lambda: 0) -> None:
        self.status: dict[str, Any] = {}  # more of what it tells of itself
        self._clock = clock
        self.tid = 256
        self.page = page
        self.horizon = 256
        self.versions: dict[bytes, list[tuple[int, bytes | None]]] = {}
        self.keys: list[bytes] = []  # all there ever were, sorted
        self.blobs: dict[tuple[bytes, int], bytes] = {}
        self.data: dict[bytes, bytes] = {}  # raw bytes by sum
        self.outcomes: dict[tuple[bytes, int], requests.Outcome] = {}
        self.tells_more = False  # to who has collided and wants to know

    def get(self, key: bytes, at: int) -> bytes | None:
        if at < self.horizon:
            raise HistoryPruned(at, self.horizon, ())
        return self._value(key, at)

    def _value(self, key: bytes, at: int) -> bytes | None:
        return next((value for tid, value in reversed(self.versions.get(key, ())) if tid <= at), None)

    def state(self, at: int) -> dict[bytes, bytes]:
        return {key: value for key in self.keys if (value := self._value(key, at)) is not None}

    @property
    def states(self) -> list[dict[bytes, bytes]]:
        """By tid / 256."""
        return [{}, *(self.state(tid) for tid in range(256, self.tid + 1, 256))]

    def put(self, **values: bytes | None) -> int:
        """Others change something."""
        return self.change({k(key): value for key, value in values.items()})

    def change(self, writes: dict[bytes, bytes | None]) -> int:
        self.tid = max(self.tid + 256, self._clock() // 1000 << 8)
        for key, value in writes.items():
            if key not in self.versions:
                insort(self.keys, key)
            self.versions.setdefault(key, []).append((self.tid, value))
        return self.tid

    def between(self, lo: bytes, hi: bytes) -> list[bytes]:
        return self.keys[bisect_left(self.keys, lo) : bisect_left(self.keys, hi)]

    def answer(self, question: Question) -> Answer | HistoryPruned:
        try:
            return self._answer(question)
        except HistoryPruned as error:
            return error

    def _answer(self, question: Question) -> Answer:
        match question:
            case requests.Look(ranges):
                parts = [self._part(lo, hi, version) for lo, hi, version in ranges]
                return requests.Looked(self.tid, parts, self.tid)
            case requests.Fetch(ranges, at):
                return requests.Fetched([self._records(lo, hi, at) for lo, hi in ranges])
            case requests.Data(keys, at):
                return requests.Found([self._data(self.get(key, at)) for key in keys[: self.page]])
            case requests.Stage(session, number, codec, length, total, data):
                raw = extents.restore(extents.Extent(0, len(data), length, codec, total), data)
                self.blobs[session, number] = total
                self.data[total] = bytes(raw)
                return requests.Done()
            case requests.Submit():
                outcome = self._submit(question)
                if isinstance(outcome, requests.Collided) and question.fresh and self.tells_more:
                    parts = [self._part(lo, hi, version) for lo, hi, version in question.reads]
                    return requests.Overtaken(outcome, requests.Looked(self.tid, parts, self.tid))
                return outcome
            case requests.Horizon():
                return requests.Reaches(256, self.tid, self.horizon, [])
            case requests.Trace(key, until):
                return requests.Traced(self._versions(key, until))
            case requests.Changes():
                return self._changes(question)
            case requests.Status():
                return requests.Told({"total": 1 << 40, "free": 1 << 39, **self.status})
        raise BadRequest(f"{question!r} is not asked here")

    def _versions(self, key: bytes, until: int) -> list[tuple[int, int | None, bytes]]:
        found = self.versions.get(key, [])
        ends = [tid for tid, _ in found[1:]]
        return [
            (tid, end, value) for (tid, value), end in zip_longest(found, ends) if value is not None and tid <= until
        ]

    def _changes(self, asked: requests.Changes) -> requests.Changed:
        found = []
        for key in self.between(asked.lo, asked.hi):
            before = None
            for tid, value in self.versions[key]:
                if asked.since < tid <= asked.until and value != before:
                    found.append((key, tid, before, value))
                before = value
        skipped = [one for one in found if one[0] == asked.lo][: asked.skip]
        found = [one for one in found if one not in skipped]
        return requests.Changed(found[: self.page], len(found) > self.page)

    def _part(self, lo: bytes, hi: bytes, version: int) -> requests.Records | None:
        return None if version and not self._changed(lo, hi, version) else self._records(lo, hi, self.tid)

    def _changed(self, lo: bytes, hi: bytes, since: int) -> bytes | None:
        return next((key for key in self.between(lo, hi) if self.versions[key][-1][0] > since), None)

    def _records(self, lo: bytes, hi: bytes, at: int) -> requests.Records:
        found: list[tuple[bytes, bytes]] = []
        for key in self.between(lo, hi):
            value = self.get(key, at)
            if value is not None:
                if len(found) == self.page:
                    return requests.Records([key for key, _ in found], [value for _, value in found], key)
                found.append((key, value))
        return requests.Records([key for key, _ in found], [value for _, value in found])

    def _data(self, value: bytes | None) -> tuple[int, bytes] | None:
        named = None if value is None else portable.parse(value)
        return None if named is None else (extents.RAW, self.data[named.sum])

    def _submit(self, asked: requests.Submit) -> requests.Outcome:
        name = asked.session, asked.sequence
        if name not in self.outcomes:
            self.outcomes[name] = self._execute(asked)
        return self.outcomes[name]

    def _execute(self, asked: requests.Submit) -> requests.Outcome:
        for lo, hi, version in asked.reads:
            if version < self.horizon:
                return requests.TooOld(version, self.horizon)
            key = self._changed(lo, hi, version)
            if key is not None:
                return requests.Collided(key, self.tid, version)
        body = asked.body or b"".join(self.data[self.blobs[asked.session, number]] for number in asked.spilled)
        writes = requests.unpack(body)
        local: dict[bytes, bytes | None] = {}
        for key, value in zip(writes.keys, writes.values, strict=True):
            named = portable.parse(value) if value is not None and records.is_data(key) else None
            if named is not None:
                if named.form == portable.STAGED:
                    assert self.blobs[asked.session, named.number] == named.sum
                else:
                    source = portable.parse(self.get(named.key, named.at) or b"")
                    assert source is not None and source.sum == named.sum
                shown = extents.encode_view(
                    extents.Extent(0, 0, named.length, extents.RAW, named.sum), named.skip, named.view
                )
                value = portable.own(shown)
            local[key] = value
        return requests.Committed(self.change(local))
