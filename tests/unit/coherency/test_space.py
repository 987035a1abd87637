"""Lease keys and record keys: what a lease covers is what the records' ranges say."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gavel.coherency import space
from gavel.keys import records
from gavel.keys.ranges import just

OBJECTS = st.integers(0, 3) | st.integers(250, 260) | st.just(2**63 - 1)
KEYS = st.builds(
    lambda pfs, locality, obj, kind, rest: pfs.to_bytes(2, "big") + bytes([locality]) + obj.to_bytes(8, "big")
    + bytes([kind]) + rest,
    st.sampled_from([0, 1, 0xFFFF]), st.integers(0, 4), OBJECTS, st.integers(0, 3), st.binary(max_size=2),
)  # fmt: skip
BOUNDS = KEYS | KEYS.map(lambda key: key[:11]) | KEYS.map(lambda key: key[:3]) | st.sampled_from([b"", b"\xff\xff\xff"])


def inside(key: bytes, ranges: list[tuple[bytes, bytes]]) -> bool:
    return any(lo <= key < hi for lo, hi in ranges)


@given(BOUNDS, BOUNDS, KEYS)
def test_the_lease_of_a_range_holds_the_lease_keys_of_all_its_records(lo: bytes, hi: bytes, key: bytes) -> None:
    low, high = space.lease_range(min(lo, hi), max(lo, hi))
    if min(lo, hi) <= key < max(lo, hi):
        assert low <= space.lease_key(key) < high


@given(BOUNDS.map(lambda key: space.lease_key(key) if len(key) >= 11 else key[:2]), KEYS, KEYS)
def test_the_records_under_a_lease_are_those_whose_lease_keys_are(bound: bytes, other: bytes, key: bytes) -> None:
    lo, hi = sorted((bound, space.lease_key(other)))
    assert inside(key, space.record_ranges(lo, hi)) == (lo <= space.lease_key(key) < hi)


@given(KEYS, KEYS)
def test_one_record_is_exact_both_ways(key: bytes, other: bytes) -> None:
    lo, hi = space.lease_range(*just(key))
    assert (lo, hi) == just(space.lease_key(key))
    assert space.record_ranges(lo, hi) == [just(key)]
    assert (lo <= space.lease_key(other) < hi) == (other == key)


def test_a_directory_is_one_range_of_one_object() -> None:
    lo, hi = space.lease_range(*records.entries(0, 7))
    assert space.object_of(lo, hi) == b"\0\0" + (7).to_bytes(8, "big")
    assert space.record_ranges(lo, hi) == [records.entries(0, 7)]


def test_an_object_is_one_range_in_each_locality() -> None:
    lo, hi = space.levels(*just(space.lease_key(records.inode(0, 7))))[1]
    ranges = space.record_ranges(lo, hi)
    assert len(ranges) == 5
    for key in (
        records.inode(0, 7),
        records.entry(0, 7, b"name"),
        records.xattr(0, 7, b"user.x"),
        records.extent(0, 7, 9),
    ):
        assert inside(key, ranges)
    assert not inside(records.inode(0, 8), ranges)


def test_a_range_of_inodes_is_widened_to_whole_objects() -> None:
    lo, hi = space.lease_range(records.inode(0, 7), records.inode(0, 9))
    assert (lo, hi) == (b"\0\0" + (7).to_bytes(8, "big"), b"\0\0" + (10).to_bytes(8, "big"))


@given(KEYS)
def test_levels_widen_step_by_step_up_to_everything(key: bytes) -> None:
    found = space.levels(*just(space.lease_key(key)))
    assert found[-1] == space.EVERYTHING
    assert len(found) == 8
    assert all(b[0] <= a[0] and a[1] <= b[1] and a != b for a, b in pairwise(found))


def test_levels_of_two_neighbours_begin_with_the_block_of_both() -> None:
    lo, hi = space.lease_range(records.inode(0, 255), records.inode(0, 256))
    assert space.levels(lo, hi)[1] == (b"\0\0" + bytes(8), b"\0\0" + (65536).to_bytes(8, "big"))


def test_ranges_are_described_for_people() -> None:
    one = records.inode(3, 7)
    found = [space.described(*span) for span in space.levels(*space.lease_range(*just(one)))]
    assert found == [
        "a part of object 0x7 of pfs 3",
        "object 0x7 of pfs 3",
        "from object 0x0 of pfs 3 to before object 0x100",
        "from object 0x0 of pfs 3 to before object 0x10000",
        "from object 0x0 of pfs 3 to before object 0x1000000",
        "from object 0x0 of pfs 3 to before object 0x100000000",
        "pfs 3",
        "everything",
    ]
    seventh = b"\0\3" + bytes(7) + b"\7"
    assert space.described(b"\0\3", b"\0\5") == "from object 0x0 of pfs 3 to before object 0x0 of pfs 5"
    assert space.described(seventh, b"\0\4") == "from object 0x7 of pfs 3 to its end"
    assert space.described(seventh, space.EVERYTHING[1]) == "from object 0x7 of pfs 3 to the end"
    assert space.described(b"", seventh) == "from the beginning to before object 0x7 of pfs 3"
