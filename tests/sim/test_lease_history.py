"""The checkers of lease histories, each given a true history and then the same with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gavel.sim.leases.history import History, Read, Write, check

K = b"k"


def true_history() -> History:
    """Two values that came to the masters, one that was reported lost, one that died with its client, and reads."""
    return History(
        writes={
            b"one": Write(K, "c1", 0, 10, (100, 0)),
            b"two": Write(K, "c1", 20, 30, (100, 1)),
            b"lost": Write(K, "c2", 40, 50, None, reported=True),
            b"died": Write(K, "c2", 55, 60, None, died=True),
            b"three": Write(K, "c3", 70, None, (300, 0)),
        },
        reads=[
            Read(K, None, "c2", 0, 5),
            Read(K, b"one", "c1", 12, 13),
            Read(K, b"two", "c2", 35, 38),
            Read(K, b"lost", "c2", 51, 52),
            Read(K, b"two", "c1", 71, 80),
            Read(K, b"three", "c1", 90, 95),
        ],
        final={K: b"three"},
    )


def stale(history: History) -> None:
    history.reads.append(Read(K, b"one", "c3", 31, 32))


def backwards(history: History) -> None:
    history.reads.append(Read(K, b"two", "c2", 96, 97))


def of_a_lost_one(history: History) -> None:
    history.reads.append(Read(K, b"lost", "c1", 51, 52))


def unreported(history: History) -> None:
    history.writes[b"lost"].reported = False


def back_from_the_dead(history: History) -> None:
    history.writes[b"two"].reported = True


def other_end(history: History) -> None:
    history.final[K] = b"two"


def unanswered(history: History) -> None:
    history.waiting.append("c1 waits")


def overtaking(history: History) -> None:
    history.writes[b"two"].version = (50, 0)


def test_a_true_history_holds() -> None:
    assert check(true_history()) == []


@pytest.mark.parametrize(
    ("plant", "property_"),
    [
        (stale, "linear"), (backwards, "linear"), (of_a_lost_one, "linear"), (overtaking, "linear"),
        (unreported, "kept"), (other_end, "kept"), (back_from_the_dead, "fenced"), (unanswered, "live"),
    ],
)  # fmt: skip
def test_a_planted_bug_is_found(plant: Callable[[History], None], property_: str) -> None:
    history = true_history()
    plant(history)
    assert property_ in {violation.split(":")[0] for violation in check(history)}
