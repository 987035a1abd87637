"""Clients with leases at random: every result is that of all that was acknowledged before, in order; nothing else.

The model is one dict. An operation is done on it at the instant at which a client says that it is done, and has to
come to the same result. Clients are cut off now and then, for shorter and for longer than their leases; what they had
not flushed when another one took over never was, and they have to say so.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from gavel.keys import records
from gavel.transaction.requests import Submit
from gavel.transaction.transaction import Transaction
from tests.unit.cache.leases import MS, SECOND, Client, Lab

OBJECTS = 12
Operation = Callable[[Any], Any]


class _Model:
    """As much of a transaction as the operations here use, on a dict."""

    def __init__(self, state: dict[bytes, bytes]) -> None:
        self.state = dict(state)
        self.writes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.writes[key] if key in self.writes else self.state.get(key)

    def scan(self, lo: bytes, hi: bytes) -> list[tuple[bytes, bytes]]:
        state = applied(self.state, self.writes)
        return [(key, value) for key, value in sorted(state.items()) if lo <= key < hi]

    def put(self, key: bytes, value: bytes) -> None:
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        self.writes[key] = None


def applied(state: dict[bytes, bytes], writes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    state = {**state, **{key: value for key, value in writes.items() if value is not None}}
    for key in [key for key, value in writes.items() if value is None]:
        state.pop(key, None)
    return state


def operation(random: Random) -> Operation:
    one, other = (records.inode(0, random.randrange(1, OBJECTS)) for _ in range(2))
    name = records.entry(0, random.randrange(1, 4), b"name-%d" % random.randrange(5))
    fresh = b"%d" % random.randrange(10**6)

    def add(tx: Any) -> Any:
        total = int(tx.get(one) or b"0") + 1
        tx.put(one, b"%d" % total)
        return total

    def move(tx: Any) -> Any:
        value = tx.get(one)
        if value is None:
            raise FileNotFoundError(one)
        tx.delete(one)
        tx.put(other, value)
        return value

    def create(tx: Any) -> Any:
        if tx.get(name) is not None:
            raise FileExistsError(name)
        tx.put(name, fresh)
        tx.put(other, fresh)

    def listed(tx: Any) -> Any:
        return list(tx.scan(min(one, other), max(one, other) + b"\0"))

    def names(tx: Any) -> Any:
        return list(tx.scan(*records.entries(0, random_directory)))

    random_directory = random.randrange(1, 4)

    def unlink(tx: Any) -> Any:
        found = tx.get(name)
        tx.delete(name)
        return found

    def blind(tx: Any) -> Any:
        tx.put(one, fresh)

    return random.choice([add, add, move, create, listed, names, unlink, blind, lambda tx: tx.get(one)])


class World:
    """The lab, and what should be true in it."""

    def __init__(self, seed: int, clients: int = 3, **how: Any) -> None:
        self.lab = Lab(clients, seed, **how)
        self.random = Random(seed)
        self.flushed: dict[bytes, bytes] = {}
        self.pending: dict[Client, list[dict[bytes, bytes | None]]] = {one: [] for one in self.lab.clients}
        self.done = self.plain = 0
        self.lab.committed = self.committed

    def state(self) -> dict[bytes, bytes]:
        state = self.flushed
        for groups in self.pending.values():
            for group in groups:
                state = applied(state, group)
        return state

    def committed(self, client: Client, submit: Submit, tid: int) -> None:
        """What is committed are the first of a client's operations, whole."""
        said = self.lab.writes(submit)
        writes = dict(zip(said.keys, said.values, strict=True))
        if not submit.tokens:
            self.flushed = applied(self.flushed, writes)
            self.plain += 1
            return
        groups, sums = self.pending[client], dict[bytes, bytes | None]()
        those = 0
        for number, group in enumerate(groups):
            sums.update(group)
            if sums == writes:
                those = number + 1  # as many as may be: some have changed what is the same in the end
        assert those, "a transaction is not made of a client's first operations"
        self.flushed = applied(self.flushed, writes)
        del groups[:those]


def run(client: Client, world: World, work: Operation) -> None:
    """One operation at one client, without waiting: compared when it is done."""
    found: list[Any] = []

    def noted(tx: Transaction) -> Any:
        found.clear()
        result = work(tx)
        found.append(dict(tx.writes))
        return result

    def compared(end: Any) -> None:
        model = _Model(world.state())
        expected: Any = None
        error: Any = None
        try:
            expected = work(model)
        except OSError as problem:
            error = problem
        assert type(end.error) is type(error), f"{end.error!r}, not {error!r}"
        assert end.result == expected
        if error is None and model.writes:
            assert found[-1] == model.writes
            world.pending[client].append(model.writes)

    def done(end: Any) -> None:
        world.done += 1
        compared(end)

    client.submit(noted, done)


@pytest.mark.parametrize("seed", range(40))
def test_every_result_is_that_of_all_that_was_done_before(seed: int) -> None:
    world = World(seed, kernel=bool(seed % 2))
    lab, random = world.lab, world.random
    for _ in range(150):
        client = random.choice(lab.clients)
        run(client, world, operation(random))
        if random.random() < 0.5:
            lab.run(random.choice([0, MS, 10 * MS, 100 * MS]))
        if random.random() < 0.02:
            client.core.sync(("sync", client, lab.now))
            client.carry_out()
    lab.run(40 * SECOND)
    assert world.done == 150
    assert not any(world.pending.values()) and not any(client.core.dirty for client in lab.clients)
    assert lab.master.state(lab.master.tid) == world.flushed == world.state()
    assert not any(client.saved for client in lab.clients)
