"""The contract, over the Python API: on the present, and inside a transaction."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import gavel
from tests.contracts.api import Api
from tests.contracts.suite import Contract

VOLUME_SIZE = 256 * 1024**2


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh volume's header area, to be copied instead of formatted anew; the rest of the file is a hole."""
    path = tmp_path_factory.mktemp("blank") / "volume"
    gavel.format_volume(path, size=VOLUME_SIZE)
    return path.read_bytes()[: 32 * 1024**2]


@pytest.fixture(params=["present", "transaction"])
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    with gavel.open(tmp_path / "volume", create=True, size=VOLUME_SIZE) as opened:
        if request.param == "present":
            yield Api(opened, opened)
        else:
            with opened.transaction() as tx:
                yield Api(opened, tx)
        assert opened.check(deep=True) == []


class TestApi(Contract):
    pass
