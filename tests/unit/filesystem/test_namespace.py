"""What the contract suite cannot see: records behind the names, bounds, objects that are gone, partial failure."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from gavel.filesystem import attributes, data, directory, namespace, orphans, superblock, xattr
from gavel.filesystem import inode as inodes
from gavel.filesystem.caller import Caller
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import LINK_MAX
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss
from tests.contracts.adapter import EXCHANGE, fails
from tests.contracts.views import START, MissingView, Store

CALLER = Caller(1000, 100, 0o022)


@pytest.fixture
def store() -> Store:
    return Store()


def make(store: Store, path: bytes, directory_at: int = ROOT_OBJECT) -> int:
    obj: int = store.run(namespace.create, directory_at, path, 0o644, CALLER)[0]
    return obj


def make_dir(store: Store, path: bytes, directory_at: int = ROOT_OBJECT) -> int:
    obj: int = store.run(namespace.mkdir, directory_at, path, 0o755, CALLER)[0]
    return obj


def inode(store: Store, obj: int) -> Inode:
    found: Inode = store.run(attributes.getattr, obj)
    return found


def change(store: Store, obj: int, **fields: Any) -> None:
    """Set fields of an inode, whatever they mean."""

    def op(tx: Transaction) -> None:
        found = inodes.read(tx, obj)
        for name, value in fields.items():
            setattr(found, name, value)
        inodes.write(tx, obj, found)

    store.run(op)


def test_the_root_directory_is_its_own_parent(store: Store) -> None:
    root = inode(store, ROOT_OBJECT)
    assert (root.parent, root.nlink, root.size, root.mode) == (ROOT_OBJECT, 2, 0, 0o40755)


def test_a_new_object_belongs_to_its_caller_and_knows_its_name(store: Store) -> None:
    obj = make(store, b"a")
    found = inode(store, obj)
    assert (found.uid, found.gid, found.mode) == (1000, 100, 0o100644)
    assert (found.parent, found.name_hash) == (ROOT_OBJECT, records.name_hash(b"a"))
    assert found.btime == found.mtime == found.ctime == found.atime == store.now - 1000
    assert store.records.get(records.entry(0, ROOT_OBJECT, b"a")) == directory.pack_entry(obj, 8)


def test_pseudo_filesystems_do_not_mix() -> None:
    first, second = Store(), Store(pfs=7)
    second.records = first.records
    second.run(superblock.make_root, CALLER)
    make(second, b"a")
    assert first.run(directory.lookup, ROOT_OBJECT, b"a") is None
    assert second.run(directory.lookup, ROOT_OBJECT, b"a") is not None


@pytest.mark.parametrize(("removed", "known"), [(b"one", True), (b"two", False)])
def test_an_object_forgets_the_name_it_was_last_given_when_that_goes(store: Store, removed: bytes, known: bool) -> None:
    obj = make(store, b"one")
    store.run(namespace.link, obj, ROOT_OBJECT, b"two")
    store.run(namespace.unlink, ROOT_OBJECT, removed)
    found = inode(store, obj)
    assert (found.nlink, bool(found.parent), bool(found.name_hash)) == (1, known, known)


def test_unlink_tells_what_lost_its_name(store: Store) -> None:
    obj = make(store, b"a")
    store.run(namespace.link, obj, ROOT_OBJECT, b"b")
    assert store.run(namespace.unlink, ROOT_OBJECT, b"a")[1].nlink == 1
    gone, last = store.run(namespace.unlink, ROOT_OBJECT, b"b")
    assert (gone, last.nlink, last.parent, last.name_hash) == (obj, 0, 0, 0)
    assert store.run(orphans.listed) == [obj]


def test_rename_tells_what_it_replaced(store: Store) -> None:
    first, second = make(store, b"a"), make(store, b"b")
    assert store.run(namespace.rename, ROOT_OBJECT, b"a", ROOT_OBJECT, b"c", 0) is None
    gone, last = store.run(namespace.rename, ROOT_OBJECT, b"c", ROOT_OBJECT, b"b", 0)
    assert (gone, last.nlink) == (second, 0)
    assert store.run(directory.lookup, ROOT_OBJECT, b"b")[0] == first
    assert store.run(orphans.listed) == [second]


def test_a_failed_operation_has_written_nothing(store: Store) -> None:
    """So that a caller may catch the error and go on with the same transaction."""
    sub = make_dir(store, b"d")
    make(store, b"inside", sub)
    make_dir(store, b"e")
    obj = make(store, b"a")
    failing: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (namespace.create, (ROOT_OBJECT, b"a", 0o644, CALLER)),
        (namespace.mkdir, (ROOT_OBJECT, b"a", 0o755, CALLER)),
        (namespace.symlink, (ROOT_OBJECT, b"a", b"t", CALLER)),
        (namespace.link, (obj, ROOT_OBJECT, b"d")),
        (namespace.link, (sub, ROOT_OBJECT, b"new")),
        (namespace.unlink, (ROOT_OBJECT, b"d")),
        (namespace.rmdir, (ROOT_OBJECT, b"d")),
        (namespace.rename, (ROOT_OBJECT, b"e", ROOT_OBJECT, b"d", 0)),
        (namespace.rename, (ROOT_OBJECT, b"d", sub, b"x", 0)),
        (namespace.rename, (ROOT_OBJECT, b"a", ROOT_OBJECT, b"d", 0)),
        (attributes.setattr, (sub, attributes.Changes(size=0, mode=0))),
        (namespace.tmpfile, (obj, 0o644, CALLER)),
    ]
    for op, args in failing:
        tx = Transaction(store.records, START, 0, store.objects.__next__)
        with pytest.raises(OSError):
            op(tx, *args)
        assert tx.writes == {}, op


def test_no_more_links_than_can_be_counted(store: Store) -> None:
    obj = make(store, b"a")
    change(store, obj, nlink=LINK_MAX)
    with fails(errno.EMLINK):
        store.run(namespace.link, obj, ROOT_OBJECT, b"b")
    full, other = make_dir(store, b"full"), make_dir(store, b"other")
    make_dir(store, b"moving")
    make_dir(store, b"sub", other)
    make_dir(store, b"old", full)
    make(store, b"file", full)
    change(store, full, nlink=LINK_MAX)
    with fails(errno.EMLINK):
        store.run(namespace.mkdir, full, b"more", 0o755, CALLER)
    with fails(errno.EMLINK):
        store.run(namespace.rename, ROOT_OBJECT, b"moving", full, b"more", 0)
    with fails(errno.EMLINK):
        store.run(namespace.rename, ROOT_OBJECT, b"moving", full, b"file", EXCHANGE)
    store.run(namespace.create, full, b"more", 0o644, CALLER)
    store.run(namespace.rename, ROOT_OBJECT, b"moving", full, b"old", 0)
    store.run(namespace.rename, full, b"old", full, b"new", 0)
    assert inode(store, full).nlink == LINK_MAX


def test_objects_that_are_gone_are_stale(store: Store) -> None:
    obj = make(store, b"a")
    gone = obj + 1000
    for op, *args in (
        (attributes.getattr, gone),
        (attributes.setattr, gone, attributes.Changes(mode=0)),
        (attributes.setattr, gone, attributes.Changes(size=0)),
        (namespace.readlink, gone),
        (namespace.link, gone, ROOT_OBJECT, b"b"),
        (namespace.create, gone, b"b", 0o644, CALLER),
        (namespace.tmpfile, gone, 0o644, CALLER),
        (namespace.unlink, gone, b"b"),
        (namespace.rename, gone, b"a", ROOT_OBJECT, b"b", 0),
        (namespace.rename, ROOT_OBJECT, b"a", gone, b"b", 0),
    ):
        with fails(errno.ESTALE):
            store.run(op, *args)


def test_nothing_is_made_in_a_directory_that_was_removed(store: Store) -> None:
    sub = make_dir(store, b"d")
    obj = make(store, b"a")
    make_dir(store, b"e")
    store.run(namespace.rmdir, ROOT_OBJECT, b"d")
    for op, *args in (
        (namespace.create, sub, b"b", 0o644, CALLER),
        (namespace.mkdir, sub, b"b", 0o755, CALLER),
        (namespace.symlink, sub, b"b", b"t", CALLER),
        (namespace.tmpfile, sub, 0o644, CALLER),
        (namespace.link, obj, sub, b"b"),
        (namespace.rename, ROOT_OBJECT, b"a", sub, b"b", 0),
        (namespace.rename, ROOT_OBJECT, b"e", sub, b"b", 0),
        (namespace.unlink, sub, b"b"),
    ):
        with fails(errno.ENOENT):
            store.run(op, *args)


def test_what_is_no_directory_holds_nothing(store: Store) -> None:
    obj = make(store, b"a")
    for op, *args in (
        (namespace.create, obj, b"b", 0o644, CALLER),
        (namespace.tmpfile, obj, 0o644, CALLER),
        (namespace.unlink, obj, b"b"),
        (namespace.rename, ROOT_OBJECT, b"a", obj, b"b", 0),
        (namespace.rename, obj, b"b", ROOT_OBJECT, b"c", 0),
    ):
        with fails(errno.ENOTDIR):
            store.run(op, *args)


def test_linking_what_lost_its_names_is_refused_but_not_what_never_had_one(store: Store) -> None:
    obj = make(store, b"a")
    store.run(namespace.unlink, ROOT_OBJECT, b"a")
    with fails(errno.ENOENT):
        store.run(namespace.link, obj, ROOT_OBJECT, b"b")
    fresh, made = store.run(namespace.tmpfile, ROOT_OBJECT, 0o600, CALLER)
    assert (made.nlink, made.parent, store.run(orphans.listed)) == (0, 0, [obj, fresh])
    linked = store.run(namespace.link, fresh, ROOT_OBJECT, b"b")
    assert (linked.nlink, linked.parent, linked.flags) == (1, ROOT_OBJECT, 0)
    assert store.run(orphans.listed) == [obj]


def rounds(store: Store, op: Callable[..., Any], *args: Any) -> int:
    """How often an operation has to be run again when nothing it reads is there at first."""
    view = MissingView(store.records)
    count = 0
    while True:
        try:
            op(Transaction(view, START, 0, store.objects.__next__), *args)
        except Miss as miss:
            count += 1
            view.supply(miss)
        else:
            return count


def test_a_miss_names_all_that_is_lacking(store: Store) -> None:
    sub = make_dir(store, b"d")
    obj = make(store, b"a")
    make(store, b"b", sub)
    assert rounds(store, namespace.create, ROOT_OBJECT, b"new", 0o644, CALLER) == 1
    assert rounds(store, namespace.link, obj, sub, b"new") == 1
    assert rounds(store, namespace.unlink, ROOT_OBJECT, b"a") == 2
    assert rounds(store, namespace.rename, ROOT_OBJECT, b"a", ROOT_OBJECT, b"c", 0) == 2
    assert rounds(store, namespace.rename, ROOT_OBJECT, b"a", sub, b"b", 0) <= 3
    assert rounds(store, directory.lookup, ROOT_OBJECT, b"a") == 2
    assert rounds(store, attributes.getattr, obj) == 1


# Orphans.


@pytest.mark.parametrize("places", [[], [0], [5000], [0, 5000], [5000, 0]], ids=str)
@pytest.mark.parametrize("size", [None, 700, 5300, 9000], ids=str)
def test_reaping_leaves_nothing(store: Store, places: list[int], size: int | None) -> None:
    before = dict(store.records.records)
    obj = make(store, b"a")
    for place in places:
        store.run(data.write, obj, place, b"x" * 1000)
    if size is not None:
        store.run(data.truncate, obj, size)
    store.run(xattr.set, obj, b"user.x", b"1")
    store.run(namespace.unlink, ROOT_OBJECT, b"a")
    assert store.run(orphans.reap, obj)
    root = records.inode(0, ROOT_OBJECT)
    assert {key: value for key, value in store.records.records.items() if key != root} == {
        key: value for key, value in before.items() if key != root
    }
    assert store.run(orphans.reap, obj), "reaping again is no error"


def test_a_huge_file_is_reaped_in_slices(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "SLICE_RECORDS", 3)
    obj = make(store, b"a")
    for number in range(10):
        store.run(data.write, obj, number * 1000, b"x" * 300)
        store.run(xattr.set, obj, b"user.%d" % number, b"1")
    store.run(namespace.unlink, ROOT_OBJECT, b"a")
    slices = 1
    while not store.run(orphans.reap, obj):
        slices += 1
        assert store.run(orphans.listed) == [obj]
        left = inode(store, obj)
        assert left.xattrs == len(store.run(xattr.list, obj))
        assert left.used == 300 * sum(1 for key in store.records.records if records.is_data(key))
    assert slices > 6
    assert store.run(orphans.listed) == []
    with fails(errno.ESTALE):
        inode(store, obj)


def test_what_has_a_name_is_not_reaped(store: Store) -> None:
    obj = make(store, b"a")
    assert store.run(orphans.reap, obj)
    assert inode(store, obj).nlink == 1
