"""Reading directories: cookies, groups of equal hash, sizes of replies, and what a Miss names."""

from __future__ import annotations

import errno

import pytest

from gavel.filesystem import directory, namespace
from gavel.filesystem.directory import TYPE_DIRECTORY
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.mount import listing
from gavel.mount.listing import HEAD, Found
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss
from tests.contracts.adapter import fails
from tests.contracts.views import START, MissingView, Store
from tests.unit.filesystem.test_directory import CALLER, filled

ROOM = 4096


def replies(store: Store, size: int) -> list[list[Found]]:
    """All replies of reading the root directory."""
    found, cookie = [], 0
    while batch := store.run(listing.entries, ROOT_OBJECT, cookie, size, HEAD):
        found.append(batch)
        cookie = batch[-1][1]
    return found


def names(found: list[Found]) -> list[bytes]:
    return [name for _, _, name, _ in found]


def test_dots_come_first_with_their_own_cookies() -> None:
    store = filled([b"a"])
    sub, _ = store.run(namespace.mkdir, ROOT_OBJECT, b"d", 0o755, CALLER)
    below, _ = store.run(namespace.mkdir, sub, b"e", 0o755, CALLER)
    assert store.run(listing.entries, below, 0, ROOM, HEAD) == [
        (below, 1, b".", TYPE_DIRECTORY),
        (sub, 2, b"..", TYPE_DIRECTORY),
    ]
    root = store.run(listing.entries, ROOT_OBJECT, 0, ROOM, HEAD)
    assert [entry[0] for entry in root[:2]] == [ROOT_OBJECT, ROOT_OBJECT]
    assert {name: kind for _, _, name, kind in root[2:]} == {b"a": 8, b"d": 4}
    assert store.run(listing.entries, below, 2, ROOM, HEAD) == []


def test_entries_come_in_the_order_of_their_cookies() -> None:
    store = filled([b"%d" % number for number in range(50)])
    found = replies(store, 7 * (HEAD + 8))
    cookies = [cookie for reply in found for _, cookie, _, _ in reply]
    assert cookies == sorted(set(cookies))
    assert len(cookies) == 52 and max(map(len, found)) == 7


@pytest.mark.parametrize("size", [96, 100, 130, 170, ROOM])
def test_names_of_equal_hash_are_never_apart(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "name_hash", lambda name: 10 + len(name))
    wanted = [letter * count for letter in (b"x", b"y", b"z") for count in (1, 2, 3)] + [b"four"]
    found = replies(filled(wanted), size)
    assert sorted(name for reply in found for name in names(reply)) == sorted([b".", b"..", *wanted])
    last = [reply[-1][1] for reply in found]
    assert len(set(last)) == len(last), "the next reply begins behind the whole group"


@pytest.mark.parametrize("cookie", [records.COOKIE_MAX, records.COOKIE_MAX - 1])
def test_the_last_cookie_there_can_be(cookie: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "name_hash", lambda name: records.COOKIE_MAX)
    store = filled([b"a", b"b"])
    expected = [b"a", b"b"] if cookie < records.COOKIE_MAX else []
    assert names(store.run(listing.entries, ROOT_OBJECT, cookie, ROOM, HEAD)) == expected


def test_reading_what_is_no_directory_or_no_more() -> None:
    store = filled([b"a"])
    obj, _ = store.run(directory.lookup, ROOT_OBJECT, b"a")
    with fails(errno.ENOTDIR):
        store.run(listing.entries, obj, 0, ROOM, HEAD)
    with fails(errno.ESTALE):
        store.run(listing.entries, 12345, 0, ROOM, HEAD)
    sub, _ = store.run(namespace.mkdir, ROOT_OBJECT, b"d", 0o755, CALLER)
    store.run(namespace.rmdir, ROOT_OBJECT, b"d")
    with fails(errno.ENOENT):
        store.run(listing.entries, sub, 0, ROOM, HEAD)


@pytest.mark.parametrize("apart", [0, 300])
def test_all_missing_inodes_are_named_at_once(apart: int) -> None:
    """Also where they lie so far from one another that they are not read as one range."""
    store = filled([b"%d" % number for number in range(20)])
    for _ in range(apart):
        store.run(namespace.create, ROOT_OBJECT, b"x", 0o644, CALLER)
        store.run(namespace.unlink, ROOT_OBJECT, b"x")
    store.run(namespace.create, ROOT_OBJECT, b"last", 0o644, CALLER)
    view = MissingView(store.records)
    rounds = 0
    while True:
        tx = Transaction(view, START)
        try:
            found = listing.entries(tx, ROOT_OBJECT, 0, ROOM, HEAD)
            inodes = listing.inodes_of(tx, found)
            break
        except Miss as miss:
            rounds += 1
            view.supply(miss)
    assert len(found) == 23
    assert all(inode.mode >> 12 == kind for inode, (_, _, _, kind) in zip(inodes, found, strict=True))
    assert rounds == 3, "the directory, its entries, all their inodes"
