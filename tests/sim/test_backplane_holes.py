"""The eight holes of the Backplane database, each a schedule: what happened there, and what happens here.

Backplane (Dillon, 2000-2003) is the quorum's ancestor: commit-1 collects stamps, commit-2 announces the highest, and a
host's SyncTs rises to the lowest stamp that a quorum promises to stay above. Its author wrote down what was missing.
"""

from __future__ import annotations

import pytest

from gavel.errors import QuorumLost
from gavel.quorum.machine import Collided, Committed
from gavel.quorum.messages import Accept, Accepted, Decided, Prepare, Promise
from tests.sim.stage import Stage

K, L = b"k", b"l"
ONLY_K = (K, K + b"\0")


def outcomes(stage: Stage, node: int) -> dict[int, object]:
    """What a node has executed: transaction number -> outcome."""
    return {txid.seq: outcome for _, txid, outcome in stage.held(node)}


def accepted_by_two(stage: Stage, number: int) -> int:
    """A transaction of n1 that n1 and n2 have accepted, which nobody but them knows; the ticket."""
    ticket = stage.propose(1, stage.txid(1, number), {K: b"%d" % number})
    stage.deliver(1, 2, Prepare)
    stage.deliver(2, 1, Promise)
    stage.deliver(1, 2, Accept)
    return ticket


def test_1_a_coordinator_dies_after_telling_a_minority() -> None:
    """Backplane: n1 tells commit-2 to n2 and dies, n2 dies too; n3 knows nothing of it and commits something else.

    Here votes are durable, and a majority of them is the decision: n3 and n1, who is back, find it, and the contender
    that read the state before it collides.
    """
    stage = Stage(3)
    accepted_by_two(stage, 1)
    stage.deliver(2, 1, Accepted)
    stage.deliver(1, 2, Decided)
    stage.crash(1)
    stage.crash(2)
    stage.start(1)
    stage.connect(1)
    contender = stage.propose(3, stage.txid(3, 2), {K: b"other"}, [(*ONLY_K, 0)])
    stage.settle([1, 3], milliseconds=500)
    first = outcomes(stage, 3)[1]
    assert isinstance(first, Committed)
    assert stage.results[contender] == Collided(K, first.tid)
    stage.start(2)
    stage.connect(2)
    stage.settle(milliseconds=500)
    assert stage.held(1) == stage.held(2) == stage.held(3)


def test_1_five_masters_and_a_value_that_a_minority_accepted() -> None:
    """Two of five have accepted when the coordinator dies; nothing is decided, and still whoever is seen goes on."""
    stage = Stage(5)
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    for node in (2, 3):
        stage.deliver(1, node, Prepare)
        stage.deliver(node, 1, Promise)
    stage.deliver(1, 2, Accept)
    stage.crash(1)
    stage.settle([2, 3, 4, 5], milliseconds=1000)
    held = stage.held(2)
    assert [txid.seq for _, txid, _ in held] in ([1], [])
    stage.start(1)
    stage.connect(1)
    stage.settle(milliseconds=1000)
    assert all(stage.held(node) == held for node in range(1, 6))


def test_2_synced_up_to_a_point_past_an_orphan() -> None:
    """Backplane: the stamp of a commit that nobody finished is passed by everybody's SyncTs, and never fetched again.

    Here n2 and n3 do not say they know everything up to a point above the proposal while it is open (the oracle would
    raise), and somebody finishes it.
    """
    stage = Stage(3)
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.deliver(1, 2, Prepare)
    stage.crash(1)
    other = stage.propose(3, stage.txid(3, 2), {L: b"2"})
    stage.settle([2, 3])
    assert not any(seq == 2 for seq in outcomes(stage, 3)) or 1 in outcomes(stage, 3)
    stage.settle([2, 3], milliseconds=500)
    assert isinstance(stage.results[other], Committed)
    stage.start(1)
    stage.connect(1)
    stage.settle(milliseconds=500)
    assert stage.held(1) == stage.held(2) == stage.held(3)


def test_3_contenders_do_not_all_abort_each_other() -> None:
    """Backplane: commit-1 of each finds the others' conflict slots, and all of them fail, again and again.

    Here the first in the order wins, whoever that is, and the others learn who it was.
    """
    stage = Stage(3)
    tickets = [stage.propose(node, stage.txid(node, node), {K: b"%d" % node}, [(*ONLY_K, 0)]) for node in (1, 2, 3)]
    stage.settle(milliseconds=500)
    results = [stage.results[ticket] for ticket in tickets]
    winners = [result for result in results if isinstance(result, Committed)]
    assert len(winners) == 1
    assert all(result == Collided(K, winners[0].tid) for result in results if result is not winners[0])


def test_4_a_dependent_transaction_does_not_wait_for_a_quorum_to_sync() -> None:
    """Backplane: a transaction that builds on the one before waits until a quorum has synchronised up to that.

    Here n2, the only peer that answers, has not even heard that the first is decided when the second is.
    """
    stage = Stage(3)
    ticket = accepted_by_two(stage, 1)
    stage.deliver(2, 1, Accepted)
    first = stage.results[ticket]
    assert isinstance(first, Committed)
    stage.drop(1, 2, Decided)
    assert stage.held(2) == []
    second = stage.propose(1, stage.txid(1, 2), {K: b"2"}, [(*ONLY_K, first.tid)])
    stage.deliver(1, 2, Prepare)
    stage.deliver(2, 1, Promise)
    stage.deliver(1, 2, Accept)
    stage.deliver(2, 1, Accepted)
    assert isinstance(stage.results[second], Committed)


def test_5_one_hung_commit_pins_nobody() -> None:
    """Backplane: while one commit hangs, no host's SyncTs passes it, for as long as the host of it hangs.

    Here n1 is stopped, not dead, in the middle of a commit; the others finish it for it, and go on.
    """
    stage = Stage(3)
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    for node in (2, 3):
        stage.deliver(1, node, Prepare)
    tickets = []
    for number in range(2, 6):
        tickets.append(stage.propose(2, stage.txid(2, number), {L: b"%d" % number}))
        stage.settle([2, 3], milliseconds=150)
    assert all(isinstance(stage.results[ticket], Committed) for ticket in tickets)
    read = stage.read_point(3)
    stage.settle([2, 3])
    last = stage.results[tickets[-1]]
    assert isinstance(last, Committed)
    assert stage.results[read] >= last.tid
    stage.settle(milliseconds=500)
    assert stage.held(1) == stage.held(2) == stage.held(3)


def twice_promised(stage: Stage) -> None:
    """One of five promises, restarts, and says so again: two answers, one master."""
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    promise = 0
    for _ in range(2):
        stage.deliver(1, 2, Prepare)
        promise += len(stage.waiting(2, 1))
        stage.repeat(2, 1, Promise)
        stage.restart(2)
    assert promise
    stage.deliver(2, 1)


def test_6_a_host_is_not_counted_twice() -> None:
    """Backplane: a host that restarts in the middle of a commit-1 is asked again, and its two answers count as two."""
    stage = Stage(5)
    twice_promised(stage)
    assert not any(isinstance(message, Accept) for batch in stage.waiting(1, 3) for message in batch.messages)
    stage.settle(milliseconds=500)
    assert len({tuple(stage.held(node)) for node in range(1, 6)}) == 1


def test_6_counted_twice_is_noticed() -> None:
    """The same without the rule that voters are identities: the commit goes on with two of five."""
    stage = Stage(5, without=["voters_by_identity"])
    twice_promised(stage)
    assert any(isinstance(message, Accept) for batch in stage.waiting(1, 3) for message in batch.messages)


@pytest.mark.parametrize("members", [[1, 2, 3, 4, 5], [3, 4, 5], [2, 3]])
def test_7_a_quorum_changes_size_in_the_middle_of_a_commit(members: list[int]) -> None:
    """Backplane: hosts are added while a commit counts its answers, and two quorums do not meet.

    Here n1 and n2 have accepted, which is a decision of the three; n3 and n2 move on to others, and take it along.
    """
    stage = Stage(3, spares=2)
    accepted_by_two(stage, 1)
    changed = stage.reconfigure(3, members)
    stage.settle([2, 3, 4, 5], milliseconds=5000)
    assert changed in stage.results and not isinstance(stage.results[changed], Exception)
    assert all(isinstance(outcomes(stage, node).get(1), Committed) for node in members if node != 1)
    stage.settle(milliseconds=1000)
    assert all(stage.held(node) == stage.held(3) for node in members)


def test_7_an_acceptance_that_comes_late_counts_in_no_other_epoch() -> None:
    """n1 alone has accepted when the others move on without it; its value was not decided, and never will be."""
    stage = Stage(3, spares=2)
    stage.propose(1, stage.txid(1, 1), {K: b"1"})
    stage.deliver(1, 2, Prepare)
    stage.deliver(2, 1, Promise)
    changed = stage.reconfigure(3, [2, 3, 4])
    stage.settle([2, 3, 4], milliseconds=1000)
    assert not isinstance(stage.results[changed], Exception)
    stage.settle(milliseconds=1000)
    assert all(stage.held(node) == stage.held(3) for node in (2, 4))


def test_8_without_a_quorum_there_is_an_answer() -> None:
    """Backplane: a commit without a quorum waits for ever. Here it fails after a patience, and may be asked again."""
    stage = Stage(3)
    txid = stage.txid(1, 1)
    first = stage.propose(1, txid, {K: b"1"})
    read = stage.read_point(1)
    stage.advance(11_000, [1])
    assert isinstance(stage.results[first], QuorumLost) and isinstance(stage.results[read], QuorumLost)
    again = stage.propose(2, txid, {K: b"1"})
    stage.settle(milliseconds=500)
    assert isinstance(stage.results[again], Committed)
    assert [one.seq for _, one, _ in stage.held(3)] == [1]
