"""Every checker, given a true account and then the same with one bug planted: it must find it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gavel.quorum.machine import Aborted, Collided, Committed
from gavel.sim.account import Account, Decided, Final, Look, Operation, Reading, Seen
from gavel.sim.checkers import CHECKERS, check

LO, HI = b"a", b"z"
BOTH = ((b"k", b"1"), (b"m", b"1"))


def true_account() -> Account:
    """Three commits, a collision, a refusal and two looks, as they should be."""
    return Account(
        operations=[
            Operation("one", "t1", [], {b"k": b"1", b"m": b"1"}, 0, 10, Committed(100)),
            Operation("two", "t2", [Seen(LO, HI, 100, BOTH)], {b"k": b"2"}, 20, 30, Committed(200)),
            Operation("three", "t3", [Seen(LO, b"l", 100, BOTH[:1])], {b"k": b"3"}, 25, 40, Collided(b"k", 200)),
            Operation("four", "t4", [], {b"k": b"4"}, 20, 45, Aborted()),
            Operation("five", "t5", [Seen(b"m", b"n", 200, ((b"m", b"1"),))], {b"m": None}, 50, 60, Committed(400)),
        ],
        looks=[
            Look("now", True, 46, 48, Seen(LO, HI, 300, ((b"k", b"2"), (b"m", b"1")))),
            Look("as of", False, 70, 71, Seen(LO, HI, 100, ((b"k", b"1"), (b"m", b"1")))),
        ],
        readings=[Reading("reader", 59, b"m", 300), Reading("reader", 61, b"k", 300), Reading("reader", 61, b"m", 400)],
        order=[
            Decided(100, "t1", Committed(100)),
            Decided(200, "t2", Committed(200)),
            Decided(300, "t3", Collided(b"k", 200)),
            Decided(400, "t5", Committed(400)),
        ],
        finals=[
            Final(1, 400, {b"k": [(100, b"1"), (200, b"2")], b"m": [(100, b"1"), (400, None)]}),
            Final(2, 500, {b"k": [(100, b"1"), (200, b"2")], b"m": [(100, b"1"), (400, None)]}),
        ],
    )  # fmt: skip


def decided_twice(account: Account) -> None:
    account.order.insert(2, Decided(250, "t2", Committed(250)))
    for final in account.finals:
        final.versions[b"k"].append((250, b"2"))
    account.looks[0].seen.freeze = 200
    account.operations[2].told = Collided(b"k", 200)
    account.looks[0].began = 35


def out_of_order(account: Account) -> None:
    account.order.append(Decided(400, "t9", Committed(400)))
    account.operations.append(Operation("nine", "t9", [], {}, 50, 60, Committed(400)))


def nobodys(account: Account) -> None:
    account.order.append(Decided(500, "t9", Collided(b"k", 1)))
    account.finals[0].reached = 500


def stale_read(account: Account) -> None:
    account.operations[4].reads[0].rows = ((b"m", b"0"),)


def phantom(account: Account) -> None:
    account.operations[1].reads[0].rows = ((b"k", b"1"), (b"l", b"new"), (b"m", b"1"))


def unnoticed_change(account: Account) -> None:
    """A collision that had to be and was not: the account calls it a commit everywhere."""
    account.order[2] = Decided(300, "t3", Committed(300))
    account.operations[2].told = Committed(300)
    account.looks[0].seen.rows = ((b"k", b"3"), (b"m", b"1"))
    for final in account.finals:
        final.versions[b"k"].append((300, b"3"))


def invented_collision(account: Account) -> None:
    account.operations[2].told = Collided(b"k", 100)
    account.order[2] = Decided(300, "t3", Collided(b"k", 100))


def torn_look(account: Account) -> None:
    account.looks[0].seen.rows = ((b"k", b"1"), (b"m", b"1"))


def wrong_past(account: Account) -> None:
    account.looks[1].seen.rows = ((b"k", b"2"), (b"m", b"1"))


def lost_acknowledged(account: Account) -> None:
    del account.order[3]
    for final in account.finals:
        final.versions[b"m"].pop()


def refused_that_happened(account: Account) -> None:
    account.operations[4].told = Aborted()


def told_of_no_change(account: Account) -> None:
    """A collision told before anything was decided, with what had changed before it was read."""
    del account.order[2]
    account.operations[2].told = Collided(b"k", 100)


def told_collided_and_committed(account: Account) -> None:
    account.operations[4].told = Collided(b"k", 200)


def told_another_tid(account: Account) -> None:
    account.operations[4].told = Committed(401)


def earlier_than_it_began(account: Account) -> None:
    account.operations[4].began = 41
    account.operations[0].ended = 55
    account.operations[1].began = 56


def stale_strict_read(account: Account) -> None:
    account.looks[0].seen.freeze = 150
    account.looks[0].seen.rows = ((b"k", b"1"), (b"m", b"1"))


def overtaken_read(account: Account) -> None:
    """The read shows what is at 400, and had ended before that began."""
    account.looks[0].seen.freeze = 500
    account.looks[0].seen.rows = ((b"k", b"2"),)


def stale_lease(account: Account) -> None:
    account.readings[0] = Reading("reader", 61, b"m", 300)


def missing_version(account: Account) -> None:
    account.finals[1].versions[b"k"].pop()


def extra_version(account: Account) -> None:
    account.finals[0].versions[b"k"].append((300, b"3"))


def never_answered(account: Account) -> None:
    account.operations[3].told = None


def behind(account: Account) -> None:
    account.finals[0].reached = 399


def left_open(account: Account) -> None:
    account.finals[1].open.append("t4")


PLANTED: list[tuple[str, Callable[[Account], None]]] = [
    ("at_most_once", decided_twice), ("at_most_once", out_of_order), ("at_most_once", nobodys),
    ("serializable", stale_read), ("serializable", phantom), ("serializable", unnoticed_change),
    ("serializable", invented_collision), ("serializable", torn_look), ("serializable", wrong_past),
    ("answers", lost_acknowledged), ("answers", refused_that_happened), ("answers", told_another_tid),
    ("answers", told_of_no_change), ("answers", told_collided_and_committed),
    ("real_time", earlier_than_it_began), ("real_time", stale_strict_read), ("real_time", overtaken_read),
    ("current", stale_lease),
    ("durable", missing_version), ("durable", extra_version),
    ("live", never_answered), ("live", behind), ("live", left_open),
]  # fmt: skip


def test_a_true_account_is_passed() -> None:
    assert check(true_account()) == []
    early = true_account()
    del early.order[2]
    assert check(early) == [], "a collision told before anything was decided"


@pytest.mark.parametrize(("checker", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_a_planted_bug_is_found_by_its_checker(checker: str, plant: Callable[[Account], None]) -> None:
    account = true_account()
    plant(account)
    found = {wrong.split(":")[0] for wrong in check(account)}
    assert checker in found, found


def test_every_checker_has_a_planted_bug() -> None:
    assert {checker for checker, _ in PLANTED} == {checker.__name__ for checker in CHECKERS}
