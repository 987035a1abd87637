"""Records that know when they were true: the current state, every past state, and what changed between two.

A record is a key and a value that was true during [create_tid, delete_tid). Two trees, after volume.md:
- *current* holds the live version of every key with its create_tid, so current work never meets old versions;
- *past* holds closed versions (past.py).

Invariants:
- transactions are applied in the order of their tids, each once; `last_tid` is the newest;
- versions of a key do not overlap, and none is empty: create_tid < delete_tid;
- records from UNVERSIONED on have no past: what replaces one takes its place, and a deleted one is gone;
- live bytes: every version of a data record, live or closed, counts the stored bytes it refers to once;
- the trees on the volume are those of one tid (roots.py), whatever is applied while they are written.

Nothing here is durable before the checkpoint that holds it is through; until then the log is what survives, and
replay applies it again. Reading raises Damaged where the volume's bytes do not verify.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from itertools import chain

from gavel.btree.addresses import addresses
from gavel.btree.edit import Replaced
from gavel.btree.evacuate import evacuate
from gavel.btree.overdue import next_due, note, settle
from gavel.btree.pool import Pool
from gavel.btree.reach import reach
from gavel.btree.tree import BTree
from gavel.errors import Damaged, DeviceFailed, GavelError, HistoryPruned, Unwritable
from gavel.history import horizon as horizons
from gavel.history import past as closed
from gavel.history import roots
from gavel.history.accounting import count_live, referred, relink, stored, without_data
from gavel.history.changes import changed_since, changes_between, newest_within
from gavel.history.check import Claims, problems
from gavel.history.horizon import Horizon, recalled, said
from gavel.history.prune import judged
from gavel.history.recount import live_bytes_counted
from gavel.history.versions import Change, Counts, Step, Version
from gavel.history.walk import data_in, walk
from gavel.keys import records
from gavel.keys.records import UNVERSIONED
from gavel.limits import BIG_BLOCK, NODE_CACHE_BYTES, PRUNE_DESCENT, SLICE_NODES
from gavel.media import layout
from gavel.media.volume import Volume


class History:
    """The history on one volume, as of its last checkpoint; the owner replays the log on top by calling apply().

    One thread owns it; iterators stay exact when transactions are applied between their steps.
    """

    __slots__ = (
        "_broken", "_checkpointing", "_current", "_live_data", "_past", "_past_data", "_pool", "_unsure", "_volume",
        "get", "horizon", "kept", "last_tid",
    )  # fmt: skip

    horizon: int
    """From this tid on every state can be read."""

    kept: tuple[int, ...]
    """Below the horizon the states as of these tids can be read, and no others."""

    get: Callable[[bytes], bytes | None]
    """The current value of a key, None where there is none. Raises Damaged."""

    def __init__(self, volume: Volume, cache_bytes: int = NODE_CACHE_BYTES) -> None:
        start = roots.decode(volume.roots)
        self._volume = volume
        self._pool = Pool(volume, cache_bytes)
        self._current = BTree(self._pool, start.current)
        self._past = BTree(self._pool, start.past, closed.lowest_end)
        self.last_tid = start.last_tid
        self._unsure: GavelError | None = None
        self.horizon, self.kept = start.horizon, ()
        self._recall_horizon()
        self._live_data, self._past_data = start.live_data, start.past_data
        if self._live_data == roots.UNKNOWN:  # once: from the first checkpoint on it is in the roots
            self._live_data, self._past_data = data_in(self._current), data_in(self._past)
        self._checkpointing = False
        self._broken: Damaged | DeviceFailed | None = None
        self.get = self._current.get  # the most frequent call of all does without a layer

    @property
    def created_tid(self) -> int:
        """The tid before which there is nothing: of the volume's making, or, if it took in what is older, of that.

        The root directory is there from the beginning on, and keeps a version for every state that can be read.
        """
        root = records.inode(0, records.ROOT_OBJECT)
        with contextlib.suppress(Damaged, DeviceFailed):
            oldest = self._past.seek(closed.past_range(root)[0])
            if oldest is not None and closed.split_key(oldest[0])[0] == root:
                return min(self._volume.created_tid, oldest[1])
            live = self._current.find(root)
            if live is not None:
                return min(self._volume.created_tid, live[0])
        return self._volume.created_tid

    # -- the current state -------------------------------------------------------------------------------------

    def version(self, key: bytes) -> tuple[int, bytes] | None:
        """The create_tid and value of the live version of a key."""
        return self._current.find(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Current keys and values in [lo, hi), in key order, lazily.

        Applied meanwhile: what lies ahead is seen as it is when it is reached, a leaf at a time.
        """
        slices = self._current.slices(lo, hi)
        return chain.from_iterable(zip(keys, values) for keys, _, values in slices)  # noqa: B905

    # -- the past ----------------------------------------------------------------------------------------------

    def get_at(self, key: bytes, at: int) -> bytes | None:
        """The value of a key as of a tid; one that is not reached yet means now. Raises HistoryPruned."""
        if at < self.horizon:
            self._require(at)
        found = self._current.find(key)
        if found is not None and found[0] <= at:
            return found[1]
        if at >= self.last_tid:
            return None
        return closed.version_at(self._past, key, at)

    def scan_at(self, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in [lo, hi) as of a tid, in key order, lazily. Raises HistoryPruned at once."""
        self._require(at)
        if at >= self.last_tid:
            at = self.last_tid  # what is applied while this runs stays unseen
        return self._scan_at(lo, hi, at)

    def _scan_at(self, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
        current = self._current
        while True:
            self._require(at)  # a horizon that moves on is an edit as well
            edits = current.edits
            for item in self._merged_at(lo, hi, at):
                yield item
                if current.edits != edits:
                    lo = item[0] + b"\0"
                    break
            else:
                return

    def _merged_at(self, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
        """Live versions from up to `at` and closed ones that were true then; a key is in one of them only."""
        then = closed.true_at(self._past, lo, hi, at)
        old = next(then, None)
        for keys, tids, values in self._current.slices(lo, hi):
            if (old is None or old[0] > keys[-1]) and max(tids) <= at:  # nothing here has changed since
                yield from zip(keys, values, strict=True)
                continue
            for key, tid, value in zip(keys, tids, values, strict=True):
                while old is not None and old[0] < key:
                    yield old
                    old = next(then, None)
                if tid <= at:
                    yield key, value
        if old is not None:
            yield old
            yield from then

    def versions(self, key: bytes) -> list[Version]:
        """Every version of a key that is kept, oldest first."""
        found = [
            Version(key, created, closed.split_key(stored)[1], value)
            for keys, tids, values in self._past.slices(*closed.past_range(key))
            for stored, created, value in zip(keys, tids, values, strict=True)
        ]
        live = self._current.find(key)
        if live is not None:
            found.append(Version(key, live[0], None, live[1]))
        return found

    # -- what is kept of it ------------------------------------------------------------------------------------

    def set_horizon(self, horizon: int, kept: Sequence[int]) -> None:
        """From now on only states at or above the horizon, and below it those as of the `kept` tids, can be read.

        It never goes back, nor is anything kept again (horizon.py). apply() calls this when a transaction says so,
        which makes it last. What nobody can see any more is dropped by prune().
        """
        held, to = Horizon(self.horizon, self.kept), Horizon(horizon, tuple(kept))
        if self._unsure is not None and horizon >= self.horizon:
            held, self._unsure = Horizon(), None  # whoever wrote the record knew what was kept
        held = held.moved(to)
        self.horizon, self.kept = held.horizon, held.kept

    def _recall_horizon(self) -> None:
        """What is kept, from the record in the trees. Unless that can be found out, nothing below the horizon is."""
        trees = self.horizon
        try:
            held = recalled(self.versions(horizons.KEY))
        except (Damaged, DeviceFailed) as trouble:
            self._unsure = trouble
            return
        if held.horizon >= trees:
            self.horizon, self.kept = held.horizon, held.kept
        else:
            self._unsure = Damaged("the record of the horizon", 0, f"horizon 0x{trees:016x}", f"0x{held.horizon:016x}")

    def _require(self, at: int) -> None:
        """Raise HistoryPruned unless the state as of a tid is kept."""
        if at < self.horizon:
            held = Horizon(self.horizon, self.kept)
            if not held.readable(at):
                raise HistoryPruned(at, self.horizon, held.nearest(at))

    def prune(self, cursor: bytes, limit: int) -> tuple[bytes | None, int]:
        """Drop the needless of `limit` closed versions or a leaf more, from a cursor on (empty: from the beginning).

        Where there are none, nothing is read. Returns where to go on (None at the end; cursors ascend), and how many
        were dropped. Not logged: it is durable with the next checkpoint. Raises Damaged, DeviceFailed with nothing
        dropped, also where the record that says what is kept cannot be read.
        """
        if self._unsure is not None:
            raise self._unsure
        held, dropped = Horizon(self.horizon, self.kept), 0
        at: bytes | None = cursor
        while at is not None and limit > 0:
            leaf, way, at = next_due(self._past, at, held)
            limit -= PRUNE_DESCENT
            if leaf is None:
                settle(self._past, way, held)
                continue
            keys, tids, values = leaf.keys, leaf.tids, leaf.values
            limit -= len(keys)
            needless, due = judged(keys, tids, held)
            gone, said = [keys[index] for index in needless], [values[index] for index in needless]
            reach(self._past, gone)
            note(self._past, way, due, held)
            if gone:
                self._rewrite(self._past, gone, [0] * len(gone), [None] * len(gone))
                for place, size in referred(gone, said).items():
                    self._volume.drop_live(place, size)
                    self._past_data -= size
                dropped += len(gone)
        return at, dropped

    def needless(self, cursor: bytes, limit: int, held: Horizon) -> tuple[list[Version], bytes | None]:
        """What prune() would drop, were the horizon `held`; nothing is changed. Raises Damaged, DeviceFailed."""
        found: list[Version] = []
        at: bytes | None = cursor
        while at is not None and limit > 0:
            leaf, _, at = next_due(self._past, at, held)
            limit -= PRUNE_DESCENT
            if leaf is not None:
                limit -= len(leaf.keys)
                for index in judged(leaf.keys, leaf.tids, held).needless:
                    key, deleted = closed.split_key(leaf.keys[index])
                    found.append(Version(key, leaf.tids[index], deleted, leaf.values[index]))
        return found, at

    # -- how it is kept ----------------------------------------------------------------------------------------

    def walk(
        self, cursor: bytes, *, data_only: bool = False, closed_only: bool = False
    ) -> Iterator[tuple[Version, bytes]]:
        """Every version from a cursor on (empty: from the beginning), each with the cursor of the next; see walk.py."""
        return walk(self._current, self._past, cursor, data_only, closed_only)

    def holds(self, version: Version) -> bool:
        """Whether there is this very version: not closed meanwhile, dropped or relocated. Raises Damaged."""
        key, created, deleted, value = version
        tree, stored = (self._current, key) if deleted is None else (self._past, closed.past_key(key, deleted))
        return tree.find(stored) == (created, value)

    def relocate(self, key: bytes, create_tid: int, delete_tid: int | None, old: bytes, new: bytes) -> bool:
        """Let a version of a data record have another value that means the same, tids kept: no change to anybody.

        Given as live, it may have been closed meanwhile. False when there is no such version with the `old` value any
        more. Not logged: it is durable with the next checkpoint, and what the old value refers to is not used anew
        before. Raises Damaged, DeviceFailed.
        """
        if delete_tid is None and self._current.find(key) == (create_tid, old):
            self._rewrite(self._current, [key], [create_tid], [new])
            self._live_data += relink(self._volume, old, new)
            return True
        place = closed.past_key(key, delete_tid) if delete_tid is not None else self._closed_since(key, create_tid)
        if place is None or self._past.find(place) != (create_tid, old):
            return False
        self._rewrite(self._past, [place], [create_tid], [new])
        self._past_data += relink(self._volume, old, new)
        return True

    def _closed_since(self, key: bytes, create_tid: int) -> bytes | None:
        """Where the version lies that began at `create_tid`, if it is closed."""
        found = self._past.seek(closed.past_key(key, create_tid + 1))
        return found[0] if found is not None and found[0][: -closed.TID_SIZE] == key else None

    def _rewrite(self, tree: BTree, keys: list[bytes], tids: list[int], values: list[bytes | None]) -> None:
        """Edit a tree without a transaction. Iterators under way begin anew, as for every edit."""
        if self._broken is not None:
            raise self._broken
        reach(tree, keys)
        self._current.edits += 1
        try:
            tree.rewrite(keys, tids, values, Replaced())
        except (Damaged, DeviceFailed) as trouble:
            self._broken = trouble
            raise

    def evacuate(self, blocks: Collection[int], cursor: bytes, count: int) -> tuple[bytes | None, int]:
        """Have the nodes in these big-blocks written elsewhere by the next checkpoint, looking at about `count`.

        From a cursor on (empty: from the beginning); returns where to go on, None at the end, and about how many
        bytes that makes to write. Raises Damaged, DeviceFailed.
        """
        past = cursor[:1] == b"p"
        size, after = evacuate(
            self._past if past else self._current,
            lambda address: layout.node_extent(address)[0] // BIG_BLOCK in blocks,
            cursor[1:],
            count,
        )
        if after is not None:
            return (b"p" if past else b"c") + after, size
        return None if past else b"p", size

    # -- what changed ------------------------------------------------------------------------------------------

    def changed(self, lo: bytes, hi: bytes, since: int) -> tuple[bytes, int] | None:
        """The key and tid of one change in [lo, hi) after `since`, deletions included; None if there was none.

        Costs a descent where nothing changed. `hi` is the end of a prefix or of `just(key)`. Raises HistoryPruned for
        a `since` below the horizon, kept or not: what changed since and was changed back may be gone.
        """
        if self.last_tid <= since:
            return None
        if since < self.horizon:
            raise HistoryPruned(since, self.horizon)
        return changed_since(self._current, self._past, lo, hi, since)

    def newest(self, lo: bytes, hi: bytes) -> int:
        """A tid at or above every change in [lo, hi), deletions included, and at most `last_tid`.

        Costs a descent and reads nothing. Below the horizon changes may be gone, so it is not lower than that.
        """
        return min(max(newest_within(self._current, self._past, lo, hi), self.horizon), self.last_tid)

    def changes(self, t0: int, t1: int, lo: bytes = b"", hi: bytes = b"\xff" * 16) -> Iterator[Change]:
        """What changed in (t0, t1] to keys in [lo, hi): by key, and for one key by tid. Raises HistoryPruned.

        Every change is told, also of what was undone within the interval; below the horizon, from a kept tid on, every
        key that differs is told, but not each of its changes. A t0 of 0 is before everything: then all that is kept is
        told. Subtrees that did not change since t0 are not read. Exact whatever is applied meanwhile.
        """
        if t0:
            self._require(t0)
        if t1 > t0:
            self._require(t1)
        return self._changes(t0, changes_between(self._current, self._past, t0, min(t1, self.last_tid), lo, hi))

    def _changes(self, t0: int, found: Iterator[Change]) -> Iterator[Change]:
        horizon = self.horizon
        for change in found:
            if self.horizon != horizon and t0:
                self._require(t0)
            yield change

    # -- writing -----------------------------------------------------------------------------------------------

    def prepare(self, tid: int, keys: list[bytes]) -> None:
        """Read all that applying these sorted keys at `tid` will edit. To be called before the transaction is logged.

        Raises Unwritable or DeviceFailed with nothing changed: that transaction cannot be applied, others can. One
        that is in the log and cannot be applied would make the volume unreadable for every later replay.
        """
        try:
            there = reach(self._current, keys)
            if there:
                suffix = tid.to_bytes(closed.TID_SIZE, "big")
                reach(self._past, [key + suffix for key in there])
        except Damaged as damage:
            raise Unwritable(damage) from damage

    def apply(self, tid: int, keys: list[bytes], values: list[bytes | None]) -> None:
        """Apply a transaction: sorted unique keys with their new values, None for a deletion.

        A tid that is not above `last_tid` was applied before and changes nothing. A value equal to the current one
        makes no version, nor does deleting what is not there. Raises Damaged, DeviceFailed when a node cannot be
        read; then nothing more is applied or written (the log has it all; a repaired volume replays it).
        """
        if tid <= self.last_tid:
            return
        if self._broken is not None:
            raise self._broken
        replaced, data = Replaced(), not without_data(keys)
        try:
            self._current.merge(tid, keys, [tid] * len(keys), values, replaced)
            if replaced.keys and replaced.keys[-1] >= UNVERSIONED:
                closed.forget(replaced, bisect_left(replaced.keys, UNVERSIONED))
            if replaced.keys:
                suffix = tid.to_bytes(closed.TID_SIZE, "big")
                moved = [key + suffix for key in replaced.keys]
                nothing = Replaced()
                self._past.merge(tid, moved, replaced.tids, replaced.values, nothing)  # type: ignore[arg-type]
                assert not nothing.keys and not nothing.same, "a version is closed once"
                if data:
                    size = stored(replaced.keys, replaced.values)
                    self._live_data -= size
                    self._past_data += size
        except (Damaged, DeviceFailed) as trouble:
            self._broken = trouble
            raise
        if data:
            self._live_data += count_live(self._volume, keys, values, replaced.same)
        self.last_tid = tid
        if keys and keys[0] <= horizons.KEY:
            at = bisect_left(keys, horizons.KEY)
            if at < len(keys) and keys[at] == horizons.KEY:
                told = said(values[at])
                self.set_horizon(told.horizon, told.kept)

    def checkpoint(self, clean: bool = False) -> Generator[Step]:
        """Write the state as of now to the volume; one at a time. `clean`: it is about to be closed.

        The driver does what each Step asks before it resumes; when the iterator is through, the state is durable and
        the log before it is no longer needed. Raises VolumeFull and DeviceFull (nothing is lost; begin another one
        later), DeviceFailed. Dropping the iterator half-way is allowed.
        """
        assert not self._checkpointing, "one checkpoint at a time"
        if self._broken is not None:
            raise self._broken
        self._checkpointing = True
        try:
            volume, last_tid = self._volume, self.last_tid
            known = last_tid, self.horizon
            data = self._live_data, self._past_data
            volume.freeze()
            frozen = self._current.freeze(), self._past.freeze()
            yield Step.MARKED
            written = 0
            for tree in frozen:
                for _ in tree.save():
                    written += 1
                    if written % SLICE_NODES == 0:
                        yield Step.SLICE
            image = roots.Roots(roots.VERSION, *known, frozen[0].root, frozen[1].root, *data)
            volume.finish(roots.encode(image), max(last_tid, volume.last_tid), clean)
            yield Step.SYNC
            volume.publish()
            yield Step.SYNC
            volume.retire()
        finally:
            self._checkpointing = False

    # -- about itself ------------------------------------------------------------------------------------------

    @property
    def dirty_bytes(self) -> int:
        """About how many bytes of nodes are not written yet; they stay in memory until a checkpoint writes them."""
        return self._current.unwritten + self._past.unwritten

    def counts(self) -> Counts:
        """How much there is."""
        current, past, pool = self._current, self._past, self._pool
        return Counts(
            current.records, past.records, current.nodes, past.nodes, len(pool), pool.bytes, self.dirty_bytes,
            self._live_data, self._past_data,
        )  # fmt: skip

    def node_addresses(self, cursor: bytes, count: int) -> tuple[list[int], bytes | None]:
        """Addresses of about `count` nodes from a cursor on (empty: from the beginning), and the next cursor.

        It is None at the end. For reading all nodes from the volume; see btree.addresses.
        """
        past = cursor[:1] == b"p"
        found, after = addresses(self._past if past else self._current, cursor[1:], count)
        if after is not None:
            return found, (b"p" if past else b"c") + after
        return found, None if past else b"p"

    def recount(self) -> Iterator[str]:
        """Big-blocks of which the map counts other live bytes than the trees have, one sentence each; see recount.py.

        Reads every leaf of data. Yields "" from time to time, as check(). Left open where others change the trees.
        """
        return live_bytes_counted(self._current, self._past, self._volume.alive)

    def check(self, deep: bool) -> Iterator[str]:
        """Problems, one sentence each; none means sound. `deep` reads every node, else only what is in memory.

        Yields "" from time to time, when nothing is wrong: a chance to let others run and apply.
        """
        return problems(self._current, self._past, self._claims, deep)

    def _claims(self) -> Claims:
        return Claims(self.last_tid, Horizon(self.horizon, self.kept), (self._live_data, self._past_data))
