import errno
import stat

import pytest

from gavel.filesystem import data, inode, xattr
from gavel.keys import records
from gavel.limits import COPY_RECORDS_MAX, EXTENT_MAX, FILE_SIZE_MAX, INLINE_MAX, KIB
from gavel.media import extents
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss
from tests.unit.filesystem.memory_history import MemoryHistory

FILE, OTHER, DIRECTORY, PIPE = 10, 11, 12, 13


def new(mode: int) -> bytes:
    return inode.encode(inode.Inode(mode, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 99))


@pytest.fixture
def tx() -> Transaction:
    tx = MemoryHistory().begin()
    tx.put(records.inode(0, FILE), new(stat.S_IFREG | 0o6755))
    tx.put(records.inode(0, OTHER), new(stat.S_IFREG | 0o644))
    tx.put(records.inode(0, DIRECTORY), new(stat.S_IFDIR | 0o755))
    tx.put(records.inode(0, PIPE), new(stat.S_IFIFO | 0o644))
    return tx


def file(tx: Transaction, obj: int = FILE) -> inode.Inode:
    value = tx.get(records.inode(0, obj))
    assert value is not None
    return inode.decode(value)


def ends(tx: Transaction, obj: int = FILE) -> list[int]:
    return [records.extent_end(key) for key, _ in tx.scan(*records.extents(0, obj))]


def content(tx: Transaction, obj: int = FILE, offset: int = 0, size: int = 1 << 24) -> bytes:
    return b"".join(data.read(tx, obj, offset, size))


def test_write_then_read(tx: Transaction) -> None:
    after = data.write(tx, FILE, 0, b"hello")
    assert (after.size, after.used, after.mtime, after.ctime) == (5, 5, tx.now, tx.now)
    assert content(tx) == b"hello"
    assert data.read(tx, FILE, 5, 10) == []
    assert content(tx, FILE, 1, 3) == b"ell"


def test_large_write_is_cut_at_extent_borders_of_the_file(tx: Transaction) -> None:
    data.write(tx, FILE, 1000, b"x" * (3 * EXTENT_MAX))
    assert ends(tx) == [EXTENT_MAX, 2 * EXTENT_MAX, 3 * EXTENT_MAX, 3 * EXTENT_MAX + 1000]
    assert content(tx) == bytes(1000) + b"x" * (3 * EXTENT_MAX)


def test_whole_extents_are_read_without_a_copy(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"x" * 4096)
    view = tx.view
    assert isinstance(view, MemoryHistory)
    assert data.read(tx, FILE, 0, 4096)[0] is view.stored[0]
    part = data.read(tx, FILE, 1, 10)[0]
    assert isinstance(part, memoryview)
    assert part.obj is view.stored[0]


def test_a_read_inside_one_whole_extent_needs_no_scan(tx: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    data.write(tx, FILE, 0, bytes(range(256)) * 2048)
    data.write(tx, OTHER, 0, b"short")
    monkeypatch.setattr(Transaction, "scan", lambda *_: pytest.fail("scanned"))
    assert content(tx, FILE, EXTENT_MAX + 10, 100) == bytes(range(10, 110))
    assert content(tx, FILE, EXTENT_MAX, EXTENT_MAX) == bytes(range(256)) * 512
    assert content(tx, OTHER, 1, 100) == b"hort"


def test_append_needs_no_scan(tx: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    data.write(tx, FILE, 0, b"x" * 4096)
    monkeypatch.setattr(Transaction, "scan", lambda *_: pytest.fail("scanned"))
    data.write(tx, FILE, 4096, b"y" * 4096)
    data.write(tx, FILE, 1 << 40, b"z" * 4096)
    data.write(tx, FILE, (1 << 40) + 4096, b"short")


def test_short_appends_share_inline_records(tx: Transaction) -> None:
    for number in range(100):
        data.write(tx, FILE, number * 10, b"%09d\n" % number)
    assert content(tx) == b"".join(b"%09d\n" % number for number in range(100))
    assert len(ends(tx)) == 4
    assert file(tx).used == 1000


def test_inline_up_to_the_bound(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"x" * INLINE_MAX)
    data.write(tx, OTHER, 0, b"x" * (INLINE_MAX + 1))
    assert extents.reference(tx.writes[records.extent(0, FILE, INLINE_MAX)] or b"") is None
    assert extents.reference(tx.writes[records.extent(0, OTHER, INLINE_MAX + 1)] or b"") is not None


def test_overwrite_in_the_middle_narrows_what_was_there(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"a" * 10_000)
    data.write(tx, FILE, 4000, b"b" * 1000)
    assert ends(tx) == [4000, 5000, 10_000]
    assert content(tx) == b"a" * 4000 + b"b" * 1000 + b"a" * 5000
    assert file(tx).used == file(tx).size == 10_000
    assert isinstance(tx.view, MemoryHistory)
    assert len(tx.view.stored) == 2


def test_empty_write_changes_nothing(tx: Transaction) -> None:
    before = dict(tx.writes)
    data.write(tx, FILE, 100, b"")
    assert tx.writes == before


def test_the_buffer_may_be_reused(tx: Transaction) -> None:
    for size in (10, 1000, EXTENT_MAX + 1000):
        buffer = bytearray(b"a" * size)
        data.write(tx, FILE, 0, memoryview(buffer))
        buffer[:] = b"b" * size
        assert content(tx, FILE, 0, size) == b"a" * size


def test_set_id_bits_go_when_asked(tx: Transaction) -> None:
    assert stat.S_IMODE(data.write(tx, FILE, 0, b"x").mode) == 0o6755
    assert stat.S_IMODE(data.write(tx, FILE, 0, b"x", kill_suidgid=True).mode) == 0o755
    tx.put(records.inode(0, OTHER), new(stat.S_IFREG | 0o6644))  # without group execute the bit means locking
    assert stat.S_IMODE(data.write(tx, OTHER, 0, b"x", kill_suidgid=True).mode) == 0o2644


def test_capabilities_do_not_outlive_a_change(tx: Transaction) -> None:
    for change in (
        lambda: data.write(tx, FILE, 0, b"x"),
        lambda: data.truncate(tx, FILE, 5),
        lambda: data.fallocate(tx, FILE, 0, 0, 100),
        lambda: data.copy_range(tx, OTHER, 0, FILE, 0, 1),
    ):
        data.write(tx, OTHER, 0, b"y")
        xattr.set(tx, FILE, b"user.stays", b"1")
        xattr.set(tx, FILE, xattr.CAPABILITY, b"1")
        change()
        assert xattr.list(tx, FILE) == [b"user.stays"]
        assert file(tx).xattrs == 1


def test_truncate_down_then_up_shows_zeros(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"a" * 10_000)
    assert data.truncate(tx, FILE, 5000).used == 5000
    assert data.truncate(tx, FILE, 10_000).used == 5000
    assert content(tx) == b"a" * 5000 + bytes(5000)
    assert isinstance(tx.view, MemoryHistory)
    assert len(tx.view.stored) == 1
    assert data.truncate(tx, FILE, 0).used == 0
    assert ends(tx) == []


def test_huge_sparse_files_cost_nothing(tx: Transaction) -> None:
    data.truncate(tx, FILE, FILE_SIZE_MAX)
    data.write(tx, FILE, FILE_SIZE_MAX - 5, b"last!")
    data.write(tx, FILE, 1 << 50, b"middle")
    assert content(tx, FILE, FILE_SIZE_MAX - 7, 100) == b"\0\0last!"
    assert file(tx).used == 11
    assert data.seek(tx, FILE, 0, data.SEEK_DATA) == 1 << 50
    assert data.seek(tx, FILE, 1 << 50, data.SEEK_HOLE) == (1 << 50) + 6
    data.fallocate(tx, FILE, data.PUNCH_HOLE | data.KEEP_SIZE, 0, FILE_SIZE_MAX - 3)
    assert data.seek(tx, FILE, 0, data.SEEK_DATA) == FILE_SIZE_MAX - 3
    assert data.copy_range(tx, FILE, 0, OTHER, 0, FILE_SIZE_MAX) == FILE_SIZE_MAX
    assert (file(tx, OTHER).size, file(tx, OTHER).used) == (FILE_SIZE_MAX, 3)


def test_nothing_beyond_the_largest_file(tx: Transaction) -> None:
    data.write(tx, OTHER, 0, b"12")
    for call in (
        lambda: data.write(tx, FILE, FILE_SIZE_MAX, b"x"),
        lambda: data.truncate(tx, FILE, FILE_SIZE_MAX + 1),
        lambda: data.fallocate(tx, FILE, 0, FILE_SIZE_MAX, 1),
        lambda: data.copy_range(tx, OTHER, 0, FILE, FILE_SIZE_MAX - 1, 2),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EFBIG


def test_fallocate(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"a" * 1000)
    assert data.fallocate(tx, FILE, data.KEEP_SIZE, 0, 5000).size == 1000
    assert data.fallocate(tx, FILE, 0, 100, 100).size == 1000
    assert data.fallocate(tx, FILE, 0, 0, 2000).size == 2000
    punched = data.fallocate(tx, FILE, data.PUNCH_HOLE | data.KEEP_SIZE, 100, 200)
    assert (punched.size, punched.used) == (2000, 800)
    assert content(tx) == b"a" * 100 + bytes(200) + b"a" * 700 + bytes(1000)
    assert data.fallocate(tx, FILE, data.ZERO_RANGE | data.KEEP_SIZE, 900, 5000).size == 2000
    assert data.fallocate(tx, FILE, data.ZERO_RANGE, 900, 5000).size == 5900
    assert content(tx) == b"a" * 100 + bytes(200) + b"a" * 600 + bytes(5000)


@pytest.mark.parametrize("mode", [0x02, 0x08, 0x20, 0x40, 0x12, 0x13, 0x09])
def test_fallocate_refuses_what_it_cannot(tx: Transaction, mode: int) -> None:
    with pytest.raises(OSError) as caught:
        data.fallocate(tx, FILE, mode, 0, 4096)
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize(("offset", "length"), [(-1, 10), (0, 0), (0, -5)])
def test_fallocate_of_nothing(tx: Transaction, offset: int, length: int) -> None:
    with pytest.raises(OSError) as caught:
        data.fallocate(tx, FILE, 0, offset, length)
    assert caught.value.errno == errno.EINVAL


def test_seek(tx: Transaction) -> None:
    data.write(tx, FILE, 1000, b"a" * 1000)
    data.write(tx, FILE, 2000, b"b" * 1000)
    data.truncate(tx, FILE, 5000)
    assert data.seek(tx, FILE, 0, data.SEEK_HOLE) == 0
    assert data.seek(tx, FILE, 0, data.SEEK_DATA) == 1000
    assert data.seek(tx, FILE, 1500, data.SEEK_DATA) == 1500
    assert data.seek(tx, FILE, 1500, data.SEEK_HOLE) == 3000
    assert data.seek(tx, FILE, 4000, data.SEEK_HOLE) == 4000
    for offset, whence in (
        (3000, data.SEEK_DATA),
        (5000, data.SEEK_DATA),
        (5000, data.SEEK_HOLE),
        (-1, data.SEEK_DATA),
    ):
        with pytest.raises(OSError) as caught:
            data.seek(tx, FILE, offset, whence)
        assert caught.value.errno == errno.ENXIO
    with pytest.raises(OSError) as caught:
        data.seek(tx, FILE, 0, 0)
    assert caught.value.errno == errno.EINVAL


def test_the_end_of_a_full_file_counts_as_a_hole(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"a" * 1000)
    assert data.seek(tx, FILE, 10, data.SEEK_HOLE) == 1000


def test_copy_shares_extents(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"a" * 10_000)
    data.write(tx, FILE, 20_000, b"b" * 10_000)
    data.write(tx, OTHER, 0, b"z" * 50_000)
    assert isinstance(tx.view, MemoryHistory)
    stored = len(tx.view.stored)
    assert data.copy_range(tx, FILE, 5000, OTHER, 7777, 100_000) == 25_000
    assert len(tx.view.stored) == stored
    assert tx.view.loads == 0
    assert content(tx, OTHER) == (
        b"z" * 7777 + b"a" * 5000 + bytes(10_000) + b"b" * 10_000 + b"z" * (50_000 - 7777 - 25_000)
    )
    assert file(tx, OTHER).used == 40_000
    assert data.seek(tx, OTHER, 7777, data.SEEK_HOLE) == 12_777


def test_copy_of_nothing_changes_nothing(tx: Transaction) -> None:
    before = dict(tx.writes)
    assert data.copy_range(tx, FILE, 100, OTHER, 0, 10) == 0
    assert data.copy_range(tx, FILE, 0, OTHER, 0, 0) == 0
    assert tx.writes == before


def test_copy_within_one_file(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"abcdefghij" * 100)
    assert data.copy_range(tx, FILE, 5, FILE, 900, 300) == 300
    assert content(tx) == b"abcdefghij" * 90 + b"fghijabcde" * 30
    assert file(tx).used == 1200
    with pytest.raises(OSError) as caught:
        data.copy_range(tx, FILE, 0, FILE, 5, 10)
    assert caught.value.errno == errno.EINVAL


def test_copy_of_many_records_goes_on_when_called_again(tx: Transaction) -> None:
    for number in range(COPY_RECORDS_MAX + 10):
        tx.put(records.extent(0, FILE, number * 10 + 10), extents.encode_inline(b"x" * 5))
    size = (COPY_RECORDS_MAX + 10) * 10
    tx.put(records.inode(0, FILE), inode.encode(inode.Inode(stat.S_IFREG, 1, 0, 0, size, size // 2, 1, 1, 1, 1, 1, 9)))
    first = data.copy_range(tx, FILE, 0, OTHER, 0, size)
    assert 0 < first < size
    assert data.copy_range(tx, FILE, first, OTHER, first, size) == size - first
    assert content(tx, OTHER) == content(tx)


def test_drop_in_slices(tx: Transaction) -> None:
    data.write(tx, FILE, 0, b"x" * (5 * EXTENT_MAX))
    assert not data.drop(tx, FILE, 2)
    assert file(tx).used == 3 * EXTENT_MAX
    assert not data.drop(tx, FILE, 2)
    tx.delete(records.inode(0, FILE))
    assert data.drop(tx, FILE, 2)
    assert ends(tx) == []
    assert data.drop(tx, FILE, 2)


def test_not_a_regular_file(tx: Transaction) -> None:
    for obj, number in ((DIRECTORY, errno.EISDIR), (PIPE, errno.EINVAL), (999, errno.ESTALE)):
        for call in (
            lambda o: data.read(tx, o, 0, 1),
            lambda o: data.write(tx, o, 0, b"x"),
            lambda o: data.truncate(tx, o, 1),
            lambda o: data.fallocate(tx, o, 0, 0, 1),
            lambda o: data.seek(tx, o, 0, 3),
            lambda o: data.copy_range(tx, FILE, 0, o, 0, 1),
            lambda o: data.copy_range(tx, o, 0, FILE, 0, 1),
        ):
            with pytest.raises(OSError) as caught:
                call(obj)
            assert caught.value.errno == number


def test_negative_arguments(tx: Transaction) -> None:
    for call in (
        lambda: data.read(tx, FILE, -1, 1),
        lambda: data.write(tx, FILE, -1, b"x"),
        lambda: data.truncate(tx, FILE, -1),
        lambda: data.copy_range(tx, FILE, -1, OTHER, 0, 1),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EINVAL


def test_a_read_names_all_it_lacks(tx: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    data.write(tx, FILE, 0, b"x" * (3 * EXTENT_MAX))

    def lacking(_: Transaction, extent: extents.Extent) -> bytes:
        raise Miss((), (extent,))

    monkeypatch.setattr(Transaction, "load", lacking)
    with pytest.raises(Miss) as caught:
        data.read(tx, FILE, 0, 3 * EXTENT_MAX)
    assert len(caught.value.extents) == 3


def test_holes_share_one_buffer(tx: Transaction) -> None:
    data.truncate(tx, FILE, 5 << 20)
    parts = data.read(tx, FILE, 0, 5 << 20)
    assert len(parts) == 5
    assert all(isinstance(part, memoryview) and part.readonly for part in parts)
    assert len({id(part.obj) for part in parts if isinstance(part, memoryview)}) == 1
    assert sum(map(len, data.read(tx, FILE, 3, 10 * KIB))) == 10 * KIB
