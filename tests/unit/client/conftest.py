"""Volumes in memory."""

from collections.abc import Iterator

import pytest

from gavel.client.fs import Fs
from gavel.sim.device import SimDevice
from tests.contracts.api import formatted, opened


@pytest.fixture
def device() -> SimDevice:
    return formatted()


@pytest.fixture
def fs(device: SimDevice) -> Iterator[Fs]:
    with opened(device) as volume:
        yield volume
