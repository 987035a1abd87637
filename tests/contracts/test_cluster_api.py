"""The contract, over the Python API of a cluster: on the present, and inside a transaction."""

from collections.abc import Iterator

import pytest

from tests.contracts.api import Api
from tests.contracts.suite import Contract
from tests.unit.client.remotely import clusters


@pytest.fixture(params=["present", "transaction"])
def fs(request: pytest.FixtureRequest) -> Iterator[Api]:
    with clusters() as (cluster,):
        if request.param == "present":
            yield Api(cluster, cluster)
        else:
            with cluster.transaction() as tx:
                yield Api(cluster, tx)


class TestClusterApi(Contract):
    pass
