"""What one master grants, recalls and refuses."""

from __future__ import annotations

import pytest

from gavel.coherency.contention import HOT_RECALLS
from gavel.coherency.grantor import GRACE_NS, Admission
from gavel.coherency.messages import CROWDED, NONE, Age, Ask, Refused, Release, Renewed, S, Want, X
from gavel.coherency.space import EVERYTHING, levels
from gavel.limits import LEASE_ASKS_MAX, LEASE_RANGES_MAX, LEASE_SESSIONS_MAX, LEASE_TERM_NS, LEASE_WORK_NS
from tests.unit.coherency.stage import MS, C, D, E, Stage, granted, recalled


def key(number: int) -> bytes:
    return b"\0\0" + number.to_bytes(8, "big") + b"\1\1"


def one(number: int, mode: int = X) -> Want:
    return Want(key(number), key(number) + b"\0", mode)


def test_who_is_alone_gets_everything() -> None:
    stage = Stage()
    assert [(lo, hi) for _, ranges in granted(stage.ask(C, one(5, S), wide=True)) for lo, hi, _, _ in ranges] == [
        EVERYTHING
    ]


def test_a_second_one_gets_the_widest_level_that_the_first_does_not_hold() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    ((_, ranges),) = granted(stage.ask(D, one(300), wide=True))
    assert (ranges[0].lo, ranges[0].hi) == levels(*one(300)[:2])[2]  # the block of 2^8 objects beside that of C


def test_readers_share_and_a_writer_recalls_them_all() -> None:
    stage = Stage()
    assert granted(stage.ask(C, one(5, S))) and granted(stage.ask(D, one(5, S)))
    said = stage.ask(E, one(5))
    assert not granted(said)
    assert [(session, recall.to) for session, recall in recalled(said)] == [(C, NONE), (D, NONE)]


def test_a_reader_leaves_a_writer_the_right_to_read() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    ((session, recall),) = recalled(stage.ask(D, one(5, S)))
    assert (session, recall.to) == (C, S)
    stage.grantor.hear(C, Release(1, 0, [Want(recall.lo, recall.hi, S)], 90), 0)
    assert [who for who, _ in granted(stage.said())] == [D]
    assert stage.grantor.recorded(C, key(5)) == (stage.grantor.recorded(C, key(5))[0], S)  # type: ignore[index]
    assert stage.site.tick > 90


def test_an_ask_that_is_not_said_again_waits_before_nobody_for_ever() -> None:
    stage = Stage()
    stage.grantor.block("written", None)
    stage.ask(C, one(5))
    wanted = Ask(7, Age(99, D), [one(5)], False, True, 0)
    for now in range(0, 3 * LEASE_TERM_NS, LEASE_TERM_NS // 3):
        stage.alive(C, now)
        stage.grantor.hear(D, wanted, now)
        stage.alive(D, now)
    stage.grantor.unblock("written", 3 * LEASE_TERM_NS - 1)
    assert [session for session, _ in granted(stage.said())] == [D]


def test_a_want_twice_is_recalled_once() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    assert len(recalled(stage.ask(D, one(5)))) == 1
    assert recalled(stage.ask(E, one(5))) == []


def test_who_walks_what_another_holds_has_more_recalled_at_a_time() -> None:
    stage = Stage()
    stage.ask(C, Want(*EVERYTHING, X))
    recalls = 0
    for number in range(2000):
        said = stage.ask(D, one(number, S), wide=True)
        for _, recall in recalled(said):
            recalls += 1
            stage.grantor.hear(C, Release(recalls, recalls - 1, [Want(recall.lo, recall.hi, S)], 0), 0)
            said += stage.said()
        assert granted(said)
    assert recalls < 15


@pytest.mark.parametrize("wrong", [Want(b"b", b"a", S), Want(b"a", b"a", X), Want(b"a", b"b", NONE)])
def test_an_absurd_want_is_refused(wrong: Want) -> None:
    stage = Stage()
    ((_, answer),) = stage.ask(C, wrong)
    assert isinstance(answer, Refused)


def test_nobody_asks_in_the_name_of_another() -> None:
    stage = Stage()
    stage.grantor.hear(C, Ask(1, Age(1, D), [one(5)], False, True, 0), 0)
    assert isinstance(stage.said()[0][1], Refused)


def test_a_flood_of_asks_is_bounded_and_noted_a_few_times_only() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    refused = 0
    for _ in range(LEASE_ASKS_MAX + 100):
        refused += sum(isinstance(message, Refused) for _, message in stage.ask(D, one(5)))
    assert refused == 100
    assert len(stage.notes) <= 8
    assert granted(stage.ask(E, one(6)))  # nobody else is harmed


def test_sessions_are_bounded() -> None:
    stage = Stage()
    for number in range(LEASE_SESSIONS_MAX):
        stage.alive(number.to_bytes(16, "big"), 0)
    assert stage.alive(C, 0) == []
    assert stage.notes[-1].name == "lease.sessions"
    assert stage.alive(bytes(16), 0)


def test_a_release_of_what_was_never_granted_does_nothing() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    stage.grantor.hear(D, Release(1, 0, [Want(*EVERYTHING, NONE)], 0), 0)
    stage.alive(D, 0)
    stage.grantor.hear(D, Release(1, 0, [Want(*EVERYTHING, NONE), Want(b"b", b"a", S)], 0), 0)
    assert stage.grantor.recorded(C, key(5))[1] == X  # type: ignore[index]


def test_too_many_ranges_of_a_session_are_asked_back() -> None:
    stage = Stage()
    crowded = 0
    for number in range(0, 2 * (LEASE_RANGES_MAX + 300), 2):
        for _, recall in recalled(stage.ask(C, one(number, S))):
            assert recall.why == CROWDED
            crowded += 1
            stage.grantor.hear(C, Release(crowded, crowded - 1, [Want(recall.lo, recall.hi, NONE)], 0), 0)
            stage.said()
    assert crowded == 2
    assert stage.grantor.status(0)["sessions"][0]["ranges"] <= LEASE_RANGES_MAX


def test_what_bounces_is_answered_without_a_lease_for_a_while() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    holder, other, numbers = C, D, {C: 0, D: 0}
    for _ in range(HOT_RECALLS):
        for _, recall in recalled(stage.ask(other, one(5))):
            numbers[holder] += 1
            release = Release(numbers[holder], numbers[holder] - 1, [Want(recall.lo, recall.hi, NONE)], 0)
            stage.grantor.hear(holder, release, 0)
        holder, other = other, holder
    stage.said()
    assert [note.name for note in stage.notes] == ["lease.hot"]
    stage.grantor.hear(holder, Release(numbers[holder] + 1, numbers[holder], [Want(*EVERYTHING, NONE)], 0), 0)
    ((_, answer),) = stage.ask(E, one(5))
    assert not answer.held  # type: ignore[union-attr]
    ((_, answer),) = stage.ask(E, one(5), now=200 * MS)
    assert answer.held  # type: ignore[union-attr]


def test_in_a_grace_nothing_is_granted_and_nothing_proposed() -> None:
    stage = Stage()
    stage.grantor.start_grace(0)
    assert not granted(stage.ask(C, one(5)))
    assert stage.grantor.admit(C, [], [key(5)], None, 0) is Admission.BUSY
    stage.alive(C, LEASE_TERM_NS // 2)
    stage.grantor.tick(GRACE_NS)
    assert granted(stage.said())


def test_who_works_on_a_recall_is_waited_for_but_not_for_ever() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    ((_, recall),) = recalled(stage.ask(D, one(5)))
    now = 0
    while stage.alive(C, now, recall.number):
        now += LEASE_TERM_NS // 3
        stage.alive(D, now)
    assert LEASE_WORK_NS <= now < LEASE_WORK_NS + LEASE_TERM_NS


def test_a_session_that_left_one_recall_unanswered_keeps_what_was_recalled_later_until_its_time() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    stage.ask(C, one(7))
    stage.ask(D, one(5))
    stage.alive(C, LEASE_TERM_NS // 2)  # renews all but 5, and is told of that recall
    stage.ask(E, one(7), now=LEASE_TERM_NS // 2)
    stage.alive(D, LEASE_TERM_NS // 2)
    stage.grantor.tick(LEASE_TERM_NS)
    assert [session for session, _ in granted(stage.said())] == [D]
    assert stage.grantor.recorded(C, key(5))[1] == NONE  # type: ignore[index]
    assert stage.grantor.recorded(C, key(7))[1] == X  # type: ignore[index]
    assert stage.notes[-1].name == "lease.overdue"


def test_a_write_nobody_knows_blocks_everything() -> None:
    stage = Stage()
    stage.grantor.block("t", None)
    assert not granted(stage.ask(C, one(5)))
    stage.grantor.block("t", [key(6)])
    stage.grantor.block("u", [key(5)])
    stage.grantor.unblock("u", 0)
    assert granted(stage.said())


def test_a_refused_transaction_keeps_new_grants_away_until_it_comes_again() -> None:
    stage = Stage()
    stage.ask(C, one(5, S))
    assert stage.grantor.admit(D, [], [key(5)], None, 0) is Admission.BUSY
    ((_, recall),) = recalled(stage.said())
    assert not granted(stage.ask(E, one(5, S)))
    stage.grantor.hear(C, Release(1, 0, [Want(recall.lo, recall.hi, NONE)], 0), 0)
    assert not granted(stage.said())
    assert stage.grantor.admit(D, [], [key(5)], None, 0) is Admission.GO
    stage.grantor.block("t", [key(5)])
    stage.grantor.unblock("t", 0)
    stage.grantor.tick(LEASE_TERM_NS)
    assert not stage.grantor.status(0)["waiting"]


def test_a_refused_transaction_that_does_not_come_again_gives_way() -> None:
    stage = Stage()
    stage.ask(C, one(5, S))
    stage.grantor.admit(D, [], [key(5)], None, 0)
    stage.grantor.hear(C, Release(1, 0, [Want(*EVERYTHING, NONE)], 0), 0)
    stage.ask(E, one(5, S))
    stage.grantor.tick(LEASE_TERM_NS // 2)
    assert [session for session, _ in granted(stage.said())] == [E]


def test_a_transaction_that_read_what_another_holds_in_x_waits() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    stage.ask(C, one(7, S))
    assert stage.grantor.admit(D, [one(7)[:2]], [key(9)], None, 0) is Admission.GO
    assert stage.grantor.admit(D, [one(5)[:2]], [key(9)], None, 0) is Admission.BUSY
    assert [(session, recall.to) for session, recall in recalled(stage.said())] == [(C, S)]


def test_own_leases_do_not_stand_in_the_way() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    assert stage.grantor.admit(C, [one(5)[:2]], [key(5), key(6)], None, 0) is Admission.GO


def test_a_write_back_needs_its_own_token_and_x_on_all_of_it() -> None:
    stage = Stage()
    stage.ask(C, one(5))
    token = stage.grantor.recorded(C, key(5))[0]  # type: ignore[index]
    assert stage.grantor.admit(C, [], [key(5)], [token], 0) is Admission.GO
    assert stage.grantor.admit(C, [], [key(5)], [], 0) is Admission.FENCED
    assert stage.grantor.admit(C, [], [key(5), key(6)], [token], 0) is Admission.FENCED
    assert stage.grantor.admit(D, [], [key(5)], [token], 0) is Admission.FENCED


def test_a_renewal_says_where_the_master_stands() -> None:
    stage = Stage()
    stage.grantor.enter(7, [1, 2, 3], 0)
    ((_, answer),) = stage.alive(C, 5)
    assert isinstance(answer, Renewed) and (answer.sent, answer.epoch, answer.voters) == (5, 7, [1, 2, 3])
    stage.grantor.seal()
    assert stage.alive(C, 6) == []


def test_a_million_files_walked_by_four_clients_cost_little() -> None:
    stage = Stage()
    sessions = [bytes([number]) * 16 for number in range(4)]
    released = dict.fromkeys(sessions, 0)
    for step in range(0, 1_000_000, 997):
        for session in sessions:
            for who, recall in recalled(stage.ask(session, one(step, S), wide=True)):
                released[who] += 1
                wants = [Want(recall.lo, recall.hi, recall.to)]
                stage.grantor.hear(who, Release(released[who], released[who] - 1, wants, 0), 0)
                stage.said()
    status = stage.grantor.status(0)
    assert sum(session["bytes"] for session in status["sessions"]) < 2**20
