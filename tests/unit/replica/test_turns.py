"""Transactions that read what others under way write: they wait, are told at once, and nobody waits in vain."""

from __future__ import annotations

from gavel.errors import GavelError
from gavel.limits import TRANSACTION_LIFE_US
from gavel.quorum.messages import Batch, Prepare
from gavel.transaction.requests import Asked, Collided, Committed, Look, Looked, Overtaken, Submit, unpack
from tests.unit.replica.group import Group
from tests.unit.replica.masters import key

COUNTER = key("counter")
RANGE = COUNTER, COUNTER + b"\0"


def began(value: bytes = b"0") -> tuple[Group, int]:
    """A group with a counter, and the tid as of which it is that."""
    group = Group()
    group.run(200)
    assert isinstance(group.submit(1, {COUNTER: value}), Committed)
    looked = group.answer(1, Look([(*RANGE, 0)]))
    assert isinstance(looked, Looked)
    return group, looked.at


def increment(group: Group, node: int, value: int, at: int, session: int = 0, fresh: bool = True) -> Submit:
    one = group.submission(node, {COUNTER: b"%d" % (value + 1)}, [(*RANGE, at)])
    return Submit(
        bytes([session]) * 16 if session else one.session, one.sequence, one.born, one.coord, one.reads, [], one.body,
        fresh=fresh,
    )  # fmt: skip


class Client:
    """Increments the counter again and again, as often as it is told to."""

    def __init__(self, group: Group, number: int, node: int, at: int, times: int) -> None:
        self.group, self.number, self.node, self.at = group, number, node, at
        self.value, self.left, self.asked = 0, times, 0
        self.ticket = 0
        self._ask()

    def _ask(self) -> None:
        self.asked += 1
        self.ticket = self.group.ask(
            self.node, increment(self.group, self.node, self.value, self.at, session=self.number)
        )

    def look(self) -> None:
        """Take in an answer, if it has come."""
        answer = self.group.answers.pop(self.ticket, None)
        if isinstance(answer, Committed):
            self.value, self.at, self.left = self.value + 1, answer.tid, self.left - 1
        elif isinstance(answer, Overtaken):
            (part,) = answer.now.parts
            assert part is not None
            self.value, self.at = int(part.values[0]), answer.now.at
        else:
            assert answer is None, answer
            return
        if self.left:
            self._ask()


def prepared(group: Group) -> list[bytes]:
    """From now on: the sessions of transactions about which a master asks another."""
    found: dict[tuple[bytes, int], None] = {}

    def noted(source: int, target: int, message: bytes) -> bool:
        from gavel.replica import peers

        batch = peers.decode(message)
        for one in batch.messages if isinstance(batch, Batch) else ():
            if isinstance(one, Prepare):
                found[one.tx.session, one.tx.seq] = None
                sessions[:] = [session for session, _ in found]
        return False

    sessions: list[bytes] = []
    group.lose = noted
    return sessions


def test_of_those_at_one_master_one_after_the_other_wins_and_nothing_is_voted_on_in_vain() -> None:
    group, at = began()
    votes = prepared(group)
    clients = [Client(group, number, 1, at, 5) for number in range(1, 9)]
    for _ in range(1000):
        group.run(1)
        for client in clients:
            client.look()
        if not any(client.left for client in clients):
            break
    assert [client.left for client in clients] == [0] * 8
    assert group.look(1, *RANGE) == {COUNTER: b"40"}
    assert len(votes) == 40, "each was proposed when it could win"
    assert sum(client.asked for client in clients) < 40 * 4


def test_contenders_at_several_masters_are_judged_in_the_order_of_tids() -> None:
    group, at = began()
    clients = [Client(group, number, 1 + number % 3, at, 3) for number in range(1, 10)]
    for _ in range(2000):
        group.run(1)
        for client in clients:
            client.look()
        if not any(client.left for client in clients):
            break
    assert [client.left for client in clients] == [0] * 9
    assert group.look(2, *RANGE) == {COUNTER: b"27"}


def test_who_reads_something_else_or_writes_without_reading_does_not_wait() -> None:
    group, at = began()
    first = group.ask(1, increment(group, 1, 0, at))
    other = group.ask(1, group.submission(1, {key("other"): b"1"}, [(key("other"), key("other~"), at)]))
    blind = group.ask(1, group.submission(1, {COUNTER: b"7"}))
    waiting = group.ask(1, increment(group, 1, 0, at))
    assert len(group.up[1].quorum.registers.undecided) == 3
    group.run(100)
    assert all(isinstance(group.answers[ticket], Committed) for ticket in (first, other, blind))
    assert isinstance(group.answers[waiting], Overtaken)


def test_who_asks_twice_does_not_wait_for_itself_and_is_not_overtaken_by_itself() -> None:
    group, at = began()
    one = increment(group, 1, 0, at)
    tickets = [group.ask(1, one), group.ask(1, one), group.ask(2, one)]
    group.run(100)
    found = [group.answers[ticket] for ticket in tickets]
    assert isinstance(found[0], Committed) and found == [found[0]] * 3
    assert isinstance(group.answer(1, increment(group, 1, 0, at)), Overtaken), "from now on it looks before"
    for node in (1, 2, 3):
        assert group.answer(node, one) == found[0]


def test_one_whose_life_is_over_is_not_said_to_have_collided() -> None:
    group, at = began()
    late = increment(group, 1, 0, at)
    group.submit(1, {COUNTER: b"5"})
    assert isinstance(group.answer(1, increment(group, 1, 0, at)), Overtaken)
    group.run(TRANSACTION_LIFE_US // 1000 + 5000)
    group.submit(1, {key("x"): b""})
    assert isinstance(group.answer(1, late), GavelError), "nobody knows any more whether it happened"


def test_who_was_told_and_does_not_come_again_holds_nobody_up() -> None:
    group, at = began()
    tickets = [group.ask(1, increment(group, 1, 0, at, session=number)) for number in range(1, 6)]
    group.run(300)
    assert [type(group.answers[ticket]) for ticket in tickets] == [Committed] + [Overtaken] * 4


def test_without_asking_for_more_it_is_a_plain_collision() -> None:
    group, at = began()
    tickets = [group.ask(1, increment(group, 1, 0, at, fresh=False)) for _ in range(2)]
    group.run(100)
    first, second = (group.answers[ticket] for ticket in tickets)
    assert isinstance(first, Committed) and second == Collided(COUNTER, first.tid, at)


def test_when_the_master_fails_those_who_wait_hear_of_it() -> None:
    group, at = began()
    asked = [Asked(1000 + number, increment(group, 1, 0, at)) for number in range(3)]
    for one in asked:
        group.ticket = one.ticket - 1
        group.ask(1, one.question)
    group.up[1]._clients.fail(GavelError("its disk is gone"))
    group.step(1, None)
    assert all(isinstance(group.answers[one.ticket], GavelError) for one in asked)


def test_what_is_told_is_what_has_changed() -> None:
    group, at = began()
    reads = [(*RANGE, at), (key("other"), key("other~"), at)]
    group.submit(2, {COUNTER: b"9"})
    group.run(100)
    one = group.submission(1, {COUNTER: b"1"}, reads)
    one = Submit(one.session, one.sequence, one.born, one.coord, one.reads, [], one.body, fresh=True)
    told = group.answer(1, one)
    assert isinstance(told, Overtaken) and told.outcome.key == COUNTER
    changed, same = told.now.parts
    assert changed is not None and changed.values == [b"9"] and same is None
    assert unpack(one.body).keys == [COUNTER]
