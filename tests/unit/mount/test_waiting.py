"""The choice between sleeping and looking, by simulated intervals."""

from __future__ import annotations

from random import Random

from gavel.mount.waiting import GOOD_NS, LONGEST_NS, LOOK_NS, WINDOW, Waiting


def run(waiting: Waiting, windows: int, asleep: float, looking: float, noise: float = 0.0) -> float:
    """Which share of the windows was spent looking, when intervals have these means in ns."""
    random = Random(5)
    looked = 0
    for _ in range(windows):
        looked += waiting.look_ns > 0
        mean = looking if waiting.look_ns else asleep
        waiting.window(int(min(mean * (1 + random.uniform(-noise, noise)), LONGEST_NS) * WINDOW))
    return looked / windows


def test_it_looks_where_waking_up_is_slow() -> None:
    assert run(Waiting(), 2000, 90_000, 30_000) > 0.95
    assert run(Waiting(), 2000, 90_000, 30_000, noise=0.3) > 0.9


def test_it_sleeps_where_looking_is_in_the_way() -> None:
    assert run(Waiting(), 2000, 30_000, 90_000) < 0.05
    assert run(Waiting(), 2000, 30_000, 31_000, noise=0.05) < 0.05


def test_it_does_not_try_where_there_is_nothing_to_gain() -> None:
    assert run(Waiting(), 500, GOOD_NS * 0.9, 5_000) == 0
    assert run(Waiting(), 500, LONGEST_NS, LONGEST_NS) < 0.05  # a program that asks rarely


def test_it_changes_its_mind_with_the_machine() -> None:
    waiting = Waiting()
    run(waiting, 2000, 90_000, 30_000)
    assert run(waiting, 2000, 30_000, 200_000) < 0.5
    assert run(waiting, 500, 30_000, 200_000) < 0.05


def test_with_one_processor_it_never_looks() -> None:
    waiting = Waiting(possible=False)
    assert run(waiting, 500, 90_000, 1_000) == 0
    assert waiting.look_ns in (0, LOOK_NS)
