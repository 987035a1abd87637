"""Transactions: own writes on top, footprints that hold all that mattered, collisions."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from gavel.errors import Collision
from gavel.keys.ranges import RangeSet
from gavel.media.extents import Extent
from gavel.transaction.certify import collision
from gavel.transaction.merged import merged
from gavel.transaction.transaction import Transaction, sorted_writes
from gavel.transaction.view import Buffer

KEYS = [bytes([n]) for n in range(12)]
values = st.one_of(st.none(), st.binary(max_size=2))
tables = st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=2))
writes = st.dictionaries(st.sampled_from(KEYS), values)


class Table:
    """A view over a dict."""

    def __init__(self, held: dict[bytes, bytes]) -> None:
        self.held = held

    def get(self, key: bytes) -> bytes | None:
        return self.held.get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter([(key, self.held[key]) for key in sorted(self.held) if lo <= key < hi])

    def load(self, extent: Extent) -> Buffer:
        raise AssertionError("no extents here")

    def stage(self, data: Buffer, codec: int = 0) -> Extent:
        raise AssertionError("no extents here")


def laid_over(table: dict[bytes, bytes], wrote: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    together = {**table, **wrote}
    return {key: value for key, value in sorted(together.items()) if value is not None}


@given(tables, writes)
def test_merged_is_what_a_dict_would_say(table: dict[bytes, bytes], wrote: dict[bytes, bytes | None]) -> None:
    got = list(merged(sorted(wrote), wrote, iter(sorted(table.items()))))
    assert got == list(laid_over(table, wrote).items())


@given(tables, writes, st.sampled_from(KEYS), st.sampled_from(KEYS), st.booleans())
def test_own_writes_are_seen(
    table: dict[bytes, bytes], wrote: dict[bytes, bytes | None], lo: bytes, hi: bytes, noted: bool
) -> None:
    tx = Transaction(Table(table), now=0, footprint=RangeSet() if noted else None)
    for key, value in wrote.items():
        if value is None:
            tx.delete(key)
        else:
            tx.put(key, value)
    expected = laid_over(table, wrote)
    assert list(tx.scan(lo, hi)) == [(key, value) for key, value in expected.items() if lo <= key < hi]
    assert {key: tx.get(key) for key in KEYS} == {key: expected.get(key) for key in KEYS}
    assert sorted_writes(tx.writes) == (sorted(wrote), [wrote[key] for key in sorted(wrote)])


def test_a_footprint_holds_absent_keys_and_no_more_than_was_taken() -> None:
    footprint = RangeSet()
    tx = Transaction(Table({b"b": b"1", b"d": b"2"}), now=0, footprint=footprint)
    assert tx.get(b"x") is None
    assert b"x" in footprint
    first = next(tx.scan(b"a", b"f"))
    assert first == (b"b", b"1")
    assert footprint.covers(b"a", b"b\0")
    assert b"d" not in footprint
    assert len(list(tx.scan(b"a", b"f"))) == 2
    assert footprint.covers(b"a", b"f")


class Log:
    def __init__(self, changes: dict[bytes, int]) -> None:
        self.changes = changes

    def changed(self, lo: bytes, hi: bytes, since: int) -> tuple[bytes, int] | None:
        return next(((k, t) for k, t in sorted(self.changes.items()) if lo <= k < hi and t > since), None)


def test_certification_names_the_first_change_in_what_was_read() -> None:
    log = Log({b"c": 30, b"m": 50})
    reads = RangeSet([(b"a", b"d"), (b"l", b"n")])
    found = collision(log, 20, reads)
    assert isinstance(found, Collision)
    assert (found.key, found.tid, found.freeze, found.retry) == (b"c", 30, 20, True)
    later = collision(log, 30, reads)
    assert later is not None
    assert later.key == b"m"
    assert collision(log, 50, reads) is None
    assert collision(log, 0, RangeSet([(b"d", b"l")])) is None
