"""Reading directories: cookies, groups of equal hash, limits, and what a Miss names."""

from __future__ import annotations

import errno

import pytest

from gavel.filesystem import directory, namespace
from gavel.filesystem.caller import Caller
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss
from tests.contracts.adapter import fails
from tests.contracts.views import START, MissingView, Store

CALLER = Caller(0, 0)


def filled(names: list[bytes]) -> Store:
    store = Store()
    for name in names:
        store.run(namespace.create, ROOT_OBJECT, name, 0o644, CALLER)
    return store


def replies(store: Store, limit: int) -> list[list[directory.Entry]]:
    """All replies of reading the root directory."""
    found, cookie = [], 0
    while batch := store.run(directory.readdir, ROOT_OBJECT, cookie, limit):
        found.append(batch)
        cookie = batch[-1].cookie
    return found


@pytest.fixture
def colliding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names hash to their length."""
    monkeypatch.setattr(records, "name_hash", lambda name: 10 + len(name))


def test_dots_come_first_with_their_own_cookies() -> None:
    store = filled([b"a"])
    sub, _ = store.run(namespace.mkdir, ROOT_OBJECT, b"d", 0o755, CALLER)
    below, _ = store.run(namespace.mkdir, sub, b"e", 0o755, CALLER)
    assert store.run(directory.readdir, below, 0, 10) == [
        (1, b".", below, directory.TYPE_DIRECTORY),
        (2, b"..", sub, directory.TYPE_DIRECTORY),
    ]
    root = store.run(directory.readdir, ROOT_OBJECT, 0, 10)
    assert [entry.object for entry in root[:2]] == [ROOT_OBJECT, ROOT_OBJECT]
    assert {entry.name: entry.type for entry in root[2:]} == {b"a": 8, b"d": 4}
    assert store.run(directory.readdir, below, 2, 10) == []


def test_entries_come_in_the_order_of_their_cookies() -> None:
    store = filled([b"%d" % number for number in range(50)])
    cookies = [entry.cookie for reply in replies(store, 7) for entry in reply]
    assert cookies == sorted(set(cookies))
    assert len(cookies) == 52


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 100])
@pytest.mark.usefixtures("colliding")
def test_names_of_equal_hash_are_never_apart(limit: int) -> None:
    names = [letter * count for letter in (b"x", b"y", b"z") for count in (1, 2, 3)] + [b"four"]
    store = filled(names)
    found = replies(store, limit)
    assert sorted(entry.name for reply in found for entry in reply) == sorted([b".", b"..", *names])
    last = [reply[-1].cookie for reply in found]
    assert len(set(last)) == len(last), "the next reply begins behind the whole group"


@pytest.mark.usefixtures("colliding")
def test_names_of_equal_hash_are_different_names() -> None:
    store = filled([b"aa", b"bb"])
    first, second = (store.run(directory.lookup, ROOT_OBJECT, name)[0] for name in (b"aa", b"bb"))
    assert first != second
    assert store.run(directory.lookup, ROOT_OBJECT, b"cc") is None
    store.run(namespace.rename, ROOT_OBJECT, b"aa", ROOT_OBJECT, b"cc", 0)
    store.run(namespace.unlink, ROOT_OBJECT, b"bb")
    assert [entry.name for entry in store.run(directory.readdir, ROOT_OBJECT, 2, 10)] == [b"cc"]
    assert store.run(directory.lookup, ROOT_OBJECT, b"cc")[0] == first


@pytest.mark.parametrize("cookie", [records.COOKIE_MAX, records.COOKIE_MAX - 1])
def test_the_last_cookie_there_can_be(cookie: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "name_hash", lambda name: records.COOKIE_MAX)
    store = filled([b"a", b"b"])
    expected = [b"a", b"b"] if cookie < records.COOKIE_MAX else []
    assert [entry.name for entry in store.run(directory.readdir, ROOT_OBJECT, cookie, 1)] == expected


def test_reading_what_is_no_directory_or_no_more() -> None:
    store = filled([b"a"])
    obj, _ = store.run(directory.lookup, ROOT_OBJECT, b"a")
    with fails(errno.ENOTDIR):
        store.run(directory.readdir, obj, 0, 10)
    with fails(errno.ESTALE):
        store.run(directory.readdir, 12345, 0, 10)
    sub, _ = store.run(namespace.mkdir, ROOT_OBJECT, b"d", 0o755, CALLER)
    store.run(namespace.rmdir, ROOT_OBJECT, b"d")
    with fails(errno.ENOENT):
        store.run(directory.readdir, sub, 0, 10)


def test_readdir_plus_names_all_missing_inodes_at_once() -> None:
    store = filled([b"%d" % number for number in range(20)])
    view = MissingView(store.records)
    rounds = 0
    while True:
        try:
            found = directory.readdir_plus(Transaction(view, START), ROOT_OBJECT, 0, 100)
            break
        except Miss as miss:
            rounds += 1
            view.supply(miss)
    assert len(found) == 22
    assert all(inode.mode >> 12 == entry.type for entry, inode in found)
    assert rounds == 3, "the directory, its entries, all their inodes"


def test_looking_up_dots() -> None:
    store = Store()
    sub, _ = store.run(namespace.mkdir, ROOT_OBJECT, b"d", 0o755, CALLER)
    below, _ = store.run(namespace.mkdir, sub, b"e", 0o755, CALLER)
    assert store.run(directory.lookup, below, b".")[0] == below
    assert store.run(directory.lookup, below, b"..")[0] == sub
    assert store.run(directory.lookup, ROOT_OBJECT, b"..")[0] == ROOT_OBJECT
    store.run(namespace.rmdir, sub, b"e")
    assert store.run(directory.lookup, below, b"..") is None


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"", errno.ENOENT),
        (b".", errno.EEXIST),
        (b"..", errno.EEXIST),
        (b"a/b", errno.EINVAL),
        (b"a\0b", errno.EINVAL),
        (b"n" * 256, errno.ENAMETOOLONG),
    ],
)
def test_names_that_cannot_be_given(name: bytes, code: int) -> None:
    store = filled([b"a"])
    obj, _ = store.run(directory.lookup, ROOT_OBJECT, b"a")
    for op, *args in (
        (namespace.create, ROOT_OBJECT, name, 0o644, CALLER),
        (namespace.mkdir, ROOT_OBJECT, name, 0o755, CALLER),
        (namespace.symlink, ROOT_OBJECT, name, b"t", CALLER),
        (namespace.link, obj, ROOT_OBJECT, name),
        (namespace.rename, ROOT_OBJECT, b"a", ROOT_OBJECT, name, 0),
    ):
        with fails(code):
            store.run(op, *args)
