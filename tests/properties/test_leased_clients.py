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
        self.begun = self.done = self.plain = 0
        self.lab.committed = self.committed
        self.lab.ended = self.ended
        self.gone: dict[Client, int] = dict.fromkeys(self.lab.clients, 0)

    def state(self) -> dict[bytes, bytes]:
        state = self.flushed
        for groups in self.pending.values():
            for group in groups:
                state = applied(state, group)
        return state

    def ended(self, number: int) -> None:
        """What a client has not flushed by now never will be."""
        client = self.lab.clients[number]
        self.gone[client] += len(self.pending[client])
        self.pending[client] = []

    def committed(self, client: Client, submit: Submit, tid: int) -> None:
        """What is committed are the first of a client's operations, whole."""
        said = self.lab.writes(submit)
        writes = dict(zip(said.keys, said.values, strict=True))
        if not submit.tokens:
            self.flushed = applied(self.flushed, writes)
            self.plain += 1
            return
        if marker(client) not in writes:
            return
        groups, mark = self.pending[client], marker(client)
        those = next(number for number, group in enumerate(groups, 1) if group[mark] == writes[mark])
        sums: dict[bytes, bytes | None] = {}
        for group in groups[:those]:
            sums.update(group)
        assert sums == writes
        self.flushed = applied(self.flushed, writes)
        del groups[:those]


def marker(client: Client) -> bytes:
    """Where each operation of a client that writes anything leaves its number."""
    return records.inode(0, 1000 + client.number)


def run(client: Client, world: World, work: Operation) -> None:
    """One operation at one client, without waiting: compared when it is done."""
    found: list[Any] = []
    world.begun += 1
    number = b"%d" % world.begun

    def noted(tx: Transaction) -> Any:
        found.clear()
        result = work(tx)
        if tx.writes:
            tx.put(marker(client), number)
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
            model.writes[marker(client)] = number
            assert found[-1] == model.writes
            world.pending[client].append(model.writes)

    def done(end: Any) -> None:
        world.done += 1
        if done not in client.without:
            compared(end)

    client.submit(noted, done)


@pytest.mark.parametrize("seed", range(12))
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


@pytest.mark.parametrize("seed", range(16))
def test_who_is_cut_off_sees_nothing_old_and_says_what_is_lost(seed: int) -> None:
    world = World(seed, kernel=bool(seed % 2))
    lab, random = world.lab, world.random
    lab.unanswered = random.choice([0, 0.3])
    for _ in range(200):
        client = random.choice(lab.clients)
        run(client, world, operation(random))
        lab.run(random.choice([0, MS, 10 * MS, 100 * MS]))
        if random.random() < 0.1:
            client.cut = not client.cut
            if not client.cut:
                client.join()
        if random.random() < 0.03:
            lab.run(random.choice([SECOND, 3 * SECOND]))
    for client in lab.clients:
        if client.cut:
            client.join()
    lab.run(600 * SECOND)
    assert not any(world.pending.values()) and not any(client.core.dirty for client in lab.clients)
    assert lab.master.state(lab.master.tid) == world.flushed
    for client, gone in world.gone.items():
        assert bool(client.saved) == bool(gone)
    assert world.done == world.begun


@pytest.mark.parametrize("seed", range(8))
def test_what_is_contended_goes_without_leases_and_is_as_true(seed: int) -> None:
    """Some asks are answered without a lease. Nothing is lost, and increments count each once."""
    world = World(seed, kernel=bool(seed % 2))
    lab, random = world.lab, world.random
    lab.registry.contended = 0.3
    key = records.inode(0, 1)
    totals: list[int] = []

    def add(tx: Any) -> Any:
        total = int(tx.get(key) or b"0") + 1
        tx.put(key, b"%d" % total)
        return total

    for _ in range(120):
        random.choice(lab.clients).submit(add, lambda end: totals.append(end.result))
        lab.run(random.choice([0, MS, 10 * MS]))
    lab.run(600 * SECOND)
    assert sorted(totals) == list(range(1, 121))  # an answer may come after that of a later one
    assert world.plain or seed
    assert lab.master.state(lab.master.tid)[key] == b"120" and not any(client.saved for client in lab.clients)
