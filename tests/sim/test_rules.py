"""Rules of the quorum that chance finds seldom or never, each by a schedule that needs it.

Every schedule is lawful with all rules: the oracle watches, and nothing is raised. Without the one rule it shows what
the rule prevents.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gavel.quorum.machine import Aborted, Admission, Committed
from gavel.quorum.messages import Accept, Accepted, Choose, Chosen, Decided, Prepare, Promise, Seal, Sealed
from gavel.sim.oracle import Violation
from tests.sim.stage import Stage

K, L = b"k", b"l"
SLOW = -5_000  # ms that a clock is behind


def commit(stage: Stage, node: int, number: int, among: list[int], key: bytes = K) -> None:
    """A transaction, from beginning to end, among these masters."""
    ticket = stage.propose(node, stage.txid(node, number), {key: b"%d" % number})
    stage.settle(among, milliseconds=400)
    if not isinstance(stage.results.get(ticket), Committed):
        raise TimeoutError(f"transaction {number}: {stage.results.get(ticket)}")


def one_ahead(stage: Stage) -> None:
    """n1 says it knows all up to a point that n2 has vouched for; n2 has not heard as much, and n3 is behind."""
    stage.skew(3, -3000)
    stage.settle([1, 2, 3], milliseconds=1500)
    stage.part(1, 3)
    stage.part(2, 3)
    for _ in range(1500):
        stage.advance(1, [1, 2])
        stage.deliver(2, 1)
    stage.part(1, 2)
    stage.connect(3)
    assert stage.master(1).quorum.stable > stage.master(2).quorum.stable


def floor(stage: Stage) -> None:
    """Two new masters whose clocks are behind vote at once; what n1 knows everything about they have never heard of."""
    for node in (4, 5):
        stage.skew(node, SLOW)
    one_ahead(stage)
    stage.part(1, 2, 3, 4, 5)
    stage.reconfigure(2, [2, 4, 5])
    stage.settle([2, 3, 4, 5], milliseconds=3000)
    commit(stage, 4, 1, [4, 5])


def seal_vouches(stage: Stage) -> None:
    """n2 is sealed and goes on vouching; n1 believes it, while the next epoch begins at where n2 was sealed."""
    for node in (4, 5):
        stage.skew(node, SLOW)
    stage.settle([1, 2, 3], milliseconds=1500)
    stage.reconfigure(3, [3, 4, 5])
    stage.deliver(3, 2, Seal)
    stage.deliver(2, 3, Sealed)
    stage.deliver(3, 2, Choose)
    stage.deliver(2, 3, Chosen)
    stage.part(3, 1, 2)
    stage.read_point(1)  # so that n1 has a reason to look at its clock
    for _ in range(20):
        stage.advance(10, [1, 2])
        stage.deliver(2, 1)
        stage.deliver(1, 2)
    for node in (1, 2):
        stage.part(node, 4, 5)
    stage.settle([3, 4, 5], milliseconds=2500)
    commit(stage, 4, 1, [4, 5])


def seal_stops(stage: Stage) -> None:
    """n2 is sealed, says what it knows, and then accepts: a decision of the old epoch that the new one misses."""
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.deliver(1, 2, Prepare)
    stage.deliver(2, 1, Promise)
    stage.reconfigure(3, [2, 3, 4])
    stage.deliver(3, 2, Seal)
    stage.deliver(1, 2, Accept)
    stage.settle([2, 3, 4], milliseconds=3000)
    commit(stage, 3, 2, [2, 3, 4])


def epoch_scope(stage: Stage) -> None:
    """n1 and n2 have proposed, and are no members while others go on; back again, they finish what they had begun."""
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.deliver(1, 2, Prepare)
    for source, target in ((1, 2), (2, 1), (1, 3), (2, 3)):
        stage.drop(source, target)
    stage.reconfigure(3, [3, 4, 5])
    for node in (1, 2):
        stage.deliver(3, node, Seal)
        stage.deliver(node, 3, Sealed)
        stage.deliver(3, node, Choose)
        stage.deliver(node, 3, Chosen)
        stage.part(node, 3, 4, 5)
    stage.settle([3, 4, 5], milliseconds=3000)
    commit(stage, 3, 2, [3, 4, 5], L)
    for node in (1, 2):
        stage.connect(node)
    stage.settle(milliseconds=100)
    stage.reconfigure(3, [1, 2, 3])
    stage.settle([1, 2, 3, 4, 5], milliseconds=3000)
    commit(stage, 1, 3, [1, 2, 3], L)


def epoch_match(stage: Stage) -> None:
    """An ACCEPT of the old epoch comes to a member of the new one, and its answer to one who is still in the old."""
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.deliver(1, 2, Prepare)
    stage.deliver(2, 1, Promise)
    stage.reconfigure(3, [1, 2, 3, 4])
    stage.settle([2, 3, 4], milliseconds=20)
    stage.deliver(1, 2, Accept)
    stage.deliver(2, 1, Accepted)
    stage.settle(milliseconds=3000)


def catch_up_decides(stage: Stage) -> None:
    """n1 missed how its transaction was decided by the others; two new masters have it from them, and n1 asks again."""
    txid = stage.txid(1, 1)
    stage.propose(1, txid, {K: b"1"})
    stage.deliver(1, 2, Prepare)
    stage.drop(1, 3)
    stage.drop(2, 1)
    stage.settle([2, 3], milliseconds=600)
    assert [one.seq for _, one, _ in stage.held(3)] == [1]
    stage.part(1, 2, 3, 4, 5)
    stage.reconfigure(2, [1, 4, 5])
    stage.settle([2, 3, 4, 5], milliseconds=3000)
    stage.connect(1)
    stage.part(1, 2, 3)
    stage.settle(milliseconds=3000)


def no_old_copy(stage: Stage) -> None:
    """n2 has voted, and comes back as it was before; with n3, who has seen how far it was, it would decide anew."""
    stage.settle(milliseconds=1500)
    copy = stage.copy(2)
    ticket = stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.settle([1, 2], milliseconds=100)
    assert isinstance(stage.results[ticket], Committed)
    stage.advance(1200, [2])
    stage.drop(1, 3)
    for batch in stage.links.pop((2, 3), [])[-1:]:
        stage.step(3, stage.without(2, batch))
    stage.crash(1)
    stage.crash(2)
    stage.put_back(2, copy)
    stage.start(2)
    stage.connect(2)
    stage.settle([2, 3], milliseconds=3000)
    stage.propose(3, stage.txid(3, 2), {K: b"2"})
    stage.settle([2, 3], milliseconds=1000)
    stage.start(1)
    stage.connect(1)
    stage.settle(milliseconds=1000)


def vouch_durable(stage: Stage) -> None:
    """n2's clock leaps ahead; it vouches for that before it is reserved durably, and crashes; its clock is back."""
    stage.settle(milliseconds=1500)
    stage.syncs = False
    for node in (1, 2):
        stage.skew(node, -SLOW)
    stage.advance(1200, [1, 2])
    stage.sync(1)
    stage.deliver(2, 1)
    stage.deliver(1, 2)
    stage.advance(100, [1, 2])
    stage.sync(1)
    stage.deliver(2, 1)
    stage.crash(2)
    stage.syncs = True
    stage.skew(2, 0)
    stage.start(2)
    stage.connect(2)
    stage.drop(1, 2)
    stage.drop(2, 1)
    commit(stage, 2, 1, [2, 3])


def reserved_clock(stage: Stage) -> None:
    """n2's clock was ahead when it vouched; it crashes, its clock is set right, and it proposes below that."""
    for node in (1, 2):
        stage.skew(node, -SLOW)
    stage.settle(milliseconds=3000)
    stage.skew(2, 0)
    stage.restart(2)
    stage.drop(1, 2)
    stage.drop(2, 1)
    commit(stage, 2, 1, [2, 3])


def too_late(stage: Stage) -> None:
    """A PREPARE is under way for longer than a transaction lives. n2 gets it, whose clock knows and whose S does not.

    n3 has heard n2 all the while, so it knows all up to now, and has never heard of the transaction.
    """
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.part(3, 1)
    for _ in range(700):
        stage.advance(50, [2, 3], step=50)
        stage.deliver(2, 3)
        stage.drop(3, 2)
    stage.deliver(1, 2, Prepare)
    stage.deliver(2, 1, Promise)
    stage.deliver(1, 2, Accept)
    stage.deliver(2, 1, Accepted)
    stage.connect(3)
    stage.settle(milliseconds=3000, step=10)


def closed(stage: Stage) -> None:
    """A copy of a PREPARE comes when the transaction has happened and everybody has forgotten it."""
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    late = list(stage.links[1, 3])
    stage.settle(milliseconds=45_000, step=50)
    assert not stage.master(3).quorum.registers.table
    for batch in late:
        stage.step(3, stage.without(1, batch, Accept))
    stage.settle(milliseconds=1000)


def all_settled(stage: Stage) -> None:
    """n3 is away when something happens, and for long after; were it forgotten meanwhile, n3 would not be told."""
    stage.settle(milliseconds=1500)
    stage.part(3, 1, 2)
    commit(stage, 1, 1, [1, 2])
    stage.settle([1, 2], milliseconds=45_000, step=50)
    stage.connect(3)
    stage.settle(milliseconds=1000)


def two_ballots(stage: Stage) -> None:
    """n1 accepted a value alone; another was chosen since; n1, asked again, shows its old one under a new ballot.

    The published specification of EPaxos had this bug (Sutra, 2019): what is promised and what is accepted in one
    variable.
    """
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.deliver(1, 2, Prepare)
    stage.deliver(2, 1, Promise)
    for source, target in ((1, 2), (1, 3)):
        stage.drop(source, target)
    for _ in range(600):
        stage.advance(1, [2])
        for source, target, kind in ((2, 3, Prepare), (3, 2, Promise), (2, 3, Accept)):
            stage.deliver(source, target, kind)
        if stage.oracle.chosen:
            break
    for other in (1, 3):
        stage.drop(2, other)
    for _ in range(3000):
        stage.advance(1, [1])
        stage.drop(1, 2)
        stage.deliver(1, 3, Prepare)
        for batch in stage.links.pop((3, 1), []):
            stage.step(1, stage.without(3, batch, Decided))
        stage.deliver(1, 3, Accept)
        stage.drop(1, 3)
    stage.settle(milliseconds=1000)


def clock_past_value(stage: Stage) -> None:
    """n1's clock is ahead. Who accepts its transaction vouches past it at once, so it is answered at once.

    Safety does not hang on this: an answer waits for the watermark, so for vouches past the tid. It would take as long
    as the clocks differ.
    """
    stage.skew(1, 1000)
    stage.settle(milliseconds=50)
    ticket = stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.settle(milliseconds=100)
    assert isinstance(stage.results.get(ticket), Committed)


def admission(stage: Stage) -> None:
    """Two machines do not admit it, for the time being; it may not be proposed there."""
    stage.refusing = {1: Admission.BUSY, 2: Admission.BUSY}
    ticket = stage.propose(3, stage.txid(3, 1), {K: b"1"})
    stage.settle(milliseconds=400)
    assert stage.results[ticket] == Aborted(stage.results[ticket].why, Admission.BUSY)
    stage.refusing.clear()
    commit(stage, 3, 2, [1, 2, 3])


def busy_ends(stage: Stage) -> None:
    """n1 has proposed, and nobody else may for as long as somebody's lease lasts; n1's watermark must not wait."""
    stage.settle(milliseconds=100)
    stage.refusing = {2: Admission.BUSY, 3: Admission.BUSY}
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.settle(milliseconds=1000)
    assert stage.master(1).quorum.stable > (stage.now // 1000 - 500_000) << 8


def ends_executed(stage: Stage) -> None:
    """n2 hears that something is decided, and cannot execute it before something else that n1 has left half done."""
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.deliver(1, 2, Prepare)
    stage.part(1, 2, 3)
    stage.propose(3, stage.txid(3, 2), {L: b"2"})
    for source, target in ((3, 2), (2, 3), (3, 2), (2, 3), (3, 2)):
        stage.deliver(source, target)
    assert [txid.seq for txid, _ in stage.master(2).quorum.standing()] == [1, 2]


SCHEDULES: dict[str, tuple[int, Callable[[Stage], None]]] = {
    schedule.__name__: (spares, schedule)
    for spares, schedule in (
        (2, floor),
        (2, seal_vouches),
        (1, seal_stops),
        (2, epoch_scope),
        (1, epoch_match),
        (2, catch_up_decides),
        (0, no_old_copy),
        (0, vouch_durable),
        (0, two_ballots),
        (0, clock_past_value),
        (0, reserved_clock),
        (0, closed),
        (0, all_settled),
        (0, admission),
        (0, busy_ends),
        (0, ends_executed),
    )
}
SCHEDULES["lifetime"] = SCHEDULES["all_proposed"] = (0, too_late)  # fmt: skip


@pytest.mark.parametrize("rule", SCHEDULES)
def test_the_schedule_is_lawful_with_all_rules(rule: str) -> None:
    spares, schedule = SCHEDULES[rule]
    schedule(Stage(3, spares))


@pytest.mark.parametrize("rule", SCHEDULES)
def test_the_schedule_breaks_without_the_rule(rule: str) -> None:
    spares, schedule = SCHEDULES[rule]
    with pytest.raises((Violation, AssertionError)):
        schedule(Stage(3, spares, without=[rule]))
