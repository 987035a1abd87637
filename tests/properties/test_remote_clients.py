"""Clients of a cluster that interleave at every question: what they are told is strictly serializable.

A master answers exactly; messages wait for as long as Hypothesis likes. Each operation that has ended is checked
against the master's states: a write against the one before its tid, a read against some state between its start and
its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from gavel.cache.attempts import Attempt, Finished
from gavel.cache.remote import Remote
from gavel.transaction import requests
from gavel.transaction.transaction import Transaction
from tests.unit.cache.master import Master, k

NAMES = ["a", "b", "c", "d", "e"]
NOW = 1_700_000_000_000_000_000
Operation = Callable[[Transaction], Any]


class _State:
    """A past state of the master, as much of a transaction as the operations here use."""

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self.records, self.writes = records, dict[bytes, bytes | None]()

    def get(self, key: bytes) -> bytes | None:
        return self.records.get(key)

    def scan(self, lo: bytes, hi: bytes) -> list[tuple[bytes, bytes]]:
        return [(key, value) for key, value in sorted(self.records.items()) if lo <= key < hi]

    def put(self, key: bytes, value: bytes) -> None:
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        self.writes[key] = None


def add(name: str, other: str) -> Operation:
    def operation(tx: Transaction) -> int:
        total = int(tx.get(k(name)) or b"0") + int(tx.get(k(other)) or b"0") + 1
        tx.put(k(name), b"%d" % total)
        return total

    return operation


def move(name: str, other: str) -> Operation:
    """Fails where there is nothing to move."""

    def operation(tx: Transaction) -> None:
        value = tx.get(k(name))
        if value is None:
            raise FileNotFoundError(name)
        tx.delete(k(name))
        tx.put(k(other), value)

    return operation


def read(name: str, other: str) -> Operation:
    return lambda tx: (tx.get(k(name)), tx.get(k(other)))


def listed(name: str, other: str) -> Operation:
    return lambda tx: list(tx.scan(min(k(name), k(other)), max(k(name), k(other))))


class Running:
    def __init__(self, remote: Remote, attempt: Attempt, began: int) -> None:
        self.remote, self.attempt, self.began = remote, attempt, began
        self.asked: list[requests.Question] = []
        self.answers: list[tuple[requests.Question, requests.Answer]] = []


class ClientsMachine(RuleBasedStateMachine):
    """Two or three clients, each with several operations at once."""

    running = Bundle("running")

    @initialize(count=st.integers(2, 3), page=st.integers(1, 4))
    def start(self, count: int, page: int) -> None:
        self.master = Master(page)
        self.clients = [
            Remote(b"client-number-%02d" % n, limit=st_limit)
            for n, st_limit in zip(range(count), (1 << 20, 3000, 1 << 20), strict=False)
        ]
        self.live: list[Running] = []

    @rule(
        who=st.integers(0, 2),
        make=st.sampled_from([add, move, read, listed]),
        name=st.sampled_from(NAMES),
        other=st.sampled_from(NAMES),
    )
    def begin(self, who: int, make: Callable[[str, str], Operation], name: str, other: str) -> None:
        remote = self.clients[who % len(self.clients)]
        one = Running(remote, remote.start(make(name, other), 1), self.master.tid)
        self.live.append(one)
        self._go_on(one)

    @rule(which=st.integers(0, 100))
    def master_answers(self, which: int) -> None:
        waiting = [one for one in self.live if one.asked]
        if waiting:
            one = waiting[which % len(waiting)]
            question = one.asked.pop(0)
            one.answers.append((question, self.master.answer(question)))

    @rule(which=st.integers(0, 100))
    def answer_arrives(self, which: int) -> None:
        waiting = [one for one in self.live if one.answers]
        if waiting:
            one = waiting[which % len(waiting)]
            one.attempt.heard(*one.answers.pop(0), NOW)
            if not one.asked and not one.answers:
                self._go_on(one)

    @rule()
    def all_end(self) -> None:
        for _ in range(2000):
            if not self.live:
                return
            self.master_answers(0)
            self.answer_arrives(0)
        raise AssertionError("operations do not end although every question is answered")

    def _go_on(self, one: Running) -> None:
        step = one.attempt.run(NOW)
        if not isinstance(step, Finished):
            one.asked = step
            return
        self.live.remove(one)
        one.remote.ended(one.attempt, step)
        states = self.master.states
        if step.tid:
            assert one.began < step.tid
            result, error, writes = _outcome(one.attempt.operation, states[step.tid // 256 - 1])
            assert (step.result, step.error) == (result, error) and error is None
            assert _applied(states[step.tid // 256 - 1], writes) == states[step.tid // 256]
        else:
            told = step.result, type(step.error)
            possible = [_outcome(one.attempt.operation, state) for state in states[one.began // 256 :]]
            assert told in [(result, type(error)) for result, error, _ in possible]


def _outcome(operation: Operation, records: dict[bytes, bytes]) -> tuple[Any, Exception | None, dict[bytes, Any]]:
    state = _State(records)
    try:
        return operation(state), None, state.writes  # type: ignore[arg-type]
    except FileNotFoundError as error:
        return None, error, {}


def _applied(records: dict[bytes, bytes], writes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    state = dict(records)
    for key, value in writes.items():
        state.pop(key, None)
        if value is not None:
            state[key] = value
    return state


TestClients = ClientsMachine.TestCase
TestClients.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
