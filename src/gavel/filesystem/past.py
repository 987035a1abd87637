"""What file_history, log, diff and undo share: views of the past, where things were, and what became of an object.

All of them work on `Past`, which history answers; nothing here reads file data. An object keeps its id through
renames, and an undone deletion brings back the same object, so an id names one thing for ever.

What may take long is a generator that yields None from time to time, so that a live mount can answer meanwhile: the
states that are compared do not change.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import NamedTuple, NoReturn, Protocol, TypeVar

from gavel.filesystem import directory
from gavel.filesystem import inode as inodes
from gavel.filesystem.inode import Inode
from gavel.history.versions import Change, Version
from gavel.keys import records
from gavel.keys.ranges import Range
from gavel.limits import DATA_CHANGES_MAX, SLICE_RECORDS
from gavel.media import extents
from gavel.transaction.transaction import Transaction

T = TypeVar("T")

ROOT = records.ROOT_OBJECT
_AFTER_PLACE = 9  # in the value of a data record: what follows is the same wherever the extent lies


class Past(Protocol):
    """What is asked of a history. All raise HistoryPruned below the horizon."""

    @property
    def created_tid(self) -> int:
        """Before it there is nothing."""

    @property
    def last_tid(self) -> int:
        """The newest transaction."""

    @property
    def horizon(self) -> int:
        """From here on every state can be read."""

    @property
    def kept(self) -> Sequence[int]:
        """The tids below the horizon as of which can be read, ascending."""

    def get_at(self, key: bytes, at: int) -> bytes | None:
        """The value of a key as of a tid."""

    def scan_at(self, lo: bytes, hi: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in [lo, hi) as of a tid, lazily."""

    def versions(self, key: bytes) -> list[Version]:
        """Every version of a key, oldest first."""

    def changes(self, t0: int, t1: int, lo: bytes, hi: bytes) -> Iterator[Change]:
        """What changed in (t0, t1] to keys in [lo, hi): by key, and for one key by tid."""


def seen_at(past: Past, version: Version) -> int | None:
    """The first tid as of which can be read and at which a version was true; None where it is only still there."""
    created, deleted, horizon = version.create_tid, version.delete_tid, past.horizon
    if created < horizon:
        at = bisect_left(past.kept, created)
        created = past.kept[at] if at < len(past.kept) else horizon
    return created if deleted is None or created < deleted else None


class _View:
    """The records as of a tid, without file data."""

    __slots__ = ("_at", "_past")

    def __init__(self, past: Past, at: int) -> None:
        self._past, self._at = past, at

    def get(self, key: bytes) -> bytes | None:
        return self._past.get_at(key, self._at)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._past.scan_at(lo, hi, self._at)

    def load(self, extent: extents.Extent) -> NoReturn:
        raise AssertionError("what looks at the past here needs no data")

    def stage(self, data: object, codec: int = 0) -> NoReturn:
        raise AssertionError("the past does not change")

    def share(self, extent: extents.Extent) -> NoReturn:
        raise AssertionError("the past does not change")


def as_of(past: Past, tid: int, pfs: int = 0) -> Transaction:
    """A transaction that reads the records (not the data) as of a tid."""
    return Transaction(_View(past, tid), 0, pfs)


class Net(NamedTuple):
    """What became of a key between two tids."""

    key: bytes
    old: bytes | None
    new: bytes | None


def net(past: Past, t0: int, t1: int, within: Range) -> Iterator[Net]:
    """The keys whose value at t1 is not that at t0, lazily in key order; costs what changed in between."""
    return (found for found in net_paced(past, t0, t1, within) if found is not None)


def net_paced(past: Past, t0: int, t1: int, within: Range) -> Iterator[Net | None]:
    """As net, with a None from time to time."""
    key: bytes | None = None
    old: bytes | None = None
    new: bytes | None = None
    for count, change in enumerate(past.changes(t0, t1, *within), 1):
        if change.key != key:
            if key is not None and old != new:
                yield Net(key, old, new)
            key, old = change.key, change.old
        new = change.new
        if count % SLICE_RECORDS == 0:
            yield None
    if key is not None and old != new:
        yield Net(key, old, new)


def finished(work: Generator[None, None, T]) -> T:
    """The result of work that gives others a chance to run from time to time, done in one go."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


def named(value: bytes | None) -> Inode | None:
    """The inode in a record, if there is one and it has a name."""
    inode = None if value is None else inodes.decode(value)
    return inode if inode is not None and inode.nlink else None


def held(value: bytes | None) -> int:
    """The object in a directory entry; 0 for none."""
    return 0 if value is None else int(directory.unpack_entry(value)[0])


class Name(NamedTuple):
    """A name: of what, in which directory."""

    directory: int
    name: bytes


class Places:
    """Where objects were at one tid. Remembers directories it has looked up: memory by what is asked about.

    A path is absolute and begins with `/`; that of the root is empty, so that paths join by `/`.
    """

    def __init__(self, tx: Transaction) -> None:
        self.tx = tx
        self._paths: dict[int, bytes | None] = {ROOT: b""}

    def inode(self, obj: int) -> Inode | None:
        """The inode; None where it did not exist or had lost its last name."""
        return named(self.tx.get(records.inode(self.tx.pfs, obj)))

    def holds(self, name: Name) -> int:
        """The object of that name; 0 where there was none."""
        return held(self.tx.get(records.entry(self.tx.pfs, *name)))

    def directory(self, obj: int) -> bytes | None:
        """The path of a directory; None where it did not exist or had no name."""
        known = self._paths
        chain: list[tuple[int, bytes]] = []
        asked = obj
        while obj not in known:
            known[obj] = None  # until found: also ends a loop, which only damage could make
            inode = self.inode(obj)
            name = None if inode is None else self.name(obj, inode)
            if name is None:
                break
            chain.append((obj, name.name))
            obj = name.directory
        path = known[obj]
        for below, component in reversed(chain):
            if path is not None:
                path = path + b"/" + component
            known[below] = path
        return known[asked]

    def name(self, obj: int, inode: Inode) -> Name | None:
        """The name that an inode knows of; None for the root, and where that name is gone but others are left."""
        if not inode.parent or obj == ROOT:
            return None
        for key, value in self.tx.scan(*records.entries_hashed(self.tx.pfs, inode.parent, inode.name_hash)):
            if held(value) == obj:
                return Name(inode.parent, records.entry_name(key))
        return None

    def path(self, name: Name) -> bytes | None:
        """The path of a name; None where its directory was nowhere."""
        parent = self.directory(name.directory)
        return None if parent is None else parent + b"/" + name.name

    def path_of(self, obj: int) -> bytes | None:
        """A path of an object of any kind."""
        if obj == ROOT:
            return b""
        inode = self.inode(obj)
        name = None if inode is None else self.name(obj, inode)
        return None if name is None else self.path(name)

    def find(self, path: Iterable[bytes]) -> int:
        """The object at a path, without following symlinks; 0 where there is none."""
        obj = ROOT
        for component in path:
            obj = self.holds(Name(obj, component))
            if not obj:
                break
        return obj

    def names_below(self, root: int, wanted: set[int]) -> Generator[None, None, dict[int, list[Name]]]:
        """All names that the wanted objects had in a tree. Walks the whole tree: for hard links only."""
        found: dict[int, list[Name]] = {}
        todo = [root] if wanted else []
        while todo:
            yield
            here = todo.pop()
            for entry in directory.entries(self.tx, here):
                if entry.object in wanted:
                    found.setdefault(entry.object, []).append(Name(here, entry.name))
                if entry.type == directory.TYPE_DIRECTORY:
                    todo.append(entry.object)
        return found


def components(path: bytes) -> list[bytes]:
    """The names in a path from the root of the volume, `.` and `..` taken away."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return parts


def inside(path: bytes | None, tree: bytes | None) -> bool:
    """Whether a path is that of a tree or below it."""
    return path is not None and tree is not None and (path == tree or path.startswith(tree + b"/"))


def text(path: bytes) -> str:
    """A path for people; bytes that are not UTF-8 become lone surrogates."""
    return (path or b"/").decode("utf-8", "surrogateescape")


def what_changed(past: Past, t0: int, t1: int, pfs: int, obj: int, old: Inode, new: Inode) -> list[str]:
    """What became of an object between two tids, names aside: words out of

    written, truncated, extended, punched, mode, owner, xattrs, and times where nothing else tells of itself.
    """
    words: list[str] = []
    if new.is_file and (old.mtime != new.mtime or old.size != new.size):
        words += _data_words(past, t0, t1, pfs, obj, old, new)
    if old.mode != new.mode:
        words.append("mode")
    if (old.uid, old.gid) != (new.uid, new.gid):
        words.append("owner")
    if (old.xattrs or new.xattrs) and next(net(past, t0, t1, records.xattrs(pfs, obj)), None):
        words.append("xattrs")
    if not words and not new.is_dir and old.mtime != new.mtime:
        words.append("times")
    return words


def _data_words(past: Past, t0: int, t1: int, pfs: int, obj: int, old: Inode, new: Inode) -> list[str]:
    changes = list(islice(net(past, t0, t1, records.extents(pfs, obj)), DATA_CHANGES_MAX))
    before = [change.old for change in changes if change.old is not None]
    sums = {value[-16:] for value in before if value[0] == extents.EXTENT}
    inline = b"\0".join(value[1:] for value in before if value[0] == extents.INLINE)
    written = len(changes) == DATA_CHANGES_MAX or any(
        value is not None and (value[-16:] not in sums if value[0] == extents.EXTENT else value[1:] not in inline)
        for _, _, value in changes
    )
    if written:
        return ["written"]
    if new.size != old.size:
        return ["truncated" if new.size < old.size else "extended"]
    return ["punched"] if before else []


def shown_alike(one: bytes, other: bytes) -> bool:
    """Whether two values of a data record show the same, wherever what they show may lie."""
    if one[0] == extents.EXTENT == other[0]:
        return one[_AFTER_PLACE:] == other[_AFTER_PLACE:]
    return one == other


def same_data(past: Past, pfs: int, one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two files, each (object, tid), consist of the same pieces. Equal bytes cut differently do not."""
    pieces = (
        (
            (records.extent_end(key), value[_AFTER_PLACE:] if value[0] == extents.EXTENT else value)
            for key, value in past.scan_at(*records.extents(pfs, obj), at)
        )
        for obj, at in (one, other)
    )
    return all(left == right for left, right in zip_longest(*pieces))
