"""The contract over two clients with leases that take turns: what one has done the other goes on from."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gavel.filesystem import superblock
from gavel.filesystem.caller import Caller
from gavel.keys import records
from tests.contracts.functions import Functions
from tests.contracts.suite import Contract
from tests.unit.cache.leases import MS, Lab


class TurnAbout:
    """A store whose operations are run by one client after the other."""

    def __init__(self, every: int) -> None:
        self.lab = Lab(2, every, kernel=True, page=500)
        self.every = every  # how many operations a client does before it is the other's turn
        self.done = 0
        self.run(superblock.make_root, Caller(0, 0))

    def run(self, op: Callable[..., Any], *args: Any) -> Any:
        self.done += 1
        return self.lab.clients[self.done // self.every % 2].run(lambda tx: op(tx, *args))

    def tick(self) -> None:
        """Let a little time pass."""
        self.lab.run(MS)

    def verify(self) -> None:
        """All that is dirty can be committed, and then both see the same."""
        for client in self.lab.clients:
            client.sync()
        whole = records.whole(0)
        one, other = (client.run(lambda tx: list(tx.scan(*whole))) for client in self.lab.clients)
        assert [key for key, _ in one] == [key for key, _ in other]
        assert not any(client.saved for client in self.lab.clients)


@pytest.fixture(params=[1, 3])
def fs(request: pytest.FixtureRequest) -> Iterator[Functions]:
    store = TurnAbout(request.param)
    functions = Functions(store=store)
    yield functions
    for handle in list(functions.handles):
        functions.close(handle)
    store.verify()


class TestLeased(Contract):
    """As it is."""
