"""What an acceptor answers."""

import pytest

from gavel.effects import PeerUp, Received, Requested, Send
from gavel.limits import TRANSACTION_LIFE_US
from gavel.quorum import messages as m
from gavel.quorum.messages import ABORT, Batch, Member, TxId
from gavel.quorum.quorum import Quorum
from gavel.quorum.requests import Arrived
from gavel.quorum.votes import MASTER
from tests.transcripts.masters import START, Masters, body


class Acceptor:
    """Master 2 of three, spoken to by hand as master 1."""

    def __init__(self) -> None:
        self.group = Masters([1, 2, 3])
        self.group.run()
        self.now = START + 10_000_000
        self.core: Quorum = self.group.core(2)
        self.core.step(PeerUp(1), self.now)
        self.said: list[m.Message] = []
        self.group.seen = lambda number, effect: (
            self.said.extend(effect.message.messages) if isinstance(effect, Send) and effect.peer == 1 else None
        )

    def tell(self, *messages: m.Message, epoch: int = 0) -> list[m.Message]:
        """What it answers."""
        self.said.clear()
        own = self.group.core(1).desk
        batch = Batch(own.incarnation, own.durable_position, self.now // 1000, epoch, None, list(messages))
        self.group.step(2, Received(1, batch))
        return [message for message in self.said if not isinstance(message, m.VouchAsk)]


@pytest.fixture
def acceptor() -> Acceptor:
    return Acceptor()


TX = TxId(START // 1000 << 8, bytes(16), 1, 1)
LOW, HIGH = 1 << 32 | 1 << 8 | 1, 2 << 32 | 1 << 8 | 1


def test_it_proposes_once_whatever_the_ballot(acceptor: Acceptor) -> None:
    [first] = acceptor.tell(m.Prepare(TX, LOW, body(b"k"), True))
    [again] = acceptor.tell(m.Prepare(TX, HIGH, body(b"k"), True))
    assert isinstance(first, m.Promise) and isinstance(again, m.Promise)
    assert first.proposal == again.proposal > 0
    assert (first.ballot, again.ballot) == (LOW, HIGH)


def test_a_lower_ballot_gets_neither_promise_nor_acceptance(acceptor: Acceptor) -> None:
    acceptor.tell(m.Prepare(TX, HIGH, body(b"k"), True))
    nack = m.Nack(TX, LOW, HIGH)
    assert acceptor.tell(m.Prepare(TX, LOW, body(b"k"), True)) == [nack]
    assert acceptor.tell(m.Accept(TX, LOW, 77)) == [nack]


def test_promise_and_acceptance_are_two_ballots(acceptor: Acceptor) -> None:
    value = acceptor.core.clock_tid + 1
    acceptor.tell(m.Prepare(TX, LOW, body(b"k"), True), m.Accept(TX, LOW, value))
    [promise] = acceptor.tell(m.Prepare(TX, HIGH, body(b"k"), True))
    assert isinstance(promise, m.Promise) and (promise.accepted, promise.value) == (LOW, value)


def test_what_is_accepted_moves_the_clock_past_it(acceptor: Acceptor) -> None:
    far = (START // 1000 + 5_000_000) << 8 | 1
    assert acceptor.tell(m.Accept(TX, LOW, far)) == [m.Accepted(TX, LOW)]
    [promise] = acceptor.tell(m.Prepare(TX._replace(seq=2), LOW, body(b"k"), True))
    assert isinstance(promise, m.Promise) and promise.proposal > far


def test_without_a_body_it_promises_and_does_not_propose(acceptor: Acceptor) -> None:
    [promise] = acceptor.tell(m.Prepare(TX, LOW, None, False))
    assert isinstance(promise, m.Promise) and promise.proposal == 0 and promise.body is None
    acceptor.tell(m.Prepare(TX, HIGH, body(b"k"), False))
    [told] = acceptor.tell(m.Prepare(TX, HIGH + (1 << 32), None, False))
    assert isinstance(told, m.Promise) and told.proposal > 0 and told.body == body(b"k")


def test_data_that_lacks_is_waited_for_or_not_as_asked(acceptor: Acceptor) -> None:
    what = body(b"k", blobs=[b"B"])
    assert acceptor.tell(m.Prepare(TX, LOW, what, True)) == []
    [promise] = acceptor.tell(m.Prepare(TX._replace(seq=2), LOW, what, False))
    assert isinstance(promise, m.Promise) and promise.proposal == 0
    acceptor.said.clear()
    acceptor.group.machine(2).arrive(b"B")
    acceptor.group.step(2, Requested(Arrived(b"B")))
    [late] = acceptor.said
    assert isinstance(late, m.Promise) and late.tx == TX and late.proposal > 0


def test_after_the_end_of_a_life_it_does_not_propose(acceptor: Acceptor) -> None:
    old = TX._replace(born=TX.born - ((TRANSACTION_LIFE_US + 1) << 8))
    [promise] = acceptor.tell(m.Prepare(old, LOW, body(b"k"), True))
    assert isinstance(promise, m.Promise) and promise.proposal == 0


def test_a_decision_is_the_answer_to_everything(acceptor: Acceptor) -> None:
    decided = m.Decided(TX, ABORT)
    acceptor.tell(decided)
    assert acceptor.tell(m.Prepare(TX, HIGH, body(b"k"), True), m.Accept(TX, HIGH, 5)) == [decided, decided]


def test_two_decisions_are_a_fault_of_ours(acceptor: Acceptor) -> None:
    acceptor.tell(m.Decided(TX, ABORT))
    with pytest.raises(AssertionError):
        acceptor.tell(m.Decided(TX, 5 << 8))


def test_votes_of_another_epoch_do_not_count_and_facts_do(acceptor: Acceptor) -> None:
    assert acceptor.tell(m.Prepare(TX, LOW, body(b"k"), True), epoch=1) == []
    acceptor.tell(m.Decided(TX, ABORT), epoch=1)
    assert acceptor.core.registers.table[TX].decided == ABORT


def test_who_does_not_vote_cannot_coordinate() -> None:
    group = Masters([1, 2, 3], outsiders=[4])
    group.run()
    batch = Batch(
        1, 1, START // 1000, 0, None, [m.Prepare(TX, LOW, body(b"k"), True), m.Seal(LOW, [Member(4, MASTER)])]
    )
    group.step(2, Received(4, batch))
    assert not group.core(2).registers.table
    assert group.core(2).epochs.sealed_at is None
