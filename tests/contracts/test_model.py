"""The contract, over the model itself."""

import pytest

from tests.contracts.model import Model
from tests.contracts.suite import Contract


@pytest.fixture
def fs() -> Model:
    return Model()


class TestModel(Contract):
    pass
