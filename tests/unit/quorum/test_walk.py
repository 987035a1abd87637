"""A few seconds of random walks; the simulator walks further. Without a rule the walk must fall."""

import pytest

from tests.unit.quorum.walk import Wrong, one

STEPS = 400


@pytest.mark.parametrize("seed", range(8))
def test_walks_of_three(seed: int) -> None:
    one(seed, 3, "", STEPS, changes=True)


@pytest.mark.parametrize("seed", range(3))
def test_walks_of_five(seed: int) -> None:
    assert one(seed, 5, "", STEPS, changes=False).count["proposed"] > 0


def falls(rule: str) -> None:
    for seed in range(40):
        one(seed, 3, rule, 600, changes=False)


@pytest.mark.parametrize("rule", ["highest_proposal", "ballot_order", "majority_bound"])
def test_without_a_rule_a_walk_falls(rule: str) -> None:
    with pytest.raises((Wrong, AssertionError)):
        falls(rule)
