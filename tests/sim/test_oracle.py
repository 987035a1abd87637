"""The oracle raises at the step that contradicts what it knows; each of its rules with a planted bug."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gavel.quorum.machine import Collided, Committed
from gavel.sim.oracle import Oracle, Violation

ABORT = -1
VOTERS = (1, 2, 3)


def choose(oracle: Oracle, txid: str, value: int, ballot: int = 1, epoch: int = 1) -> None:
    for node in (1, 2):
        oracle.voted(node, epoch, VOTERS, ballot, txid, value)


def lawful(oracle: Oracle) -> Oracle:
    """Two transactions, executed and announced at n1; the first only at n2; a third aborted."""
    oracle.began(1, 1, b"start")
    oracle.voted(3, 1, VOTERS, 0, "a", 90)  # a minority under a lower ballot chooses nothing
    choose(oracle, "a", 100)
    oracle.voted(3, 1, VOTERS, 1, "a", 100)
    choose(oracle, "b", 200)
    choose(oracle, "c", ABORT)
    for tid, txid in ((100, "a"), (200, "b")):
        oracle.executed(1, tid, txid, Committed(tid))
        oracle.reached(1, tid + 5)
    oracle.executed(2, 100, "a", Committed(100))
    oracle.reached(2, 150)
    oracle.learned(2, "c", ABORT)
    oracle.reached(1, 205)
    return oracle


def test_what_is_lawful_passes() -> None:
    oracle = lawful(Oracle(ABORT))
    choose(oracle, "d", 300)
    oracle.restarted(1, 100, 100)
    oracle.executed(1, 200, "b", Committed(200))
    oracle.reached(1, 250)
    oracle.forgotten(2)
    assert [decided.txid for decided in oracle.order()] == ["a", "b"]


def disorder(oracle: Oracle) -> None:
    for txid, tid in (("d", 300), ("e", 400)):
        choose(oracle, txid, tid)
    oracle.executed(2, 400, "e", Committed(400))
    oracle.executed(2, 300, "d", Committed(300))


def amnesia(oracle: Oracle) -> None:
    oracle.restarted(1, 100, 100)
    oracle.reached(1, 205)


PLANTED: list[tuple[str, Callable[[Oracle], None]]] = [
    ("agreement", lambda o: choose(o, "a", 101, ballot=2)),
    ("agreement", lambda o: choose(o, "a", ABORT, epoch=2)),
    ("agreement", lambda o: choose(o, "d", 200)),
    ("agreement", lambda o: o.voted(4, 1, VOTERS, 1, "d", 300)),
    ("agreement", lambda o: o.learned(2, "b", 201)),
    ("agreement", lambda o: o.executed(2, 190, "b", Committed(190))),
    ("agreement", lambda o: o.executed(2, 300, "never chosen", Committed(300))),
    ("agreement", lambda o: o.began(2, 1, b"another")),
    ("stability", lambda o: choose(o, "d", 205)),
    ("stability", lambda o: o.reached(1, 100)),
    ("stability", lambda o: o.restarted(2, 160, 160)),
    ("prefix", lambda o: o.reached(2, 200)),
    ("prefix", lambda o: o.executed(2, 200, "b", Collided(b"k", 100))),
    ("prefix", disorder),
    ("prefix", amnesia),
]


@pytest.mark.parametrize(("rule", "plant"), PLANTED)
def test_a_planted_bug_is_found(rule: str, plant: Callable[[Oracle], None]) -> None:
    oracle = lawful(Oracle(ABORT))
    with pytest.raises(Violation) as found:
        plant(oracle)
    assert found.value.property == rule
