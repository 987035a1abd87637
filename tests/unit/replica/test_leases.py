"""Leases at whole masters: what is granted, what keeps transactions out, and what a restart or new members forget."""

import json
from collections.abc import Sequence
from itertools import chain

import pytest

from gavel.coherency.holder import Answered, Established, Holder, Lapsed, Recalled, Tokens, ToMaster
from gavel.coherency.messages import NONE, Alive, Release, S, Want, X, encode, from_master
from gavel.coherency.space import EVERYTHING, lease_key, lease_range
from gavel.effects import Requested, Tell
from gavel.keys.ranges import just
from gavel.limits import LEASE_DRIFT, LEASE_TERM_NS
from gavel.quorum.messages import Member
from gavel.quorum.requests import Reconfigure
from gavel.quorum.votes import MASTER
from gavel.transaction.requests import Answer, Busy, Committed, Fenced, Status, Submit, Told
from tests.unit.replica.group import MS, START, Group
from tests.unit.replica.masters import key

TERM = LEASE_TERM_NS // MS
GRACE = TERM + 2 * TERM // LEASE_DRIFT
ALL = [Want(*EVERYTHING, X)]


class Sessions:
    """Clients with leases, by the letter of their session; what they are told travels at once."""

    def __init__(self, group: Group, names: str = "ab") -> None:
        self.group = group
        self.holders = {name.encode() * 16: Holder(name.encode() * 16) for name in names}
        self.cut: set[bytes] = set()
        self.events: dict[str, list[object]] = {name: [] for name in names}
        group.told = self.told
        for holder in self.holders.values():
            for node in group.nodes:
                holder.connected(node, self.now)
        self.wait(100)

    @property
    def now(self) -> int:
        return self.group.now - START

    def holder(self, name: str) -> Holder:
        return self.holders[name.encode() * 16]

    def told(self, node: int, tell: Tell) -> None:
        if tell.session in self.holders and tell.session not in self.cut:
            for message in from_master(encode(tell.messages)):
                self.holders[tell.session].hear(node, message, self.now)

    def talk(self) -> None:
        """Everybody says what there is to say, until there is nothing more."""
        busy = True
        while busy:
            self.group.run()
            busy = False
            for session, holder in self.holders.items():
                if holder.wake_at is not None and holder.wake_at <= self.now:
                    holder.tick(self.now)
                for event in holder.drain():
                    if isinstance(event, ToMaster):
                        busy = True
                        if session not in self.cut:
                            self.group.hear(event.master, session, [event.message])
                    else:
                        self.events[chr(session[0])].append(event)

    def wait(self, milliseconds: int) -> None:
        for _ in range(max(1, milliseconds // 10)):
            self.talk()
            self.group.run(10)
        self.talk()

    def hold(self, name: str, wants: Sequence[Want] = ALL, milliseconds: int = 3000) -> None:
        """Ask, and wait until it is held."""
        number = self.holder(name).need(list(wants), self.now, wide=wants is ALL)
        for _ in range(milliseconds // 10):
            self.wait(10)
            if any(isinstance(event, Established) and event.number == number for event in self.events[name]):
                self.holder(name).done(number, self.now)
                return
        raise TimeoutError(f"{name} does not get {wants}")

    def submission(self, name: str, record: bytes, tokens: Tokens = (), node: int = 1) -> Submit:
        group = self.group
        made = group.submission(node, {record: name.encode()})
        return Submit(name.encode() * 16, made.sequence, made.born, node, [], [], made.body, [], list(tokens))

    def submit(self, name: str, record: bytes, tokens: Tokens = (), node: int = 1) -> Answer:
        answer = self.group.answer(node, self.submission(name, record, tokens, node))
        self.talk()
        return answer

    def reconfigure(self, *members: int) -> None:
        """Have these members, while clients go on."""
        self.group.ticket += 1
        ticket, wanted = self.group.ticket, [Member(member, MASTER) for member in members]
        self.group.step(1, Requested(Reconfigure(ticket, wanted)))
        self.wait(300)
        assert self.group.answers.pop(ticket) == wanted

    def of(self, name: str, kind: type) -> list[object]:
        return [event for event in self.events[name] if isinstance(event, kind)]


def only(record: bytes, mode: int = X) -> list[Want]:
    lo, hi = lease_range(*just(record))
    return [Want(lo, hi, mode)]


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(Group())


def test_without_a_client_that_wants_leases_there_are_none_and_a_restart_is_no_grace() -> None:
    group = Group()
    assert isinstance(group.submit(1, {key("x"): b"1"}), Committed)
    for node in (1, 2, 3):
        group.crash(node)
    for node in (1, 2, 3):
        group.start(node)
    group.run(100)
    ticket = group.ask(1, group.submission(1, {key("x"): b"2"}))
    group.run(200)
    assert isinstance(group.answers[ticket], Committed)
    assert all(replica.leases.asleep and not replica.leases.status() for replica in group.up.values())


def test_a_lease_keeps_others_from_writing_until_it_is_released(sessions: Sessions) -> None:
    sessions.hold("a")
    assert sessions.holder("a").covers(*EVERYTHING, X)
    assert isinstance(sessions.submit("b", key("x")), Busy)
    (recalled,) = [event for event in sessions.of("a", Recalled) if isinstance(event, Recalled)]
    assert any(lo <= lease_key(key("x")) < hi for lo, hi in recalled.ranges) and recalled.to == NONE
    sessions.holder("a").released(recalled.recall, 0, sessions.now)
    sessions.wait(20)
    assert isinstance(sessions.submit("b", key("x")), Committed)


def test_the_holder_writes_under_its_lease_and_its_tokens(sessions: Sessions) -> None:
    sessions.hold("a")
    tokens = sessions.holder("a").tokens([EVERYTHING])
    assert tokens is not None and [node for node, *_ in tokens] == [1, 2, 3]
    assert isinstance(sessions.submit("a", key("x"), tokens), Committed)
    assert isinstance(sessions.submit("a", key("y"), tokens[:2], node=2), Committed)  # not at 3: it is not named
    assert isinstance(sessions.submit("a", key("y"), tokens[:1]), Fenced)
    strange = tuple((node, incarnation, counter + 1) for node, incarnation, counter in tokens)
    assert isinstance(sessions.submit("a", key("z"), strange), Fenced)


def test_what_was_written_before_a_session_expired_is_fenced(sessions: Sessions) -> None:
    sessions.hold("a")
    tokens = sessions.holder("a").tokens([EVERYTHING])
    assert tokens is not None
    sessions.cut.add(b"a" * 16)
    assert isinstance(sessions.submit("b", key("x")), Busy)
    sessions.wait(TERM + 100)
    assert sessions.of("a", Lapsed) and not sessions.holder("a").covers(*EVERYTHING, S)
    assert isinstance(sessions.submit("b", key("x")), Committed)
    sessions.cut.clear()
    sessions.wait(TERM)
    assert isinstance(sessions.submit("a", key("y"), tokens), Fenced)
    assert isinstance(sessions.submit("a", key("y")), Committed)  # as one without leases


def test_reading_needs_that_nobody_else_may_write(sessions: Sessions) -> None:
    sessions.hold("a", only(key("x"), S))
    sessions.hold("b", only(key("x"), S))
    assert sessions.holder("a").covers(*only(key("x"))[0][:2], S)
    assert isinstance(sessions.submit("b", key("x")), Busy)  # a reads it
    assert isinstance(sessions.submit("b", key("y")), Busy | Committed)


def test_a_grant_waits_for_what_was_proposed_before_and_names_it(sessions: Sessions) -> None:
    group = sessions.group
    held: list[tuple[int, int]] = []
    group.lose = lambda source, target, message: bool(held.append((source, target))) or target == 3 or source == 3
    ticket = group.ask(1, sessions.submission("b", key("x")))
    assert group.up[1].leases.status()["blocked"] == 1
    number = sessions.holder("a").need(only(key("x")), sessions.now)
    sessions.talk()
    group.lose = lambda source, target, message: False
    sessions.wait(500)
    committed = group.answers[ticket]
    assert isinstance(committed, Committed)
    found = [e for e in sessions.of("a", Established) if isinstance(e, Established) and e.number == number]
    assert found and max(granted.tid for granted in chain(*(e.ranges for e in found))) >= committed.tid
    assert all(replica.leases.status()["blocked"] == 0 for replica in group.up.values())


def test_a_master_that_granted_leases_has_a_grace_when_it_is_back(sessions: Sessions) -> None:
    group = sessions.group
    sessions.hold("a")
    tokens = sessions.holder("a").tokens([EVERYTHING])
    assert tokens is not None
    for node in (1, 2, 3):
        group.crash(node)
    for node in (1, 2, 3):
        group.start(node)
    group.run(100)
    assert isinstance(group.answer(1, sessions.submission("b", key("x"))), Busy)
    assert isinstance(group.answer(1, sessions.submission("a", key("x"), tokens)), Busy)  # nobody knows yet
    for node in (1, 2):  # the same again: what they know is that they knew nothing
        group.crash(node)
        group.start(node)
    group.run(TERM)
    assert isinstance(group.answer(1, sessions.submission("b", key("x"))), Busy)
    group.run(GRACE - TERM + 100)
    assert isinstance(group.answer(1, sessions.submission("b", key("x"))), Committed)
    assert isinstance(group.answer(1, sessions.submission("a", key("x"), tokens)), Fenced)


def test_a_master_whose_leases_are_all_gone_has_none(sessions: Sessions) -> None:
    group = sessions.group
    sessions.hold("a")
    assert all(replica.quorum.leasing for replica in group.up.values())
    for name in "ab":
        sessions.holder(name).leave(sessions.now)
    sessions.talk()
    sessions.holders.clear()
    group.run(TERM + 2000)
    assert not any(replica.quorum.leasing for replica in group.up.values())
    for node in (1, 2, 3):
        group.crash(node)
        group.start(node)
    group.run(100)
    ticket = group.ask(1, group.submission(1, {key("x"): b"2"}))
    group.run(200)
    assert isinstance(group.answers[ticket], Committed)


def test_what_has_a_proposal_keeps_leases_away_after_a_restart(sessions: Sessions) -> None:
    group = sessions.group
    sessions.hold("a", only(key("y")))
    group.lose = lambda source, target, message: True
    group.ask(2, sessions.submission("b", key("x"), node=2))
    group.run(10)
    group.crash(2)
    group.start(2)
    assert [txid.session for txid, _ in group.up[2].quorum.standing()] == [b"b" * 16]
    assert group.up[2].leases.status()["blocked"] == 1


def test_a_new_member_has_a_grace_if_leases_may_stand() -> None:
    sessions = Sessions(Group(3, spares=1))
    group = sessions.group
    group.reconfigure(1, 1, 2, 3, 4)
    assert not group.up[4].leases.status().get("grace_ns")
    group.reconfigure(1, 1, 2, 3)
    sessions.hold("a")
    sessions.reconfigure(1, 2, 4)
    assert group.up[4].quorum.leasing
    assert sessions.group.up[1].leases.status()["grace_ns"] == 0  # it stays, and so does one of each majority
    sessions.wait(TERM)
    assert sessions.holder("a").covers(*EVERYTHING, X)
    assert isinstance(sessions.submit("b", key("x")), Busy)


def test_everybody_has_a_grace_if_a_majority_may_know_of_no_lease() -> None:
    sessions = Sessions(Group(5))
    sessions.hold("a")
    group = sessions.group
    for node in (4, 5):
        group.crash(node)
    sessions.cut.add(b"a" * 16)
    sessions.reconfigure(1, 2, 3)
    assert all(group.up[node].leases.status()["grace_ns"] > 0 for node in (1, 2, 3))
    assert isinstance(sessions.submit("b", key("x")), Busy)
    sessions.wait(GRACE)
    assert isinstance(sessions.submit("b", key("x")), Committed)


def test_an_absurd_tid_does_not_move_the_clock(sessions: Sessions) -> None:
    replica = sessions.group.up[1]
    before = replica.quorum.clock_tid
    sessions.group.hear(1, b"a" * 16, [Release(77, 0, [], 1 << 62)])
    assert replica.quorum.clock_tid - before < 1 << 40
    assert any(observed.name == "lease.absurd" for _, observed in sessions.group.observed)


def test_a_read_without_a_lease_recalls_and_records_nothing(sessions: Sessions) -> None:
    sessions.hold("a")
    number = sessions.holder("b").need(only(key("x"), S), sessions.now, hold=False)
    sessions.wait(50)
    for event in sessions.of("a", Recalled):
        assert isinstance(event, Recalled)
        sessions.holder("a").released(event.recall, 0, sessions.now)
    sessions.wait(100)
    assert [event.number for event in sessions.of("b", Answered) if isinstance(event, Answered)] == [number]
    holders = sessions.group.up[1].leases.status(whole=True)["holders"]
    held = [holder["ranges"] for holder in holders if holder["session"] == (b"b" * 16).hex()]
    assert held == [0]


def test_a_master_that_is_sealed_renews_nobody(sessions: Sessions) -> None:
    sessions.hold("a")
    desk = sessions.group.up[1].quorum.desk
    desk.acting = False
    told: list[int] = []
    sessions.group.told = lambda node, tell: told.append(node)
    for node in (1, 2):
        sessions.group.hear(node, b"a" * 16, [Alive(sessions.now, 0, [])])
    sessions.group.run()
    assert told == [2]


def test_the_status_says_who_holds_what_and_how_much_is_recalled(sessions: Sessions) -> None:
    sessions.hold("a")
    leases = sessions.group.up[1].leases
    summary, whole = leases.status(), leases.status(whole=True)
    assert {**summary, "holders": whole["holders"]} == whole
    assert (summary["sessions"], summary["ranges"], summary["recalls"]) == (2, 1, 0) and summary["bytes"] > 0
    (held,) = next(one["held"] for one in whole["holders"] if one["session"] == (b"a" * 16).hex())
    assert held == {"lo": "", "hi": "ffffff", "level": "everything", "mode": "X"}
    json.dumps(whole)
    for _ in range(3):
        sessions.submit("b", key("x"))
        sessions.wait(1000)
    assert 0 < leases.status()["recalls_per_second"] <= 1
    told = sessions.group.answer(1, Status(leases=True))
    assert isinstance(told, Told) and told.fields["leases"]["holders"]
