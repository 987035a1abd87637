"""A client with leases: what it does alone, and how it gives way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gavel.errors import LostWork
from gavel.keys import records
from gavel.transaction.transaction import Transaction
from tests.unit.cache.leases import MS, SECOND, Lab


def key(obj: int) -> bytes:
    return records.inode(0, obj)


def put(obj: int, value: bytes) -> Callable[[Transaction], Any]:
    return lambda tx: tx.put(key(obj), value)


def get(obj: int) -> Callable[[Transaction], Any]:
    return lambda tx: tx.get(key(obj))


def add(obj: int) -> Callable[[Transaction], Any]:
    def operation(tx: Transaction) -> int:
        value = int(tx.get(key(obj)) or b"0") + 1
        tx.put(key(obj), b"%d" % value)
        return value

    return operation


def test_who_is_alone_asks_once_and_works_from_memory_then() -> None:
    lab = Lab(1)
    (one,) = lab.clients
    assert one.run(get(1)) is None
    one.run(put(1, b"x"))
    lab.run(SECOND)
    said = lab.messages
    for obj in range(2, 50):
        one.run(put(obj, b"%d" % obj))
        assert one.core.at_once(get(obj)).result == b"%d" % obj
    assert lab.messages == said


def test_what_was_written_is_flushed_in_five_seconds_or_when_asked() -> None:
    lab = Lab(1)
    (one,) = lab.clients
    one.run(put(1, b"x"))
    assert lab.master.state(lab.master.tid) == {}
    one.sync()
    assert lab.master.state(lab.master.tid) == {key(1): b"x"}
    one.run(put(1, b"y"))
    lab.run(6 * SECOND)
    assert lab.master.state(lab.master.tid) == {key(1): b"y"} and not one.core.dirty


def test_another_one_sees_what_was_just_written() -> None:
    lab = Lab(2)
    one, two = lab.clients
    for turn in range(20):
        assert (one, two)[turn % 2].run(add(1)) == turn + 1
    assert one.run(get(1)) == b"20" == two.run(get(1))
    assert not one.saved and not two.saved


def test_who_was_cut_off_for_too_long_says_once_what_is_lost() -> None:
    lab = Lab(2)
    one, two = lab.clients
    one.run(put(1, b"base"))
    one.sync()
    one.run(put(1, b"from one"))
    one.cut = True
    assert two.run(get(1)) == b"base"  # after the term
    two.run(put(1, b"from two"))
    one.join()
    lab.run(2 * SECOND)
    ((why, writes),) = one.saved
    assert "leases" in why and writes == {key(1): b"from one"}
    with pytest.raises(LostWork, match="somewhere"):
        one.sync()
    one.sync()
    assert one.run(get(1)) == b"from two"


def test_who_was_cut_off_while_nobody_came_loses_nothing() -> None:
    lab = Lab(2)
    one, two = lab.clients
    one.run(put(1, b"from one"))
    one.cut = True
    lab.run(1500 * MS)
    one.join()
    one.sync()
    assert not one.saved and two.run(get(1)) == b"from one"


def test_more_than_a_few_records_at_once_are_held_in_order() -> None:
    lab = Lab(1)
    (one,) = lab.clients
    for obj in range(2, 60):
        one.run(put(obj, b"%d" % obj))
    one.sync()
    one.run(lambda tx: [tx.delete(key(obj)) for obj in range(2, 60, 2)])
    one.sync()
    found = one.run(lambda tx: list(tx.scan(key(2), key(60))))
    assert found == [(key(obj), b"%d" % obj) for obj in range(3, 60, 2)]
