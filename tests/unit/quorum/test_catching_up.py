"""Pieces ahead, lost, early and late; who gives way to whom; and who was away for too long."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from gavel.effects import Observe, PeerDown, Received, Ticked
from gavel.errors import HistoryPruned
from gavel.limits import CATCH_UP_AHEAD, CATCH_UP_LEAST, MIB, TRANSACTION_LIFE_US
from gavel.quorum import messages as m
from gavel.quorum import pace as pacing
from gavel.quorum.desk import Desk
from gavel.quorum.messages import Batch, CatchUp, Piece
from gavel.quorum.pace import GIVING, QUIET, SECOND, Pace
from gavel.quorum.quorum import Quorum
from gavel.quorum.requests import Propose
from gavel.quorum.rules import ALL
from tests.transcripts.masters import Disk, Masters, ToyMachine, body

COUNT = 30  # transactions that master 3 misses; a toy's piece has two


def away() -> Masters:
    """Master 3 is back, and the others have not heard its first question yet."""
    group = Masters([1, 2, 3])
    group.run()
    group.wait(100)
    group.crash(3)
    for ticket in range(COUNT):
        group.request(1 + ticket % 2, Propose(ticket, group.tx(1), body(b"k%02d" % ticket)))
        group.run()
    group.wait(2500)
    group.start(3)
    return group


def pieces(group: Masters) -> list[int]:
    """Where in the net pieces for master 3 are."""
    return [
        at
        for at, (_, to, batch) in enumerate(group.net)
        if to == 3 and any(isinstance(message, Piece) for message in batch.messages)
    ]


def run_until(group: Masters, reached: Callable[[], bool]) -> None:
    """Deliver and tick, but no pieces, until it is so."""
    for _ in range(4000):
        if reached():
            return
        at = next((at for at in range(len(group.net)) if at not in pieces(group)), None)
        if at is None:
            group.wait(1, run=False)
        else:
            group.deliver(at)
    raise AssertionError("it never is so")


def same(group: Masters) -> bool:
    return group.machine(3).history == group.machine(1).history


def test_several_pieces_are_on_their_way_and_not_more() -> None:
    group = away()
    run_until(group, lambda: len(pieces(group)) == CATCH_UP_AHEAD)
    group.wait(300, run=False)
    assert len(pieces(group)) == CATCH_UP_AHEAD
    group.deliver(pieces(group)[0])
    run_until(group, lambda: len(pieces(group)) == CATCH_UP_AHEAD)
    group.wait(2500)
    assert same(group)


def test_early_pieces_wait_for_those_before_them() -> None:
    group = away()
    machine = group.machine(3)
    for _ in range(COUNT // 4):
        run_until(group, lambda: len(pieces(group)) >= 2)
        before = len(machine.history)
        group.deliver(pieces(group)[1])
        assert len(machine.history) == before
        group.deliver(pieces(group)[0])
        assert len(machine.history) > before + 2
    group.wait(2500)
    assert same(group)


def test_a_lost_piece_begins_a_stream_where_the_last_one_came_to() -> None:
    group = away()
    run_until(group, lambda: len(pieces(group)) == CATCH_UP_AHEAD)
    group.deliver(pieces(group)[0])
    before = len(group.machine(3).history)
    del group.net[pieces(group)[0]]
    asked: list[CatchUp] = []
    group.seen = lambda number, effect: asked.extend(
        message
        for message in getattr(getattr(effect, "message", None), "messages", [])
        if isinstance(message, CatchUp) and number == 3
    )
    run_until(group, lambda: any(ask.hi == 0 for ask in asked))
    again = next(ask for ask in asked if ask.hi == 0)
    assert again.cursor is not None and int(again.cursor[1:]) == before
    group.wait(3000)
    assert same(group)


def test_who_gives_is_lost_and_another_one_goes_on() -> None:
    group = away()
    run_until(group, lambda: len(pieces(group)) == CATCH_UP_AHEAD)
    giver = group.net[pieces(group)[0]][0]
    group.deliver(pieces(group)[0])
    group.cuts |= {(giver, 3), (3, giver)}
    group.net = [flight for flight in group.net if {giver, 3} != set(flight[:2])]
    group.step(3, PeerDown(giver))
    group.step(giver, PeerDown(3))
    assert group.core(giver).giver.due == 0
    group.wait(3000)
    assert same(group)


def test_a_late_question_of_an_old_stream_changes_nothing() -> None:
    group = away()
    run_until(group, lambda: len(pieces(group)) == CATCH_UP_AHEAD)
    giver = group.net[pieces(group)[0]][0]
    stream = group.core(giver).giver._streams[3]
    late = CatchUp(stream.asked.lo, 0, None, 0, 0, stream.asked.stream - 1, CATCH_UP_AHEAD)
    group.core(giver).giver.asked(3, late)
    assert group.core(giver).giver._streams[3] is stream


def test_a_former_release_asks_for_one_piece_at_a_time() -> None:
    group = away()
    giver = group.core(1).giver
    giver.asked(3, CatchUp(0, 0, None, 0, 0))
    for _ in range(20):
        giver.look()
    told = group.core(1).desk.pieces
    assert [piece.stream for _, piece in told] == [0]
    data = m.encode(Batch(1, 1, 1, 0, None, [told[0][1]]))
    assert len(data) == len(m.encode(Batch(1, 1, 1, 0, None, [Piece(*shape(told[0][1]))])))


def shape(piece: Piece) -> tuple[Any, ...]:
    """A piece's fields."""
    return tuple(getattr(piece, name) for name in Piece.__struct_fields__)


def test_decisions_that_may_be_forgotten_are_not_given() -> None:
    group = away()
    core = group.core(1)
    tid = sorted(group.machine(1).history)[3]
    for forgotten, given in ((tid + 1, 0), (tid, 1)):
        core.registers.forgotten = forgotten
        core.desk.pieces.clear()
        core.giver.lost(3)
        core.giver.asked(3, CatchUp(0, tid, None, 0, 0, 7, 1))
        assert len(core.desk.pieces) == given


def test_who_was_away_for_too_long_is_told_and_says_so() -> None:
    group = away()

    def pruned(lo: int, *rest: Any) -> Any:
        raise HistoryPruned(lo, 77)

    with patch.object(ToyMachine, "changes", lambda self, *args: pruned(*args)):
        group.wait(3000)
        found = group.core(3).status().catch_up
        assert found is not None and (found.horizon, found.total) == (77, 0)
    group.wait(3000)
    assert same(group) and group.core(3).status().catch_up is None


# Progress.


def test_position_total_and_the_time_left() -> None:
    group = away()
    core = group.core(3)
    seen = []
    for _ in range(8):
        run_until(group, lambda: bool(pieces(group)) or same(group))
        if not pieces(group):
            break
        group.deliver(pieces(group)[0])
        group.now += SECOND  # a piece a second
        if (found := core.status().catch_up) is not None:
            seen.append((found.position, found.total, found.left_ms))
    assert seen[0] == (2, COUNT, None)
    position, total, left = seen[-1]
    assert left is not None and abs(left - (total - position) * 500) < 0.2 * left


# Giving way.


def a_pace() -> tuple[Pace, Desk]:
    disk = Disk()
    desk = Desk(1, disk, ToyMachine(disk), ALL, 0)
    desk.time = 5 * SECOND
    return Pace(desk), desk


def turns(pace: Pace, desk: Desk, count: int, quiet: int, giving: int) -> int:
    """So many turns in which decisions take so long, one a millisecond; bytes given."""
    given, ends = 0, desk.time + count * (QUIET + GIVING)
    while desk.time < ends:
        desk.time += 1_000_000
        desk.decisions += 1
        desk.deciding += giving if pace._giving else quiet
        if pace.look():
            pace.spent(64 * 1024)
            given += 64 * 1024
    return given


def test_without_decisions_it_gives_at_once_up_to_the_ceiling() -> None:
    pace, desk = a_pace()
    for _ in range(1000):
        assert pace.look()
        pace.spent(1 << 20)
    pace.ceiling = 10 << 20
    pace.spent(10 << 20)
    assert not pace.look()
    desk.time += SECOND
    assert pace.look()


def test_what_slows_decisions_is_given_slower_and_what_does_not_faster() -> None:
    pace, desk = a_pace()
    turns(pace, desk, 20, 1_000_000, 1_010_000)
    fast = pace.rate
    assert fast > 20 * CATCH_UP_LEAST * MIB
    turns(pace, desk, 60, 1_000_000, 1_200_000)
    assert pace.rate == CATCH_UP_LEAST * MIB
    given = turns(pace, desk, 10, 1_000_000, 1_200_000)
    assert 0.5 < given / (CATCH_UP_LEAST * MIB * 10 * (QUIET + GIVING) / SECOND) < 1.01


def test_fewer_decisions_are_a_sign_too() -> None:
    pace, desk = a_pace()
    turns(pace, desk, 10, 1_000_000, 1_000_000)
    fast, ends = pace.rate, desk.time + 60 * (QUIET + GIVING)
    while desk.time < ends:  # each takes as long as ever, but whoever asks for them is slower
        desk.time += 1_200_000 if pace._giving else 1_000_000
        desk.decisions += 1
        desk.deciding += 1_000_000
        if pace.look():
            pace.spent(64 * 1024)
    assert pace.rate == CATCH_UP_LEAST * MIB < fast


def test_the_ceiling_holds_while_it_gives_way() -> None:
    pace, desk = a_pace()
    pace.ceiling = 1 << 20
    given = turns(pace, desk, 20, 1_000_000, 1_000_000)
    assert given <= (1 << 20) * 20 * (QUIET + GIVING) // SECOND + 64 * 1024


def test_a_pause_of_all_work_ends_giving_way() -> None:
    pace, desk = a_pace()
    turns(pace, desk, 3, 1_000_000, 2_000_000)
    assert pace.busy
    desk.time += pacing.BUSY_FOR
    assert pace.look() and not pace.busy


@pytest.mark.parametrize("lag", [1_000_000, 3_000_000])
def test_who_is_in_step_does_not_wait(lag: int) -> None:
    group = away()
    core = group.core(1)
    core.giver.pace.due = core.desk.time + SECOND
    core.giver.asked(3, CatchUp(core.stable - (lag << 8), 0, None, 0, 0, 7, 1))
    assert bool(core.desk.pieces) == (lag < 2_000_000)


def test_pieces_travel_by_themselves() -> None:
    group = away()
    run_until(group, lambda: len(pieces(group)) == CATCH_UP_AHEAD)
    for at in pieces(group):
        assert len(group.net[at][2].messages) == 1
    group.step(3, Received(1, Batch(1, 0, 1, 0, None, [])))  # an old incarnation: not admitted, and no harm


# Registers that nobody keeps any more.


def test_who_is_left_behind_catches_up_before_it_is_vouched_to() -> None:
    group = Masters([1, 2, 3])
    group.run()
    group.wait(100)
    group.crash(3)
    for number in (1, 2):
        group.core(number).forgetting.most = 2
    observed: list[Any] = []
    group.seen = lambda number, effect: observed.append(effect) if isinstance(effect, Observe) else None
    for ticket in range(6):
        group.request(1, Propose(ticket, group.tx(1), body(b"k%d" % ticket)))
        group.run()
    group.wait(TRANSACTION_LIFE_US // 1000 + 5000)
    for number in (1, 2):
        assert not group.core(number).registers.table
        assert group.core(number).registers.untold == max(group.machine(1).history)
        assert group.core(number).status().left_behind == [3]
    assert [effect.fields for effect in observed if effect.name == "left behind"] == [{"node": 3, "count": 6}] * 2
    group.start(3)
    group.run()
    assert group.core(3).stable < min(group.machine(1).history)
    group.wait(1000)
    assert group.core(3).stable > max(group.machine(1).history) and same(group)
    group.request(3, Propose(9, group.tx(3), body(b"z")))
    group.run()
    group.wait(100)
    assert type(group.answers(9)[0]).__name__ == "Committed" and same(group)
    group.wait(2500)
    assert group.core(1).status().left_behind == []


def test_a_link_that_was_away_for_as_long_begins_its_stream_anew() -> None:
    """Nobody was started anew, so the stream's numbers go on; what was forgotten meanwhile would be missing in it."""
    group = Masters([1, 2, 3])
    group.run()
    group.wait(100)
    cut = {(1, 3), (3, 1), (2, 3), (3, 2)}
    group.cuts |= cut
    for number in (1, 2):
        group.core(number).forgetting.most = 0
        group.step(3, PeerDown(number))
        group.step(number, PeerDown(3))
    for ticket in range(4):
        group.request(1, Propose(ticket, group.tx(1), body(b"k%d" % ticket)))
        group.run()
    group.wait(TRANSACTION_LIFE_US // 1000 + 5000)
    assert not group.core(1).registers.table
    group.cuts -= cut
    for number in (1, 2):
        group.link(number, 3)
    group.wait(2000)
    assert same(group)


def test_a_snapshot_remembers_what_is_not_told() -> None:
    group = Masters([1, 2, 3])
    group.run()
    core = group.core(1)
    core.registers.untold = 77
    again = Quorum(1, Disk(), ToyMachine(Disk()), group.founding)
    for record in core.snapshot():
        again.replay(record)
    assert again.registers.untold == 77


def test_after_a_crash_it_goes_on_before_what_was_in_memory_only() -> None:
    group = away()
    install = ToyMachine.install
    halves: list[bool] = []

    def half(machine: ToyMachine, lo: int, hi: int, piece: bytes, last: bool) -> bool:
        install(machine, lo, hi, piece, last)
        halves.append(len(machine.history) > 8)
        return not halves[-1]

    with patch.object(ToyMachine, "install", half):
        while not any(halves):
            run_until(group, lambda: bool(pieces(group)))
            group.deliver(pieces(group)[0])
    assert group.core(3).catch_ups._cursor == b"m10"
    left = group.core(3).catch_ups.left
    assert left is not None and left.cursor == b"m8"
    group.core(3).desk.urge()
    group.step(3, Ticked())
    group.crash(3)
    group.start(3)
    left = group.core(3).catch_ups.left
    assert left is not None and left.cursor == b"m8"
    group.wait(3000)
    assert same(group)
