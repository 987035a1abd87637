"""Each test breaks one thing and asserts that exactly the one invariant tells of it."""

import stat
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gavel.errors import Damaged
from gavel.filesystem import inode as inodes
from gavel.filesystem import invariants
from gavel.filesystem.check import Problem, check
from gavel.filesystem.directory import pack_entry
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.limits import FILE_SIZE_MAX, OBJECT_ID_MAX
from gavel.media import extents
from gavel.transaction.transaction import Transaction
from tests.unit.filesystem.scenario import Scenario


@pytest.fixture
def fs() -> Scenario:
    fs = Scenario()
    fs.mkdir("/d")
    fs.mkdir("/d/sub")
    fs.write("/d/sub/f2", b"f" * 1000)
    fs.link("/d/sub/f2", "/d/f")
    fs.write("/d/f", b"g" * 1000, offset=2000)
    fs.write("/d/empty", b"")
    fs.symlink("/d/link", "target")
    fs.setxattr("/d/f", "user.a", b"1")
    fs.do(lambda tx: tx.put(records.counter(0, records.OBJECTS), (1000).to_bytes(8, "big")))
    return fs


def problems(fs: Scenario, deep: bool = False) -> list[Problem]:
    return [problem for problem in check(fs.begin(), deep) if problem is not None]


def broken(fs: Scenario, op: Callable[[Transaction], Any]) -> str:
    """What the check finds once a transaction has broken something: exactly one thing."""
    fs.do(op)
    (problem,) = problems(fs)
    assert problem.text
    return f"{problem.invariant} {problem.where}"


def inode(fs: Scenario, text: str, **changes: Any) -> Callable[[Transaction], None]:
    obj = fs.obj(text)

    def op(tx: Transaction) -> None:
        inodes.write(tx, obj, msgspec.structs.replace(inodes.read(tx, obj), **changes))

    return op


def put(key: bytes, value: bytes) -> Callable[[Transaction], None]:
    return lambda tx: tx.put(key, value)


def test_sound(fs: Scenario) -> None:
    assert problems(fs, deep=True) == []
    fs.reap = False
    fs.remove("/d/link")
    fs.remove("/d/sub")
    assert problems(fs, deep=True) == []


def test_an_inode_without_a_type(fs: Scenario) -> None:
    fs.do(inode(fs, "/d/empty", mode=0o644))
    found = {problem.invariant for problem in problems(fs)}
    assert found == {"inode_has_a_type", "entry_has_the_type"}


def test_object_ids(fs: Scenario) -> None:
    fs.reap = False
    obj = OBJECT_ID_MAX + 1

    def op(tx: Transaction) -> None:
        held = inodes.read(tx, fs.obj("/d/empty"))
        inodes.write(tx, obj, msgspec.structs.replace(held, nlink=0, parent=0, name_hash=0))
        tx.put(records.orphan(0, obj), b"")
        tx.put(records.counter(0, records.OBJECTS), (obj + 1).to_bytes(8, "big"))

    assert broken(fs, op) == f"object_id_is_sane object {obj}"


def test_sizes(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "/d/empty", size=FILE_SIZE_MAX + 1)) == "size_is_sane /d/empty"


@pytest.mark.parametrize(
    "changes", [{"target": b"", "size": 0}, {"target": b"longer", "size": 7}, {"target": b"nu\0l", "size": 4}]
)
def test_targets(fs: Scenario, changes: dict[str, Any]) -> None:
    assert broken(fs, inode(fs, "/d/link", **changes)) == "target_is_sane /d/link"


def test_a_target_of_a_file(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "/d/empty", target=b"x")) == "target_is_sane /d/empty"


def test_orphans_are_listed(fs: Scenario) -> None:
    assert broken(fs, put(records.orphan(0, fs.obj("/d/f")), b"")) == "orphan_is_listed /d/f"


def test_orphans_are_not_forgotten(fs: Scenario) -> None:
    fs.reap = False
    obj = fs.obj("/d/empty")
    fs.remove("/d/empty")
    assert broken(fs, lambda tx: tx.delete(records.orphan(0, obj))) == f"orphan_is_listed object {obj}"


def test_orphans_exist(fs: Scenario) -> None:
    fs.reap = False
    assert broken(fs, put(records.orphan(0, 999), b"")) == "orphans_exist the filesystem"


def test_an_entry_of_nothing(fs: Scenario) -> None:
    obj = fs.obj("/d/empty")
    assert broken(fs, lambda tx: tx.delete(records.inode(0, obj))) == "entry_points_to_an_inode /d"


def test_an_entry_in_what_is_no_directory(fs: Scenario) -> None:
    file, link = fs.obj("/d/f"), fs.obj("/d/link")

    def op(tx: Transaction) -> None:
        tx.put(records.entry(0, file, b"x"), pack_entry(link, stat.S_IFLNK >> 12))
        inode(fs, "/d/link", nlink=2)(tx)

    assert broken(fs, op) == "entry_is_in_a_directory /d/f"


def test_types_in_entries(fs: Scenario) -> None:
    key = records.entry(0, fs.obj("/d"), b"empty")
    assert broken(fs, put(key, pack_entry(fs.obj("/d/empty"), stat.S_IFIFO >> 12))) == "entry_has_the_type /d"


def test_hashes_in_entries(fs: Scenario) -> None:
    directory, obj = fs.obj("/d"), fs.obj("/d/empty")
    key = records.entry(0, directory, b"empty")

    def op(tx: Transaction) -> None:
        tx.delete(key)
        cookie = records.entry_cookie(key) ^ 1
        tx.put(key[: records.HEAD_SIZE] + cookie.to_bytes(8, "big") + b"empty\0", pack_entry(obj, 8))
        inode(fs, "/d/empty", name_hash=cookie)(tx)

    assert broken(fs, op) == "entry_has_the_hash /d"


@pytest.mark.parametrize("name", [b"", b"a/b", b"..", b"x" * 256])
def test_names(fs: Scenario, name: bytes) -> None:
    directory, obj = fs.obj("/d"), fs.obj("/d/empty")

    def op(tx: Transaction) -> None:
        tx.delete(records.entry(0, directory, b"empty"))
        tx.put(records.entry(0, directory, name), pack_entry(obj, 8))
        inode(fs, "/d/empty", name_hash=records.name_hash(name))(tx)

    assert broken(fs, op) == "entry_name_is_possible /d"


def test_an_xattr_of_nothing(fs: Scenario) -> None:
    assert broken(fs, put(records.xattr(0, 999, b"user.x"), b"")) == "xattr_has_an_inode object 999"


def test_xattr_bounds(fs: Scenario) -> None:
    assert broken(fs, put(records.xattr(0, fs.obj("/d/f"), b"user.a"), b"x" * 65537)) == "xattr_is_within_bounds /d/f"


def test_xattr_count(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "/d/f", xattrs=2)) == "xattrs_are_counted /d/f"


@pytest.mark.parametrize("text", ["", "/d/link"])
def test_data_of_what_has_none(fs: Scenario, text: str) -> None:
    obj = fs.obj(text) if text else 999

    def op(tx: Transaction) -> None:
        tx.put(records.extent(0, obj, 1), extents.encode_inline(b"x"))
        if text:
            inode(fs, text, used=1)(tx)

    assert broken(fs, op) == f"data_has_a_file {text or 'object 999'}"


def test_empty_data(fs: Scenario) -> None:
    key = records.extent(0, fs.obj("/d/f"), 1500)
    assert broken(fs, put(key, extents.encode_inline(b""))) == "data_is_not_empty /d/f"


def test_data_that_shows_more_than_it_has(fs: Scenario) -> None:
    key = records.extent(0, fs.obj("/d/f"), 1000)
    value = bytearray(fs.get(key) or b"")
    value[17:21] = (1).to_bytes(4, "little")  # skip
    assert broken(fs, put(key, bytes(value))) == "data_is_not_empty /d/f"


def test_overlapping_data(fs: Scenario) -> None:
    obj = fs.obj("/d/f")

    def op(tx: Transaction) -> None:
        tx.put(records.extent(0, obj, 2005), extents.encode_inline(b"x" * 10))
        inode(fs, "/d/f", used=2010)(tx)

    assert broken(fs, op) == "data_does_not_overlap /d/f"


def test_data_before_the_beginning(fs: Scenario) -> None:
    obj = fs.obj("/d/empty")

    def op(tx: Transaction) -> None:
        tx.put(records.extent(0, obj, 5), extents.encode_inline(b"x" * 10))
        inode(fs, "/d/empty", used=10, size=5)(tx)

    assert broken(fs, op) == "data_does_not_overlap /d/empty"


def test_data_beyond_the_size(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "/d/f", size=2999)) == "data_is_inside_the_file /d/f"


def test_used(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "/d/f", used=1999)) == "used_is_right /d/f"


def test_links(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "/d/f", nlink=3)) == "links_are_counted /d/f"


def test_links_of_a_directory(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "/d", nlink=2)) == "directory_links_are_counted /d"


def test_a_directory_with_two_names(fs: Scenario) -> None:
    sub, root = fs.obj("/d/sub"), 1

    def op(tx: Transaction) -> None:
        tx.put(records.entry(0, root, b"again"), pack_entry(sub, 4))
        held = inodes.read(tx, root)
        held.size += 1
        held.nlink += 1
        inodes.write(tx, root, held)

    assert broken(fs, op) == "directory_has_one_name /d/sub"


def test_entries_of_a_directory(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "/d", size=3)) == "entries_are_counted /d"


def test_parents(fs: Scenario) -> None:
    obj = fs.obj("/d/empty")
    assert broken(fs, inode(fs, "/d/empty", parent=1)) == f"parent_is_right object {obj}"
    fs.do(inode(fs, "/d/empty", parent=0, name_hash=0))
    assert problems(fs) == []  # of a file with several names, which one is gone may be unknown


def test_a_directory_without_a_parent(fs: Scenario) -> None:
    obj = fs.obj("/d/sub")
    assert broken(fs, inode(fs, "/d/sub", parent=0, name_hash=0)) == f"parent_is_right object {obj}"


def test_the_root_is_its_own_parent(fs: Scenario) -> None:
    assert broken(fs, inode(fs, "", parent=5)) == "parent_is_right /"


def test_no_root() -> None:
    fs = Scenario()
    assert broken(fs, lambda tx: tx.delete(records.inode(0, 1))) == "root_is_a_directory the filesystem"


def test_directories_in_each_other(fs: Scenario) -> None:
    d, sub = fs.obj("/d"), fs.obj("/d/sub")

    def op(tx: Transaction) -> None:
        name = records.entry(0, 1, b"d")
        tx.delete(name)
        tx.put(records.entry(0, sub, b"d"), pack_entry(d, 4))
        inode(fs, "", nlink=2, size=0)(tx)
        inode(fs, "/d", parent=sub)(tx)
        inode(fs, "/d/sub", nlink=3, size=2)(tx)

    assert broken(fs, op) == "directories_hang_together the filesystem"


def test_the_counter_of_objects(fs: Scenario) -> None:
    low = put(records.counter(0, records.OBJECTS), (3).to_bytes(8, "big"))
    assert broken(fs, low) == "object_ids_are_reserved the filesystem"


def test_what_is_not_readable(fs: Scenario) -> None:
    for key, value, where in (
        (records.inode(0, 999), b"\xc1", "object 999"),
        (records.entry(0, fs.obj("/d/sub"), b"bad"), b"short", "/d/sub"),
        (records.extent(0, fs.obj("/d/f"), 1500), b"\x07", "/d/f"),
        (records.inode(0, 998), inodes.encode(Inode(1 << 40, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)), "object 998"),
    ):
        assert broken(fs, put(key, value)) == f"record_is_readable {where}"
        fs.do(lambda tx, key=key: tx.delete(key))


def test_what_nobody_knows(fs: Scenario) -> None:
    assert broken(fs, put(records.inode(0, 5)[:-1] + b"\x63", b"")) == "record_is_known /d/empty"


def test_deep_reads_the_data(fs: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_: Transaction, extent: extents.Extent) -> bytes:
        if extent.place == 0:
            raise Damaged("file data", extent.place)
        return b""

    monkeypatch.setattr(Transaction, "load", damaged)
    assert problems(fs) == []
    (problem,) = problems(fs, deep=True)
    assert (problem.invariant, problem.where) == ("data_verifies", "/d/f")
    assert "bytes 0 to 1000" in problem.text


def test_every_invariant_has_been_broken_here() -> None:
    with open(__file__) as file:
        source = file.read()
    every = [*invariants.INODE_INVARIANTS, *invariants.ENTRY_INVARIANTS, *invariants.XATTR_INVARIANTS]
    every += [*invariants.DATA_INVARIANTS, *invariants.OBJECT_INVARIANTS, *invariants.WHOLE_INVARIANTS]
    assert [one.__name__ for one in every if f"{one.__name__}" not in source] == []


def test_others_may_run_meanwhile(fs: Scenario) -> None:
    for number in range(300):
        fs.write(f"/d/sub/{number}", b"x")
    told: list[int] = []
    found = list(check(fs.begin(), progress=told.append))
    assert found.count(None) > 3
    assert set(found) == {None}
    assert told == sorted(told)
    assert told[-1] > 900
