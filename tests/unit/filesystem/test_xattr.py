"""Extended attributes and ACLs beyond what the contract suite sees."""

from __future__ import annotations

import errno

import pytest

from gavel.filesystem import acl, attributes, namespace, xattr
from gavel.filesystem.acl import Ace
from gavel.filesystem.caller import Caller
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import XATTR_LIST_MAX
from tests.contracts.adapter import fails
from tests.contracts.views import Store

CALLER = Caller(0, 0)
NAMED = [
    Ace(acl.USER_OBJ, 7),
    Ace(acl.USER, 6, 1000),
    Ace(acl.GROUP_OBJ, 5),
    Ace(acl.MASK, 4),
    Ace(acl.OTHER, 1),
]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def file(store: Store) -> int:
    obj: int = store.run(namespace.create, ROOT_OBJECT, b"a", 0o2755, CALLER)[0]
    return obj


def test_the_inode_counts_them(store: Store, file: int) -> None:
    assert store.run(xattr.set, file, b"user.x", b"1").xattrs == 1
    assert store.run(xattr.set, file, b"user.x", b"2").xattrs == 1
    assert store.run(xattr.set, file, acl.ACCESS, acl.encode(NAMED)).xattrs == 2
    assert store.run(xattr.set, file, acl.ACCESS, acl.encode(NAMED[:3:2] + NAMED[4:])).xattrs == 1
    assert store.run(xattr.remove, file, b"user.x").xattrs == 0
    assert all(records.parse(key).type != records.XATTR for key in store.records.records)


def test_a_list_that_could_not_be_returned_is_not_made(store: Store, file: int) -> None:
    count = XATTR_LIST_MAX // 256
    for number in range(count):
        store.run(xattr.set, file, (b"user.%03d" % number).ljust(255, b"x"), b"")
    assert sum(len(name) + 1 for name in store.run(xattr.list, file)) == XATTR_LIST_MAX
    with fails(errno.ENOSPC):
        store.run(xattr.set, file, b"user.one-more", b"")
    with fails(errno.ENOSPC):
        store.run(xattr.set, file, acl.ACCESS, acl.encode(NAMED))
    store.run(xattr.set, file, (b"user.%03d" % 0).ljust(255, b"x"), b"changed")
    store.run(xattr.remove, file, (b"user.%03d" % 1).ljust(255, b"x"))
    store.run(xattr.set, file, b"user.one-more", b"")


def test_names_that_are_prefixes_of_each_other(store: Store, file: int) -> None:
    names = [b"user.a", b"user.a.b", b"user.ab", b"user.a\x01"]
    for name in names:
        store.run(xattr.set, file, name, name)
    assert sorted(store.run(xattr.list, file)) == sorted(names)
    assert all(store.run(xattr.get, file, name) == name for name in names)


def test_setgid_goes_when_the_kernel_says_so(store: Store, file: int) -> None:
    assert store.run(xattr.set, file, acl.ACCESS, acl.encode(NAMED)).mode & 0o7777 == 0o2741
    assert store.run(xattr.set, file, acl.ACCESS, acl.encode(NAMED), 0, True).mode & 0o7777 == 0o741


def test_an_object_without_attributes_is_not_asked(store: Store, file: int) -> None:
    key = records.xattr(0, file, b"user.x")
    store.records.apply({key: b"a record that the inode does not count"})
    with fails(errno.ENODATA):
        store.run(xattr.get, file, b"user.x")
    assert store.run(xattr.list, file) == []


# The arithmetic of ACLs.


def test_encoding_and_back() -> None:
    assert acl.decode(acl.encode(NAMED)) == NAMED
    assert acl.decode(acl.encode([])) == []
    assert len(acl.encode(NAMED)) == 4 + 8 * 5


def test_the_mode_an_acl_stands_for() -> None:
    assert acl.mode_of(NAMED) == (0o741, False)
    assert acl.mode_of([Ace(acl.USER_OBJ, 6), Ace(acl.GROUP_OBJ, 4), Ace(acl.OTHER, 2)]) == (0o642, True)
    assert acl.mode_of([Ace(acl.USER_OBJ, 6), Ace(acl.GROUP_OBJ, 7), Ace(acl.MASK, 0), Ace(acl.OTHER, 2)]) == (
        0o602,
        False,
    )


def test_chmod_goes_to_the_mask_and_spares_named_entries() -> None:
    assert acl.with_mode(NAMED, 0o100123) == [
        Ace(acl.USER_OBJ, 1),
        Ace(acl.USER, 6, 1000),
        Ace(acl.GROUP_OBJ, 5),
        Ace(acl.MASK, 2),
        Ace(acl.OTHER, 3),
    ]


def test_inheritance_limits_each_class() -> None:
    mode, inherited = acl.inherit(NAMED, 0o100666)
    assert mode == 0o100640
    assert inherited == [
        Ace(acl.USER_OBJ, 6),
        Ace(acl.USER, 6, 1000),
        Ace(acl.GROUP_OBJ, 5),
        Ace(acl.MASK, 4),
        Ace(acl.OTHER, 0),
    ]
    plain = [Ace(acl.USER_OBJ, 7), Ace(acl.GROUP_OBJ, 5), Ace(acl.OTHER, 1)]
    assert acl.inherit(plain, 0o44777) == (0o44751, None)
    assert acl.inherit(plain, 0o100666) == (0o100640, None)


def test_a_file_made_in_a_directory_with_a_default_acl_counts_what_it_got(store: Store) -> None:
    sub, _ = store.run(namespace.mkdir, ROOT_OBJECT, b"d", 0o755, CALLER)
    store.run(xattr.set, sub, acl.DEFAULT, acl.encode(NAMED))
    for op, count in ((namespace.create, 1), (namespace.mkdir, 2)):
        obj, made = store.run(op, sub, op.__name__.encode(), 0o666, CALLER)
        assert made.xattrs == count
        assert len(store.run(xattr.list, obj)) == count
    obj, made = store.run(namespace.tmpfile, sub, 0o666, CALLER)
    assert made.xattrs == 1
    assert store.run(attributes.getattr, obj).mode & 0o777 == 0o640
