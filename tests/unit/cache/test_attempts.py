"""Operations of a client of a cluster, run against a master until they have their results."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from gavel.cache.attempts import Attempt, Finished
from gavel.cache.places import Places
from gavel.cache.remote import Remote
from gavel.errors import Collision, GavelError, HistoryPruned, QuorumLost, ReadOnly
from gavel.keys import records
from gavel.limits import BODY_INLINE_MAX
from gavel.media import extents
from gavel.transaction import requests
from gavel.transaction.transaction import Transaction
from tests.unit.cache.master import Master, k

NOW = 1_700_000_000_000_000_000
Between = Callable[[requests.Question], None]


def drive(
    remote: Remote, master: Master, operation: Callable[[Transaction], Any], at: int = 0, between: Between | None = None
) -> tuple[Finished, list[str]]:
    """Run an operation to its end; `between` sees each question before the master does. Also: what was asked."""
    attempt, asked = remote.start(operation, 1, at), []
    while not isinstance(step := attempt.run(NOW), Finished):
        for question in step:
            asked.append(type(question).__name__)
            if between is not None:
                between(question)
            attempt.heard(question, master.answer(question), NOW)
        assert len(asked) < 100
    remote.ended(attempt, step)
    return step, asked


def get(*keys: str) -> Callable[[Transaction], Any]:
    return lambda tx: [tx.get(k(key)) for key in keys]


def put(**values: bytes) -> Callable[[Transaction], Any]:
    def operation(tx: Transaction) -> None:
        for key, value in values.items():
            tx.put(k(key), value)

    return operation


@pytest.fixture
def master() -> Master:
    found = Master()
    found.put(a=b"1", b=b"2", c=b"3", d=b"4", e=b"5")
    return found


@pytest.fixture
def remote() -> Remote:
    return Remote(b"client-number-01")


def test_what_is_lacking_is_asked_and_what_is_held_is_confirmed(master: Master, remote: Remote) -> None:
    assert drive(remote, master, get("a")) == (Finished([b"1"]), ["Look"])
    assert drive(remote, master, get("a")) == (Finished([b"1"]), ["Look"])
    master.put(a=b"new")
    assert drive(remote, master, get("a")) == (Finished([b"new"]), ["Look"])


def test_two_reads_are_of_one_state(master: Master, remote: Remote) -> None:
    """Between the two answers both change; the pair that is returned was never torn."""
    drive(remote, master, get("z"))
    changes = iter([{"a": b"A", "b": b"B"}])

    def between(question: requests.Question) -> None:
        if isinstance(question, requests.Look) and (change := next(changes, None)):
            master.put(**change)

    found, _ = drive(remote, master, lambda tx: (tx.get(k("a")), tx.get(k("b"))), between=between)
    assert found.result == (b"A", b"B")


def test_what_another_operation_fetched_meanwhile_does_not_mix_with_what_was_read_before(
    master: Master, remote: Remote
) -> None:
    drive(remote, master, get("z"))
    attempt = remote.start(get("a", "b"), 1)
    (question,) = attempt.run(NOW)
    attempt.heard(question, master.answer(question), NOW)  # a is known now, and b is asked for next
    master.put(a=b"A", b=b"B")
    assert drive(remote, master, get("b"))[0].result == [b"B"]
    (question,) = attempt.run(NOW)
    attempt.heard(question, master.answer(question), NOW)
    assert attempt.run(NOW) == Finished([b"A", b"B"])


def test_a_scan_goes_on_where_an_answer_ended(master: Master, remote: Remote) -> None:
    found, _ = drive(remote, master, lambda tx: list(tx.scan(k("a"), k("z"))))
    assert found.result == [(k("a"), b"1"), (k("b"), b"2"), (k("c"), b"3"), (k("d"), b"4"), (k("e"), b"5")]
    assert drive(remote, master, lambda tx: list(tx.scan(k("a"), k("z"))))[1] == ["Look"]


def test_a_write_is_committed_and_held(master: Master, remote: Remote) -> None:
    found, _ = drive(remote, master, put(f=b"6"))
    assert found.tid == master.tid and master.states[-1][k("f")] == b"6"
    assert drive(remote, master, get("f")) == (Finished([b"6"]), ["Look"])


def test_what_was_read_and_changed_by_others_makes_it_run_again(master: Master, remote: Remote) -> None:
    def increment(tx: Transaction) -> bytes:
        value = b"%d" % (int(tx.get(k("a")) or b"0") + 1)
        tx.put(k("a"), value)
        return value

    drive(remote, master, get("a"))
    others = iter([b"10", b"20"])

    def between(question: requests.Question) -> None:
        if isinstance(question, requests.Submit) and (value := next(others, None)):
            master.put(a=value)

    found, asked = drive(remote, master, increment, between=between)
    assert found.result == b"21" and master.states[-1][k("a")] == b"21"
    assert asked.count("Submit") == 3


def test_who_was_overtaken_runs_again_on_what_the_answer_brought(master: Master, remote: Remote) -> None:
    def add(tx: Transaction) -> None:
        total = int(tx.get(k("a")) or 0) + int(tx.get(k("b")) or 0)
        tx.put(k("c"), b"%d" % total)

    drive(remote, master, get("a", "b", "c"))
    others = iter([{"b": b"20"}, {"a": b"10", "b": b"30"}])

    def between(question: requests.Question) -> None:
        if isinstance(question, requests.Submit) and (values := next(others, None)):
            master.put(**values)

    master.tells_more = True
    _, asked = drive(remote, master, add, between=between)
    assert master.states[-1][k("c")] == b"40"
    assert asked == ["Submit"] * 3, "no Look in between"

    def either(tx: Transaction) -> bytes | None:
        if tx.get(k("a")) == b"10":
            tx.put(k("d"), b"written")
        return tx.get(k("a"))

    others = iter([{"a": b"11"}])
    found, asked = drive(remote, master, either, between=between)
    assert found.result == b"11" and asked == ["Submit", "Look"], "what only reads has to be current"


def test_an_error_counts_only_when_what_it_was_raised_for_is_so(master: Master, remote: Remote) -> None:
    def must_be_one(tx: Transaction) -> str:
        tx.put(k("x"), b"dropped if it raises")
        if tx.get(k("a")) != b"1":
            raise OSError(errno.EINVAL, "not one")
        return "one"

    master.put(a=b"0")
    found, _ = drive(remote, master, must_be_one)
    assert isinstance(found.error, OSError) and k("x") not in master.states[-1]
    master.put(a=b"1")
    found, _ = drive(remote, master, must_be_one)
    assert found.result == "one" and master.states[-1][k("x")]


def test_a_long_transaction_goes_ahead_in_pieces(master: Master, remote: Remote) -> None:
    values = {f"k{n}": os.urandom(9000) for n in range(40)}
    found, asked = drive(remote, master, put(**values))
    assert found.error is None and asked.count("Stage") == 3 and BODY_INLINE_MAX < 40 * 9000
    assert all(master.states[-1][k(key)] == value for key, value in values.items())


def test_an_operation_may_read_more_than_is_kept(master: Master, remote: Remote) -> None:
    """What one run has lacked the next must find together, or it never ends; afterwards it is dropped."""
    keys = [records.extent(0, 5, 1000 * number) for number in range(1, 6)]

    def write(tx: Transaction) -> None:
        for number, key in enumerate(keys):
            tx.put(key, extents.encode_view(tx.stage(bytes([number]) * 1000), 0, 1000))

    def read(tx: Transaction) -> bytes:
        shown = [extents.decode(tx.get(key) or b"") for key in keys]
        return b"".join(bytes(tx.load(one.extent))[:1] for one in shown if one.extent is not None)

    assert drive(remote, master, write)[0].error is None
    other = Remote(b"client-number-02")
    other.places = Places(limit=2000)
    for _ in range(2):
        assert drive(other, master, read)[0] == Finished(bytes(range(5)))
        assert other.places.kept <= 2000


def test_file_data_is_staged_read_back_shared_and_fetched_elsewhere(master: Master, remote: Remote) -> None:
    key, copy = records.extent(0, 5, 1000), records.extent(0, 6, 1000)
    data = os.urandom(1000)

    def write(tx: Transaction) -> bytes:
        tx.get(k("lacking"))  # runs twice, and stages twice
        extent = tx.stage(data, extents.ZSTD)
        tx.put(key, extents.encode_view(extent, 0, 1000))
        return bytes(tx.load(extent))

    def read(name: bytes) -> Callable[[Transaction], bytes]:
        def operation(tx: Transaction) -> bytes:
            shown = extents.decode(tx.get(name) or b"")
            assert shown.extent is not None
            return bytes(tx.load(shown.extent))[shown.skip : shown.skip + shown.view]

        return operation

    def share(tx: Transaction) -> None:
        shown = extents.decode(tx.get(key) or b"")
        assert shown.extent is not None
        tx.put(copy, extents.encode_view(shown.extent, 100, 200))

    found, asked = drive(remote, master, write)
    assert found.result == data and asked.count("Stage") == 1
    assert drive(remote, master, read(key))[0].result == data
    drive(remote, master, share)
    other = Remote(b"client-number-02")
    for name, expected in ((key, data), (copy, data[100:300])):
        found, asked = drive(other, master, read(name))
        assert found.result == expected and asked[-1] == "Data"
        assert drive(other, master, read(name))[1] == ["Look"]


def test_the_past_is_read_as_it_was_and_not_confirmed(master: Master, remote: Remote) -> None:
    at = master.tid
    master.put(a=b"later")
    assert drive(remote, master, get("a"), at) == (Finished([b"1"]), ["Fetch"])
    assert drive(remote, master, get("a"), at) == (Finished([b"1"]), [])
    found, _ = drive(remote, master, lambda tx: tx.stage(b"x"), at)
    assert isinstance(found.error, ReadOnly)
    master.horizon = master.tid
    found, _ = drive(remote, master, get("b"), at)
    assert isinstance(found.error, HistoryPruned)


def test_a_pruned_past_of_what_is_held_is_looked_up_anew(master: Master, remote: Remote) -> None:
    drive(remote, master, get("a"))
    for n in range(3):
        master.put(b=b"%d" % n)
    master.horizon = master.tid

    def copy(tx: Transaction) -> None:
        tx.put(k("copy"), tx.get(k("a")) or b"")

    found, asked = drive(remote, master, copy)
    assert found.error is None and master.states[-1][k("copy")] == b"1" and asked.count("Submit") == 2


def test_object_ids_are_never_used_twice(master: Master) -> None:
    """Two clients start at once, on the same counter; one of them loses its block, and every id it took of it."""
    first, second = Remote(b"client-number-01"), Remote(b"client-number-02")

    def take(name: str, count: int) -> Callable[[Transaction], list[int]]:
        def operation(tx: Transaction) -> list[int]:
            ids = [tx.new_object() for _ in range(count)]
            tx.put(k(name), repr(ids).encode())
            return ids

        return operation

    taken: list[int] = []
    once = iter([True])

    def between(question: requests.Question) -> None:
        if isinstance(question, requests.Submit) and next(once, False):
            taken.extend(drive(second, master, take("second", 3))[0].result)

    taken += drive(first, master, take("first", 2), between=between)[0].result
    assert len(taken) == 5
    for n in range(3):
        taken += drive(first, master, take(f"f{n}", 2))[0].result + drive(second, master, take(f"s{n}", 2))[0].result
    assert len(set(taken)) == len(taken) == 17


def test_no_quorum_ends_it(master: Master, remote: Remote) -> None:
    attempt: Attempt = remote.start(put(a=b"9"), 1)
    (question,) = asked if isinstance(asked := attempt.run(NOW), list) else ()
    attempt.heard(question, QuorumLost(30_000), NOW)
    done = attempt.run(NOW)
    assert isinstance(done, Finished) and isinstance(done.error, QuorumLost)


def test_an_operation_that_never_succeeds_gives_up(
    master: Master, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gavel.cache.attempts.ATTEMPTS_MAX", 5)

    def between(question: requests.Question) -> None:
        if isinstance(question, requests.Submit):
            master.put(a=os.urandom(8))

    found, asked = drive(remote, master, lambda tx: tx.put(k("b"), tx.get(k("a")) or b""), between=between)
    assert isinstance(found.error, Collision) and asked.count("Submit") <= 5


def test_wrong_answers_are_told_as_errors(master: Master, remote: Remote) -> None:
    attempt = remote.start(get("a"), 1)
    attempt.run(NOW)
    attempt.heard(requests.Look([]), requests.Done(), NOW)
    done = attempt.run(NOW)
    assert isinstance(done, Finished) and isinstance(done.error, GavelError)


def test_the_time_of_an_operation_is_that_of_its_first_run(master: Master, remote: Remote) -> None:
    """A request for `name@@-1s` once ran until what it named had passed the last change: each run named another."""
    times: list[int] = []

    def operation(tx: Transaction) -> None:
        times.append(tx.now)
        tx.get(k("a"))

    attempt, now = remote.start(operation, 1), NOW
    while not isinstance(step := attempt.run(now), Finished):
        now += 1000
        for question in step:
            attempt.heard(question, master.answer(question), now)
    assert len(times) == 2 and len(set(times)) == 1
