"""A master of a cluster as a client sees it: exact about what it answers, and with no quorum behind it."""

from __future__ import annotations

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
    """Every state by its tid; tids are 256, 512, ..."""

    def __init__(self, page: int = PAGE) -> None:
        self.states: list[dict[bytes, bytes]] = [{}, {}]
        self.page = page
        self.horizon = 256
        self.blobs: dict[tuple[bytes, int], bytes] = {}
        self.data: dict[bytes, bytes] = {}  # raw bytes by sum
        self.outcomes: dict[tuple[bytes, int], requests.Outcome] = {}

    @property
    def tid(self) -> int:
        return (len(self.states) - 1) * 256

    def state(self, at: int) -> dict[bytes, bytes]:
        if at < self.horizon:
            raise HistoryPruned(at, self.horizon, ())
        return self.states[at // 256]

    def put(self, **values: bytes | None) -> int:
        """Others change something."""
        return self.change({k(key): value for key, value in values.items()})

    def change(self, writes: dict[bytes, bytes | None]) -> int:
        state = {**self.states[-1], **{k: v for k, v in writes.items() if v is not None}}
        for key in [key for key, value in writes.items() if value is None]:
            state.pop(key, None)
        self.states.append(state)
        return self.tid

    def answer(self, question: Question) -> Answer:
        try:
            return self._answer(question)
        except HistoryPruned as error:
            return requests.failed(error)

    def _answer(self, question: Question) -> Answer:
        match question:
            case requests.Look(ranges):
                parts = [self._part(lo, hi, version) for lo, hi, version in ranges]
                return requests.Looked(self.tid, parts, self.tid)
            case requests.Fetch(ranges, at):
                return requests.Fetched([self._records(lo, hi, at) for lo, hi in ranges])
            case requests.Data(keys, at):
                return requests.Found([self._data(self.state(at).get(key)) for key in keys[: self.page]])
            case requests.Stage(session, number, codec, length, total, data):
                raw = extents.restore(extents.Extent(0, len(data), length, codec, total), data)
                self.blobs[session, number] = total
                self.data[total] = bytes(raw)
                return requests.Done()
            case requests.Submit():
                return self._submit(question)
        raise BadRequest(f"{question!r} is not asked here")

    def _part(self, lo: bytes, hi: bytes, version: int) -> requests.Records | None:
        return None if version and not self._changed(lo, hi, version) else self._records(lo, hi, self.tid)

    def _changed(self, lo: bytes, hi: bytes, since: int) -> bytes | None:
        for before, after in zip(self.states[since // 256 :], self.states[since // 256 + 1 :], strict=False):
            for key in sorted(before.keys() | after.keys()):
                if lo <= key < hi and before.get(key) is not after.get(key):
                    return key
        return None

    def _records(self, lo: bytes, hi: bytes, at: int) -> requests.Records:
        found = [(key, value) for key, value in sorted(self.state(at).items()) if lo <= key < hi]
        end = found[self.page][0] if len(found) > self.page else None
        some = found[: self.page]
        return requests.Records([key for key, _ in some], [value for _, value in some], end)

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
                    source = portable.parse(self.state(named.at)[named.key])
                    assert source is not None and source.sum == named.sum
                shown = extents.encode_view(
                    extents.Extent(0, 0, named.length, extents.RAW, named.sum), named.skip, named.view
                )
                value = portable.own(shown)
            local[key] = value
        return requests.Committed(self.change(local))
