"""Record keys: order, prefix-freedom, and what can be read back from them."""

from hypothesis import given
from hypothesis import strategies as st

from gavel.keys import records

names = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name and b"/" not in name)
objects = st.integers(1, 2**63 - 1)
pfs = st.integers(0, 65535)

keys = st.one_of(
    st.builds(records.inode, pfs, objects),
    st.builds(records.entry, pfs, objects, names),
    st.builds(records.xattr, pfs, objects, names),
    st.builds(records.extent, pfs, objects, st.integers(1, 2**63 - 1)),
    st.builds(records.orphan, pfs, objects),
    st.builds(records.snapshot, pfs, names),
    st.builds(records.counter, pfs, names),
    st.builds(records.config, pfs, names),
)


@given(keys, keys, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_keys_with_a_tid_appended_sort_like_pairs(one: bytes, other: bytes, t: int, u: int) -> None:
    joined = one + t.to_bytes(8, "big") < other + u.to_bytes(8, "big")
    assert joined == ((one, t) < (other, u))


@given(pfs, objects, names)
def test_names_come_back_out_of_keys(fs: int, obj: int, name: bytes) -> None:
    key = records.entry(fs, obj, name)
    assert records.entry_name(key) == name
    assert records.entry_cookie(key) == records.name_hash(name) >= 3
    lo, hi = records.entries(fs, obj)
    assert lo <= key < hi
    lo, hi = records.entries(fs, obj, records.name_hash(name))
    assert not lo <= key < hi
    lo, hi = records.entries_hashed(fs, obj, records.name_hash(name))
    assert lo <= key < hi
    attribute = records.xattr(fs, obj, name)
    assert records.xattr_name(attribute) == name
    lo, hi = records.xattrs(fs, obj)
    assert lo <= attribute < hi
    assert records.snapshot_name(records.snapshot(fs, name)) == name


@given(pfs, objects, st.integers(0, 2**62), st.integers(1, 2**62))
def test_one_seek_finds_the_extent_that_covers_an_offset(fs: int, obj: int, offset: int, beyond: int) -> None:
    key = records.extent(fs, obj, offset + beyond)
    lo, hi = records.extents(fs, obj, offset)
    assert lo <= key < hi
    assert not lo <= records.extent(fs, obj, offset) < hi
    assert records.extent_end(key) == offset + beyond
    assert records.is_data(key)
    assert not records.is_data(records.inode(fs, obj))


@given(keys)
def test_a_key_can_be_taken_apart(key: bytes) -> None:
    parts = records.parse(key)
    lo, hi = records.whole(parts.pfs)
    assert lo <= key < hi
    assert key.endswith(parts.subkey)
    assert records.after(key[: records.HEAD_SIZE]) > key


def test_inodes_names_and_data_lie_apart() -> None:
    assert records.inode(0, 2**63 - 1) < records.entry(0, 1, b"a") < records.xattr(0, 1, b"a") < records.extent(0, 1, 1)
