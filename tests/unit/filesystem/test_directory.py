"""Directories: names that can be given, names of equal hash, and looking them up."""

from __future__ import annotations

import errno

import pytest

from gavel.filesystem import directory, namespace
from gavel.filesystem.caller import Caller
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.transaction.transaction import Transaction
from tests.contracts.adapter import fails
from tests.contracts.views import Store

CALLER = Caller(0, 0)


def filled(names: list[bytes]) -> Store:
    store = Store()
    for name in names:
        store.run(namespace.create, ROOT_OBJECT, name, 0o644, CALLER)
    return store


def listed(tx: Transaction, obj: int) -> list[bytes]:
    return [entry.name for entry in directory.entries(tx, obj)]


@pytest.fixture
def colliding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names hash to their length."""
    monkeypatch.setattr(records, "name_hash", lambda name: 10 + len(name))


@pytest.mark.usefixtures("colliding")
def test_names_of_equal_hash_are_different_names() -> None:
    store = filled([b"aa", b"bb"])
    first, second = (store.run(directory.lookup, ROOT_OBJECT, name)[0] for name in (b"aa", b"bb"))
    assert first != second
    assert store.run(directory.lookup, ROOT_OBJECT, b"cc") is None
    store.run(namespace.rename, ROOT_OBJECT, b"aa", ROOT_OBJECT, b"cc", 0)
    store.run(namespace.unlink, ROOT_OBJECT, b"bb")
    assert store.run(listed, ROOT_OBJECT) == [b"cc"]
    assert store.run(directory.lookup, ROOT_OBJECT, b"cc")[0] == first


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
