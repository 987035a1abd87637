"""The checkers of histories: every anomaly is found, and nothing else is called one."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from soak.histories import NEVER, Access, Transaction, lists, register, told

ROUNDS = 400  # random histories, small enough to try every order


# One register.


def write(value: str, began: float, ended: float = NEVER) -> Access:
    return Access(began, ended, True, value, f"writer of {value}")


def read(value: str, began: float, ended: float) -> Access:
    return Access(began, ended, False, value, "a reader")


SOUND_ACCESSES = {
    "nothing": [],
    "one after the other": [write("a", 0, 1), read("a", 2, 3), write("b", 4, 5), read("b", 6, 7)],
    "the old value while the new is written": [write("a", 1, 9), read("", 2, 3), read("a", 4, 5)],
    "two writers at once, either order": [write("a", 1, 9), write("b", 1, 9), read("b", 2, 3), read("a", 4, 5)],
    "a write of which nobody knows shows late": [write("a", 1), write("b", 2, 3), read("b", 4, 5), read("a", 6, 7)],
    "a write of which nobody knows never shows": [write("a", 1), write("b", 2, 3), read("b", 4, 5)],
}
WRONG_ACCESSES = {
    "stale": ([write("a", 1, 2), read("", 3, 4)], "again"),
    "lost": ([write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)], "again"),
    "back": ([write("a", 1, 9), read("a", 2, 3), read("", 4, 5)], "again"),
    "two readers disagree": (
        [write("a", 1, 9), write("b", 1, 9), read("a", 2, 3), read("b", 4, 5), read("a", 6, 7)],
        "again",
    ),
    "inside of another": ([write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)], "'b'"),
    "from the future": ([read("a", 1, 2), write("a", 3, 4)], "before"),
    "from nowhere": ([read("x", 1, 2)], "nobody wrote"),
    "shown, then not": ([write("a", 1), read("a", 2, 3), read("", 4, 5)], "again"),
}


@pytest.mark.parametrize("name", SOUND_ACCESSES)
def test_a_sound_register(name: str) -> None:
    assert register(SOUND_ACCESSES[name], "") == []


@pytest.mark.parametrize("name", WRONG_ACCESSES)
def test_an_anomaly_of_a_register_is_found(name: str) -> None:
    accesses, says = WRONG_ACCESSES[name]
    assert any(says in wrong for wrong in register(accesses, ""))


def linear(accesses: list[Access], value: str = "") -> bool:
    """The same question answered by trying every order (Wing and Gong)."""
    if not any(one.ended != NEVER for one in accesses):
        return True
    first_end = min(one.ended for one in accesses)
    for one in accesses:
        if one.began <= first_end and (one.write or one.value == value):
            rest = [other for other in accesses if other is not one]
            if linear(rest, one.value if one.write else value):
                return True
    return False


def some_accesses(random: random.Random) -> list[Access]:
    """Ran one after the other at random moments, and with some luck spoilt."""
    found, value = [], ""
    for at in range(random.randint(1, 7)):
        began, ended = at * 10 - random.randint(0, 15), at * 10 + random.randint(1, 15)
        if random.random() < 0.5:
            value = f"v{at}"
            found.append(write(value, began, NEVER if random.random() < 0.2 else ended))
        else:
            seen = value if random.random() < 0.5 else random.choice(["", *(one.value for one in found)])
            found.append(read(seen, began, ended))
    return found


def test_the_register_checker_agrees_with_trying_every_order() -> None:
    rng = random.Random(1)
    verdicts = []
    for _ in range(ROUNDS):
        history = some_accesses(rng)
        verdicts.append(linear(history))
        assert (register(history, "") == []) == verdicts[-1], history
    assert 0.2 < sum(verdicts) / ROUNDS < 0.9, "some are sound, some are not"


# Transactions over lists.


def tx(
    name: str,
    when: tuple[float, float],
    reads: dict[str, str],
    appends: dict[str, str] | None = None,
    tid: int = 0,
    status: str = "committed",
) -> Transaction:
    """Lists are written as strings, each letter a value."""
    seen = {key: tuple(values) for key, values in reads.items()}
    return Transaction(name, *when, status, seen, appends or {}, tid)  # type: ignore[arg-type]


SOUND = [
    tx("A", (0, 9), {"x": ""}, {"x": "a"}, 1),
    tx("B", (1, 5), {"x": "a", "y": ""}, {"y": "b"}, 2),
    tx("C", (10, 11), {"x": "a", "y": "b"}, tid=2),
    tx("D", (12, 13), {"x": "a"}, {"x": "d"}, 3),
    tx("E", (12, 13), {"x": "a"}, {"x": "e"}, status="aborted"),
    tx("F", (12, NEVER), {"x": "ad"}, {"x": "f"}, status="unknown"),
    tx("G", (12, NEVER), {"y": "b"}, {"y": "g"}, status="unknown"),
]
FINAL = {"x": "adf", "y": "b"}


def test_a_sound_history_of_lists() -> None:
    assert lists(SOUND, FINAL) == [] and told(SOUND, FINAL) == []


ANOMALIES = {
    "an append is lost": ([tx("A", (0, 1), {"x": ""}, {"x": "a"})], {"x": ""}, "lost"),
    "an append happened twice": ([tx("A", (0, 1), {"x": ""}, {"x": "a"})], {"x": "aa"}, "2 times"),
    "what was given up is there": ([tx("A", (0, 1), {}, {"x": "a"}, status="aborted")], {"x": "a"}, "never happened"),
    "from nowhere": ([], {"x": "a"}, "nobody appended"),
    "half of it": ([tx("A", (0, 1), {}, {"x": "a", "y": "b"}, status="unknown")], {"x": "a", "y": ""}, "half"),
    "a value was seen that is not there": ([tx("A", (0, 1), {"x": "a"})], {"x": ""}, "in the end"),
    "a lost update: both saw the same": (
        [tx("A", (0, 9), {"x": ""}, {"x": "a"}), tx("B", (0, 9), {"x": ""}, {"x": "b"})],
        {"x": "ab"},
        "circle",
    ),
    "write skew": (
        [tx("A", (0, 9), {"x": "", "y": ""}, {"x": "a"}), tx("B", (0, 9), {"x": "", "y": ""}, {"y": "b"})],
        {"x": "a", "y": "b"},
        "circle",
    ),
    "a long fork": (
        [
            tx("A", (0, 9), {}, {"x": "a"}),
            tx("B", (0, 9), {}, {"y": "b"}),
            tx("C", (0, 9), {"x": "a", "y": ""}),
            tx("D", (0, 9), {"x": "", "y": "b"}),
        ],
        {"x": "a", "y": "b"},
        "circle",
    ),
    "half of a transaction is seen": (
        [tx("A", (0, 9), {}, {"x": "a", "y": "b"}), tx("B", (0, 9), {"x": "a", "y": ""})],
        {"x": "a", "y": "b"},
        "circle",
    ),
    "a stale read": (
        [tx("A", (0, 1), {"x": ""}, {"x": "a"}), tx("B", (2, 3), {"x": ""})],
        {"x": "a"},
        "circle",
    ),
    "later ones happened earlier": (
        [tx("A", (0, 1), {}, {"x": "a"}), tx("B", (2, 3), {}, {"x": "b"})],
        {"x": "ba"},
        "circle",
    ),
    "a circle with one of which nobody knows": (
        [tx("A", (0, NEVER), {"y": ""}, {"x": "a"}, status="unknown"), tx("B", (0, 9), {"x": ""}, {"y": "b"})],
        {"x": "a", "y": "b"},
        "circle",
    ),
}


@pytest.mark.parametrize("name", ANOMALIES)
def test_an_anomaly_of_lists_is_found(name: str) -> None:
    history, final, says = ANOMALIES[name]
    assert any(says in wrong for wrong in lists(history, final)), lists(history, final)


LIES = {
    "the tid of another": (0, 2),
    "a tid from before what it saw": (1, 1),
    "a tid that came before": (3, 1),
    "a tid that is later than what missed it": (0, 7),
    "no tid": (0, 0),
    "a state that had less than it saw": (2, 1),
    "a state that had more than it saw": (2, 3),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_tid_is_caught(name: str) -> None:
    """The history is sound, so the black box has nothing to say; only one tid is not what it should be."""
    at, tid = LIES[name]
    history = [one._replace(tid=tid) if number == at else one for number, one in enumerate(SOUND)]
    assert lists(history, FINAL) == []
    assert told(history, FINAL) != []


def test_tids_in_an_order_that_time_forbids_are_caught() -> None:
    history = [tx("A", (0, 1), {}, {"x": "a"}, 5), tx("B", (2, 3), {}, {"y": "b"}, 4)]
    assert lists(history, {"x": "a", "y": "b"}) == []
    assert ["began when" in wrong for wrong in told(history, {"x": "a", "y": "b"})] == [True]


def serial(history: list[Transaction], final: dict[str, str]) -> bool:
    """The same question answered by trying every order of every set of those that may have happened."""
    unknown = [one for one in history if one.status == "unknown"]
    for chosen in range(1 << len(unknown)):
        happened = [one for one in history if one.status == "committed"]
        happened += [one for bit, one in enumerate(unknown) if chosen >> bit & 1]
        if any(_explains(order, final) for order in permutations(happened)):
            return True
    return False


def _explains(order: tuple[Transaction, ...], final: dict[str, str]) -> bool:
    state = dict.fromkeys(final, "")
    for at, one in enumerate(order):
        if any(later.ended < one.began for later in order[at + 1 :]):
            return False
        if any(tuple(state[key]) != seen for key, seen in one.reads.items()):
            return False
        for key, value in one.appends.items():
            state[key] += value
    return state == final


def some_history(rng: random.Random) -> tuple[list[Transaction], dict[str, str]]:
    state, history = {"x": "", "y": ""}, []
    for at in range(rng.randint(1, 5)):
        began, ended = at * 10 - rng.randint(0, 25), at * 10 + rng.randint(1, 25)
        keys = [key for key in state if rng.random() < 0.7]
        old = rng.random() < 0.2
        reads = {key: state[key][: len(state[key]) - (1 if old and state[key] else 0)] for key in keys}
        appends = {key: "abcdefghij"[2 * at + (key == "y")] for key in state if rng.random() < 0.5}
        unknown = rng.random() < 0.2
        history.append(
            tx(
                f"T{at}",
                (began, NEVER if unknown else ended),
                reads,
                appends,
                status="unknown" if unknown else "committed",
            )
        )
        if not unknown or rng.random() < 0.5:
            for key, value in appends.items():
                state[key] += value if rng.random() < 0.95 else ""
    rng.shuffle(history)
    return history, state


def test_the_checker_of_lists_agrees_with_trying_every_order() -> None:
    rng = random.Random(2)
    verdicts = []
    for _ in range(ROUNDS):
        history, final = some_history(rng)
        verdicts.append(serial(history, final))
        assert (lists(history, final) == []) == verdicts[-1], (history, final, lists(history, final))
    assert 0.2 < sum(verdicts) / ROUNDS < 0.9, "some are sound, some are not"


def test_a_circle_is_told_by_the_names_on_it() -> None:
    (wrong,) = lists(*ANOMALIES["a lost update: both saw the same"][:2])
    assert "A after" in wrong and "B after" in wrong
