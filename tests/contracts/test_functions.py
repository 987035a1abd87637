"""The contract, over the functions of the filesystem room; also where each first read misses."""

from collections.abc import Iterator

import pytest

from tests.contracts.functions import Functions
from tests.contracts.suite import Contract


@pytest.fixture(params=["all there", "missing"])
def fs(request: pytest.FixtureRequest) -> Iterator[Functions]:
    functions = Functions(missing=request.param == "missing")
    yield functions
    for handle in list(functions.handles):
        functions.close(handle)
    functions.verify()
    functions.check()


class TestFunctions(Contract):
    pass
