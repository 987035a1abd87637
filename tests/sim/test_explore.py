"""Every schedule of small configurations over the real cores, and that the search finds what is planted."""

from __future__ import annotations

import os

import pytest

from gavel.sim.explore import Explorer, Scope, freeze

SOAK = bool(os.environ.get("GAVEL_SOAK"))
QUICK = not SOAK and float(os.environ.get("GAVEL_SIM_SECONDS", "0")) < 60  # `make test` says 120

SMALL = [
    Scope(),
    Scope(crashes=1),  # a master crashes, and is back, anywhere in one transaction
    Scope(ticks=1),  # somebody takes over, anywhere in it
    Scope(proposals=(1, 2), silent=(3,), reads=True),  # two at once that collide, of the two masters that are left
    Scope(proposals=(1, 1), silent=(3,), skews=(0, 5, 0)),
]
MEDIUM = [
    Scope(crashes=1, ticks=1, crashing=(1,), ticking=(2,)),  # the coordinator crashes, and another takes over
]
LARGE = [
    Scope(crashes=1, ticks=1),
    Scope(proposals=(1, 2), reads=True),
    Scope(proposals=(1, 2), ticks=1, ticking=(3,)),
    Scope(ticks=2),
    Scope(crashes=1, lazy_syncs=True),
    Scope(masters=2, proposals=(1, 2), crashes=1, ticks=1),
]
PLANTED = [
    ("highest_proposal", Scope(crashes=1, ticks=1, ticking=(2,), crashing=(3,), without=("highest_proposal",))),
    ("durable_promise", Scope(crashes=1, ticks=1, ticking=(3,), crashing=(2,), without=("durable_promise",))),
]


@pytest.mark.parametrize("scope", SMALL + ([] if QUICK else MEDIUM), ids=str)
def test_no_schedule_breaks_anything(scope: Scope) -> None:
    found = Explorer(scope).run()
    assert found.complete and not found.violation, [found.violation, *found.schedule]
    assert found.states > 100


@pytest.mark.skipif(not SOAK, reason="takes minutes each and gigabytes; GAVEL_SOAK=1 runs it")
@pytest.mark.parametrize("scope", LARGE, ids=str)
def test_as_far_as_a_few_million_states_go_nothing_breaks(scope: Scope) -> None:
    found = Explorer(scope).run(3_000_000)
    assert not found.violation, [found.violation, *found.schedule]


@pytest.mark.skipif(QUICK, reason="`make test` runs it")
@pytest.mark.parametrize(("rule", "scope"), PLANTED, ids=[rule for rule, _ in PLANTED])
def test_a_schedule_that_breaks_something_is_found_and_told(rule: str, scope: Scope) -> None:
    found = Explorer(scope).run(200_000)
    assert found.violation and found.schedule


def test_a_search_ends_where_it_is_told_to() -> None:
    found = Explorer(Scope(crashes=1)).run(500)
    assert not found.complete and found.states == 500


def test_equal_states_freeze_alike_and_others_do_not() -> None:
    class Thing:
        __slots__ = ("me", "numbers")

        def __init__(self, numbers: dict[str, list[int]]) -> None:
            self.numbers = numbers
            self.me = self

    def frozen(numbers: dict[str, list[int]]) -> object:
        return freeze(Thing(numbers), {})

    assert frozen({"a": [1, 2]}) == frozen({"a": [1, 2]})
    assert frozen({"a": [1, 2]}) != frozen({"a": [2, 1]})
    assert frozen({"a": [1], "b": []}) != frozen({"b": [], "a": [1]})
