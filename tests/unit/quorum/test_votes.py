"""Majorities are of those who vote."""

import pytest

from gavel.errors import BadRequest
from gavel.quorum.messages import Member
from gavel.quorum.votes import MASTER, SLAVE, WITNESS, Electorate, check


def masters(*numbers: int) -> list[Member]:
    return [Member(number, MASTER) for number in numbers]


@pytest.mark.parametrize(("voters", "majority"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_a_majority_is_more_than_half(voters: int, majority: int) -> None:
    assert Electorate(masters(*range(voters))).majority == majority


def test_a_witness_votes_and_a_slave_does_not() -> None:
    group = Electorate([*masters(1, 2), Member(3, WITNESS), Member(4, SLAVE)])
    assert (group.voters, group.masters, group.witnesses) == ([1, 2, 3], [1, 2], [3])
    assert group.majority == 2
    assert group.reached({1: 7, 3: 7}) == 7 and group.reached({1: 7, 4: 7}) == 0


def test_what_a_majority_has_reached() -> None:
    group = Electorate(masters(1, 2, 3, 4, 5))
    assert group.reached({1: 50, 2: 40, 3: 30, 4: 20}) == 30
    assert group.reached({1: 50, 2: 40, 9: 99}) == 0


def test_the_order_of_takeover_begins_after_who_is_lost() -> None:
    assert Electorate(masters(1, 2, 3, 4)).after(2) == [3, 4, 1, 2]
    assert Electorate(masters(1, 2, 3)).after(7) == [1, 2, 3]


@pytest.mark.parametrize(
    "members",
    [
        [],
        [Member(1, SLAVE)],
        [Member(1, WITNESS)],
        [*masters(1, 2), Member(1, SLAVE)],
        masters(*range(40)),
        [*masters(1), Member(300, MASTER)],
        [*masters(1), Member(2, 7)],
    ],
)
def test_members_that_no_group_can_have(members: list[Member]) -> None:
    with pytest.raises(BadRequest):
        check(members)
