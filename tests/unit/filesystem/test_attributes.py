"""setattr in its combinations; the plain cases are in the contract suite."""

from __future__ import annotations

import pytest

from gavel.filesystem import attributes, data, namespace, xattr
from gavel.filesystem.attributes import Changes, without_suidgid
from gavel.filesystem.caller import Caller
from gavel.keys.records import ROOT_OBJECT
from tests.contracts.views import Store

CALLER = Caller(0, 0)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def file(store: Store) -> int:
    obj: int = store.run(namespace.create, ROOT_OBJECT, b"a", 0o6755, CALLER)[0]
    store.run(data.write, obj, 0, b"0123456789")
    return obj


def test_no_change_changes_ctime(store: Store, file: int) -> None:
    before = store.run(attributes.getattr, file)
    after = store.run(attributes.setattr, file, Changes())
    assert after.ctime == store.now > before.ctime
    after.ctime = before.ctime
    assert after == before


def test_all_at_once(store: Store, file: int) -> None:
    changes = Changes(mode=0o100640, uid=1, gid=2, size=5, atime=3, mtime=4, ctime=5)
    after = store.run(attributes.setattr, file, changes)
    assert (after.mode, after.uid, after.gid, after.size) == (0o100640, 1, 2, 5)
    assert (after.atime, after.mtime, after.ctime) == (3, 4, 5)
    assert store.run(attributes.getattr, file) == after
    assert b"".join(store.run(data.read, file, 0, 100)) == b"01234"


def test_the_type_is_not_changed_by_a_mode(store: Store, file: int) -> None:
    assert store.run(attributes.setattr, file, Changes(mode=0o40700)).mode == 0o100700


@pytest.mark.parametrize(
    ("mode", "left"),
    [
        (0o104755, 0o100755),
        (0o102755, 0o100755),
        (0o106745, 0o102745),  # setgid without group execute is no privilege
        (0o101777, 0o101777),
        (0o046755, 0o046755),  # of a directory it means something else
    ],
)
def test_which_set_id_bits_go(mode: int, left: int) -> None:
    assert without_suidgid(mode) == left


def test_a_truncate_by_somebody_else_takes_the_set_id_bits(store: Store, file: int) -> None:
    assert store.run(attributes.setattr, file, Changes(size=3)).mode == 0o106755
    assert store.run(attributes.setattr, file, Changes(size=2, kill_suidgid=True)).mode == 0o100755


def test_a_mode_given_with_an_owner_wins(store: Store, file: int) -> None:
    assert store.run(attributes.setattr, file, Changes(uid=5, mode=0o4711)).mode == 0o104711


@pytest.mark.parametrize("changes", [Changes(uid=1), Changes(gid=1), Changes(size=3)])
def test_capabilities_go_with_a_new_owner_or_size(store: Store, file: int, changes: Changes) -> None:
    store.run(xattr.set, file, xattr.CAPABILITY, b"\1" * 20)
    store.run(xattr.set, file, b"user.x", b"1")
    assert store.run(attributes.setattr, file, Changes(mode=0o755)).xattrs == 2
    assert store.run(attributes.setattr, file, changes).xattrs == 1
    assert store.run(xattr.list, file) == [b"user.x"]
