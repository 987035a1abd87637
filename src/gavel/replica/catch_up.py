"""Catching up: what one master lacks, told by another, transaction by transaction, in bounded pieces.

Told are the changes in (lo, hi] in the order of (tid, key), records in portable form with the file data they need. The
receiver logs and applies each transaction as its own execution would have done; so every piece that is taken in leaves
a state that was once true, a crash loses what was not durable and nothing else, and what it has tells from where to
go on, with any peer. Prune and relocation here or there make no difference (portable.py).

The trees give changes by key. To tell them by tid, the teller walks what changed and keeps the changes of the lowest
tids, a *window* of limits.CATCH_UP_WINDOW or up to twice as many; when these are told it walks again. A call does a
bounded part of a walk; a piece may be empty for that reason. What a call finds is sorted there and then, and the runs
are merged while they are told, so that no call sorts a window.

A cursor is MessagePack [tid, key, position, total, calls]: told is everything up to (tid, key).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from heapq import merge

import msgspec

from gavel.errors import BadRequest, Damaged, HistoryPruned
from gavel.history.history import History
from gavel.history.versions import Change
from gavel.keys.records import is_data
from gavel.limits import CATCH_UP_STEP, CATCH_UP_WINDOW, MEMBERS_MAX
from gavel.media.extents import EXTENT, Extent, decode, view_size
from gavel.media.volume import Volume
from gavel.transaction import portable

_OVERHEAD = 64  # bytes that a change counts for, beside its key, its value and the file data it shows


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """See the module; `position` and `total` are bytes, about."""

    tid: int = 0
    key: bytes = b""
    position: int = 0
    total: int = 0
    calls: int = 0


class Told(msgspec.Struct, array_like=True, frozen=True):
    """Changes of one transaction: sorted keys, portable values. `whole`: there are no more of them."""

    tid: int
    keys: list[bytes]
    values: list[bytes | None]
    whole: bool


class Blob(msgspec.Struct, array_like=True, frozen=True):
    """File data that records of the piece refer to."""

    codec: int
    length: int
    sum: bytes
    data: bytes


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """A piece of what a master lacks."""

    told: list[Told]
    blobs: list[Blob]


_encode = msgspec.msgpack.Encoder().encode
_decode_cursor = msgspec.msgpack.Decoder(Cursor).decode
_decode_piece = msgspec.msgpack.Decoder(Piece).decode


def read_piece(data: bytes) -> Piece:
    """The piece in these bytes; raises Damaged."""
    try:
        return _decode_piece(data)
    except msgspec.MsgspecError as error:
        raise Damaged("a piece of catching up", 0, "MessagePack of changes", str(error)) from None


def _read_cursor(cursor: bytes | None) -> Cursor:
    if cursor is None:
        return Cursor()
    try:
        return _decode_cursor(cursor)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"a cursor of no known form ({error})") from None


def _weight(key: bytes, value: bytes | None) -> int:
    size = _OVERHEAD + len(key)
    if value is None:
        return size
    return size + (view_size(value) if is_data(key) and value[0] == EXTENT else len(value))


class _Stream:
    """What is told to one who lacks (lo, hi], from a cursor on."""

    def __init__(self, volume: Volume, history: History, lo: int, hi: int, cursor: Cursor) -> None:
        self._volume = volume
        self.cursor = cursor
        self.total = cursor.total
        self._counting = not cursor.total  # the first walk tells how much there is
        self._history = history
        self._lo, self._hi = lo, hi
        self.next: Change | None = None  # to be told, once the walk is through
        self._runs: list[list[Change]] = []  # the window, sorted runs of it
        self._found = 0  # changes in it
        self._merged: Iterator[Change] = iter(())
        self._walk: Iterator[Change] | None = None
        self._cut = 0  # changes above this tid wait for a later window
        self._begin()

    def _begin(self) -> None:
        tid = self.cursor.tid
        since = tid - 1 if tid > max(self._lo, self._history.horizon) else self._lo
        self._walk = self._history.changes(since, self._hi)
        self._drops = self._volume.drops
        self._cut = self._hi
        self._runs, self._found = [], 0

    @property
    def places_stand(self) -> bool:
        """Whether file data lies where the walk found it: what was dropped or moved since may be used anew."""
        return self._volume.drops == self._drops

    @property
    def gathering(self) -> bool:
        """Whether the walk is not through; step() goes on with it."""
        return self._walk is not None

    @property
    def counted(self) -> int:
        """How much there is to tell; 0 while that is not known."""
        return 0 if self._counting else self.total

    @property
    def through(self) -> bool:
        """Whether all was told."""
        return self._walk is None and self.next is None and self._cut == self._hi

    def step(self) -> None:
        """Walk a bounded part of what changed."""
        assert self._walk is not None
        counting, told, cut = self._counting, (self.cursor.tid, self.cursor.key), self._cut
        found: list[Change] = []
        over = False
        for number, change in enumerate(self._walk, 1):
            if counting:
                self.total += _weight(change.key, change.new)
            if change.tid <= cut and (change.tid, change.key) > told:
                found.append(change)
            if number == CATCH_UP_STEP:
                break
        else:
            over = True
        if found:
            found.sort(key=_order)
            self._runs.append(found)
            self._found += len(found)
        if self._found > 2 * CATCH_UP_WINDOW:
            self._leave()
        if over:
            self._walk, self._counting = None, False
            self._merged = merge(*self._runs, key=_order)
            self._runs = []
            self.take()

    def _leave(self) -> None:
        """Leave what is beyond a window for later, whole transactions at a time; a sample says where that is."""
        sample = sorted(change.tid for run in self._runs for change in run[:: CATCH_UP_STEP // 50 or 1])
        cut = sample[len(sample) * CATCH_UP_WINDOW // self._found]
        if cut >= self._cut:
            return
        self._cut = cut
        for run in self._runs:
            del run[bisect_right(run, cut, key=_tid) :]
        self._found = sum(map(len, self._runs))

    def take(self) -> Change | None:
        """The next change to tell, and go on behind it."""
        change, self.next = self.next, next(self._merged, None)
        return change

    def advance(self, cursor: Cursor) -> None:
        """Everything up to here was told; when the window is empty, walk for the next one."""
        self.cursor = cursor
        if self._walk is None and self.next is None and self._cut < self._hi:
            self._begin()


def _order(change: Change) -> tuple[int, bytes]:
    return change.tid, change.key


def _tid(change: Change) -> int:
    return change.tid


class Teller:
    """Tells others what they lack. Remembers where a few of them are, so that it need not walk again."""

    def __init__(self, volume: Volume, history: History) -> None:
        self._volume = volume
        self._history = history
        self._streams: OrderedDict[tuple[int, int, bytes], _Stream] = OrderedDict()

    def changes(self, lo: int, hi: int, cursor: bytes | None, limit: int) -> tuple[bytes, bytes | None, int, int]:
        """A piece of about `limit` bytes, the next cursor (None after the last), position and total in bytes.

        Raises HistoryPruned when (lo, hi] cannot be told any more, BadRequest, Damaged, DeviceFailed.
        """
        stream = self._streams.pop((lo, hi, cursor or b""), None)
        if stream is None:
            stream = _Stream(self._volume, self._history, lo, hi, _read_cursor(cursor))
        told: list[Told] = []
        blobs: dict[bytes, Blob] = {}
        here = stream.cursor
        if stream.gathering:
            stream.step()
        if not stream.gathering:
            here = self._fill(stream, told, blobs, limit)
        here = Cursor(here.tid, here.key, here.position, stream.counted, here.calls + 1)
        data = _encode(Piece(told, list(blobs.values())))
        if stream.through:
            return data, None, stream.total, stream.total
        following = _encode(here)
        stream.advance(here)
        self._streams[lo, hi, following] = stream
        while len(self._streams) > MEMBERS_MAX:
            self._streams.popitem(last=False)
        return data, following, here.position, stream.total

    def _fill(self, stream: _Stream, told: list[Told], blobs: dict[bytes, Blob], limit: int) -> Cursor:
        here = stream.cursor
        tid, key, position, size = here.tid, here.key, here.position, 0
        while size < limit and (change := stream.take()) is not None:
            if not told or change.tid != tid:
                told.append(Told(change.tid, [], [], True))
            tid, key = change.tid, change.key
            value = change.new
            if value is not None and is_data(key):
                size += self._add_data(change, blobs, stream.places_stand)
                value = portable.own(value)
            told[-1].keys.append(key)
            told[-1].values.append(value)
            size += _OVERHEAD + len(key) + len(value or b"")
            position += _weight(key, change.new)
        if stream.next is not None and stream.next.tid == tid:
            told[-1] = Told(tid, told[-1].keys, told[-1].values, False)
        return Cursor(tid, key, position, here.total, here.calls)

    def _add_data(self, change: Change, blobs: dict[bytes, Blob], stands: bool) -> int:
        """The file data of a record, unless the piece has it already; returns how many bytes that makes more.

        `stands`: it lies where the record said it did when it was read.
        """
        assert change.new is not None
        extent = decode(change.new).extent
        if extent is None or extent.sum in blobs:
            return 0
        if not stands:
            extent = self._extent_now(change)
        data = self._volume.read(extent.place, extent.stored)
        blobs[extent.sum] = Blob(extent.codec, extent.length, extent.sum, bytes(data))
        return len(data)

    def _extent_now(self, change: Change) -> Extent:
        """Where the file data of a record lies now; raises HistoryPruned where nobody can see it any more."""
        value = self._history.get_at(change.key, change.tid)
        if value is None:
            raise HistoryPruned(change.tid, self._history.horizon)
        extent = decode(value).extent
        assert extent is not None, "a relocated record refers to the same bytes"
        return extent
