"""The contract, over the functions of the filesystem room on a real volume, as of the dirty overlay and flushed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contracts.engine import EngineStore
from tests.contracts.functions import Functions
from tests.contracts.suite import Contract


class Flushing(EngineStore):
    """Commits after each operation, so that every read comes from the trees and the log."""

    def run(self, op: Callable[..., Any], *args: Any) -> Any:
        result = super().run(op, *args)
        self.system.engine.flush()
        return result


@pytest.fixture(params=[EngineStore, Flushing])
def fs(request: pytest.FixtureRequest) -> Iterator[Functions]:
    store = request.param()
    functions = Functions(store=store)
    yield functions
    for handle in list(functions.handles):
        functions.close(handle)
    functions.verify()
    store.begin_again()
    functions.verify()
    functions.check()


class TestEngine(Contract):
    pass
