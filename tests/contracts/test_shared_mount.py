"""The contract, through the kernel, on a mount of a cluster's filesystem: every request is confirmed by a master.

What one mount does is looked at by another one, since nothing here may be known to one kernel alone.
"""

import itertools
from collections.abc import Iterator

import pytest

from tests.contracts.host import Host
from tests.contracts.suite import Contract
from tests.integration.mount_daemon import needs_mount
from tests.integration.shared_mounts import Shared

pytestmark = [needs_mount, pytest.mark.mounts]
numbers = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    base = tmp_path_factory.mktemp("shared")
    directories = [base / "one", base / "two"]
    for directory in directories:
        directory.mkdir()
    with Shared(directories) as shared:
        yield shared


@pytest.fixture
def fs(shared: Shared) -> Host:
    top = shared.directories[0] / f"top{next(numbers)}"
    top.mkdir(mode=0o755)
    return Host(top, frozenset({"acl", "sizes"}), pause=0.012)


class TestSharedMount(Contract):
    """As it is."""
