"""The history room alone, over a real volume on a real file: records in, records out, now and as of then.

Figures stand beside the same work on a plain dict (which keeps no order, no past and nothing on a disk) or on a
sorted list, measured in the same run. Writing includes the checkpoints that are due, with their syncs; the log of a
transaction is not part of it. `python -m benchmarks.history [--large]`.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time

from benchmarks.measure import Row, table, timed
from gavel.btree.edit import Replaced
from gavel.btree.pool import Pool
from gavel.btree.tree import BTree
from gavel.history.history import History
from gavel.history.versions import Step
from gavel.keys.records import DATA, ENTRIES, INODES
from gavel.limits import DIRTY_NODES_MAX, JOB_RECORDS, NODE_CACHE_BYTES, OVERLAY_RECORDS, REPLAY_RECORDS_MAX
from gavel.media.volume import Volume
from gavel.runtime.file_device import FileDevice

VALUE = 100  # bytes
KINDS = {INODES: 1, ENTRIES: 2, DATA: 4}  # locality to record type


def key_of(locality: int, number: int) -> bytes:
    """A key of the common shape: 12 bytes of head, 8 of subkey."""
    return b"\0\0%c%b%c%b" % (locality, (7).to_bytes(8, "big"), KINDS[locality], number.to_bytes(8, "big"))


class Bench:
    """A history and the tid of its next transaction."""

    def __init__(self, device: FileDevice) -> None:
        self.device = device
        Volume.format(device, identity=bytes(16), salt=1, label="bench", created_tid=1)
        self.volume = Volume.open(device)
        for _ in self.volume.replay():
            pass
        self.history = History(self.volume)
        self.tid = 1000 << 8
        self.records = 0

    def apply(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """One transaction, and a checkpoint when it is due."""
        self.tid += 256
        self.history.apply(self.tid, keys, values)
        self.records += len(keys)
        if self.records >= REPLAY_RECORDS_MAX or self.history.dirty_bytes > DIRTY_NODES_MAX:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write what is dirty."""
        self.records = 0
        for step in self.history.checkpoint():
            if step is Step.SYNC:
                self.volume.flush()
                self.device.sync()


@contextmanager
def bench() -> Iterator[Bench]:
    """A history on a sparse file that goes away again."""
    with tempfile.TemporaryDirectory(prefix="gavel-bench-") as directory:
        device = FileDevice(str(Path(directory, "volume")), create_size=16 << 30)
        try:
            yield Bench(device)
        finally:
            device.close()


def resident() -> float:
    """MiB of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def run(large: bool) -> list[Row]:
    """All of it; `large` is what the targets speak of."""
    count = 1_000_000 if large else 2_000
    rows = [*current(count), *batches(count), *as_of(count), *prunes(count), *scans(3 * count)]
    return [*rows, *vast(10_000_000 if large else 20_000)]


def current(count: int) -> list[Row]:
    """Gets and puts of single records among `count`, in random order, against a dict."""
    rng = random.Random(1)
    keys = [key_of(INODES, number) for number in range(count)]
    value = rng.randbytes(VALUE)
    plain: dict[bytes, bytes] = {}
    rows = []
    with bench() as b:
        rng.shuffle(keys)

        def load() -> None:
            for at in range(0, count, OVERLAY_RECORDS):
                batch = sorted(keys[at : at + OVERLAY_RECORDS])
                b.apply(batch, [value] * len(batch))

        def load_plain() -> None:
            for key in keys:
                plain[key] = value

        rows.append(_rate("put, random keys in batches", count, timed(load), timed(load_plain), "≥ 100,000"))
        b.checkpoint()
        some = [rng.choice(keys) for _ in range(min(count, 200_000))]
        near = sorted(keys)[: min(count, 50_000)]
        rng.shuffle(near)
        absent = [key[:-1] + b"\xff\xff" for key in near]
        rows.append(_gets("get, random, nodes read from the file", b.history, plain, some[:20_000], ""))
        rows.append(_gets("get, random within 50,000", b.history, plain, near, "≥ 350,000"))
        rows.append(_gets("get of what is not there", b.history, plain, absent, "≥ 350,000"))
        ample = History(b.volume, 1 << 30)
        rows.append(_gets("get, random, all nodes in memory", ample, plain, some, "≥ 150,000"))
        fresh = [key_of(ENTRIES, number) for number in range(min(count, 100_000))]

        def put(wanted: list[bytes]) -> float:
            return timed(lambda: [b.apply([key], [value]) for key in wanted])

        def put_plain(wanted: list[bytes]) -> float:
            return timed(lambda: [plain.__setitem__(key, value) for key in wanted])

        rows.append(_rate("put one by one, ascending", len(fresh), put(fresh), put_plain(fresh), "≥ 100,000"))
        others = [key_of(ENTRIES, rng.randrange(2**63)) for _ in range(min(count, 100_000))]
        rows.append(_rate("put one by one, random", len(others), put(others), put_plain(others), "≥ 100,000"))
    return rows


def _gets(work: str, history: History, plain: dict[bytes, bytes], wanted: list[bytes], target: str) -> Row:
    """The best of three rounds after one that warms up."""
    get, find = history.get, plain.get
    rounds = [timed(lambda: [get(key) for key in wanted]) for _ in range(4)]
    beside = [timed(lambda: [find(key) for key in wanted]) for _ in range(4)]
    return _rate(work, len(wanted), min(rounds[1:]), min(beside[1:]), target)


def flushes(count: int, spread: bool) -> list[tuple[list[bytes], list[bytes | None]]]:
    """What a mount flushes when files are made: a fresh inode, name and data record for each, and an older inode anew.

    Names lie anywhere within their directory. `spread`: within one directory for all, and the older inodes anywhere;
    else 500 files have a directory of their own, and the older inodes are recent.
    """
    rng = random.Random(2)
    files = OVERLAY_RECORDS // 4
    work: list[tuple[list[bytes], list[bytes | None]]] = []
    for first in range(0, count // 4, files):
        writes: dict[bytes, bytes | None] = {}
        for number in range(first, first + files):
            directory = 0 if spread else number // 500
            older = rng.randrange(number + 1) if spread else max(0, number - rng.randrange(3000))
            writes[key_of(INODES, number)] = rng.randbytes(60)
            writes[key_of(ENTRIES, rng.randrange(2**48) | directory << 48)] = rng.randbytes(12)
            writes[key_of(DATA, number)] = b"\0" + rng.randbytes(50)
            writes[key_of(INODES, older)] = rng.randbytes(60)
        batch = sorted(writes)
        work.append((batch, [writes[key] for key in batch]))
    return work


def vast(count: int, few: int = 10_000) -> list[Row]:
    """Gets, in random order, among `count` small records in one volume, against those among a few in another.

    With the cache that a mount has, anywhere and near each other; then with all nodes in memory. Of what that takes
    most is waiting for memory, as it is spread over gigabytes; so these stand beside gets from as many trees of a few
    records as are as large together. `gavel` is the time of one get among many, `other` that among few.
    """
    rng = random.Random(5)
    asked = [rng.randrange(count) for _ in range(few)]
    keys = [key_of(INODES, number) for number in asked]
    near = [key_of(INODES, count // 2 + number) for number in range(min(few, count // 2))]
    small = [key_of(INODES, number) for number in range(few)]
    rng.shuffle(near)
    rng.shuffle(small)
    default = f"{NODE_CACHE_BYTES >> 20} MiB of nodes"
    with bench() as b, bench() as beside:
        for each, records in ((b, count), (beside, few)):
            for batch in _ascending(0, records):
                each.apply(batch, [b"%100d" % 0] * len(batch))
            each.checkpoint()
        other = _best(History(beside.volume).get, small)
        anywhere, together = History(b.volume), History(b.volume)
        rows = [
            _row(f"get among {count:,}, anywhere, {default}", _best(anywhere.get, keys), few, other),
            _row(f"get among {count:,}, near each other, {default}", _best(together.get, near), few, other),
        ]
        ample = History(b.volume, 1 << 40)
        for _ in ample.scan(b"", b"\xff"):
            pass
        ours = _best(ample.get, keys)
        rows.append(_row(f"get among {count:,}, anywhere, all nodes in memory", ours, few, other))
        del ample
        trees = []
        for first in range(0, count, few):
            tree = BTree(Pool(b.volume, 0))
            for batch in _ascending(first, first + few):
                tree.merge(1, batch, [1] * len(batch), [b"%100d" % 0 for _ in batch], Replaced())
            trees.append(tree.get)
        which = [trees[number // few] for number in asked]
        beside_it = min(_busy(lambda: [get(key) for get, key in zip(which, keys, strict=True)]) for _ in range(4)) / few
        rows.append(_row("the same, beside trees of as much memory", ours, few, beside_it))
        return rows


def _ascending(first: int, end: int) -> Iterator[list[bytes]]:
    """The keys of inodes in batches."""
    for at in range(first, end, OVERLAY_RECORDS):
        yield [key_of(INODES, number) for number in range(at, min(at + OVERLAY_RECORDS, end))]


def _best(get: Callable[[bytes], object], keys: list[bytes]) -> float:
    """CPU seconds for a get, the best of three rounds after one that warms up."""
    return min([_busy(lambda: list(map(get, keys))) for _ in range(4)][1:]) / len(keys)


def _busy(work: Callable[[], object]) -> float:
    """CPU seconds that the work takes, for rounds of a fraction of a second on a machine that others use, too."""
    begin = process_time()
    work()
    return process_time() - begin


def _row(work: str, ours: float, few: int, theirs: float) -> Row:
    return Row(work, "µs", ours * 1e6, f"{few:,}", theirs * 1e6, ours / theirs, "≤ 1.5")


def batches(count: int) -> list[Row]:
    """Sorted batches of fresh and overwritten records in three localities, against a dict with a sorted list."""
    rows = []
    for name, spread in (("apply of flushes, as files are made", False), ("apply of flushes, all over", True)):
        work = flushes(count, spread)
        records = sum(len(batch) for batch, _ in work)
        with bench() as b:
            ours = timed(lambda b=b, work=work: [b.apply(batch, values) for batch, values in work])  # type: ignore[misc]
        rows.append(_rate(name, records, ours, timed(lambda work=work: listed(work)), "≥ 330,000", "sorted list"))  # type: ignore[misc]
    return rows


def listed(work: list[tuple[list[bytes], list[bytes | None]]]) -> None:
    """The same into a dict and a list of its keys, kept sorted."""
    keys: list[bytes] = []
    held: dict[bytes, bytes | None] = {}
    for batch, values in work:
        keys.extend(key for key in batch if key not in held)
        keys.sort()
        held.update(zip(batch, values, strict=True))


def as_of(count: int) -> list[Row]:
    """As-of gets, at random moments, of a key with `count` versions, against those of keys with ten.

    There are so many of the latter that the past holds as many versions of theirs: both kinds of gets are spread over
    as much memory, which is most of what they cost. Then those of near moments, against those of a single key of ten:
    both are served by a few nodes.
    """
    rng = random.Random(3)
    with bench() as b:
        many = key_of(INODES, count)
        few = [key_of(INODES, number) for number in range(count // 10)]
        first = b.tid
        for at in range(count):
            b.apply([many], [b"%d" % at])
            if at % (count // 10) == 0:
                b.apply(few, [b"%d" % at] * len(few))
        b.checkpoint()
        history = History(b.volume, 1 << 30)
        asked = 20_000
        moments = [rng.randrange(first, b.tid) for _ in range(asked)]
        which = [rng.choice(few) for _ in range(asked)]

        def ask(keys: list[bytes]) -> float:
            return min(_busy(lambda: list(map(history.get_at, keys, moments))) for _ in range(5))

        ask([many] * asked), ask(which)
        ours, theirs = ask([many] * asked), ask(which)
        micros = 1e6 / asked
        work = f"as-of get, {count:,} versions"
        rows = [Row(work, "µs", ours * micros, "10 versions", theirs * micros, ours / theirs, "≤ 1.3")]
        middle = first + (b.tid - first) // 2
        moments = [rng.randrange(middle, middle + (100 << 8)) for _ in range(asked)]
        ask([many] * asked), ask([few[0]] * asked)
        ours, theirs = ask([many] * asked), ask([few[0]] * asked)
        work = f"as-of get, {count:,} versions, at near moments"
        return [*rows, Row(work, "µs", ours * micros, "one key of 10", theirs * micros, ours / theirs, "≤ 1.3")]


def prunes(count: int) -> list[Row]:
    """Prunes of a past of `count` versions of a tenth as many keys, with nine states kept below the horizon.

    The horizon is in the middle; then the same prune again; then one after a tenth of the keys had one change more,
    and the horizon moved past a hundredth of all changes. Each begins with nothing in memory. Beside the first.
    """
    rng = random.Random(4)
    keys = [key_of(INODES, number) for number in range(count // 10)]
    some = max(1, min(OVERLAY_RECORDS, len(keys) // 10))
    with bench() as b:
        first, made = b.tid, 0
        b.apply(keys, [b"first"] * len(keys))
        while made < count:
            at = rng.randrange(len(keys))
            batch = sorted({keys[(at + n) % len(keys)] for n in range(some)})
            b.apply(batch, [b"%d" % made] * len(batch))
            made += len(batch)
        b.checkpoint()
        middle = first + (b.tid - first) // 2
        kept = sorted({first + (middle - first) * n // 10 for n in range(1, 10)})
        times, rows = [], []

        def prune(work: str, horizon: int) -> None:
            history = History(b.volume)
            history.set_horizon(horizon, kept)
            there, cursor, dropped = history.counts().past_records, b"", 0

            def all_of_it() -> None:
                nonlocal cursor, dropped
                while cursor is not None:
                    cursor, count = history.prune(cursor, JOB_RECORDS)  # type: ignore[assignment]
                    dropped += count

            times.append(timed(all_of_it))
            b.history = history
            b.checkpoint()
            what = f"prune of {there:,} versions, {work}: {dropped:,} dropped"
            rows.append(Row(what, "s", times[-1], "the first", times[0], times[-1] / times[0]))

        prune("the first", middle)
        prune("again", middle)
        b.apply(keys[::10], [b"once more"] * len(keys[::10]))
        b.checkpoint()
        prune("after changes", middle + (b.tid - first) // 100)
        return rows


def scans(count: int) -> list[Row]:
    """One scan over everything, now and as of then; what memory grows by; against a walk over a sorted list."""
    with bench() as b:
        listed: list[tuple[bytes, bytes]] = []
        for first in range(0, count, OVERLAY_RECORDS):
            batch = [key_of(INODES, number) for number in range(first, min(first + OVERLAY_RECORDS, count))]
            b.apply(batch, [b"%100d" % first] * len(batch))
        then = b.tid
        b.checkpoint()
        b.apply([key_of(INODES, 0)], [None])
        before = resident()
        lo, hi = key_of(INODES, 0), key_of(DATA, 0)
        found = [0, 0]

        def walk() -> None:
            found[0] = sum(1 for _ in b.history.scan(lo, hi))

        def walk_then() -> None:
            found[1] = sum(1 for _ in b.history.scan_at(lo, hi, then))

        now, past = timed(walk), timed(walk_then)
        grown = resident() - before
        assert found == [count - 1, count]
        listed = [(key_of(INODES, number), b"") for number in range(count)]
        beside = timed(lambda: sum(1 for _ in listed[bisect_left(listed, (lo, b"")) :]))
        return [
            _rate(f"scan of {count:,} records", count, now, beside, "", "sorted list"),
            _rate(f"as-of scan of {count:,} records", count, past, beside, "", "sorted list"),
            Row("memory that these scans added", "MiB", grown, "", 0, 0, "≤ 200"),
        ]


def _rate(work: str, count: int, ours: float, theirs: float, target: str, against: str = "dict") -> Row:
    return Row(work, "/s", count / ours, against, count / theirs, theirs / ours, target)


if __name__ == "__main__":
    print(table(run("--large" in sys.argv)))
