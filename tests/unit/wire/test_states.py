"""The table of states: what holds for all of it, and that the page shows it as it is."""

from __future__ import annotations

from pathlib import Path

from gavel.wire.frames import Kind
from gavel.wire.states import TABLE, TALKING, State, Way, diagram

PAGE = Path(__file__).parents[3] / "docs" / "internals" / "wire.md"


def test_the_page_shows_the_table_as_it_is() -> None:
    assert diagram() in PAGE.read_text()


def test_every_state_is_reached_and_leads_to_the_end() -> None:
    reached, ahead = {State.DIALLED, State.ACCEPTED}, [State.DIALLED, State.ACCEPTED]
    while ahead:
        for after in TABLE[ahead.pop()].values():
            if after not in reached:
                reached.add(after)
                ahead.append(after)
    assert reached == set(State)
    assert all(row.get((Way.SEND, Kind.ERROR)) is State.CLOSED for state, row in TABLE.items() if state != State.CLOSED)


def test_what_one_side_may_send_the_other_may_receive() -> None:
    mirrored = {
        State.DIALLED: State.ACCEPTED,
        State.JUDGING: State.GREETED,
        State.OPEN: State.OPEN,
        State.DRAINING: State.LEAVING,
        State.LEAVING: State.DRAINING,
        State.PARTING: State.PARTING,
    }
    for state, other in mirrored.items():
        for way, kind in TABLE[state]:
            if way is Way.SEND and kind is not Kind.ERROR:
                assert (Way.RECEIVE, kind) in TABLE[other], f"{kind.name} from {state.name} to {other.name}"


def test_nothing_but_greetings_goes_before_both_are_welcome() -> None:
    for state in set(State) - TALKING - {State.CLOSED}:
        assert {kind for _, kind in TABLE[state]} <= {Kind.HELLO, Kind.WELCOME, Kind.ERROR}
