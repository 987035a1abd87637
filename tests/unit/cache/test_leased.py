"""A client with leases: what it does alone, and how it gives way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gavel.keys import records
from gavel.transaction.transaction import Transaction
from tests.unit.cache.leases import SECOND, Lab


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
        assert one.core.at_once(get(obj)) is None or True
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
