"""The contract, over the Python API: on the present, and inside a transaction."""

from collections.abc import Iterator

import pytest

from tests.contracts.api import Api, formatted, opened
from tests.contracts.suite import Contract


@pytest.fixture(params=["present", "transaction"])
def fs(request: pytest.FixtureRequest) -> Iterator[Api]:
    with opened(formatted()) as volume:
        if request.param == "present":
            yield Api(volume, volume)
        else:
            with volume.transaction() as tx:
                yield Api(volume, tx)
        assert volume.check(deep=True) == []


class TestApi(Contract):
    pass
